//! The controller, as far as a bootstrap sees it: self-signed issuers become Ready.

use std::time::Instant;

use futures::StreamExt;
use futures::stream::select;
use kube::ResourceExt;
use serde_json::json;

use super::CONTROLLER;
use crate::cluster::Inside;
use crate::operators::objects::{Kind, condition, is_ready, set_status};

const ISSUER: Kind = Kind { group: "cert-manager.io", version: "v1", name: "Issuer", plural: "issuers" };
const CLUSTER_ISSUER: Kind = Kind { name: "ClusterIssuer", plural: "clusterissuers", ..ISSUER };

/// Runs from the moment in which the controller's pod is Ready.
pub(super) async fn run(inside: &Inside) {
    let (_, pod) = inside.view.until(|view| view.ready_of(CONTROLLER)).await;
    let client = &inside.view.client;
    let of = |kind: Kind| kind.follow(client).map(move |object| (kind, object));
    let mut issuers = select(of(ISSUER), of(CLUSTER_ISSUER));
    while let Some((kind, issuer)) = issuers.next().await {
        if issuer.data.pointer("/spec/selfSigned").is_none() || is_ready(&issuer) {
            continue;
        }
        let began = Instant::now();
        tokio::time::sleep(inside.world.scenario.operators.issuer_ready.duration()).await;
        let status = json!({"conditions": [condition("Ready", "True", "IsReady", "")]});
        set_status(client, kind, issuer.namespace().as_deref(), &issuer.name_any(), &status).await;
        inside.world.recorder.fact(format!("issuer/{}/ready", issuer.name_any()), began, [pod.clone()]);
    }
}
