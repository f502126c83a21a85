//! `k8s-bootstrap plan`: where the bootstrap and Flux will differ, with the real helm and a local registry.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use common::TestEnvironment;
use serde_json::{Value, json};
use test_support::{Condition, Deadline, LoopbackNetwork, wait_until};

const MAP: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}, labels: {chart: {{ .Chart.Version | quote }}}}
data: {color: {{ .Values.color | quote }}, cluster: {{ .Values.cluster | default \"none\" | quote }}}
---
apiVersion: v1
kind: Secret
metadata: {name: {{ .Release.Name }}}
stringData: {password: {{ randAlphaNum 12 }}}
";
const HELMFILE: &str = "releases:
  - name: same
    namespace: lab
    chart: oci://registry.example/charts/app
    version: 1.0.0
    values: [{color: red}]
  - name: other
    namespace: lab
    chart: oci://registry.example/charts/app
    version: 1.0.0
    values: [{color: red, cluster: '${CLUSTER}'}]
  - name: unmanaged
    namespace: lab
    chart: oci://registry.example/charts/app
    version: 1.0.0
    values: [{color: red}]
";
const FLUX: &str = "apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: same, namespace: lab}
spec:
  chartRef: {kind: OCIRepository, name: same}
  values: {color: red}
---
kind: OCIRepository
metadata: {name: same, namespace: lab}
spec: {url: 'oci://registry.example/charts/app', ref: {tag: 1.0.0}}
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: other, namespace: lab}
spec:
  chart:
    spec:
      chart: app
      version: 1.1.0
      sourceRef: {kind: HelmRepository, name: example}
  values:
    color: blue
    cluster: ${CLUSTER}
  postRenderers:
    - kustomize:
        patches:
          - target: {kind: ConfigMap}
            patch: '[{op: add, path: /data/patched, value: \"yes\"}]'
---
kind: HelmRepository
metadata: {name: example, namespace: lab}
spec: {type: oci, url: 'oci://registry.example/charts'}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: apps}
spec: {path: ./apps, postBuild: {substitute: {CLUSTER: infra}}}
";

/// A registry that ends with the test.
struct Registry(Child);

impl Registry {
    /// Serves the chart `app` in these versions.
    fn start(address: SocketAddr, folder: &Path, versions: &[&str]) -> Self {
        let mut crane = test_support::child(common::tool("crane"));
        crane.args(["registry", "serve", "--address", &address.to_string()]).stderr(Stdio::null());
        let registry = Self(crane.spawn().unwrap());
        wait_until(Deadline::after(Duration::from_secs(30)), || match TcpStream::connect(address) {
            Ok(_) => Condition::Met(()),
            Err(error) => Condition::Unmet(format!("the registry: {error}")),
        });
        let chart = folder.join("app");
        std::fs::create_dir_all(chart.join("templates")).unwrap();
        std::fs::write(chart.join("templates/map.yaml"), MAP).unwrap();
        for version in versions {
            std::fs::write(chart.join("Chart.yaml"), format!("apiVersion: v2\nname: app\nversion: {version}\n"))
                .unwrap();
            let helm = |words: &[&str]| {
                let mut helm = test_support::child(common::tool("helm"));
                let output = helm.args(words).current_dir(folder).env("HOME", folder).output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            };
            helm(&["package", "app"]);
            let target = format!("oci://{address}/registry.example/charts");
            helm(&["push", &format!("app-{version}.tgz"), &target, "--plain-http"]);
        }
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A repository with these releases, whose charts the registry at `address` serves.
fn prepare(address: SocketAddr) -> TestEnvironment {
    let environment = TestEnvironment::machines();
    let write = |path: &str, text: &str| {
        let path = environment.repository.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("bootstrap/infra/helmfile.d/01-apps.yaml", HELMFILE);
    write("apps/all.yaml", FLUX);
    write("k8s-bootstrap.yaml", &format!("mirrors: {{'*': '{address}'}}\n"));
    environment
}

fn plan(environment: &TestEnvironment, words: &[&str]) -> (i32, String) {
    // A cache of its own, so that every chart is asked for; the tools are found on the way.
    let cache = environment.state().with_file_name("cache");
    let folders = ["helm", "sops"].map(|name| common::tool(name).parent().unwrap().to_owned());
    let path =
        std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())));
    let mut command = environment.command(&[&["plan", "infra"], words].concat());
    command.env("PATH", path.unwrap());
    let output = command.env("XDG_CACHE_HOME", cache).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), text)
}

#[test]
fn what_flux_will_change_is_reported_and_does_not_fail_the_plan() {
    let network = LoopbackNetwork::allocate();
    let address = SocketAddr::new(network.dialled(1).into(), 5000);
    let folder = tempfile::tempdir().unwrap();
    let environment = prepare(address);
    let notices = |text: &str| {
        let lines = text.lines().skip_while(|line| !line.starts_with("notice[H14]:"));
        lines.take_while(|line| !line.contains(" steps, plan ")).collect::<Vec<_>>().join("\n")
    };

    // Without --drift no registry is asked, so none has to be there.
    let (code, text) = plan(&environment, &[]);
    assert_eq!(code, 0);
    insta::assert_snapshot!(notices(&text), @r"
    notice[H14]: bootstrap/infra/helmfile.d/01-apps.yaml:7:5: lab/other: the bootstrap installs version 1.0.0, Flux 1.1.0 (apps/all.yaml:19:16)
      next: set the same version in both
    notice[H14]: apps/all.yaml:23:14: lab/other: `cluster` holds `${CLUSTER}`, which Flux substitutes and the bootstrap does not
      next: replace it in the values template too, for example by `replace` with the ConfigMap's value, or write the value
    notice[H14]: apps/all.yaml:22:12: lab/other: the values differ from the HelmRelease's at `color`
      next: read the values from the HelmRelease, or set the same in both
    notice[H14]: apps/all.yaml:25:5: lab/other: Flux applies `postRenderers` to the chart, and the bootstrap does not
      next: set the same as `jsonPatches` or `strategicMergePatches` of the release, or accept that Flux upgrades it once
    ");

    let unreachable = notices(&plan(&environment, &["--drift"]).1);
    assert!(unreachable.contains("drift: lab/same: cannot be compared: "), "{unreachable}");

    let _registry = Registry::start(address, folder.path(), &["1.0.0", "1.1.0"]);
    let text = notices(&plan(&environment, &["--drift"]).1);
    let shown = text.split_once("drift: ").map(|(_, shown)| shown.to_owned()).unwrap();
    insta::assert_snapshot!(shown, @r#"
    lab/same: Flux renders the same
    drift: lab/other:
    --- lab/other (bootstrap)
    +++ lab/other (Flux)
    @@ -1,11 +1,12 @@
     apiVersion: v1
     data:
    -  cluster: ${CLUSTER}
    -  color: red
    +  cluster: infra
    +  color: blue
    +  patched: "yes"
     kind: ConfigMap
     metadata:
       labels:
    -    chart: "1.0.0"
    +    chart: "1.1.0"
       name: other
     ---
     apiVersion: v1
    "#);
    let plan: Value = serde_json::from_str(&plan(&environment, &["--drift", "-o", "json"]).1).unwrap();
    assert_eq!((&plan["drift"][0]["code"], &plan["drift"][0]["difference"]), (&json!("H14"), &json!("version")));
    let manifests = plan["manifests"].as_array().unwrap();
    assert_eq!((manifests.len(), &manifests[0]["diff"], &manifests[0]["error"]), (2, &json!(""), &Value::Null));
}
