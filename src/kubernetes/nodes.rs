//! Nodes: which are registered, which are Ready, and why not.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt};

use super::Tell;
use super::gate::{self, GateError};

/// A node as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    pub ready: bool,
    /// Why it is not ready, in the kubelet's words.
    pub reason: String,
}

fn view(node: &Node) -> NodeView {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    NodeView {
        ready: ready.is_some_and(|condition| condition.status == "True"),
        reason: ready.and_then(|condition| condition.message.clone()).unwrap_or_else(|| "no kubelet status".to_owned()),
    }
}

/// Every node of the cluster by name.
///
/// # Errors
///
/// When the API does not answer.
pub async fn nodes(client: &kube::Client) -> kube::Result<BTreeMap<String, NodeView>> {
    let list = Api::<Node>::all(client.clone()).list(&kube::api::ListParams::default()).await?;
    Ok(list.items.iter().map(|node| (node.name_any(), view(node))).collect())
}

/// Waits, by watching, until every expected node is registered. A node that is not Ready counts: before there is a
/// network none can be.
///
/// # Errors
///
/// When the API stays away.
pub async fn wait_registered(
    client: &kube::Client,
    expected: &BTreeSet<String>,
    tell: &Tell<'_>,
) -> Result<(), GateError> {
    wait_nodes(client, tell, |found| {
        let missing: Vec<&str> =
            expected.iter().map(String::as_str).filter(|name| !found.contains_key(*name)).collect();
        unfinished(expected.len(), "registered", &missing)
    })
    .await
}

/// Waits, by watching, until every expected node is Ready.
///
/// # Errors
///
/// When the API stays away.
pub async fn wait_nodes_ready(
    client: &kube::Client,
    expected: &BTreeSet<String>,
    tell: &Tell<'_>,
) -> Result<(), GateError> {
    wait_nodes(client, tell, |found| {
        let reason = |name: &String| match found.get(name) {
            Some(node) if node.ready => None,
            Some(node) => Some(format!("{name} ({})", node.reason)),
            None => Some(format!("{name} (not registered)")),
        };
        let missing: Vec<String> = expected.iter().filter_map(reason).collect();
        unfinished(expected.len(), "Ready", &missing.iter().map(String::as_str).collect::<Vec<_>>())
    })
    .await
}

fn unfinished(all: usize, what: &str, missing: &[&str]) -> Option<String> {
    let first = missing.first()?;
    let more = if missing.len() > 1 { format!(" and {} more", missing.len() - 1) } else { String::new() };
    Some(format!("{} of {all} nodes {what}, missing {first}{more}", all - missing.len()))
}

async fn wait_nodes(
    client: &kube::Client,
    tell: &Tell<'_>,
    missing: impl Fn(&BTreeMap<String, NodeView>) -> Option<String>,
) -> Result<(), GateError> {
    gate::wait_kind(client, "v1", "Node", None, tell, |found| {
        let nodes: Vec<Node> = found.into_iter().filter_map(|node| serde_json::from_value(node.clone()).ok()).collect();
        let views = nodes.iter().map(|node| (node.name_any(), view(node))).collect();
        let reason = missing(&views);
        if let Some(reason) = &reason {
            tell(reason);
        }
        Ok(reason.is_none())
    })
    .await
}
