//! Nodes: which are registered, which are Ready, and why the others are not.

use std::collections::BTreeMap;
use std::net::IpAddr;

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
    /// Its addresses of the type `InternalIP`.
    pub addresses: Vec<IpAddr>,
    pub scheduling: Scheduling,
}

/// The nodes that a cluster is to have, each with the boot that its machine is in, if that is known. The Node of a machine
/// that was wiped and replaced is its predecessor's until its kubelet reports from that boot.
pub type ExpectedNodes = BTreeMap<String, Option<String>>;

/// What is said of a node whose kubelet reports from an earlier boot.
const EARLIER_BOOT: &str = "its kubelet has not reported since the machine booted";

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
    /// Whether its kubelet reports from the boot that the machine is in, as far as that is known.
    pub fn is_current(&self, boot: Option<&str>) -> bool {
        boot.is_none_or(|boot| self.boot_id.trim() == boot.trim())
    }

    /// Whether the node is not Ready only because no pod network is installed (containerd's and kubelet's message, 1.35).
    pub fn lacks_pod_network(&self) -> bool {
        !self.ready && self.reason.contains("NetworkPluginNotReady")
    }
}

fn view(node: &Node) -> NodeView {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref());
    let internal = addresses.into_iter().flatten().filter(|address| address.type_ == "InternalIP");
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    NodeView {
        ready: ready.is_some_and(|condition| condition.status == "True"),
        reason: ready.and_then(|condition| condition.message.clone()).unwrap_or_else(|| "no kubelet status".to_owned()),
        boot_id: info.map(|info| info.boot_id.clone()).unwrap_or_default(),
        addresses: internal.filter_map(|address| address.address.parse().ok()).collect(),
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
    expected: &ExpectedNodes,
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
    expected: &ExpectedNodes,
    progress: &Progress<'_>,
) -> Result<(), GateError> {
    wait(client, expected, progress, |seen| unready(expected, seen)).await
}

async fn wait(
    client: &Client,
    expected: &ExpectedNodes,
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
fn unregistered(expected: &ExpectedNodes, seen: &BTreeMap<Key, NodeView>) -> Option<String> {
    let is_registered =
        |name: &String, boot: Option<&str>| seen.get(&(None, name.clone())).is_some_and(|node| node.is_current(boot));
    let missing: Vec<&str> = expected
        .iter()
        .filter(|(name, boot)| !is_registered(name, boot.as_deref()))
        .map(|(name, _)| name.as_str())
        .collect();
    (!missing.is_empty()).then(|| {
        let registered = expected.len() - missing.len();
        format!("{registered} of {} nodes registered, missing {}", expected.len(), missing.join(", "))
    })
}

/// A line that names the nodes that are not Ready, by reason, if any.
fn unready(expected: &ExpectedNodes, seen: &BTreeMap<Key, NodeView>) -> Option<String> {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, boot) in expected {
        let reason = match seen.get(&(None, name.clone())) {
            None => "not registered",
            Some(node) if !node.is_current(boot.as_deref()) => EARLIER_BOOT,
            Some(node) if node.ready => continue,
            Some(node) => &node.reason,
        };
        reasons.entry(reason).or_default().push(name);
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
        let expected: ExpectedNodes = ["a", "b", "c", "d"].map(|name| (name.to_owned(), None)).into();
        let view = |ready, reason: &str| NodeView {
            ready,
            reason: reason.to_owned(),
            boot_id: String::new(),
            addresses: vec![],
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
        let replaced: ExpectedNodes = [("a".to_owned(), Some("second".to_owned()))].into();
        assert_eq!(unregistered(&replaced, &seen).unwrap(), "0 of 1 nodes registered, missing a");
        let expected = "0 of 1 nodes Ready; a: its kubelet has not reported since the machine booted";
        assert_eq!(unready(&replaced, &seen).unwrap(), expected);
        "second\n".clone_into(&mut seen.get_mut(&(None, "a".to_owned())).unwrap().boot_id);
        assert_eq!((unregistered(&replaced, &seen), unready(&replaced, &seen)), (None, None));
    }
}
