//! What a run would change on each configured node, for a plan.

use futures::future::join_all;
use secrecy::ExposeSecret;
use talos_client::{ChangeEffect, ClientError, Probe};
use talos_config::InventoryNode;
use talos_schema::parse_documents;
use yaml::Origin;

use super::super::context::RunContext;
use super::super::errors::step_error;
use super::super::node_config::runs;
use crate::config_diff::{config_diff, learn_secrets};
use engine::{Code, StepError};

/// The change of a node's config.
#[derive(Debug)]
pub struct ConfigChange {
    pub node: String,
    pub change: Result<Change, StepError>,
}

/// What a config changes on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub effect: ChangeEffect,
    /// From the running config to the rendered one; empty if they are equal.
    pub diff: String,
}

/// The change of every configured node that responds. The redactor of the run learns the secrets of both configs.
pub async fn config_changes(context: &RunContext) -> Vec<ConfigChange> {
    join_all(context.cluster.inventory.nodes.iter().map(|node| change(context, node)))
        .await
        .into_iter()
        .flatten()
        .collect()
}

async fn change(context: &RunContext, node: &InventoryNode) -> Option<ConfigChange> {
    let Ok(Probe::Configured { client, .. }) = context.probe(node).await else { return None };
    let failed = |error: ClientError| step_error(&error, node);
    let compare = async {
        if runs(context, node, &client).await? {
            return Ok(Change { effect: ChangeEffect::None, diff: String::new() });
        }
        let text = context.config_text(node);
        let effect = client.change_effect(text.expose_secret()).await.map_err(failed)?;
        let running = client.machine_config().await.map_err(failed)?;
        // The parser's message may quote the text, which holds secrets.
        let running = parse_documents(&Origin::new("<running config>"), running.expose_secret()).map_err(|_| {
            StepError::failed_precondition("the node's running config cannot be parsed")
                .with_place(super::place(node))
                .code(Code::T25)
        })?;
        learn_secrets(&context.redactor, &running);
        learn_secrets(&context.redactor, context.config(node));
        // A difference that the node does not see, such as a field at its default, is replaced without a reboot.
        let effect = effect.max(ChangeEffect::Live);
        Ok(Change { effect, diff: config_diff(&node.hostname, &running, context.config(node)) })
    };
    Some(ConfigChange { node: node.hostname.clone(), change: compare.await })
}
