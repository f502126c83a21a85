//! Cordon and drain of a node before it reboots.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{EvictParams, ListParams, Patch, PatchParams};
use kube::core::{Selector, SelectorExt};
use kube::{Api, Client, ResourceExt};
use retry::policies::DRAIN_LOOK;
use serde_json::json;
use tokio::time::Instant;

use super::error::{ApiError, with_retry};
use super::wait::Progress;
use error_report::HumanDuration;

/// Marks a node that this program cordoned, so that it uncordons no other.
pub const CORDONED: &str = "k8s-bootstrap.io/cordoned";

/// For one request. A granted eviction is answered at once.
const EVICTION: Duration = Duration::from_secs(3);

/// Why a node could not be drained.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Nothing moved for the whole limit.
    #[error("pod {pod} is left after {} without progress: {reason}", HumanDuration(*.limit))]
    Stuck { pod: String, reason: String, limit: Duration },
}

/// Makes a node unschedulable and marks that. A node that is unschedulable without our mark stays as it is.
///
/// # Errors
///
/// When the API does not respond or rejects the request.
pub async fn cordon(client: &Client, node: &str) -> Result<(), ApiError> {
    let api = Api::<Node>::all(client.clone());
    let before = with_retry(|| api.get(node)).await?;
    if before.spec.and_then(|spec| spec.unschedulable).unwrap_or(false) {
        return Ok(());
    }
    patch(&api, node, &json!({"metadata": {"annotations": {CORDONED: "true"}}, "spec": {"unschedulable": true}})).await
}

/// Makes a node schedulable again if [`cordon`] made it unschedulable.
///
/// # Errors
///
/// When the API does not respond or rejects the request.
pub async fn uncordon(client: &Client, node: &str) -> Result<(), ApiError> {
    let api = Api::<Node>::all(client.clone());
    let before = with_retry(|| api.get_opt(node)).await?;
    if !before.is_some_and(|node| node.annotations().contains_key(CORDONED)) {
        return Ok(());
    }
    patch(&api, node, &json!({"metadata": {"annotations": {CORDONED: null}}, "spec": {"unschedulable": null}})).await
}

async fn patch(api: &Api<Node>, node: &str, change: &serde_json::Value) -> Result<(), ApiError> {
    let (params, change) = (PatchParams::default(), Patch::Merge(change));
    let patched = with_retry(|| api.patch(node, &params, &change));
    kill_points::around("patch of a node", patched).await.map(|_| ())
}

/// Evicts the pods of a node and waits until they are gone. Pods of DaemonSets, mirror pods and pods without a
/// controller stay: the first two return at once, and nothing would create the last ones again.
///
/// # Errors
///
/// When nothing moves for `limit`, as with a PodDisruptionBudget that allows no disruption.
pub async fn drain(client: &Client, node: &str, limit: Duration, progress: &Progress<'_>) -> Result<(), DrainError> {
    let params = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let (mut before, mut since) = (BTreeSet::new(), Instant::now());
    loop {
        let all = Api::<Pod>::all(client.clone());
        let pods = with_retry(|| all.list(&params)).await?;
        let mut refusals = Vec::new();
        let mut left = BTreeSet::new();
        let evicted: Vec<&Pod> = pods.items.iter().filter(|pod| is_evicted(pod)).collect();
        let answers = join_all(evicted.iter().map(|pod| evict(client, pod))).await;
        for (pod, refusal) in evicted.into_iter().zip(answers) {
            let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
            if let Some(reason) = refusal? {
                refusals.push((name.clone(), reason));
            }
            left.insert((name, pod.metadata.deletion_timestamp.is_some()));
        }
        let Some((first, _)) = left.first().cloned() else { return Ok(()) };
        if left != before {
            (before, since) = (left, Instant::now());
        }
        let count = before.len();
        let (pod, reason) = refusals.into_iter().next().unwrap_or((first, "it does not end".to_owned()));
        if since.elapsed() >= limit {
            return Err(DrainError::Stuck { pod, reason, limit });
        }
        progress(&format!("draining, {count} pods left: {pod}: {reason}").into());
        tokio::time::sleep(DRAIN_LOOK).await;
    }
}

/// Requests the eviction of a pod; the reason if it is refused for now.
async fn evict(client: &Client, pod: &Pod) -> Result<Option<String>, ApiError> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let (name, params) = (pod.name_any(), EvictParams::default());
    // The client itself repeats a request that is refused with 429, for minutes (kube 5).
    let status = match kill_points::around("eviction", tokio::time::timeout(EVICTION, api.evict(&name, &params))).await
    {
        Ok(Ok(_)) => return Ok(None),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(None),
        Ok(Err(kube::Error::Api(status))) if status.code == 429 => status.message.clone(),
        Ok(Err(error)) => {
            let error = ApiError::from(error);
            return if error.is_retryable() { Ok(Some(error.to_string())) } else { Err(error) };
        }
        Err(_) => "its eviction is refused for now".to_owned(),
    };
    Ok(Some(budget_of(client, pod).await?.unwrap_or(status)))
}

/// The PodDisruptionBudget that covers the pod, as the reason of a refusal.
async fn budget_of(client: &Client, pod: &Pod) -> Result<Option<String>, ApiError> {
    let api = Api::<PodDisruptionBudget>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let params = ListParams::default();
    let budgets = with_retry(|| api.list(&params)).await?;
    let covers = |budget: &&PodDisruptionBudget| {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
        selector.and_then(|selector| Selector::try_from(selector).ok()).is_some_and(|it| it.matches(pod.labels()))
    };
    Ok(budgets.items.iter().find(covers).map(|budget| {
        let (healthy, needed) = budget.status.as_ref().map_or((0, 0), |it| (it.current_healthy, it.desired_healthy));
        let name = budget.name_any();
        format!("PodDisruptionBudget {name} allows no disruption: {healthy} pods are healthy, {needed} are needed")
    }))
}

/// Whether a drain evicts the pod.
fn is_evicted(pod: &Pod) -> bool {
    let is_mirror = pod.annotations().contains_key("kubernetes.io/config.mirror");
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let has_ended = matches!(phase, Some("Succeeded" | "Failed"));
    let controller = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    !is_mirror && !has_ended && controller.is_some_and(|owner| owner.kind != "DaemonSet")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(owner: Option<&str>, annotations: serde_json::Value, phase: &str) -> Pod {
        let owners: Vec<_> = owner
            .map(|kind| json!({"apiVersion": "apps/v1", "kind": kind, "name": "x", "uid": "1", "controller": true}))
            .into_iter()
            .collect();
        serde_json::from_value(json!({
            "metadata": {"name": "x", "ownerReferences": owners, "annotations": annotations},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn only_pods_that_are_created_elsewhere_are_evicted() {
        let evicted = |owner, annotations, phase| is_evicted(&pod(owner, annotations, phase));
        assert!(evicted(Some("ReplicaSet"), json!({}), "Running"));
        assert!(evicted(Some("StatefulSet"), json!({}), "Pending"));
        assert!(!evicted(Some("DaemonSet"), json!({}), "Running"));
        assert!(!evicted(Some("Job"), json!({}), "Succeeded"));
        assert!(!evicted(Some("Node"), json!({"kubernetes.io/config.mirror": "x"}), "Running"));
        assert!(!evicted(None, json!({}), "Running"));
    }
}
