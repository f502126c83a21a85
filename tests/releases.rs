//! `k8s-bootstrap releases`: the releases of a helmfile, as they were read.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::common;

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

const HELMFILE: &str = "environments:
  default: {values: [{replicas: 1, side: {enabled: false}}]}
  prod: {values: [{replicas: 3, side: {enabled: true}}]}
---
releases:
  - name: app
    namespace: lab
    chart: ./charts/app
    labels: {tier: web}
    values: [values.yaml.gotmpl]
    set: [{name: color, value: red}]
    needs: [side]
    strategicMergePatches:
      - {apiVersion: v1, kind: ConfigMap, metadata: {name: app, namespace: lab}, data: {patched: 'yes'}}
  - {name: side, namespace: lab, chart: ./charts/app, condition: side.enabled}
";
const MAP: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}, namespace: {{ .Release.Namespace }}}
data: {color: {{ .Values.color | default \"none\" }}, replicas: \"{{ .Values.replicas }}\"}
";

fn repository() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("helmfile.yaml", HELMFILE);
    write("values.yaml.gotmpl", "replicas: {{ .Values.replicas }}\n");
    write("charts/app/Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\n");
    write("charts/app/templates/map.yaml", MAP);
    folder
}

fn releases(repository: &Path, words: &[&str]) -> Output {
    let mut command = common::program();
    command.env("XDG_CACHE_HOME", common::cache());
    command.arg("-C").arg(repository).arg("releases").args(words).args(["-f", "helmfile.yaml"]).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json_of(repository: &Path, words: &[&str]) -> Value {
    serde_json::from_str(&text(&releases(repository, &[words, &["-o", "json"]].concat()))).unwrap()
}

#[test]
fn list_shows_every_release_and_whether_it_is_on() {
    let repository = repository();
    insta::assert_snapshot!(text(&releases(repository.path(), &["list"])), @r"
    NAME  NAMESPACE  ENABLED  INSTALLED  CHART         VERSION  LABELS
    app   lab        true     true       ./charts/app           chart:app,name:app,namespace:lab,tier:web
    side  lab        false    true       ./charts/app           chart:app,name:side,namespace:lab
    ");
    let selected = json_of(repository.path(), &["list", "-e", "prod", "-l", "tier=web", "--include-needs"]);
    assert_eq!(selected.as_array().unwrap().len(), 2);
    assert_eq!(selected[1]["enabled"], true);
}

#[test]
fn build_shows_the_state_and_values_what_helm_is_given() {
    let repository = repository();
    let built = json_of(repository.path(), &["build", "-e", "prod", "--state-values-set", "side.enabled=false"]);
    assert_eq!(
        (&built[0]["file"], &built[0]["values"]),
        (&json!("helmfile.yaml"), &json!({"replicas": 3, "side": {"enabled": false}}))
    );
    assert_eq!(built[0]["releases"][0]["needs"], json!(["lab/side"]));
    let values = json_of(repository.path(), &["values", "-e", "prod", "-l", "name=app"]);
    assert_eq!(values, json!({"lab/app": {"replicas": 3, "color": "red"}}));
}

#[test]
fn template_renders_with_the_real_helm_and_applies_patches() {
    let repository = repository();
    let rendered = json_of(repository.path(), &["template"]);
    assert_eq!(rendered.as_array().unwrap().len(), 1);
    assert_eq!(rendered[0]["data"], json!({"color": "red", "replicas": "1", "patched": "yes"}));
}

#[test]
fn mistakes_are_reported_and_exit_with_2() {
    let repository = repository();
    for (words, expected) in [
        (["list", "-l", "nonsense"], "error: invalid selector `nonsense`: expected `label=value` or `label!=value`"),
        (["list", "-l", "name=gone"], "error: helmfile.yaml has no release that is meant"),
        (["list", "-e", "prd"], "hint: did you mean `prod`?"),
        (["values", "--state-values-set", "x"], "error: invalid state value `x`: expected `key=value`"),
    ] {
        let output = releases(repository.path(), &words);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(err.contains(expected), "{err}");
        assert_eq!(output.status.code(), Some(2), "{err}");
    }
}

#[test]
fn the_releases_of_every_state_file_are_planned() {
    let environment = common::TestEnvironment::copy("10.62.9");
    let more = "releases:\n  - {name: extra, namespace: extra, chart: 'oci://ghcr.io/acme/charts/extra', version: 1.0.0, \
                needs: [kube-system/cilium]}\n";
    std::fs::write(environment.repository.join("bootstrap/infra/helmfile.d/02-more.yaml"), more).unwrap();
    let (code, out, err) = environment.run(&["-o", "json", "plan", "infra"]);
    assert_eq!(code, 0, "{err}");
    let plan: Value = serde_json::from_str(&out).unwrap();
    let steps = plan["steps"].as_array().unwrap();
    let needs = |id: &str| steps.iter().find(|step| step["id"] == id).map(|step| step["needs"].to_string());
    assert!(needs("release/flux-instance").is_some(), "the first file's are gone");
    let extra = needs("release/extra").expect("the second file's release is not planned");
    assert!(extra.contains("hook/cilium/2"), "a need is looked for in every file: {extra}");
}
