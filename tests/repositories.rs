//! Operators' repositories in the usual layouts, each rehearsed unchanged, from bare machines to Flux.
//!
//! Every repository was written for these tests and has a network of its own (10.67.x.0), so that all run side by side.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::TestEnvironment;

/// A rehearsal of one repository.
struct Rehearsal {
    environment: TestEnvironment,
    cluster: &'static str,
    variables: Vec<(&'static str, &'static str)>,
    real_secrets: bool,
}

impl Rehearsal {
    fn of(environment: TestEnvironment, cluster: &'static str) -> Self {
        Self { environment, cluster, variables: vec![], real_secrets: false }
    }

    /// With sops and its key, and a stand-in for op.
    fn with_real_secrets(self) -> Self {
        Self { real_secrets: true, ..self }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    /// Exit code and standard error.
    fn run(&self) -> (i32, String) {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let path = std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect::<Vec<_>>();
        let path = std::env::join_paths(std::iter::once(fixtures).chain(path)).unwrap();
        let mut command = self.environment.command(&["rehearse", self.cluster, "--scenario", "fast"]);
        if self.real_secrets {
            command.args(["--secrets", "real"]);
        }
        command.env("PATH", path).envs(self.variables.iter().copied());
        let output = command.output().unwrap();
        (output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).unwrap())
    }

    /// Runs to the end with this summary, with these steps among those that ended, and changes no file.
    fn succeeds(&self, summary: &str, steps: &[&str]) {
        let before = files(&self.environment.repository);
        let (code, output) = self.run();
        assert_eq!(code, 0, "{output}");
        assert!(output.contains(&format!("{} is bootstrapped: {summary}.", self.cluster)), "{output}");
        assert!(output.contains("Bootstrap calls accepted: 1"), "{output}");
        assert!(output.contains("workloads that Flux restarted at the hand-over: 0"), "{output}");
        assert_eq!(output.contains("every op:// and SOPS value was a placeholder"), !self.real_secrets, "{output}");
        for step in steps {
            let ended = ["done in", "up to date", "skipped:", "degraded:"]
                .iter()
                .any(|end| output.contains(&format!("] {step}: {end}")));
            assert!(ended, "{step}: {output}");
        }
        assert!(files(&self.environment.repository) == before, "the repository was changed");
    }

    /// Stops before any machine is touched, and prints these texts.
    fn stops(&self, code: i32, words: &[&str]) {
        let (ended, output) = self.run();
        assert_eq!(ended, code, "{output}");
        assert!(!output.contains("machine-config/"), "{output}");
        for words in words {
            assert!(output.contains(words), "{words}: {output}");
        }
    }
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// talhelper with `talenv.yaml`, `helmfile.d`, values from the HelmReleases, a template for op, two SOPS files.
#[test]
fn the_community_template() {
    Rehearsal::of(TestEnvironment::operator("community-template"), "home").with_real_secrets().succeeds(
        "2 nodes Ready, 5 releases, Flux follows main",
        &["preflight/secrets", "base/secrets", "crds/kube-prometheus-stack", "hook/cilium/1", "hook/cilium/2"],
    );
}

/// A folder for each cluster, flat helmfiles of plain values, an HTTP repository, a chart by its digest, three control
/// planes.
#[test]
fn many_clusters() {
    Rehearsal::of(TestEnvironment::operator("many-clusters"), "hub")
        .succeeds("3 nodes Ready, 4 releases, Flux follows main", &["release/spegel", "etcd/members"]);
}

/// `bootstrap/helmfile/{default,crds,apps}.yaml`: bases, environments, conditions, selectors, a helmfile in another;
/// secrets in a kustomization that gives them their namespace.
#[test]
fn nested_helmfiles() {
    Rehearsal::of(TestEnvironment::operator("nested-helmfiles"), "production").succeeds(
        "2 nodes Ready, 3 releases, Flux follows production",
        &["base/secrets", "crds/external-dns", "release/cilium"],
    );
}

/// Jinja templates in layers with `op://` references, addresses by talosconfig, secrets by Jinja and then op.
#[test]
fn jinja_layers() {
    Rehearsal::of(TestEnvironment::operator("jinja-layers"), "orchard")
        .with("GATEWAY_NAMESPACE", "network")
        .succeeds("2 nodes Ready, 4 releases, Flux follows main", &["base/secrets", "hook/external-secrets/2"]);
}

/// topf with numbered patches and templates; charts from one file of OCIRepositories, by what HelmReleases name.
#[test]
fn topf_and_central_sources() {
    Rehearsal::of(TestEnvironment::operator("topf-central-sources"), "cellar")
        .succeeds("2 nodes Ready, 4 releases, Flux follows stable", &["release/coredns", "hook/cilium/1"]);
}

/// Machine configs sealed as a whole and named by address, HTTP and OCI `repositories`, values by `exec "yq"`.
#[test]
fn finished_configs() {
    Rehearsal::of(TestEnvironment::operator("finished-configs"), "vault").with_real_secrets().succeeds(
        "2 nodes Ready, 4 releases, Flux follows main",
        &["base/secrets", "hook/cilium/1", "hook/cert-manager/1"],
    );
}

/// A script that prints each node's config, a state file that is a template, `exec "sh"`, every spelling of op.
#[test]
fn a_command_for_each_node() {
    Rehearsal::of(TestEnvironment::operator("exec-per-node"), "harbour")
        .with("CLUSTER_NAME", "harbour")
        .with("VAULT", "app")
        .succeeds("2 nodes Ready, 4 releases, Flux follows main", &["base/secrets", "release/spegel"]);
}

/// Everything in the root; hooks of every event and spelling, patches, `set`, `condition`, `installed`.
#[test]
fn hooks_of_every_spelling() {
    let steps = ["hook/file-1/1", "hook/cilium/1", "hook/cilium/2", "hook/cilium/3", "hook/cilium/4", "hook/cilium/5"];
    let more = ["hook/cert-manager/1", "hook/cert-manager/3", "hook/flux-instance/1", "hook/file-1/2"];
    Rehearsal::of(TestEnvironment::operator("hooks-at-root"), "attic")
        .succeeds("2 nodes Ready, 4 releases, Flux follows main", &[&steps[..], &more[..]].concat());
}

#[test]
fn a_helm_release_that_was_moved_is_reported_with_its_new_path() {
    let environment = TestEnvironment::operator_copy("community-template");
    let apps = environment.repository.join("kubernetes/apps");
    std::fs::create_dir_all(apps.join("network")).unwrap();
    std::fs::rename(apps.join("cert-manager/cert-manager"), apps.join("network/cert-manager")).unwrap();
    Rehearsal::of(environment, "home").stops(
        2,
        &[
            "bootstrap/helmfile.d/templates/values.yaml.gotmpl:1:15: values of release \"cert-manager\"",
            "kubernetes/apps/cert-manager/cert-manager/app/helmrelease.yaml: file not found",
            "hint: did it move to kubernetes/apps/network/cert-manager/app/helmrelease.yaml?",
        ],
    );
}

#[test]
fn missing_hook_files_are_reported_with_the_line_of_the_hook() {
    let environment = TestEnvironment::operator_copy("hooks-at-root");
    let manifests = environment.repository.join("manifests");
    std::fs::create_dir(manifests.join("network")).unwrap();
    std::fs::rename(manifests.join("pools"), manifests.join("network/pools")).unwrap();
    std::fs::remove_dir_all(manifests.join("once")).unwrap();
    Rehearsal::of(environment, "attic").stops(
        2,
        &[
            "helmfile.yaml:66:9: the hook applies manifests/pools, which does not exist",
            "hint: did it move to manifests/network/pools/kustomization.yaml?",
            "helmfile.yaml:90:9: the hook applies manifests/once, which does not exist",
        ],
    );
}

#[test]
fn a_missing_flux_key_stops_a_run_before_any_machine_is_touched() {
    let environment = TestEnvironment::operator_copy("community-template");
    std::fs::remove_file(environment.repository.join("bootstrap/github-deploy-key.sops.yaml")).unwrap();
    Rehearsal::of(environment, "home").stops(
        3,
        &[
            "preflight/charts: error[F02]: Flux cannot read the repository",
            "no manifest of the repository contains Secret flux-system/github-deploy-key, which Flux needs to read the repository",
            "where: release flux-system/flux-instance (bootstrap/helmfile.d/01-apps.yaml:",
            "page: docs/errors/F02.md",
        ],
    );
}

#[test]
fn a_patch_that_does_not_apply_to_its_chart_stops_a_run_before_any_machine_is_touched() {
    let environment = TestEnvironment::operator_copy("hooks-at-root");
    let helmfile = environment.repository.join("helmfile.yaml");
    let text = std::fs::read_to_string(&helmfile).unwrap();
    assert!(text.contains("path: /metadata/labels/"));
    std::fs::write(&helmfile, text.replace("path: /metadata/labels/", "path: /spec/nowhere/")).unwrap();
    Rehearsal::of(environment, "attic").stops(
        3,
        &[
            "preflight/charts: error[H16]: release kube-system/cilium",
            "helmfile.yaml:37:9: the JSON patch does not apply to",
        ],
    );
}
