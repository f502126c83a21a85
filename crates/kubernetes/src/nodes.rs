//! Nodes: which are registered, which are Ready, and why the others are not.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};

use super::drain::CORDONED;
use super::error::{ApiError, with_retry};
use super::gate_error::GateError;
use super::wait::Progress;
use super::watch::{Key, Reporter, until};

/// A node as the API reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    pub ready: bool,
    /// The message of its Ready condition.
    pub reason: String,
    /// The boot that its kubelet reports from.
    pub boot_id: String,
    pub scheduling: Scheduling,
}

/// Whether new pods are placed on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduling {
    Allowed,
    /// Cordoned by [`cordon`](super::cordon).
    CordonedByUs,
    /// Cordoned by someone else.
    Cordoned,
}

impl NodeView {
    /// Whether the node is not Ready only because no pod network is installed (containerd's and kubelet's message, 1.35).
    pub fn lacks_pod_network(&self) -> bool {
        !self.ready && self.reason.contains("NetworkPluginNotReady")
    }
}

fn view(node: &Node) -> NodeView {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    NodeView {
        ready: ready.is_some_and(|condition| condition.status == "True"),
        reason: ready.and_then(|condition| condition.message.clone()).unwrap_or_else(|| "no kubelet status".to_owned()),
        boot_id: info.map(|info| info.boot_id.clone()).unwrap_or_default(),
        scheduling: match (unschedulable, node.annotations().contains_key(CORDONED)) {
            (false, _) => Scheduling::Allowed,
            (true, true) => Scheduling::CordonedByUs,
            (true, false) => Scheduling::Cordoned,
        },
    }
}

/// Every node of the cluster by name.
///
/// # Errors
///
/// When the API does not respond or rejects the request.
pub async fn nodes(client: &Client) -> Result<BTreeMap<String, NodeView>, ApiError> {
    let api = Api::<Node>::all(client.clone());
    let params = ListParams::default();
    let list = with_retry(|| api.list(&params)).await?;
    Ok(list.items.iter().map(|node| (node.name_any(), view(node))).collect())
}

/// Waits, by watching, until every expected node is registered. A node that is not Ready counts: without a
/// pod network no node is.
///
/// # Errors
///
/// When the API rejects the watch.
pub async fn wait_registered(
    client: &Client,
    expected: &BTreeSet<String>,
    progress: &Progress<'_>,
) -> Result<(), GateError> {
    wait(client, expected, progress, |seen| unregistered(expected, seen)).await
}

/// Waits, by watching, until every expected node is Ready, and reports why the others are not.
///
/// # Errors
///
/// When the API rejects the watch.
pub async fn wait_nodes_ready(
    client: &Client,
    expected: &BTreeSet<String>,
    progress: &Progress<'_>,
) -> Result<(), GateError> {
    wait(client, expected, progress, |seen| unready(expected, seen)).await
}

async fn wait(
    client: &Client,
    expected: &BTreeSet<String>,
    progress: &Progress<'_>,
    missing: impl Fn(&BTreeMap<Key, NodeView>) -> Option<String>,
) -> Result<(), GateError> {
    if expected.is_empty() {
        return Ok(());
    }
    let mut reporter = Reporter::new(progress);
    let reduce = |node: Node| view(&node);
    until(Api::<Node>::all(client.clone()), watcher::Config::default(), reduce, &mut reporter, |seen, reporter| {
        match missing(seen) {
            None => Some(Ok(())),
            Some(line) => {
                reporter.report(line);
                None
            }
        }
    })
    .await
}

/// A line that names the nodes that are not registered, if any.
fn unregistered(expected: &BTreeSet<String>, seen: &BTreeMap<Key, NodeView>) -> Option<String> {
    let missing: Vec<&str> =
        expected.iter().filter(|name| !seen.contains_key(&(None, (*name).clone()))).map(String::as_str).collect();
    (!missing.is_empty()).then(|| {
        let registered = expected.len() - missing.len();
        format!("{registered} of {} nodes registered, missing {}", expected.len(), missing.join(", "))
    })
}

/// A line that names the nodes that are not Ready, by reason, if any.
fn unready(expected: &BTreeSet<String>, seen: &BTreeMap<Key, NodeView>) -> Option<String> {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in expected {
        match seen.get(&(None, name.clone())) {
            Some(node) if node.ready => {}
            Some(node) => reasons.entry(&node.reason).or_default().push(name),
            None => reasons.entry("not registered").or_default().push(name),
        }
    }
    let missing: usize = reasons.values().map(Vec::len).sum();
    let groups: Vec<String> =
        reasons.iter().map(|(reason, names)| format!("{}: {}", names.join(", "), reason)).collect();
    (missing > 0)
        .then(|| format!("{} of {} nodes Ready; {}", expected.len() - missing, expected.len(), groups.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_grouped_by_reason() {
        let expected: BTreeSet<String> = ["a", "b", "c", "d"].map(str::to_owned).into();
        let view = |ready, reason: &str| NodeView {
            ready,
            reason: reason.to_owned(),
            boot_id: String::new(),
            scheduling: Scheduling::Allowed,
        };
        let mut seen: BTreeMap<Key, NodeView> = BTreeMap::from([
            ((None, "a".to_owned()), view(true, "kubelet is posting ready status")),
            ((None, "b".to_owned()), view(false, "cni plugin not initialized")),
            ((None, "c".to_owned()), view(false, "cni plugin not initialized")),
        ]);
        insta::assert_snapshot!(unregistered(&expected, &seen).unwrap(), @"3 of 4 nodes registered, missing d");
        insta::assert_snapshot!(unready(&expected, &seen).unwrap(), @"1 of 4 nodes Ready; b, c: cni plugin not initialized; d: not registered");
        for name in ["b", "c", "d"] {
            seen.insert((None, name.to_owned()), view(true, ""));
        }
        assert_eq!((unregistered(&expected, &seen), unready(&expected, &seen)), (None, None));
    }
}
