use proptest::prelude::*;
use serde_json::json;

use super::*;

fn release() -> ReleaseId {
    ReleaseId { namespace: "lab".into(), name: "app".into() }
}

fn objects(objects: &[Value]) -> ReleaseObjects {
    ReleaseObjects::new(&release(), objects.to_vec())
}

fn deployment(replicas: u32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "namespace": "lab"},
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "app", "image": image}]}}},
    })
}

fn named(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}})
}

fn shown(stored: &[Value], renderings: &[&[Value]]) -> Vec<String> {
    let renderings: Vec<ReleaseObjects> = renderings.iter().map(|rendering| objects(rendering)).collect();
    let renderings: Vec<&ReleaseObjects> = renderings.iter().collect();
    differences(&objects(stored), &renderings).iter().map(ToString::to_string).collect()
}

#[test]
fn order_and_the_default_namespace_are_no_difference() {
    let placed = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "lab"}});
    let stored = [named("ConfigMap", "a"), deployment(1, "a:1")];
    assert_eq!(shown(&stored, &[&[deployment(1, "a:1"), placed]]), Vec::<String>::new());
}

#[test]
fn what_changed_is_named_with_its_path() {
    let mut hook = named("Job", "migrate");
    hook["metadata"]["annotations"] = json!({"helm.sh/hook": "post-install"});
    let mut changed = hook.clone();
    changed["spec"] = json!({"backoffLimit": 3});
    let stored = [deployment(1, "a:1"), named("ConfigMap", "old"), hook];
    let rendered = [deployment(3, "a:2"), named("ConfigMap", "new"), changed];
    assert_eq!(
        shown(&stored, &[&rendered]),
        [
            "Deployment lab/app .spec.replicas differs",
            "Deployment lab/app .spec.template.spec.containers[0].image differs",
            "ConfigMap lab/new is new",
            "ConfigMap lab/old is no longer rendered",
            "hook Job lab/migrate .spec differs",
        ]
    );
}

#[test]
fn an_object_that_becomes_a_hook_is_another_object() {
    let mut hook = named("Job", "migrate");
    hook["metadata"]["annotations"] = json!({"helm.sh/hook": "post-install"});
    let found = shown(&[named("Job", "migrate")], &[&[hook]]);
    assert_eq!(found, ["Job lab/migrate is no longer rendered", "hook Job lab/migrate is new"]);
}

#[test]
fn fields_in_which_two_renderings_differ_are_not_compared() {
    let secret = |password: &str, user: &str| {
        let mut secret = named("Secret", "login");
        secret["stringData"] = json!({"password": password, "user": user});
        secret
    };
    let (stored, first, second) = (secret("one", "me"), secret("two", "me"), secret("three", "me"));
    assert_eq!(
        shown(std::slice::from_ref(&stored), &[std::slice::from_ref(&first)]),
        ["Secret lab/login .stringData.password differs"]
    );
    assert_eq!(shown(std::slice::from_ref(&stored), &[&[first], &[second]]), Vec::<String>::new());
    let renamed = [secret("two", "you"), secret("three", "you")];
    let found = shown(&[stored], &[&renamed[..1], &renamed[1..]]);
    assert_eq!(found, ["Secret lab/login .stringData.user differs"]);
}

#[test]
fn volatile_fields_are_taken_out_and_others_stay() {
    let secret = |password: &str| {
        let mut secret = named("Secret", "login");
        secret["stringData"] = json!({"password": password, "user": "me"});
        secret["list"] = json!([{"token": password, "name": "a"}]);
        objects(&[secret])
    };
    let (stored, first, second) = (secret("one"), secret("two"), secret("three"));
    let stable = without_volatile(&stored, &[&first, &second]);
    let object = stable.resources().next().unwrap();
    assert_eq!((&object["stringData"], &object["list"]), (&json!({"user": "me"}), &json!([{"name": "a"}])));
    assert_eq!(without_volatile(&stored, &[&first]), stored, "one rendering shows nothing volatile");
    assert_eq!(without_volatile(&stored, &[&first, &stored]), stored, "it equals a rendering");
}

/// An object for installations only, and one that depends on what the cluster serves.
#[test]
fn an_object_of_one_rendering_is_up_to_date_when_it_is_stored_as_there() {
    let (install_only, monitor) = (named("Secret", "initial"), named("ConfigMap", "monitor"));
    let install = [install_only.clone()];
    let upgrade = [monitor.clone()];
    assert_eq!(shown(&install, &[&install, &upgrade]), Vec::<String>::new());
    assert_eq!(shown(&upgrade, &[&install, &upgrade]), Vec::<String>::new());
    let mut other = monitor;
    other["data"] = json!({"a": "b"});
    let found = shown(&[other], &[&install, &upgrade]);
    assert_eq!(found, ["ConfigMap lab/monitor .data differs"]);
}

#[test]
fn values_of_secrets_are_hidden_and_those_of_others_shown() {
    let with = |kind: &str, value: &str| {
        let mut object = named(kind, "a");
        object["data"] = json!({"key": value});
        object
    };
    let change = |kind: &str| {
        let (stored, rendered) = (objects(&[with(kind, "b25l")]), objects(&[with(kind, "dHdv")]));
        format!("{:?}", differences(&stored, &[&rendered]))
    };
    assert!(change("ConfigMap").contains("b25l") && change("ConfigMap").contains("dHdv"));
    assert!(!change("Secret").contains("b25l") && !change("Secret").contains("dHdv"), "{}", change("Secret"));
    assert!(!format!("{:?}", objects(&[with("Secret", "b25l")])).contains("b25l"));
}

#[test]
fn the_labels_of_flux_are_no_difference() {
    let mut adopted = deployment(1, "a:1");
    adopted["metadata"]["labels"] =
        json!({"helm.toolkit.fluxcd.io/name": "app", "helm.toolkit.fluxcd.io/namespace": "lab"});
    assert_eq!(shown(&[adopted], &[&[deployment(1, "a:1")]]), Vec::<String>::new());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z0-9]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z.]{1,4}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn with_spec(spec: Value) -> ReleaseObjects {
    let mut object = named("ConfigMap", "a");
    object["spec"] = spec;
    objects(&[object])
}

proptest! {
    #[test]
    fn what_equals_a_rendering_has_no_difference(one in any_json(), other in any_json()) {
        let (one, other) = (with_spec(one), with_spec(other));
        prop_assert_eq!(differences(&one, &[&one]), []);
        prop_assert_eq!(differences(&one, &[&one, &other]), []);
        prop_assert_eq!(differences(&one, &[&other, &one]), []);
    }

    #[test]
    fn one_rendering_leaves_no_difference_out(one in any_json(), other in any_json()) {
        let is_equal = one == other;
        let found = differences(&with_spec(one), &[&with_spec(other)]);
        prop_assert_eq!(found.is_empty(), is_equal);
    }

    /// A change that both renderings share is found whatever else is random in them.
    #[test]
    fn a_change_beside_random_values_is_found(spec in any_json(), random in prop::array::uniform3(any_json())) {
        let [a, b, c] = random;
        let stored = with_spec(json!({"same": spec, "image": "a:1", "random": a}));
        let rendered = [b, c].map(|random| with_spec(json!({"same": spec, "image": "a:2", "random": random})));
        let found = differences(&stored, &[&rendered[0], &rendered[1]]);
        prop_assert!(found.iter().any(|difference| difference.to_string() == "ConfigMap lab/a .spec.image differs"));
    }
}
