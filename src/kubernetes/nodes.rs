//! Nodes: which are registered, which are Ready, and why not.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};

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
/// When the watch cannot be kept up.
pub async fn wait_registered(
    client: &kube::Client,
    expected: &BTreeSet<String>,
    tell: &(dyn Fn(&str) + Send + Sync),
) -> Result<(), watcher::Error> {
    let nodes = Api::<Node>::all(client.clone());
    let mut changes = std::pin::pin!(watcher(nodes, watcher::Config::default()));
    let mut registered: BTreeSet<String> = BTreeSet::new();
    while let Some(event) = changes.try_next().await? {
        match event {
            watcher::Event::InitApply(node) | watcher::Event::Apply(node) => {
                registered.insert(node.name_any());
            }
            watcher::Event::Delete(node) => {
                registered.remove(&node.name_any());
            }
            watcher::Event::Init => registered.clear(),
            watcher::Event::InitDone => {}
        }
        let missing: Vec<&str> = expected.difference(&registered).map(String::as_str).collect();
        if missing.is_empty() {
            return Ok(());
        }
        tell(&format!(
            "{} of {} nodes registered, missing {}",
            expected.len() - missing.len(),
            expected.len(),
            missing.join(", ")
        ));
    }
    Ok(())
}
