//! The controller, reduced to self-signed issuers becoming Ready.

use std::time::Instant;

use futures::StreamExt;
use futures::stream::select;
use kube::ResourceExt;
use serde_json::json;

use super::CONTROLLER;
use crate::cluster_context::ClusterContext;
use crate::operators::objects::{ObjectKind, condition, is_ready, set_status};
use crate::record::facts;

const ISSUER: ObjectKind = ObjectKind { group: "cert-manager.io", version: "v1", name: "Issuer", plural: "issuers" };
const CLUSTER_ISSUER: ObjectKind = ObjectKind { name: "ClusterIssuer", plural: "clusterissuers", ..ISSUER };

/// Runs from the moment the controller's pod is Ready.
pub(super) async fn run(context: &ClusterContext) {
    let pod = context.cache.wait_until(|cache| cache.ready_pod_of(CONTROLLER)).await;
    let client = &context.cache.client;
    let watch = |kind: ObjectKind| kind.watch(client).map(move |object| (kind, object));
    let mut issuers = select(watch(ISSUER), watch(CLUSTER_ISSUER));
    while let Some((kind, issuer)) = issuers.next().await {
        if issuer.data.pointer("/spec/selfSigned").is_none() || is_ready(&issuer) {
            continue;
        }
        let began = Instant::now();
        tokio::time::sleep(context.lab.scenario.operators.issuer_ready.duration()).await;
        let status = json!({"conditions": [condition("Ready", "True", "IsReady", "")]});
        set_status(client, kind, issuer.namespace().as_deref(), &issuer.name_any(), &status).await;
        context.lab.recorder.record_fact(facts::issuer_ready(&issuer.name_any()), began, [pod.fact.clone()]);
    }
}
