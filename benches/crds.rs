//! What applying 100 CustomResourceDefinitions of 1 MB in total costs over what the API server itself needs for them.
//!
//! The server alone: every definition sent at once, nothing looked up before, and then the moment in which it serves all
//! of their kinds. Both are measured in turn, so that whatever else the machine does touches both.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "../tests/kubernetes/server.rs"]
#[allow(dead_code)]
mod server;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures::future::join_all;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kubernetes::{ApplyOptions, apply};
use serde_json::{Map, Value, json};

const GROUPS: usize = 20;
const KINDS: usize = 5;
/// Of one definition.
const BYTES: usize = 10_000;
const ROUNDS: usize = 5;
const MOST: f64 = 1.2;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let client = runtime.block_on(async { server::server().client() });
    let mut ratios: Vec<f64> = runtime.block_on(async {
        let mut ratios = Vec::new();
        // The first round warms the server up.
        for round in 0..=ROUNDS {
            // Who comes second finds a server with more to do.
            let (ours, alone) = if round % 2 == 0 {
                let alone = alone(&client, &definitions(&format!("alone{round}"))).await;
                (ours(&client, &definitions(&format!("ours{round}"))).await, alone)
            } else {
                let ours = ours(&client, &definitions(&format!("ours{round}"))).await;
                (ours, alone(&client, &definitions(&format!("alone{round}"))).await)
            };
            if round > 0 {
                println!("  ours {ours:.2} s, the server alone {alone:.2} s");
                ratios.push(ours / alone);
            }
        }
        ratios
    });
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ROUNDS / 2];
    let verdict = if median <= MOST { "ok" } else { "MISSED" };
    println!("{} CRDs, over the server alone   {median:>6.2} x   (at most {MOST}) {verdict}", GROUPS * KINDS);
    if median <= MOST { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Definitions with a schema of many fields, as operators have them.
fn definitions(round: &str) -> Vec<Value> {
    let fields: Map<String, Value> = (0..BYTES / 100)
        .map(|number| {
            let description = "What the field is for, as the operator describes it, at this length";
            (format!("field{number:03}"), json!({"type": "string", "description": description}))
        })
        .collect();
    let one = |group: usize, kind: usize| {
        let group = format!("{round}-{group}.example.org");
        let names =
            json!({"kind": format!("Kind{kind}"), "plural": format!("kind{kind}s"), "singular": format!("kind{kind}")});
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("kind{kind}s.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": fields},
                }}},
            }]},
        })
    };
    (0..GROUPS)
        .flat_map(|group| (0..KINDS).map(move |kind| (group, kind)))
        .map(|(group, kind)| one(group, kind))
        .collect()
}

/// What a run does.
async fn ours(client: &Client, definitions: &[Value]) -> f64 {
    let began = Instant::now();
    apply(client, &ApplyOptions::new("bench"), definitions, &|_| {}).await.unwrap();
    began.elapsed().as_secs_f64()
}

/// From the first byte until the last kind is served.
async fn alone(client: &Client, definitions: &[Value]) -> f64 {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
    let params = PatchParams::apply("bench");
    let began = Instant::now();
    let sent =
        join_all(definitions.iter().map(|definition| {
            let (api, params) = (&api, &params);
            async move {
                api.patch(definition["metadata"]["name"].as_str().unwrap(), params, &Patch::Apply(definition)).await
            }
        }));
    sent.await.into_iter().for_each(|sent| drop(sent.unwrap()));
    let mut groups: Vec<&Value> =
        definitions.iter().step_by(KINDS).map(|definition| &definition["spec"]["group"]).collect();
    while let Some(group) = groups.last() {
        if served(client, group.as_str().unwrap()).await {
            groups.pop();
        } else {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    began.elapsed().as_secs_f64()
}

/// Whether every kind of a group is in discovery.
async fn served(client: &Client, group: &str) -> bool {
    let resources = client.list_api_group_resources(&format!("{group}/v1")).await;
    resources.is_ok_and(|list| list.resources.len() >= KINDS)
}
