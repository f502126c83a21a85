//! Properties of all configs that the schema allows.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::*;
use crate::schema::{Field, Scalar, Struct, Type, schema};
use crate::typed::encode;
use yaml::Origin;

/// A valid value of this type that is not its zero value.
fn value(value_type: &'static Type, depth: u32) -> BoxedStrategy<Value> {
    match value_type {
        Type::Scalar(kind) => scalar(*kind),
        Type::Enum(values) => select(values[usize::from(values.len() > 1)..].to_vec()).prop_map(Value::from).boxed(),
        Type::Optional(value_type) => value(value_type, depth),
        Type::List(value_type, _) => {
            prop::collection::vec(value(value_type, depth), 1..3).prop_map(Value::from).boxed()
        }
        Type::Map(value_type) => map(value(value_type, depth)),
        Type::Struct(index) => fields(schema().struct_type(*index), depth),
        Type::Arguments => map(prop_oneof![text(), prop::collection::vec(text(), 1..3).prop_map(Value::from)].boxed()),
        // One type for each key, since Talos does not merge values of different types there.
        Type::Free => (text(), 1..9_i64, any::<bool>(), prop::collection::vec(text(), 1..3))
            .prop_map(|(a, b, c, d)| json!({"a": a, "b": b, "c": c, "d": d, "e": {"f": b}}))
            .boxed(),
    }
}

fn map(values: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop::collection::btree_map("[a-d]", values, 1..3).prop_map(|map| json!(map)).boxed()
}

fn text() -> BoxedStrategy<Value> {
    prop_oneof!["[a-z]{1,3}", Just("010".to_owned()), Just("yes".to_owned()), Just(" x: 1\n# y\n".to_owned())]
        .prop_map(Value::from)
        .boxed()
}

fn scalar(kind: Scalar) -> BoxedStrategy<Value> {
    let texts = |texts: &[&'static str]| select(texts.to_vec()).prop_map(Value::from).boxed();
    match kind {
        Scalar::String | Scalar::Expression => text(),
        Scalar::Manifest => texts(&["kind: ConfigMap\n", "a: |\n  b\n"]),
        Scalar::Bool => any::<bool>().prop_map(Value::from).boxed(),
        Scalar::Integer(..) | Scalar::Mode => (1..255_u64).prop_map(Value::from).boxed(),
        Scalar::Duration => texts(&["90s", "1h30m", "500ms"]),
        Scalar::Url => texts(&["https://10.0.0.1:6443", "udp://[2001:db8::1]:514/x"]),
        Scalar::Address => texts(&["10.0.0.1", "2001:db8::1", "fe80::1%eth0"]),
        Scalar::AddressPort => texts(&["10.0.0.1:51820", "[2001:db8::1]:51820"]),
        Scalar::Prefix => texts(&["10.0.0.0/8", "2001:db8::/64"]),
        Scalar::Mac => texts(&["52:54:00:aa:bb:01", "52:54:00:aa:bb:02"]),
        Scalar::Base64 => texts(&["YWJj", "******"]),
        Scalar::Size | Scalar::DiskSize => texts(&["10GiB", "1.5 TB", "4096"]),
        Scalar::SizeOrPercent => texts(&["10GiB", "80%"]),
        Scalar::SizeCondition => texts(&[">= 100GB", "<= 2TB"]),
        Scalar::Ports => prop_oneof![Just(json!(6443)), Just(json!("30000-32767"))].boxed(),
        Scalar::Table => texts(&["main", "100"]),
    }
}

/// Some of the fields, and all that Talos always writes.
fn fields(body: &'static Struct, depth: u32) -> BoxedStrategy<Value> {
    let usable = |field: &&Field| depth > 0 || matches!(field.value_type, Type::Scalar(_));
    let chosen: Vec<BoxedStrategy<Option<(String, Value)>>> = body
        .fields
        .iter()
        .filter(usable)
        .map(|field| {
            let value_type =
                value(&field.value_type, depth.saturating_sub(1)).prop_map(move |value| (field.name.to_owned(), value));
            prop::option::weighted(if body.fields.len() > 6 { 0.3 } else { 0.7 }, value_type).boxed()
        })
        .collect();
    chosen.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect::<Map<_, _>>())).boxed()
}

fn document(kind: Option<&'static str>) -> BoxedStrategy<Value> {
    let known = schema().kind(kind).unwrap();
    fields(&known.body, 4)
        .prop_map(move |fields| {
            let mut document = Map::new();
            if let Some(kind) = kind {
                document.extend([("apiVersion".to_owned(), json!("v1alpha1")), ("kind".to_owned(), json!(kind))]);
            } else {
                document.insert("machine".to_owned(), json!({}));
            }
            document.extend(fields.as_object().unwrap().clone());
            if known.named {
                document.insert("name".to_owned(), json!("one"));
            }
            encode(&Value::Object(document))
        })
        .boxed()
}

fn any_document() -> BoxedStrategy<Value> {
    let kinds: Vec<Option<&'static str>> = schema().kinds().map(Some).chain([None, None, None]).collect();
    select(kinds).prop_flat_map(document).boxed()
}

/// Three documents of one kind.
fn layers() -> BoxedStrategy<[Value; 3]> {
    let kinds: Vec<Option<&'static str>> = schema().kinds().map(Some).chain([None, None, None]).collect();
    select(kinds).prop_flat_map(|kind| [document(kind), document(kind), document(kind)]).boxed()
}

fn one(document: &Value) -> Documents {
    Documents(vec![document.clone()])
}

fn reversed(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.iter().rev().map(|(key, value)| (key.clone(), reversed(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(reversed).collect()),
        other => other.clone(),
    }
}

#[test]
fn all_kinds_round_trip() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for kind in schema().kinds().map(Some).chain([None]) {
        for _ in 0..8 {
            let written = document(kind).new_tree(&mut runner).unwrap().current();
            let text = one(&written).to_yaml();
            let read = parse_strictly(&Origin::new("config"), &text).unwrap_or_else(|found| panic!("{found}\n{text}"));
            assert_eq!(encode(&read.0[0]), written, "{text}");
            assert_eq!(parse_documents(&Origin::new("config"), &text).unwrap(), read);
        }
    }
}

proptest! {
    #[test]
    fn an_empty_patch_changes_nothing(config in any_document()) {
        prop_assert_eq!(merge(&one(&config), &Documents::default()).unwrap(), one(&config));
    }

    #[test]
    fn a_merge_into_an_empty_config_is_the_patch(patch in any_document()) {
        prop_assert_eq!(merge(&Documents::default(), &one(&patch)).unwrap(), one(&patch));
    }

    #[test]
    fn the_order_of_keys_never_matters([config, patch, _] in layers()) {
        let straight = merge(&one(&config), &one(&patch)).unwrap();
        let turned = merge(&one(&reversed(&config)), &one(&reversed(&patch))).unwrap();
        prop_assert_eq!(straight, turned);
    }

    /// Except for keyed lists, where Talos's merge is not: an element that is twice in a list of a patch counts once when the
    /// list exists before and twice when it does not.
    #[test]
    fn merging_is_associative([base, one_patch, other] in layers()) {
        let keyed = [&base, &one_patch, &other].iter().any(|document| has_keyed_list(document));
        prop_assume!(!keyed);
        let one_by_one = merge(&merge(&one(&base), &one(&one_patch)).unwrap(), &one(&other)).unwrap();
        let together = merge(&one(&base), &merge(&one(&one_patch), &one(&other)).unwrap()).unwrap();
        prop_assert_eq!(one_by_one, together);
    }
}

fn has_keyed_list(document: &Value) -> bool {
    ["/machine/network/interfaces", "/cluster/apiServer/admissionControl", "/configFiles", "/rules"]
        .iter()
        .any(|list| document.pointer(list).is_some())
}
