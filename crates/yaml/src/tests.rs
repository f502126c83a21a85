use proptest::prelude::*;
use serde_json::json;

use super::*;

fn origin() -> Origin {
    Origin::new("talconfig.yaml")
}

fn one(text: &str) -> serde_json::Value {
    parse_one(&origin(), text).unwrap().to_json()
}

#[test]
fn scalars_resolve_as_go_yaml_resolves_them() {
    let read =
        one("{a: yes, b: true, c: 0755, d: 0o17, e: 1_000, f: '010', g: 1.10, h: ~, i: 1.2.3, j: -4, k: 10.25.11.11}");
    assert_eq!(
        read,
        json!({"a": "yes", "b": true, "c": 493, "d": 15, "e": 1000, "f": "010", "g": 1.1, "h": null,
               "i": "1.2.3", "j": -4, "k": "10.25.11.11"})
    );
}

#[test]
fn the_same_scalars_mean_different_things_to_different_tools() {
    let text = "{yes: on, a: 2026-01-02, b: 1.10, c: 'on'}";
    let read = |dialect| parse_as(&origin(), text, dialect).unwrap()[0].to_json();
    assert_eq!(read(Dialect::Typed), json!({"yes": "on", "a": "2026-01-02", "b": 1.1, "c": "on"}));
    assert_eq!(read(Dialect::Untyped), json!({"yes": "on", "a": "2026-01-02T00:00:00Z", "b": 1.1, "c": "on"}));
    assert_eq!(read(Dialect::Kubernetes), json!({"true": true, "a": "2026-01-02", "b": 1.1, "c": "on"}));
    assert_eq!(read(Dialect::Verbatim), json!({"yes": "on", "a": "2026-01-02", "b": "1.10", "c": "on"}));
}

#[test]
fn merge_keys_yield_to_what_the_mapping_says_itself() {
    let read = one("base: &b {a: 1, b: 2}\nmore: &m {b: 3, c: 4}\nuse: {<<: [*b, *m], a: 9}\n");
    assert_eq!(read["use"], json!({"a": 9, "b": 2, "c": 4}));
}

#[test]
fn a_repeated_key_is_refused_with_both_lines() {
    let error = parse_one(&origin(), "a: 1\nb: 2\na: 3\n").unwrap_err();
    assert_eq!(error.to_string(), "talconfig.yaml:3:1: the key `a` stands here a second time, first in line 1");
}

#[test]
fn text_that_is_no_yaml_is_told_with_its_place() {
    let error = parse(&origin(), "a: [1, 2\nb: 3\n").unwrap_err();
    assert_eq!(error.location.unwrap().origin, origin());
    assert!(error.message.starts_with("this is not YAML"), "{}", error.message);
}

#[test]
fn aliases_that_multiply_are_stopped() {
    let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..9 {
        let alias = vec![format!("*a{}", level - 1); 10].join(",");
        text.push_str(&format!("a{level}: &a{level} [{alias}]\n"));
    }
    let error = parse(&origin(), &text).unwrap_err();
    assert!(error.message.contains("after aliases are expanded"), "{}", error.message);
}

#[test]
fn a_key_that_nobody_asked_for_is_named_with_the_likely_one() {
    let node = parse_one(&origin(), "clusterName: infra\nclustername2: x\nnodez: []\n").unwrap();
    let (mut found, origin) = (Diagnostics::default(), origin());
    let mut fields = Fields::of(&origin, &node, "the talconfig", &mut found);
    fields.string("clusterName", &mut found);
    fields.list("nodes", &mut found);
    fields.finish(&mut found);
    insta::assert_snapshot!(found, @r"
    talconfig.yaml:2:1: the talconfig has a key `clustername2`, which is not known
      hint: did you mean `clusterName`?
    talconfig.yaml:3:1: the talconfig has a key `nodez`, which is not known
      hint: did you mean `nodes`?
    ");
}

fn data() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        "[ -~\n\u{e9}\u{2014}]{0,24}".prop_map(|value| json!(value)),
        prop_oneof![
            "yes",
            "0755",
            "1.10",
            "null",
            "~",
            " lead",
            "trail ",
            "\n",
            "- a",
            "a: b",
            "#",
            "2024-01-01",
            "0x1f"
        ]
        .prop_map(|value| json!(value)),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| json!(items)),
            prop::collection::btree_map("[a-z0-9. /-]{1,8}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(value in data()) {
        let text = to_string(&value).unwrap();
        prop_assert_eq!(one(&text), value, "{}", text);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-z:\\-\\[\\]{}&*<!|>'\"# \n0-9]{0,200}") {
        let _ = parse(&origin(), &text);
    }
}
