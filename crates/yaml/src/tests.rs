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
fn dialects_resolve_the_same_scalars_differently() {
    let text = "{yes: on, a: 2026-01-02, b: 1.10, c: 'on'}";
    let read = |dialect| parse_as(&origin(), text, dialect).unwrap()[0].to_json();
    assert_eq!(read(Dialect::Typed), json!({"yes": "on", "a": "2026-01-02", "b": 1.1, "c": "on"}));
    assert_eq!(read(Dialect::Untyped), json!({"yes": "on", "a": "2026-01-02T00:00:00Z", "b": 1.1, "c": "on"}));
    assert_eq!(read(Dialect::Kubernetes), json!({"true": true, "a": "2026-01-02", "b": 1.1, "c": "on"}));
    assert_eq!(read(Dialect::Verbatim), json!({"yes": "on", "a": "2026-01-02", "b": "1.10", "c": "on"}));
}

#[test]
fn own_keys_win_over_merged_ones() {
    let read = one("base: &b {a: 1, b: 2}\nmore: &m {b: 3, c: 4}\nuse: {<<: [*b, *m], a: 9}\n");
    assert_eq!(read["use"], json!({"a": 9, "b": 2, "c": 4}));
}

#[test]
fn a_duplicate_key_is_rejected_with_both_lines() {
    let error = parse_one(&origin(), "a: 1\nb: 2\na: 3\n").unwrap_err();
    assert_eq!(error.to_string(), "talconfig.yaml:3:1: duplicate key `a`, first used in line 1");
}

#[test]
fn invalid_yaml_is_reported_with_its_location() {
    let error = parse(&origin(), "a: [1, 2\nb: 3\n").unwrap_err();
    assert_eq!(error.location.unwrap().origin, origin());
    assert!(error.message.starts_with("invalid YAML"), "{}", error.message);
}

#[test]
fn exponential_aliases_are_rejected() {
    let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..9 {
        let alias = vec![format!("*a{}", level - 1); 10].join(",");
        text.push_str(&format!("a{level}: &a{level} [{alias}]\n"));
    }
    let error = parse(&origin(), &text).unwrap_err();
    assert!(error.message.contains("after aliases are expanded"), "{}", error.message);
}

#[test]
fn an_unknown_key_is_reported_with_a_similar_one() {
    let node = parse_one(&origin(), "clusterName: infra\nclustername2: x\nnodez: []\n").unwrap();
    let (mut found, origin) = (Diagnostics::default(), origin());
    let mut fields = Fields::from_node(&origin, &node, "the talconfig", &mut found);
    fields.string("clusterName", &mut found);
    fields.list("nodes", &mut found);
    fields.finish(&mut found);
    insta::assert_snapshot!(found, @r"
    talconfig.yaml:2:1: the talconfig has an unknown key `clustername2`
      hint: did you mean `clusterName`?
    talconfig.yaml:3:1: the talconfig has an unknown key `nodez`
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
    fn written_yaml_reads_back_as_the_same_data(value in data()) {
        let text = to_string(&value).unwrap();
        prop_assert_eq!(one(&text), value, "{}", text);
    }

    #[test]
    fn arbitrary_text_does_not_panic(text in "[a-z:\\-\\[\\]{}&*<!|>'\"# \n0-9]{0,200}") {
        let _ = parse(&origin(), &text);
    }
}
