//! Machines with one release on them, a network plugin: the smallest cluster that a run completes.

use super::TestEnvironment;

/// Where the release is declared.
pub const ONE_RELEASE_FILE: &str = "bootstrap/infra/helmfile.d/01-apps.yaml";

/// The helmfile.
const ONE_RELEASE: &str =
    "releases:\n  - {name: cilium, namespace: kube-system, chart: ../../../charts/cilium, wait: true}\n";

/// A network plugin, so that every node becomes Ready.
pub const NETWORK_PLUGIN: &str = "apiVersion: apps/v1
kind: DaemonSet
metadata: {name: cilium}
spec:
  selector: {matchLabels: {k8s-app: cilium}}
  template:
    metadata: {labels: {k8s-app: cilium}}
    spec:
      hostNetwork: true
      tolerations: [{operator: Exists}]
      containers: [{name: agent, image: 'quay.io/cilium/cilium:v1'}]
";

impl TestEnvironment {
    /// A copy of the machines of the reference inputs with one release, which makes every node Ready.
    pub fn one_release() -> Self {
        let environment = Self::machines();
        environment.write("charts/cilium/Chart.yaml", "apiVersion: v2\nname: cilium\nversion: 1.0.0\n");
        environment.write("charts/cilium/templates/plugin.yaml", NETWORK_PLUGIN);
        environment.write(ONE_RELEASE_FILE, ONE_RELEASE);
        environment
    }

    /// Adds hooks to the release; each is an item of a YAML list.
    pub fn add_hooks(&self, hooks: &[String]) {
        self.edit(ONE_RELEASE_FILE, "wait: true}", &format!("wait: true, hooks: [{}]}}", hooks.join(",\n    ")));
    }
}
