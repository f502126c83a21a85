//! Environments, conditions, sub-helmfiles.

use serde_json::json;

use super::super::*;
use super::{Repository, checked, one, refused, release};

fn environment(name: &str) -> HelmfileOptions {
    HelmfileOptions { environment: Some(name.to_owned()), ..HelmfileOptions::default() }
}

const ENVIRONMENTS: &str = "values: [{a: default, b: default, list: [1, 2]}]\nenvironments:\n  default: {values: [{a: lab}]}\n  \
    prod: {values: [prod.yaml, {list: [3]}]}\n---\nreleases:\n  - {name: '{{ .Environment.Name }}-{{ .Values.a }}', chart: ./charts/app, \
    values: [v.gotmpl], condition: on.enabled}\n";

fn environments() -> Repository {
    Repository::with(&[
        ("helmfile.yaml", &ENVIRONMENTS.replace("{a: default,", "{on: {enabled: true}, a: default,")),
        ("prod.yaml", "a: prod\nb: null\n"),
        ("v.gotmpl", "{{ .StateValues | toYaml }}"),
    ])
}

#[test]
fn values_come_from_defaults_environment_and_command_line() {
    let repository = environments();
    let of = |options: &HelmfileOptions| repository.read_with("helmfile.yaml", options).unwrap().releases.remove(0);
    let lab = of(&HelmfileOptions::default());
    assert_eq!(lab.id.name, "default-lab");
    assert_eq!(lab.values, json!({"a": "lab", "b": "default", "list": [1, 2], "on": {"enabled": true}}));
    let prod = of(&environment("prod"));
    assert_eq!(prod.values, json!({"a": "prod", "b": "default", "list": [3], "on": {"enabled": true}}));
    let sets = StateValue::parse("list[1]=9,b=012,c.d=true").unwrap();
    let set = of(&HelmfileOptions { state_values: sets, ..environment("prod") });
    assert_eq!(set.values, json!({"a": "prod", "b": "012", "list": [3, 9], "c": {"d": true}, "on": {"enabled": true}}));
}

#[test]
fn an_unknown_environment_is_reported_with_the_known_ones() {
    let found = environments().read_with("helmfile.yaml", &environment("prd")).unwrap_err();
    insta::assert_snapshot!(found, @r"
    helmfile.yaml has no environment `prd`; it has default, prod
      hint: did you mean `prod`?
    ");
    let plain = Repository::with(&[("helmfile.yaml", "releases: []\n")]);
    insta::assert_snapshot!(plain.read_with("helmfile.yaml", &environment("prod")).unwrap_err(), @"helmfile.yaml has no environment `prod`; it has none");
}

#[test]
fn a_condition_names_the_missing_value() {
    let text = "values: [{cilium: {enabled: false}}]\n---\nreleases:\n  - {name: a, chart: ./charts/app, condition: cillium.enabled}\n  \
                - {name: b, chart: ./charts/app, condition: cilium.on}\n";
    insta::assert_snapshot!(refused(text), @r"
    helmfile.yaml:4:47: condition `cillium.enabled`: `.Values.cillium` does not exist
      hint: did you mean `cilium`?
    helmfile.yaml:5:47: invalid condition `cilium.on`: expected `path.enabled`
    ");
}

#[test]
fn a_disabled_need_is_reported() {
    let text = "values: [{off: {enabled: false}}]\n---\nreleases:\n  - {name: a, chart: ./charts/app, needs: [b, c]}\n  \
                - {name: b, chart: ./charts/app, condition: off.enabled}\n  - {name: c, chart: ./charts/app, installedTemplate: '{{ .Values.off.enabled }}'}\n";
    let helmfile = one(text).unwrap();
    assert_eq!(helmfile.releases.len(), 1);
    assert_eq!(helmfile.files[0].releases.len(), 3);
    insta::assert_snapshot!(helmfile.notices.join("\n"), @r"
    helmfile.yaml:4:5: default/a needs default/b, which is disabled by its condition
    helmfile.yaml:4:5: default/a needs default/c, which is disabled by `installed: false`
    ");
    assert_eq!(checked(&[text]), "valid");
}

#[test]
fn set_values_override_values_and_are_kept_apart() {
    let text = "releases:\n  - name: a\n    chart: ./charts/app\n    values: [{replicas: 2, list: [{a: 1}]}]\n    set:\n      - {name: 'list[0].b', value: x}\n      \
                - {name: braces, value: '{a,b}'}\n      - {name: many, values: [a, 'b,c', 3]}\n      - {name: empty, value: ''}\n    setString: [{name: port, value: 80}]\n    \
                setTemplate: [{name: own, value: '{{ .Release.Name }}'}]\n    env: [{name: region, value: REGION}]\n";
    let release = release(text);
    let expected = json!({"replicas": 2, "list": [{"a": 1, "b": "x"}], "own": "a", "braces": "{a,b}", "many": ["a", "b,c", 3],
                          "region": "lab", "port": "80"});
    assert_eq!(release.values, expected);
    assert_eq!(release.written_values, json!({"replicas": 2, "list": [{"a": 1}]}));
    insta::assert_snapshot!(refused("releases:\n  - name: a\n    chart: ./charts/app\n    values: [{x: text}]\n    set:\n      - {name: x.y, value: '1'}\n      - {name: f, file: gone}\n"), @r#"
    helmfile.yaml:6:9: cannot set a value of release "a": `x` is not a map
    helmfile.yaml:7:9: cannot set a value of release "a": gone: cannot read file: No such file or directory (os error 2)
    "#);
}

#[test]
fn secret_references_are_rejected_in_values() {
    insta::assert_snapshot!(refused("releases: [{name: a, chart: ./charts/app, values: [{x: [{password: 'ref+vault://kv/x#/p'}]}]}]\n"), @"helmfile.yaml:1:52: secret references of vals (`ref+vault://…`) are not supported in values");
}

const PARENT: &str = "helmDefaults: {timeout: 42}\nhelmfiles:\n  - crds.yaml\n  - {path: 'apps/*.yaml', selectors: ['tier=net'], inherits: [helmDefaults]}\n  \
    - {path: given.yaml.gotmpl, values: [{x: given}]}\nreleases:\n  - {name: own, chart: ./charts/app}\n";

fn family() -> Repository {
    let app =
        "releases:\n  - {name: a, chart: ../charts/app, labels: {tier: net}}\n  - {name: b, chart: ../charts/app}\n";
    Repository::with(&[
        ("helmfile.yaml", PARENT),
        ("crds.yaml", "releases: [{name: crds, chart: ./charts/app}]\n"),
        ("apps/one.yaml", app),
        (
            "given.yaml.gotmpl",
            "values: [{x: default}]\n---\nreleases: [{name: 'given-{{ .Values.x }}', chart: ./charts/app}]\n",
        ),
    ])
}

#[test]
fn sub_helmfiles_come_before_their_parent_in_order() {
    let helmfile = family().read("helmfile.yaml").unwrap();
    let shown: Vec<String> = helmfile
        .releases
        .iter()
        .map(|release| {
            let after: Vec<_> = release.after.iter().map(|id| id.name.as_str()).collect();
            format!("{} {}s after {after:?}", release.id.name, release.flags.timeout.as_secs())
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    crds 300s after []
    a 42s after ["crds"]
    given-given 300s after ["a"]
    own 42s after ["given-given"]
    "#);
    let selected = HelmfileOptions { selectors: vec!["name=crds".parse().unwrap()], ..HelmfileOptions::default() };
    let releases = family().read_with("helmfile.yaml", &selected).unwrap().releases;
    // A sub-helmfile's selectors replace those of the command line, unless no release can match both.
    assert_eq!(releases.iter().map(|release| release.id.name.as_str()).collect::<Vec<_>>(), ["crds", "a"]);
}

#[test]
fn missing_and_circular_helmfiles_are_reported() {
    let missing = "helmfiles: [gone.yaml]\nreleases: []\n";
    insta::assert_snapshot!(refused(missing), @"helmfile.yaml:1:13: helmfile not found: gone.yaml");
    assert_eq!(one(&format!("missingFileHandler: Warn\n{missing}")).unwrap().notices.len(), 1);
    insta::assert_snapshot!(refused("helmfiles: [helmfile.yaml]\n"), @"circular helmfiles: helmfile.yaml -> helmfile.yaml");
    insta::assert_snapshot!(refused("helmfiles:\n  - {path: ./x.yaml, inherits: [helmDefault]}\n  - git::https://example.org/x.git@x.yaml\n"), @r"
    helmfile.yaml:2:12: helmfile not found: x.yaml
    helmfile.yaml:2:33: invalid `inherits` item `helmDefault`: expected one of `repositories`, `helmDefaults`, `commonLabels`, `apiVersions`, `kubeVersion`, `templates`, `environments`
      hint: did you mean `helmDefaults`?
    helmfile.yaml:3:5: remote helmfile `git::https://example.org/x.git@x.yaml` is not supported
      hint: copy it into the repository
    ");
}

#[test]
fn credentials_come_from_the_repository_or_the_environment_and_are_never_shown() {
    let text = "repositories:\n  - {name: my-repo, url: 'https://x.example', username: me, password: hunter2, caFile: ca.pem}\nreleases: [{name: a, chart: my-repo/x, version: '1'}]\n";
    let release = release(text);
    assert_eq!(release.fetch.credentials.as_ref().unwrap().username, "me");
    assert!(release.fetch.ca_file.as_ref().unwrap().is_absolute());
    assert!(!format!("{release:?}").contains("hunter2"));
}

#[test]
fn selectors_are_checked() {
    let takes = |selector: &str, labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        selector::any_matches(&[selector.parse().unwrap()], &labels)
    };
    assert!(takes("tier=net,name!=cilium", &[("tier", "net"), ("name", "coredns")]));
    assert!(!takes("tier=net,name!=cilium", &[("tier", "net"), ("name", "cilium")]));
    assert!(takes("tier!=net", &[]) && !takes("tier=net", &[]));
    for wrong in ["nonsense", "a=b,", "a=b c", "=x"] {
        assert!(wrong.parse::<Selector>().is_err(), "{wrong}");
    }
}

#[test]
fn patches_are_read_with_the_values_of_the_release() {
    let text = "releases:\n  - name: a\n    chart: ./charts/app\n    values: [{replicas: 3}]\n    jsonPatches:\n      - target: {kind: Deployment}\n        patch: [{op: remove, path: /spec}]\n      \
                - p.gotmpl\n    strategicMergePatches: [{kind: Service, metadata: {name: a}}]\n";
    let patch = "target: {name: '{{ .Release.Name }}'}\npatch: [{op: add, path: /x, value: {{ .Values.replicas }}}]\n";
    let repository = Repository::with(&[("helmfile.yaml", text), ("p.gotmpl", patch)]);
    let patches = repository.read("helmfile.yaml").unwrap().releases.remove(0).patches;
    let Patch::Json { target, operations, .. } = &patches[1] else { panic!("{patches:?}") };
    assert_eq!((target.name.as_str(), operations), ("a", &json!([{"op": "add", "path": "/x", "value": 3}])));
    assert!(matches!(&patches[2], Patch::Merge { object, .. } if object["kind"] == "Service"));
    insta::assert_snapshot!(refused("releases: [{name: a, chart: ./charts/app, jsonPatches: [{target: {knid: x}}]}]\n"), @r#"
    helmfile.yaml:1:57: `target` of a JSON patch of release "a" has an unknown key `knid`
      hint: did you mean `kind`?
    helmfile.yaml:1:57: a JSON patch of release "a" needs a list `patch`
    "#);
}
