use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn functions(folder: &Path) -> Functions {
    let environment = [("NAME", "Node_A"), ("EMPTY", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let path = std::env::var("PATH").map(|path| ("PATH".to_owned(), path)).ok();
    let environment = environment.into_iter().chain(path).collect::<BTreeMap<_, _>>();
    Functions::new(folder, folder, &environment).with_programs(Some(Arc::new(Children)))
}

#[derive(Debug)]
struct Children;

impl ProgramRunner for Children {
    fn run(&self, call: ProgramCall) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let mut child = test_support::child(&call.program)
            .args(call.arguments)
            .current_dir(call.folder)
            .envs(call.variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("could not be started: {error}"))?;
        child.stdin.take().unwrap().write_all(call.input.unwrap_or_default().as_bytes())?;
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into())
    }
}

fn data() -> Value {
    json!({"Release": {"Name": "cilium", "Namespace": "kube-system"}, "ports": [80, 443]})
}

fn run_in(folder: &Path, text: &str) -> Result<String, Diagnostic> {
    let origin = Origin::new("values.yaml.gotmpl");
    render(&TemplateSource::file(&origin, text), &data(), &functions(folder))
}

fn run(text: &str) -> String {
    run_in(Path::new("/nowhere"), text).unwrap()
}

fn fail(text: &str) -> String {
    run_in(Path::new("/nowhere"), text).unwrap_err().to_string()
}

#[test]
fn control_flow_and_variables_work_as_in_go() {
    assert_eq!(run("{{ range $i, $p := .ports }}{{ $i }}={{ $p }} {{ else }}none{{ end }}"), "0=80 1=443 ");
    assert_eq!(run("{{ $n := 0 }}{{ range .ports }}{{ $n = add $n . }}{{ end }}{{ $n }}"), "523");
    assert_eq!(run("{{ range until 9 }}{{ if eq . 3 }}{{ break }}{{ end }}{{ . }}{{ end }}"), "012");
    assert_eq!(run("{{ with .Release }}{{ .Name }} {{ $.Release.Namespace }}{{ end }}"), "cilium kube-system");
    assert_eq!(run("{{ define \"x\" }}<{{ . }}>{{ end }}{{ template \"x\" 1 }}{{ include \"x\" 2 }}"), "<1><2>");
    assert_eq!(run("a  {{- /* gone */ -}}  b"), "ab");
    assert_eq!(run("{{ and .ports (index .ports 1) | or \"\" }}"), "443");
}

#[test]
fn and_and_or_short_circuit() {
    assert_eq!(run("{{ and false (fail \"never\") }}{{ or 1 (fail \"never\") }}"), "false1");
}

#[test]
fn endless_templates_are_stopped() {
    let nested = fail("{{ define \"a\" }}{{ include \"a\" . }}{{ end }}{{ include \"a\" . }}");
    assert!(nested.contains("nested more than 64 levels deep"), "{nested}");
    assert!(fail("{{ tpl \"{{ tpl . . }}\" \"{{ tpl . . }}\" }}").contains("nested more than 64 levels deep"));
    assert!(fail("{{ range until 9000000 }}{{ end }}").contains("more than 10000 numbers"));
    assert!(fail("{{ untilStep -9000000000000000000 9000000000000000000 1 }}").contains("more than 10000 numbers"));
    let twice = "{{ define \"a\" }}{{ if lt . 25 }}{{ template \"a\" (add . 1) }}{{ template \"a\" (add . 1) }}{{ end }}\
                 {{ end }}{{ template \"a\" 0 }}";
    assert!(fail(twice).contains("more than 1000000 iterations of loops, blocks and templates"), "{}", fail(twice));
}

#[test]
fn texts_are_limited_in_length() {
    let grow =
        |step: &str| fail(&format!("{{{{ $x := \"aaaaaaaaaaaaaaaa\" }}}}{{{{ range until 60 }}}}{step}{{{{ end }}}}"));
    for step in [
        "{{ $x = printf \"%s%s\" $x $x }}",
        "{{ $x = replace \"a\" $x $x }}",
        "{{ $x = regexReplaceAll \"a\" $x \"$0$0$0\" }}",
        "{{ $x = regexReplaceAllLiteral \"a\" $x \"aa\" }}",
        "{{ $x = join $x (splitList \"a\" $x) }}",
        "{{ $x = tpl (cat $x $x) . }}",
        "{{ $x = list $x $x | toYaml }}",
        "{{ $x = indent 200 (replace \" \" \"\\n\" (cat $x $x)) }}",
    ] {
        let error = grow(step);
        assert!(error.contains("the text exceeds 16 MiB"), "{step}: {error}");
    }
    assert!(fail("{{ repeat 100000000 \"x\" }}").contains("the text exceeds 16 MiB"));
    let out = fail("{{ $x := repeat 1000000 \"x\" }}{{ range until 20 }}{{ $x }}{{ end }}");
    assert!(out.contains("the text exceeds 16 MiB"), "{out}");
    let wide = fail("{{ printf (repeat 1000 \"%60000d\") 1 }}");
    assert!(wide.contains("the text exceeds 16 MiB"), "{wide}");
    assert_eq!(run("{{ printf \"%60000d\" 1 | len }}"), "60000");
}

#[test]
fn debug_output_of_functions_hides_the_environment() {
    assert!(!format!("{:?}", functions(Path::new("/"))).contains("Node_A"));
}

#[test]
fn changes_of_a_map_are_visible_through_every_alias() {
    let after = |text: &str| run(&format!("{{{{ $d := dict \"a\" (dict \"b\" 1) }}}}{text}{{{{ toJson $d }}}}"));
    assert_eq!(after(r#"{{ $_ := set $d "c" 2 }}{{ $_ = unset $d "a" }}"#), r#"{"c":2}"#);
    let nested = r#"{"a":{"b":1,"c":2}}"#;
    assert_eq!(after(r#"{{ $_ := set $d.a "c" 2 }}"#), nested, "through a field");
    assert_eq!(after(r#"{{ $x := $d.a }}{{ $_ := set $x "c" 2 }}"#), nested, "through another variable");
    assert_eq!(after(r#"{{ $_ := set (get "a" $d) "c" 2 }}"#), nested, "through the result of a function");
    assert_eq!(after(r#"{{ with $d.a }}{{ $_ := set . "c" 2 }}{{ end }}"#), nested, "through the dot");
    assert_eq!(after(r#"{{ range $k, $v := $d }}{{ $_ := set $v "c" 2 }}{{ end }}"#), nested, "through an element");
    assert_eq!(
        after(r#"{{ $x := deepCopy $d }}{{ $_ := set $x.a "c" 2 }}"#),
        r#"{"a":{"b":1}}"#,
        "a copy is not an alias"
    );
    assert_eq!(
        after(r#"{{ $x := $d.a.b }}{{ $_ := set $d.a "b" 2 }}{{ $x }}"#),
        r#"1{"a":{"b":2}}"#,
        "a number is not an alias"
    );
    assert_eq!(run("{{ $_ := set .Release \"new\" 1 }}{{ .Release.new }}"), "1");
}

#[test]
fn to_yaml_writes_what_go_yaml_writes() {
    let text = r#"{{ toYaml (dict "a10" 1 "a2" (list "x: y" "yes" "1" "" "é" "😀") "list" (list (dict "b" 1.0 "c" (list))) "t" "one\ntwo\n") }}"#;
    assert_eq!(
        run(text),
        "a2:\n  - 'x: y'\n  - \"yes\"\n  - \"1\"\n  - \"\"\n  - é\n  - \"\\U0001F600\"\na10: 1\nlist:\n  - b: 1\n    c: []\nt: |\n  one\n  two\n"
    );
    assert_eq!(run("{{ toJson (dict \"a\" \"<b>&\") }}"), r#"{"a":"\u003cb\u003e\u0026"}"#);
    assert_eq!(run("{{ 12345678.9 }} {{ 100000.0 }} {{ 0.00001 }}"), "1.23456789e+07 100000 1e-05");
}

#[test]
fn a_missing_value_is_reported_with_its_path_and_existing_keys() {
    insta::assert_snapshot!(fail("a: 1\nb: {{ .Release.Nmae }}"), @r"
    values.yaml.gotmpl:2:7: `.Release.Nmae`: no `Nmae` in `.Release`, which has Name, Namespace
      hint: did you mean `Name`?
    ");
    insta::assert_snapshot!(fail("{{ .ports.http }}"), @"values.yaml.gotmpl:1:4: `.ports.http`: `.ports` is a list, without a field `http`");
}

#[test]
fn a_value_missing_in_a_file_is_reported_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("release.yaml"), "spec:\n  valuesFrom: []\n  interval: 1h\n").unwrap();
    let error = run_in(folder.path(), "{{ (fromYaml (readFile \"release.yaml\")).spec.values | toYaml }}")
        .unwrap_err()
        .to_string();
    insta::assert_snapshot!(error, @r"
    values.yaml.gotmpl:1:4: `(…).spec.values`: no `values` in `(…).spec`, which has interval, valuesFrom; the last file read is release.yaml
      hint: did you mean `valuesFrom`?
    ");
    let two = "---\nkind: OCIRepository\nspec: {url: x}\n---\nkind: HelmRelease\nspec: {values: {a: 1}}\n";
    std::fs::write(folder.path().join("both.yaml"), two).unwrap();
    let error = run_in(folder.path(), "{{ (fromYaml (readFile \"both.yaml\")).spec.values | toYaml }}")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("both.yaml\n  hint: both.yaml has 2 documents, and `fromYaml` reads only the first"),
        "{error}"
    );
}

#[test]
fn the_new_path_of_a_moved_file_is_suggested() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("apps/network/cilium")).unwrap();
    std::fs::write(folder.path().join("apps/network/cilium/helmrelease.yaml"), "").unwrap();
    let text = "{{ readFile (printf \"apps/%s/%s/helmrelease.yaml\" .Release.Namespace .Release.Name) }}";
    insta::assert_snapshot!(run_in(folder.path(), text).unwrap_err(), @r"
    values.yaml.gotmpl:1:4: `readFile`: apps/kube-system/cilium/helmrelease.yaml: file not found
      hint: did it move to apps/network/cilium/helmrelease.yaml?
    ");
}

#[test]
fn a_mistake_in_a_file_that_is_read_is_located_in_that_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.yaml"), "a: 1\nb: [1\n").unwrap();
    std::fs::write(folder.path().join("inner.tpl"), "x\n{{ .Nope }}").unwrap();
    let error = run_in(folder.path(), "{{ fromYaml (readFile \"bad.yaml\") }}").unwrap_err().to_string();
    assert!(error.starts_with("bad.yaml:"), "{error}");
    let error = run_in(folder.path(), "{{ tpl (readFile \"inner.tpl\") . }}").unwrap_err().to_string();
    assert!(error.starts_with("inner.tpl:2:4: `.Nope`"), "{error}");
}

#[test]
fn syntax_is_checked_before_anything_runs() {
    insta::assert_snapshot!(fail("a\n{{ if true }}b"), @r"
    values.yaml.gotmpl:2:4: unclosed `if`
      hint: close it with `{{ end }}`
    ");
    insta::assert_snapshot!(fail("a{{ end }}b"), @"values.yaml.gotmpl:1:1: unexpected `end` or `else`");
    insta::assert_snapshot!(fail("{{ if false }}{{ toYalm . }}{{ end }}"), @r"
    values.yaml.gotmpl:1:18: unknown function `toYalm`
      hint: did you mean `toYaml`?
    ");
    insta::assert_snapshot!(fail("{{ now }}"), @"
    values.yaml.gotmpl:1:4: function `now` is not supported
      hint: its result differs from run to run or needs the network: write the value itself
    ");
    insta::assert_snapshot!(fail("{{ fetchSecretValue `ref+vault://a#/b` }}"), @"
    values.yaml.gotmpl:1:4: function `fetchSecretValue` is not supported
      hint: chart values cannot contain secrets: put the reference into a Secret manifest beside the helmfile and let the chart refer to that Secret
    ");
    insta::assert_snapshot!(fail("{{ $x }}"), @"values.yaml.gotmpl:1:4: variable `$x` is not declared");
    insta::assert_snapshot!(fail("{{ quote 1 | indent }}"), @"values.yaml.gotmpl:1:14: `indent` expects 2 arguments, got 1");
    assert!(fail("{{ \"x }}").contains("1:9: invalid template"), "{}", fail("{{ \"x }}"));
}

#[test]
fn versions_compare_as_in_masterminds_semver() {
    for (range, version, expected) in [
        (">=1.0.0-dev.3", "1.0.0-dev.1", "false"),
        (">=1.0.0-next.1", "1.0.0-next.2", "true"),
        ("1.2.3 || 2.x", "v2.1", "true"),
        ("1.2 - 1.4.5", "1.4.6", "false"),
        ("^1.2", "1.3.0-rc.1", "false"),
    ] {
        assert_eq!(run(&format!("{{{{ semverCompare {range:?} {version:?} }}}}")), expected, "{version} in {range}");
    }
    insta::assert_snapshot!(fail("{{ semverCompare \"newest\" \"1.0.0\" }}"), @r#"values.yaml.gotmpl:1:4: `semverCompare`: invalid version range "newest""#);
}

#[test]
fn an_environment_variable_that_is_empty_counts_as_unset() {
    assert_eq!(run("{{ env \"EMPTY\" | default \"x\" }}{{ requiredEnv \"NAME\" }}"), "xNode_A");
    insta::assert_snapshot!(fail("{{ requiredEnv \"EMPTY\" }}"), @"values.yaml.gotmpl:1:4: `requiredEnv`: environment variable `EMPTY` is not set");
    insta::assert_snapshot!(fail("{{ requiredEnv \"NAMES\" }}"), @r"
    values.yaml.gotmpl:1:4: `requiredEnv`: environment variable `NAMES` is not set
      hint: did you mean `NAME`?
    ");
}

#[test]
fn programs_run_without_a_shell_and_their_errors_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let run = |text: &str| run_in(folder.path(), text);
    assert_eq!(run("{{ exec \"printf\" (list \"%s\" \"$NAME;\") }}").unwrap(), "$NAME;");
    assert_eq!(run("{{ exec \"cat\" (list) \"in\" }}").unwrap(), "in");
    let error = run("{{ exec \"sh\" (list \"-c\" \"echo sad >&2; exit 3\") }}").unwrap_err().to_string();
    assert!(error.contains("sad") && error.contains("exit status: 3"), "{error}");
    assert!(run("{{ exec \"no-such-program\" (list) }}").unwrap_err().to_string().contains("could not be started"));
}

#[test]
fn programs_need_a_runner() {
    let functions = functions(Path::new("/")).with_programs(None);
    let source = TemplateSource::file(&Origin::new("a.gotmpl"), "{{ exec \"echo\" (list \"x\") }}");
    let error = render(&source, &json!({}), &functions).unwrap_err();
    assert_eq!(error.message, "`exec`: this template cannot run programs");
}

#[test]
fn yq_selections_need_no_yq() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        "kind: OCIRepository\nspec: {url: 'oci://x'}\n---\nkind: HelmRelease\nspec:\n  values: {a: [1], b: yes}\n";
    std::fs::write(folder.path().join("app.yaml"), text).unwrap();
    let yq = |expression: &str| {
        let text = format!("{{{{ exec \"yq\" (list `{expression}` \"app.yaml\") }}}}");
        run_in(folder.path(), &text).unwrap()
    };
    assert_eq!(yq(r#"select(.kind == "HelmRelease").spec.values"#), "a:\n- 1\nb: true\n");
    assert_eq!(yq(r#"select(.kind == "HelmRelease") | .spec.values.a[0]"#), "1\n");
    assert_eq!(yq(r#"select(.kind == "OCIRepository") | .spec.url"#), "oci://x\n");
    assert_eq!(yq(r#"select(.kind == "Other") | .spec"#), "");
    assert_eq!(yq(r#"select(.kind == "HelmRelease").spec.nothing"#), "null\n");
    let parse = |words: &[&str]| yaml::Query::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(parse(&[".spec | keys", "app.yaml"]), None);
    assert_eq!(parse(&["-i", ".spec", "app.yaml"]), None);
    assert_eq!(parse(&[r#"select(.kind == "A" or .b == "c")"#, "app.yaml"]), None);
}

#[test]
fn locations_in_a_block_scalar_include_its_indentation() {
    let origin = Origin::new("helmfile.yaml");
    let source = TemplateSource { origin, text: "a\nb {{ .x }}", start: Position { line: 7, column: 9 }, indent: 8 };
    let error = render(&source, &json!({}), &functions(Path::new("/"))).unwrap_err();
    assert_eq!(error.location.unwrap().position, Position { line: 8, column: 14 });
}

fn yaml_data() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~\n]{0,12}".prop_map(Value::from),
        prop_oneof!["yes", "on", "y", "No", "0755", "2026-01-02", "1e3", "null", "~", "1_000"].prop_map(Value::from),
    ];
    let tree = leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,3}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[a-z]{1,3}|yes|on|n", tree, 0..4)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

proptest! {
    /// The one-line values template relies on this.
    #[test]
    fn the_output_of_to_yaml_is_the_same_data_in_every_dialect(data in yaml_data()) {
        let origin = Origin::new("x");
        let text = render(&TemplateSource::file(&origin, "{{ . | toYaml }}"), &data, &functions(Path::new("/"))).unwrap();
        for dialect in [yaml::Dialect::Kubernetes, yaml::Dialect::Untyped] {
            let read = yaml::parse_as(&origin, &text, dialect).unwrap();
            prop_assert_eq!(read[0].to_json(), data.clone(), "{}", text);
        }
    }

    #[test]
    fn arbitrary_text_does_not_panic(text in "(\\{\\{|\\}\\}|[ -~\n]|if |end|range |\\$x|\\.a|:=){0,24}") {
        let _ = run_in(Path::new("/nowhere"), &text);
    }
}
