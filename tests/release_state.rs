//! What changed since a release was installed: in its chart, in the cluster, in the helmfile. Local charts, the real helm
//! and a real API server.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use common::{LabProcess, NETWORK_PLUGIN, TestEnvironment};
use serde_json::{Value, json};
use test_support::CommandOutput;

const MAP: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: app}
data: {color: {{ .Values.color | quote }}}
";
/// What no two renderings share: random values, the revision, what the cluster serves and what it holds already.
const VOLATILE: &str = "apiVersion: v1
kind: Secret
metadata: {name: login}
stringData: {password: {{ randAlphaNum 20 | quote }}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: revision}
data: {revision: {{ .Release.Revision | quote }}, found: {{ lookup \"v1\" \"ConfigMap\" \"lab\" \"app\" | empty | quote }}}
{{- if .Release.IsInstall }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: first}
{{- end }}
{{- if .Capabilities.APIVersions.Has \"example.org/v1/Thing\" }}
---
apiVersion: example.org/v1
kind: Thing
metadata: {name: thing}
spec: {size: 1}
{{- end }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: hook, annotations: {helm.sh/hook: \"post-install,post-upgrade\"}}
data: {color: {{ .Values.color | quote }}}
";
const DEFINITION: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {kind: Thing, plural: things}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";
const HELMFILE: &str = "releases:
  - {name: cilium, namespace: kube-system, chart: ../../../charts/cilium, wait: true}
  - name: app
    namespace: lab
    chart: ../../../charts/app
    wait: false
    needs: [kube-system/cilium]
    values: [{color: red}]
";
const PATCHES: &str = "    jsonPatches:
      - target: {version: v1, kind: ConfigMap, name: app}
        patch: [{op: add, path: /data/patched, value: 'yes'}]
";
const MAP_FILE: &str = "charts/app/templates/map.yaml";
const HELMFILE_FILE: &str = "bootstrap/infra/helmfile.d/01-apps.yaml";

fn write(environment: &TestEnvironment, path: &str, text: &str) {
    let path = environment.repository.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A repository with two releases of local charts.
fn repository() -> TestEnvironment {
    let environment = TestEnvironment::machines();
    for name in ["cilium", "app"] {
        let text = format!("apiVersion: v2\nname: {name}\nversion: 1.0.0\n");
        write(&environment, &format!("charts/{name}/Chart.yaml"), &text);
    }
    write(&environment, "charts/cilium/templates/plugin.yaml", NETWORK_PLUGIN);
    write(&environment, MAP_FILE, MAP);
    write(&environment, HELMFILE_FILE, HELMFILE);
    environment
}

/// The same, installed.
fn installed(environment: &TestEnvironment) -> LabProcess {
    let lab = environment.lab("infra");
    run(environment);
    lab
}

fn run(environment: &TestEnvironment) -> String {
    let CommandOutput { code, stderr, .. } = environment.run(&["infra", "--lab"]);
    assert_eq!(code, 0, "{stderr}");
    stderr
}

fn assert_nothing_to_do(environment: &TestEnvironment) {
    let stderr = run(environment);
    assert!(stderr.contains("infra: nothing to do: all "), "{stderr}");
}

fn plan(environment: &TestEnvironment) -> (i32, String) {
    let CommandOutput { code, stdout, stderr, .. } =
        environment.run(&["plan", "infra", "--lab", "--detailed-exitcode"]);
    assert!(stdout.contains(" steps, plan "), "{stdout}{stderr}");
    (code, stdout)
}

fn data(environment: &TestEnvironment) -> Value {
    environment.kubectl("infra", &["get", "configmap", "app", "-n", "lab", "-o", "json"])["data"].clone()
}

/// The highest revision of a release.
fn revision(environment: &TestEnvironment, name: &str) -> i64 {
    let selector = format!("owner=helm,name={name}");
    let records = environment.kubectl("infra", &["get", "secrets", "-A", "-l", &selector, "-o", "json"]);
    let revisions = records["items"].as_array().unwrap().iter();
    revisions.map(|item| item["metadata"]["labels"]["version"].as_str().unwrap().parse().unwrap()).max().unwrap()
}

fn patch(environment: &TestEnvironment, change: &Value) {
    let change = change.to_string();
    environment
        .kubectl("infra", &["patch", "configmap", "app", "-n", "lab", "--type=merge", "-p", &change, "-o", "json"]);
}

#[test]
fn a_change_of_a_chart_or_of_its_patches_is_installed_and_nothing_else_is() {
    let environment = repository();
    write(&environment, "charts/app/templates/volatile.yaml", VOLATILE);
    write(&environment, "charts/app/crds/things.yaml", DEFINITION);
    let _lab = installed(&environment);
    let things = environment.kubectl("infra", &["get", "things.example.org", "-n", "lab", "-o", "json"]);
    assert_eq!(things["items"].as_array().unwrap().len(), 1, "the chart saw the kinds that the cluster serves");
    assert_nothing_to_do(&environment);
    assert_eq!((revision(&environment, "app"), revision(&environment, "cilium")), (1, 1));

    environment.edit(MAP_FILE, "color: {{", "shade: dark, color: {{");
    let (code, text) = plan(&environment);
    assert_eq!(code, 5, "{text}");
    let expected = "release: lab/app: upgrade: the chart renders another manifest: ConfigMap lab/app .data.shade differs\n  \
                    ~ ConfigMap lab/app .data.shade: (none) -> \"dark\"\n";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("release: kube-system/cilium: unchanged: deployed and ready\n"), "{text}");
    run(&environment);
    assert_eq!(data(&environment), json!({"color": "red", "shade": "dark"}));
    assert_nothing_to_do(&environment);
    assert_eq!(revision(&environment, "app"), 2);

    environment.edit(
        HELMFILE_FILE,
        "    values: [{color: red}]\n",
        &format!("    values: [{{color: red}}]\n{PATCHES}"),
    );
    run(&environment);
    assert_eq!(data(&environment), json!({"color": "red", "shade": "dark", "patched": "yes"}));
    assert_nothing_to_do(&environment);
    assert_eq!((revision(&environment, "app"), revision(&environment, "cilium")), (3, 1));

    environment.edit("charts/app/templates/volatile.yaml", "post-install,post-upgrade", "post-install");
    run(&environment);
    assert_eq!(revision(&environment, "app"), 4, "a changed hook is installed");
}

#[test]
fn a_workload_whose_image_cannot_be_pulled_is_taken_out_by_a_resume() {
    let environment = repository();
    let broken = NETWORK_PLUGIN
        .replace("DaemonSet", "Deployment")
        .replace("cilium}", "broken}")
        .replace("cilium/cilium", "acme/broken");
    write(&environment, "charts/app/templates/broken.yaml", &broken);
    environment.edit(HELMFILE_FILE, "wait: false", "wait: true");
    let scenario = "base: fast\npodFaults:\n  - pod: {namespace: lab, name: broken}\n    what: image-pull\n    \
                    message: 'registry.example: 404 Not Found'\n";
    let _lab = environment.lab_with("infra", scenario);
    let mut child = environment.command(&["-o", "json", "infra", "--lab"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let is_stuck = |line: String| line.contains("\"release/app\"") && line.contains("404 Not Found");
    assert!(events.any(is_stuck), "the run ended without the fault");
    child.kill().unwrap();
    child.wait().unwrap();
    environment.wait_for_no_helm("infra");
    assert_eq!(revision(&environment, "app"), 1);

    std::fs::remove_file(environment.repository.join("charts/app/templates/broken.yaml")).unwrap();
    let CommandOutput { code, stderr, .. } = environment.run(&["infra", "--lab", "--resume"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(revision(&environment, "app"), 2);
    let left = environment.kubectl("infra", &["get", "deployments", "-n", "lab", "-o", "json"]);
    assert_eq!(left["items"], json!([]));
}

#[test]
fn what_is_gone_or_changed_in_the_cluster_is_restored_once_and_what_flux_manages_is_left_alone() {
    let environment = repository();
    let _lab = installed(&environment);
    environment.kubectl("infra", &["get", "configmap", "app", "-n", "lab", "-o", "json"]);
    let delete = ["delete", "configmap", "app", "-n", "lab", "--output=name"];
    delete_object(&environment, &delete);
    let (code, text) = plan(&environment);
    assert_eq!(code, 5, "{text}");
    assert!(
        text.contains("release: lab/app: upgrade: ConfigMap lab/app is absent\n  ! ConfigMap lab/app is absent\n"),
        "{text}"
    );
    run(&environment);
    assert_eq!(data(&environment), json!({"color": "red"}));
    assert_nothing_to_do(&environment);

    // A field of others is not ours.
    patch(&environment, &json!({"data": {"own": "x"}}));
    assert_nothing_to_do(&environment);
    patch(&environment, &json!({"data": {"color": "blue"}}));
    run(&environment);
    assert_eq!(data(&environment), json!({"color": "red", "own": "x"}));
    assert_nothing_to_do(&environment);
    assert_eq!(revision(&environment, "app"), 3);

    // The same again: another writer is at work.
    patch(&environment, &json!({"data": {"color": "blue"}}));
    let stderr = run(&environment);
    assert!(stderr.contains("ConfigMap lab/app .data.color differs again after the upgrade to revision 3"), "{stderr}");
    assert_eq!((revision(&environment, "app"), &data(&environment)["color"]), (3, &json!("blue")));

    let labels =
        json!({"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"});
    patch(&environment, &json!({"metadata": {"labels": labels}}));
    let (code, text) = plan(&environment);
    assert_eq!(code, 0, "{text}");
    let expected =
        "deployed; ConfigMap lab/app .data.color differs, and Flux's Kustomization flux-system/apps manages it";
    assert!(text.contains(expected), "{text}");
    run(&environment);
    assert_eq!((revision(&environment, "app"), &data(&environment)["color"]), (3, &json!("blue")));
}

#[test]
fn what_is_deleted_again_is_created_again_and_nothing_that_flux_keeps_different_is_overwritten() {
    let environment = repository();
    let other = MAP.replace("{name: app}", "{name: other}");
    write(&environment, "charts/app/templates/other.yaml", &other);
    let _lab = installed(&environment);
    let delete = || delete_object(&environment, &["delete", "configmap", "app", "-n", "lab", "--output=name"]);
    for expected in 2..=4 {
        delete();
        let (code, text) = plan(&environment);
        assert_eq!(code, 5, "{text}");
        assert!(text.contains("release: lab/app: upgrade: ConfigMap lab/app is absent\n"), "{text}");
        run(&environment);
        assert_eq!((data(&environment), revision(&environment, "app")), (json!({"color": "red"}), expected));
    }

    let labels =
        json!({"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"});
    let change = json!({"metadata": {"labels": labels}, "data": {"color": "green"}}).to_string();
    let patch = ["patch", "configmap", "other", "-n", "lab", "--type=merge", "-p", &change, "-o", "json"];
    environment.kubectl("infra", &patch);
    delete();
    let (code, text) = plan(&environment);
    assert_eq!(code, 5, "{text}");
    let kept =
        "an upgrade would also overwrite ConfigMap lab/other, which Flux's Kustomization flux-system/apps manages";
    assert!(text.contains(kept), "{text}");
    run(&environment);
    let theirs = environment.kubectl("infra", &["get", "configmap", "other", "-n", "lab", "-o", "json"]);
    assert_eq!((data(&environment), &theirs["data"]), (json!({"color": "red"}), &json!({"color": "green"})));
    assert_eq!(revision(&environment, "app"), 4, "created without an upgrade");
    assert_nothing_to_do(&environment);
}

/// kubectl prints no JSON for a deletion.
fn delete_object(environment: &TestEnvironment, arguments: &[&str]) {
    let kubeconfig = environment.state().join("labs/infra/run/kubeconfig");
    let output = environment.child("kubectl").arg("--kubeconfig").arg(kubeconfig).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_release_that_left_the_helmfile_is_reported_with_the_command_that_removes_it_and_stays() {
    let environment = repository();
    let _lab = installed(&environment);
    let (declared, _) = HELMFILE.split_once("  - name: app").unwrap();
    write(&environment, HELMFILE_FILE, declared);
    let (code, text) = plan(&environment);
    assert_eq!(code, 0, "{text}");
    let kubeconfig = environment.state().join("labs/infra/run/kubeconfig");
    let expected = format!(
        "release lab/app: no longer in the helmfile; next: helm uninstall app --namespace lab --kubeconfig {}",
        kubeconfig.display()
    );
    assert!(text.contains(&expected.replacen("release ", "release: ", 1)), "{text}");
    let CommandOutput { code, stdout, stderr, .. } = environment.run(&["status", "infra", "--lab"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains(&expected), "{stdout}");
    assert_nothing_to_do(&environment);
    assert_eq!(data(&environment), json!({"color": "red"}));

    // A release of another tool is not ours to report.
    let helm = |words: &[&str]| {
        let chart: &Path = &environment.repository.join("charts/app");
        let mut helm = environment.child("helm");
        helm.args(words)
            .arg(chart)
            .args(["--namespace", "lab", "--set", "color=grey", "--kubeconfig"])
            .arg(&kubeconfig);
        let output = helm.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    environment.edit(MAP_FILE, "{name: app}", "{name: {{ .Release.Name }}}");
    helm(&["install", "theirs"]);
    let (_, text) = plan(&environment);
    assert!(!text.contains("lab/theirs"), "{text}");
}

#[test]
fn changed_inputs_reopen_the_steps_of_crds_secrets_namespaces_and_hooks() {
    let environment = repository();
    let labelled =
        |object: &str, labels: &str| object.replace("metadata: {", &format!("metadata: {{labels: {{{labels}}}, "));
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: login, namespace: lab}\nstringData: {user: me}\n";
    let pool = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: pool, namespace: lab}\ndata: {a: b}\n";
    write(&environment, "charts/things/Chart.yaml", "apiVersion: v2\nname: things\nversion: 1.0.0\n");
    write(&environment, "charts/things/crds/things.yaml", &labelled(DEFINITION, "tier: one"));
    let crds = "releases:\n  - {name: things, namespace: lab, chart: ../../../charts/things}\n";
    write(&environment, "bootstrap/infra/helmfile.d/00-crds.yaml", crds);
    write(&environment, "bootstrap/infra/secrets.yaml.tpl", &labelled(secret, "tier: one"));
    write(&environment, "k8s-bootstrap.yaml", "clusters: {infra: {secrets: [bootstrap/infra/secrets.yaml.tpl]}}\n");
    write(&environment, "manifests/pool.yaml", &labelled(pool, "tier: one"));
    let hook = "    hooks:\n      - events: [postsync]\n        command: kubectl\n        \
                args: [apply, --server-side, --filename=../../../manifests/pool.yaml]\n    values: [{color: red}]\n";
    environment.edit(HELMFILE_FILE, "    values: [{color: red}]\n", hook);
    let _lab = installed(&environment);
    assert_nothing_to_do(&environment);

    let changes: [(&str, &str, String, &str); 3] = [
        (
            "charts/things/crds/things.yaml",
            "crds/things",
            DEFINITION.to_owned(),
            "CustomResourceDefinition things.example.org",
        ),
        ("bootstrap/infra/secrets.yaml.tpl", "base/secrets", secret.to_owned(), "Secret lab/login"),
        ("manifests/pool.yaml", "hook/app/1", pool.to_owned(), "ConfigMap lab/pool"),
    ];
    for (file, step, text, object) in changes {
        // A field with another value, then one that is gone from the file.
        for (text, drift) in
            [(labelled(&text, "tier: two"), ".metadata.labels.tier differs"), (text, ".metadata.labels is unexpected")]
        {
            write(&environment, file, &text);
            let (code, events) = environment.events(&["infra", "--lab"]);
            assert_eq!(code, 0, "{events:#?}");
            let observed = events.iter().find(|event| event["event"] == "observed" && event["step"] == step);
            let observed = observed.unwrap_or_else(|| panic!("{step} is not observed: {events:#?}"));
            assert_eq!(observed["detail"], format!("{object} {drift}"), "{observed}");
            assert_nothing_to_do(&environment);
        }
    }
}
