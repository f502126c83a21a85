//! `k8s-bootstrap releases`: the releases of a helmfile, as they were read.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::common;

use common::TestEnvironment;
use serde_json::Value;
use test_support::CommandOutput;

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

fn repository() -> TestEnvironment {
    let environment = TestEnvironment::empty();
    let write = |path: &str, text: &str| {
        let path = environment.repository.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("helmfile.yaml", HELMFILE);
    write("values.yaml.gotmpl", "replicas: {{ .Values.replicas }}\n");
    write("charts/app/Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\n");
    write("charts/app/templates/map.yaml", MAP);
    environment
}

fn releases(environment: &TestEnvironment, arguments: &[&str]) -> CommandOutput {
    environment.run(&[&["releases"], arguments, &["-f", "helmfile.yaml"]].concat())
}

#[test]
fn list_shows_every_release_and_whether_it_is_on() {
    let environment = repository();
    insta::assert_snapshot!(releases(&environment, &["list"]), @"
    exit code: 0
    ----- stdout -----
    NAME  NAMESPACE  ENABLED  INSTALLED  CHART         VERSION  LABELS
    app   lab        true     true       ./charts/app           chart:app,name:app,namespace:lab,tier:web
    side  lab        false    true       ./charts/app           chart:app,name:side,namespace:lab
    ----- stderr -----
    notice: helmfile.yaml:6:5: lab/app needs lab/side, which is disabled by its condition
    ");
    let selected = ["list", "-e", "prod", "-l", "tier=web", "--include-needs"];
    insta::assert_snapshot!(releases(&environment, &selected), @"
    exit code: 0
    ----- stdout -----
    NAME  NAMESPACE  ENABLED  INSTALLED  CHART         VERSION  LABELS
    app   lab        true     true       ./charts/app           chart:app,name:app,namespace:lab,tier:web
    side  lab        true     true       ./charts/app           chart:app,name:side,namespace:lab
    ");
    insta::assert_snapshot!(releases(&environment, &["list", "-o", "json"]), @r#"
    exit code: 0
    ----- stdout -----
    [{"name":"app","namespace":"lab","enabled":true,"installed":true,"labels":"chart:app,name:app,namespace:lab,tier:web","chart":"./charts/app","version":""},{"name":"side","namespace":"lab","enabled":false,"installed":true,"labels":"chart:app,name:side,namespace:lab","chart":"./charts/app","version":""}]
    ----- stderr -----
    notice: helmfile.yaml:6:5: lab/app needs lab/side, which is disabled by its condition
    "#);
}

#[test]
fn build_shows_the_state_and_values_what_helm_is_given() {
    let environment = repository();
    let build = ["build", "-e", "prod", "--state-values-set", "side.enabled=false"];
    insta::assert_snapshot!(releases(&environment, &build), @r#"
    exit code: 0
    ----- stdout -----
    ---
    file: helmfile.yaml
    environment: prod
    values:
      replicas: 3
      side:
        enabled: false
    releases:
    - name: app
      namespace: lab
      chart: ./charts/app
      version: ""
      labels:
        chart: app
        name: app
        namespace: lab
        tier: web
      needs:
      - lab/side
      installed: true
      enabled: true
      kubeVersion: null
      apiVersions: []
      at: helmfile.yaml:6:5
    - name: side
      namespace: lab
      chart: ./charts/app
      version: ""
      labels:
        chart: app
        name: side
        namespace: lab
      needs: []
      installed: true
      enabled: false
      kubeVersion: null
      apiVersions: []
      at: helmfile.yaml:15:5
    ----- stderr -----
    notice: helmfile.yaml:6:5: lab/app needs lab/side, which is disabled by its condition
    "#);
    insta::assert_snapshot!(releases(&environment, &["values", "-e", "prod", "-l", "name=app", "-o", "json"]), @r#"
    exit code: 0
    ----- stdout -----
    {"lab/app":{"replicas":3,"color":"red"}}
    "#);
}

#[test]
fn template_renders_with_the_real_helm_and_applies_patches() {
    insta::assert_snapshot!(releases(&repository(), &["template"]), @r#"
    exit code: 0
    ----- stdout -----
    ---
    apiVersion: v1
    kind: ConfigMap
    metadata:
      name: app
      namespace: lab
    data:
      color: red
      replicas: "1"
      patched: "yes"
    ----- stderr -----
    notice: helmfile.yaml:6:5: lab/app needs lab/side, which is disabled by its condition
    "#);
}

#[test]
fn mistakes_are_reported_and_exit_with_2() {
    let environment = repository();
    insta::assert_snapshot!(releases(&environment, &["list", "-l", "nonsense"]), @"
    exit code: 2
    ----- stderr -----
    error[I02]: invalid selector `nonsense`: expected `label=value` or `label!=value`
    hint: `k8s-bootstrap <command> --help` lists the arguments
    ");
    insta::assert_snapshot!(releases(&environment, &["list", "-l", "name=gone"]), @"
    exit code: 2
    ----- stderr -----
    notice: helmfile.yaml:6:5: lab/app needs lab/side, which is disabled by its condition
    error[I02]: helmfile.yaml has no release that matches the selectors
    hint: list its releases and their labels: k8s-bootstrap releases list -f FILE
    ");
    insta::assert_snapshot!(releases(&environment, &["list", "-e", "prd"]), @"
    exit code: 2
    ----- stderr -----
    error[I01]: 1 mistake in the inputs; nothing was changed
    helmfile.yaml has no environment `prd`; it has default, prod
      hint: did you mean `prod`?
    hint: correct the files, then run the command again
    ");
    insta::assert_snapshot!(releases(&environment, &["values", "--state-values-set", "x"]), @"
    exit code: 2
    ----- stderr -----
    error[I02]: invalid state value `x`: expected `key=value`
    hint: `k8s-bootstrap <command> --help` lists the arguments
    ");
}

#[test]
fn the_releases_of_every_state_file_are_planned() {
    let environment = TestEnvironment::copy();
    let more = "releases:\n  - {name: extra, namespace: extra, chart: 'oci://ghcr.io/acme/charts/extra', version: 1.0.0, \
                needs: [kube-system/cilium]}\n";
    std::fs::write(environment.repository.join("bootstrap/infra/helmfile.d/02-more.yaml"), more).unwrap();
    let output = environment.run(&["-o", "json", "plan", "infra"]);
    assert_eq!(output.code, 0, "{output}");
    let plan: Value = serde_json::from_str(&output.stdout).unwrap();
    let steps = plan["steps"].as_array().unwrap();
    let needs = |id: &str| steps.iter().find(|step| step["id"] == id).map(|step| step["needs"].to_string());
    assert!(needs("release/flux-instance").is_some(), "the first file's are gone");
    let extra = needs("release/extra").expect("the second file's release is not planned");
    assert!(extra.contains("hook/cilium/2"), "a need is looked for in every file: {extra}");
}
