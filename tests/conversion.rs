//! Custom resources that their operator converts: whatever uses them comes after its webhook answers.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use common::TestEnvironment;
use serde_json::Value;
use test_support::CommandOutput;

const CRD: &str = r"apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: stores.secrets.example.com}
spec:
  group: secrets.example.com
  scope: Namespaced
  names: {kind: Store, plural: stores}
  conversion:
    strategy: Webhook
    webhook:
      conversionReviewVersions: [v1]
      clientConfig: {service: {namespace: security, name: store-webhook, path: /convert}}
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
    - {name: v1beta1, served: true, storage: false, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
";

const OPERATOR: &str = r#"apiVersion: v1
kind: Service
metadata: {name: store-webhook}
spec: {selector: {app: store}, ports: [{port: 443}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: store}
spec:
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec:
      hostNetwork: true
      tolerations: [{operator: Exists}]
      containers: [{name: store, image: "ghcr.io/acme/store:1"}]
"#;

const TENANT: &str = "apiVersion: secrets.example.com/v1beta1\nkind: Store\nmetadata: {name: vault}\nspec: {size: 1}\n";

const CRDS: &str = "releases:\n  - {name: store, namespace: security, chart: ../../../charts/store}\n";
const RELEASES: &str = "releases:\n  - {name: store, namespace: security, chart: ../../../charts/store}\n  \
    - {name: tenant, namespace: security, chart: ../../../charts/tenant, needs: [security/store]}\n";

fn chart(repository: &Path, name: &str, files: &[(&str, &str)]) {
    let folder = repository.join("charts").join(name);
    for (path, text) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    std::fs::write(folder.join("Chart.yaml"), format!("apiVersion: v2\nname: {name}\nversion: 1.0.0\n")).unwrap();
}

#[test]
fn what_uses_converted_objects_comes_after_their_webhook() {
    let environment = TestEnvironment::machines();
    chart(&environment.repository, "store", &[("crds/store.yaml", CRD), ("templates/operator.yaml", OPERATOR)]);
    chart(&environment.repository, "tenant", &[("templates/store.yaml", TENANT)]);
    let helmfiles = environment.repository.join("bootstrap/infra/helmfile.d");
    std::fs::write(helmfiles.join("00-crds.yaml"), CRDS).unwrap();
    std::fs::write(helmfiles.join("01-apps.yaml"), RELEASES).unwrap();

    let CommandOutput { code, stdout: plan, .. } = environment.run(&["plan", "infra"]);
    assert_eq!(code, 0);
    assert!(plan.contains("conversion/store"), "{plan}");

    let scenario = "base: fast\noperators: {webhookServes: 1500, caInjection: 1500}\n";
    let _lab = environment.lab_with("infra", scenario);
    let mut run = environment.command(&["-o", "json", "infra", "--lab"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(run.stdout.take().unwrap()).lines();
    let events: Vec<Value> = lines
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .take_while(|event: &Value| event["event"] != "run-ended" && event["step"] != "handoff/nodes")
        .collect();
    run.kill().unwrap();
    run.wait().unwrap();
    let at = |kind: &str, step: &str| {
        let found = events.iter().position(|event| event["event"] == kind && event["step"] == step);
        found.unwrap_or_else(|| panic!("no {kind} of {step}: {events:#?}"))
    };
    assert!(at("step-done", "release/store") < at("step-started", "conversion/store"));
    assert!(at("step-done", "conversion/store") < at("step-started", "release/tenant"));
    at("step-done", "release/tenant");
    let waits =
        events.iter().filter(|event| event["step"] == "conversion/store").filter_map(|event| event["reason"].as_str());
    let waits: Vec<&str> = waits.collect();
    assert!(waits.iter().any(|reason| reason.ends_with("has no caBundle for the webhook yet")), "{waits:?}");
    let store = environment
        .kubectl("infra", &["get", "stores.v1.secrets.example.com", "vault", "-n", "security", "-o", "json"]);
    assert_eq!(store["spec"]["size"], 1);
}
