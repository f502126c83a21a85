//! Nodes: which are registered, which are Ready, and why not.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};

use super::error::{ApiError, patiently};
use super::gate::GateError;
use super::watch::{Key, Tell, Teller, until};

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
/// When the API does not answer, or refuses.
pub async fn nodes(client: &Client) -> Result<BTreeMap<String, NodeView>, ApiError> {
    let api = Api::<Node>::all(client.clone());
    let params = ListParams::default();
    let list = patiently(|| api.list(&params)).await?;
    Ok(list.items.iter().map(|node| (node.name_any(), view(node))).collect())
}

/// Waits, by watching, until every expected node is registered. A node that is not Ready counts: before there is a
/// network none can be.
///
/// # Errors
///
/// When the API refuses the watch.
pub async fn wait_registered(client: &Client, expected: &BTreeSet<String>, tell: &Tell<'_>) -> Result<(), GateError> {
    wait(client, expected, tell, |seen| unregistered(expected, seen)).await
}

/// Waits, by watching, until every expected node is Ready, and tells why those that are not say so.
///
/// # Errors
///
/// When the API refuses the watch.
pub async fn wait_nodes_ready(client: &Client, expected: &BTreeSet<String>, tell: &Tell<'_>) -> Result<(), GateError> {
    wait(client, expected, tell, |seen| unready(expected, seen)).await
}

async fn wait(
    client: &Client,
    expected: &BTreeSet<String>,
    tell: &Tell<'_>,
    missing: impl Fn(&BTreeMap<Key, NodeView>) -> Option<String>,
) -> Result<(), GateError> {
    if expected.is_empty() {
        return Ok(());
    }
    let mut teller = Teller::new(tell);
    let reduce = |node: Node| view(&node);
    until(Api::<Node>::all(client.clone()), watcher::Config::default(), reduce, &mut teller, |seen, teller| {
        match missing(seen) {
            None => Some(Ok(())),
            Some(line) => {
                teller.say(line);
                None
            }
        }
    })
    .await
}

/// The line that names the nodes that are not registered, unless all are.
fn unregistered(expected: &BTreeSet<String>, seen: &BTreeMap<Key, NodeView>) -> Option<String> {
    let missing: Vec<&str> =
        expected.iter().filter(|name| !seen.contains_key(&(None, (*name).clone()))).map(String::as_str).collect();
    (!missing.is_empty()).then(|| {
        let registered = expected.len() - missing.len();
        format!("{registered} of {} nodes registered, missing {}", expected.len(), missing.join(", "))
    })
}

/// The line that says of the nodes that are not Ready why, unless all are.
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
    let told: Vec<String> = reasons.iter().map(|(reason, names)| format!("{}: {}", names.join(", "), reason)).collect();
    (missing > 0)
        .then(|| format!("{} of {} nodes Ready; {}", expected.len() - missing, expected.len(), told.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_told_by_the_reason_that_they_share() {
        let expected: BTreeSet<String> = ["a", "b", "c", "d"].map(str::to_owned).into();
        let view = |ready, reason: &str| NodeView { ready, reason: reason.to_owned() };
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
