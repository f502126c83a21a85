//! The hand-over to Flux: what each gate says while something fails, and what is refused before it.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use common::{LabProcess, TestEnvironment, failures, has_optional_tool};
use test_support::CommandOutput;

const COREDNS: &str = "infrastructure/base/coredns/helmrelease.yaml";
const INSTANCE: &str = "infrastructure/base/flux-instance/helmrelease.yaml";

/// A copy of the reference inputs, and its lab.
fn lab(scenario: &str, edits: &[(&str, &str, &str)]) -> (TestEnvironment, LabProcess) {
    let environment = TestEnvironment::copy();
    for (file, from, to) in edits {
        environment.edit(file, from, to);
    }
    let lab = environment.lab_with("infra", scenario);
    (environment, lab)
}

#[test]
fn a_helm_release_that_would_own_another_release_stops_a_run_before_any_machine_is_touched() {
    let target = "  targetNamespace: kube-system\n  chartRef:";
    let (environment, _lab) = lab("base: fast\n", &[(COREDNS, "  chartRef:", target)]);
    insta::assert_snapshot!(failures(&environment.run(&["infra", "--lab"])), @"
    exit code: 3
    preflight/charts: error[F09]: Flux would install a release a second time
        where: infrastructure/base/coredns/helmrelease.yaml:4:9
        why: kube-system/coredns: Flux installs `kube-system/kube-system-coredns` instead, a second release of the same objects (infrastructure/base/coredns/helmrelease.yaml:4:9)
        page: docs/errors/F09.md
        next: set `releaseName: coredns` in the HelmRelease, or name the release `kube-system/kube-system-coredns` in the helmfile
    ");
    let record = environment.status("infra")["record"].clone();
    assert!(!record["calls"].to_string().contains("\"ApplyConfiguration\""), "{record}");
    let CommandOutput { stdout: plan, .. } = environment.run(&["plan", "infra"]);
    assert!(plan.contains("Flux installs `kube-system/kube-system-coredns` instead"), "{plan}");
}

#[test]
fn every_gate_says_why_flux_fails_and_the_run_goes_on_once_it_does_not() {
    let fault = |object: &str, reason: &str, message: &str| {
        format!("  - {{object: {object}, reason: {reason}, message: '{message}', lasts: 3000}}\n")
    };
    let faults = [
        fault("source", "GitOperationFailed", "unable to clone: authentication required"),
        fault("root", "ArtifactFailed", "kustomization path not found"),
        fault("kustomization", "BuildFailed", "decryption failed: cannot get sops data key"),
        fault("helm-release", "UpgradeFailed", "add operation does not apply"),
    ];
    let scenario = format!("base: fast\nfluxFaults:\n{}", faults.concat());
    let edits = [
        (INSTANCE, "kind: GitRepository", "kind: OCIRepository"),
        (INSTANCE, "url: ssh://git@github.com/monosense/k8s-ops.git", "url: oci://ghcr.io/monosense/k8s-ops"),
    ];
    let (environment, _lab) = lab(&scenario, &edits);
    let run = environment.run(&["infra", "--lab"]);
    assert_eq!(run.code, 0, "{run}");
    for expected in [
        "handoff/source: waiting: OCIRepository flux-system/flux-system is not ready: GitOperationFailed: unable to clone",
        "handoff/instance: waiting: FluxInstance flux-system/flux is not Ready: Progressing: Waiting for OCIRepository/",
        "handoff/adoption: waiting: OCIRepository flux-system/flux-system: GitOperationFailed: unable to clone",
        "handoff/root: waiting: Kustomization flux-system/flux-system is not ready: ArtifactFailed: kustomization path",
        "handoff/adoption: waiting: Kustomization flux-system/cluster-infrastructure: BuildFailed: decryption failed",
        "is not ready: UpgradeFailed: add operation does not apply",
    ] {
        assert!(run.stderr.contains(expected), "{expected}\n{run}");
    }
    let plan = environment.run(&["plan", "infra", "--lab", "--detailed-exitcode"]);
    assert_eq!(plan.code, 0, "{plan}");
}

#[test]
fn a_failure_of_the_network_has_its_own_code() {
    let fault = |object: &str, message: &str| {
        format!("  - {{object: {object}, reason: Failed, message: '{message}', lasts: 3000}}\n")
    };
    let faults = [
        fault("source", "dial tcp: lookup github.com on 10.43.0.10:53: no such host"),
        // An address of a service of this cluster.
        fault("root", "Get \"http://source-controller.flux-system.svc/x.tar.gz\": dial tcp 10.43.7.9:80: i/o timeout"),
    ];
    let (environment, _lab) = lab(&format!("base: fast\nfluxFaults:\n{}", faults.concat()), &[]);
    let (code, events) = environment.events(&["infra", "--lab"]);
    assert_eq!(code, 0);
    let waited = |step: &str, code: &str| {
        events.iter().any(|event| event["event"] == "waiting" && event["step"] == step && event["code"] == code)
    };
    assert!(waited("handoff/source", "K11") && waited("handoff/root", "K10"), "{events:#?}");
    assert!(waited("handoff/adoption", "K11"), "{events:#?}");
}

#[test]
fn a_suspended_helm_release_is_reported_and_not_waited_for() {
    let (environment, _lab) = lab("base: fast\n", &[(COREDNS, "  interval: 1h", "  interval: 1h\n  suspend: true")]);
    let run = environment.run(&["infra", "--lab"]);
    assert_eq!(run.code, 0, "{run}");
    let CommandOutput { stdout: plan, .. } = environment.run(&["plan", "infra", "--lab"]);
    assert!(plan.contains("Flux does not adopt it: its HelmRelease is suspended"), "{plan}");
}

/// The encrypted Secret could not be decrypted: its values are replaced where secrets are placeholders.
#[test]
fn with_the_real_kustomize_controller_the_tree_decides_what_flux_has() {
    if !has_optional_tool("kustomize-controller") {
        return;
    }
    let environment = TestEnvironment::copy();
    let sealed = "ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]";
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: sealed\n  namespace: kube-system\nstringData:\n  token: {sealed}\nsops:\n  mac: {sealed}\n  version: 3.13.0\n"
    );
    environment.write("infrastructure/base/spegel/secret.sops.yaml", &secret);
    environment.edit("infrastructure/base/spegel/kustomization.yaml", "resources:", "resources:\n  - secret.sops.yaml");
    let _lab = environment.lab_as("infra", &["--flux", "real"]);
    let run = environment.run(&["infra", "--lab"]);
    assert_eq!(run.code, 0, "{run}");
    let arguments = ["get", "helmreleases,kustomizations", "-A", "-o", "json", "--show-managed-fields"];
    let found = environment.kubectl("infra", &arguments);
    let objects = found["items"].as_array().unwrap();
    assert_eq!(objects.len(), 8, "{found}");
    for object in objects {
        // flux-operator creates the root.
        let creator =
            if object["metadata"]["name"] == "flux-system" { "flux-operator" } else { "kustomize-controller" };
        let managers = object["metadata"]["managedFields"].to_string();
        assert!(managers.contains(&format!("\"manager\":\"{creator}\"")), "{}: {managers}", object["metadata"]["name"]);
        let ready = object["status"]["conditions"].as_array().unwrap().iter().find(|it| it["type"] == "Ready");
        assert_eq!(ready.unwrap()["status"], "True", "{object}");
        // Only the real controller has an inventory of what it applied.
        assert_eq!(object["kind"] == "Kustomization", object["status"]["inventory"].is_object(), "{object}");
    }
    let secret = environment.kubectl("infra", &["get", "secret", "sealed", "-n", "kube-system", "-o", "json"]);
    assert_eq!(secret["data"]["token"], "cGxhY2Vob2xkZXI=");
    let record = environment.status("infra")["record"].clone();
    assert!(record["flux_tree"]["replaced"].to_string().contains("spegel/secret.sops.yaml"), "{}", record["flux_tree"]);
    assert_eq!(record["restarted_by_flux"].as_array().unwrap().len(), 0, "{record}");
}

/// The file of the HelmRelease exists, and no kustomization.yaml names it.
#[test]
fn a_helm_release_that_no_kustomization_builds_is_missed_with_the_real_kustomize_controller() {
    if !has_optional_tool("kustomize-controller") {
        return;
    }
    let environment = TestEnvironment::copy();
    environment.edit("infrastructure/base/kustomization.yaml", "  - spegel\n", "");
    let _lab = environment.lab_as("infra", &["--flux", "real"]);
    let mut run = environment.command(&["-o", "json", "infra", "--lab"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(run.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut seen = Vec::new();
    // Every other release is adopted by then.
    let reported = lines.inspect(|line| seen.push(line.clone())).any(|line| {
        line.contains("handoff/adoption") && line.contains("\"kube-system/spegel: its HelmRelease does not exist yet\"")
    });
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(reported, "{seen:#?}");
}
