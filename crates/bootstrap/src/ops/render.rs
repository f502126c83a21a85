//! Machine configs as they would be applied, and how they differ from the running ones.

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use secrets::Redactor;
use serde_json::{Map, Value};
use talos_client::Client;
use talos_config::{AdminIdentity, InventoryNode, RenderedConfig, SecretsBundle};
use talos_schema::{Documents, parse_documents};
use yaml::Origin;

use crate::client_identity;

use super::access::{dialer, find_node};
use super::{
    OpsError, SecretsMode, Target, Workspace, input_warnings, open_bundle, read_cluster, unused_patch_warnings,
};

/// What a rendered config is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    None,
    /// The config that the node runs.
    Running,
}

/// The machine config of a node.
#[derive(Debug)]
pub struct RenderedNode {
    pub node: InventoryNode,
    pub rendered: RenderedConfig,
    /// The diff from the running config, if it was asked for; empty if they are equal.
    pub diff: Option<String>,
}

/// Renders the configs of a cluster, or of one node by hostname or address. The redactor learns their secrets.
///
/// # Errors
///
/// Mistakes in the files; a bundle that cannot be opened; a node that does not respond, where its config is compared.
pub async fn render(
    workspace: &Workspace,
    cluster: &str,
    target: &Target,
    secrets: SecretsMode,
    node: Option<&str>,
    comparison: Comparison,
) -> Result<Vec<RenderedNode>, OpsError> {
    let cluster = read_cluster(workspace, cluster, secrets).await?;
    input_warnings(&cluster).for_each(|warning| workspace.note(&format!("warning: {warning}")));
    let bundle = open_bundle(workspace, &cluster, target, secrets).await?;
    for warning in unused_patch_warnings(&cluster, &bundle) {
        workspace.note(&format!("warning: {warning}"));
    }
    let nodes: Vec<&InventoryNode> = match node {
        Some(name) => vec![find_node(&cluster, name)?],
        None => cluster.inventory.nodes.iter().collect(),
    };
    let mut all = Vec::new();
    for node in nodes {
        let rendered = cluster.inputs.config(&bundle, node)?;
        learn(&workspace.redactor, &rendered.documents);
        let diff = match comparison {
            Comparison::None => None,
            Comparison::Running => {
                let running = running_config(target, &bundle, node).await?;
                learn(&workspace.redactor, &running);
                Some(config_diff(node, &running, &rendered.documents))
            }
        };
        all.push(RenderedNode { node: node.clone(), rendered, diff });
    }
    Ok(all)
}

/// The config that a node runs.
async fn running_config(target: &Target, bundle: &SecretsBundle, node: &InventoryNode) -> Result<Documents, OpsError> {
    let admin = AdminIdentity::issue(bundle, Timestamp::now())?;
    let failed = |source| OpsError::RunningConfig { node: format!("{} ({})", node.hostname, node.address), source };
    let client = Client::connect(&dialer(target), node.address, &client_identity(&admin)).await.map_err(failed)?;
    let text = client.machine_config().await.map_err(failed)?;
    // The parser's message may quote the text, which holds secrets.
    parse_documents(&Origin::new("<running config>"), text.expose_secret())
        .map_err(|_| OpsError::InvalidRunningConfig { node: node.hostname.clone() })
}

/// Fields of machine configs that hold secrets, whatever document they are in.
const SECRET_FIELDS: [&str; 12] = [
    "aescbcEncryptionSecret",
    "apiToken",
    "auth",
    "identityToken",
    "key",
    "passphrase",
    "password",
    "presharedKey",
    "privateKey",
    "secret",
    "secretboxEncryptionSecret",
    "token",
];

fn learn(redactor: &Redactor, documents: &Documents) {
    documents.0.iter().for_each(|document| learn_value(redactor, document));
}

fn learn_value(redactor: &Redactor, value: &Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if SECRET_FIELDS.contains(&key.as_str()) => {
                        redactor.learn(&SecretString::from(text.as_str()));
                    }
                    other => learn_value(redactor, other),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| learn_value(redactor, item)),
        _ => {}
    }
}

/// A unified diff from the running to the rendered config, empty if they are equal. Keys are sorted and documents matched by
/// kind and name.
fn config_diff(node: &InventoryNode, running: &Documents, ours: &Documents) -> String {
    let ours = parse_documents(&Origin::new("<rendered>"), &ours.to_yaml()).unwrap_or_else(|_| ours.clone());
    let (before, after) = (comparable(running), comparable(&ours));
    let diff = similar::TextDiff::from_lines(&before, &after);
    if before == after {
        return String::new();
    }
    let (from, to) = (format!("{} (running)", node.hostname), format!("{} (rendered)", node.hostname));
    diff.unified_diff().context_radius(3).header(&from, &to).to_string()
}

fn comparable(documents: &Documents) -> String {
    let mut documents: Vec<Value> = documents.0.iter().map(sorted).collect();
    let name = |document: &Value| {
        let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        (text("kind"), text("name"))
    };
    documents.sort_by_key(name);
    let texts: Vec<String> = documents.iter().map(|document| yaml::to_string(document).unwrap_or_default()).collect();
    texts.join("---\n")
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
