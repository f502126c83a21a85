//! `k8s-bootstrap render CLUSTER [NODE]`: machine configs as they would be applied, secrets masked.

use super::args::{Common, RenderArgs, SecretsArg};
use super::exit::{Exit, Refusal};
use super::setup::{self, Place};
use super::{inputs, output};
use crate::secrets::Redactor;

pub(super) async fn render(common: &Common, args: RenderArgs) -> Result<Exit, Refusal> {
    let redactor = Redactor::default();
    let cluster = inputs::cluster(common, &args.cluster, SecretsArg::Real, &redactor).await?;
    inputs::warn(&cluster, &redactor);
    let bundle = setup::bundle(common, &cluster, Place::Field, SecretsArg::Real, &redactor).await?;
    inputs::warn(&cluster, &redactor);
    let wanted = |name: &str, address: String| args.node.as_ref().is_none_or(|node| *node == name || *node == address);
    let nodes: Vec<_> =
        cluster.inventory.nodes.iter().filter(|node| wanted(&node.hostname, node.address.to_string())).collect();
    if nodes.is_empty() {
        let known: Vec<_> = cluster.inventory.nodes.iter().map(|node| node.hostname.as_str()).collect();
        let node = args.node.unwrap_or_default();
        return Err(
            Refusal::input(format!("there is no node `{node}`")).hint(format!("there are: {}", known.join(", ")))
        );
    }
    for node in nodes {
        let config = cluster.inputs.config(&bundle, node)?.documents;
        output::data(&format!("# {}\n---\n{}", node.hostname, redactor.redact(&config.to_yaml())));
    }
    Ok(Exit::Done)
}
