use serde_json::json;

use super::*;
use yaml::{Location, Origin, Position};

fn at() -> Location {
    Origin::new("helmfile.yaml").location(Position { line: 3, column: 5 })
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "namespace": "lab"},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [
            {"name": "main", "args": ["--one"], "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]},
            {"name": "side"},
        ]}}},
    })
}

fn json_patch(target: PatchTarget, operations: Value) -> Patch {
    Patch::Json { target, operations, at: at() }
}

fn merged(object: Value, patch: Value) -> Result<Vec<Value>, PatchError> {
    apply(vec![object], &[Patch::Merge { object: patch, at: at() }])
}

/// The same identity as the deployment's.
fn over(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "namespace": "lab"}, "spec": spec})
}

#[test]
fn json_patches_apply_to_what_their_target_matches() {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"}, "spec": {}});
    let replace = json!([{"op": "add", "path": "/spec/replicas", "value": 5}]);
    let patched = |target: PatchTarget| {
        let objects = apply(vec![deployment(), service.clone()], &[json_patch(target, replace.clone())]).unwrap();
        objects.iter().map(|object| object["spec"]["replicas"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(patched(PatchTarget { kind: "Deployment".into(), ..PatchTarget::default() }), [json!(5), json!(null)]);
    assert_eq!(patched(PatchTarget { name: "a.p".into(), ..PatchTarget::default() }), [json!(5), json!(5)]);
    assert_eq!(patched(PatchTarget { name: "ap".into(), ..PatchTarget::default() }), [json!(1), json!(null)]);
    assert_eq!(patched(PatchTarget { namespace: "default".into(), ..PatchTarget::default() }), [json!(1), json!(5)]);
    let wrong = json_patch(PatchTarget::default(), json!([{"op": "remove", "path": "/spec/gone"}]));
    let error = apply(vec![deployment()], &[wrong]).unwrap_err().to_string();
    assert!(error.starts_with("helmfile.yaml:3:5: the JSON patch does not apply to Deployment lab/app"), "{error}");
}

#[test]
fn lists_with_a_merge_key_merge_by_it_with_the_patch_first() {
    let patch = over(json!({"template": {"spec": {"hostNetwork": true, "containers": [
        {"name": "new", "image": "x"},
        {"name": "main", "args": ["--two"], "ports": [{"containerPort": 53, "protocol": "UDP", "name": "dns"}, {"containerPort": 80, "name": "web"}]},
        {"name": "side", "$patch": "delete"},
    ]}}}));
    let patched = merged(deployment(), patch).unwrap().remove(0);
    assert_eq!(
        patched["spec"]["template"]["spec"],
        json!({"hostNetwork": true, "containers": [
            {"name": "new", "image": "x"},
            {"name": "main", "args": ["--two"], "ports": [{"containerPort": 53, "protocol": "UDP", "name": "dns"}, {"containerPort": 80, "name": "web"}]},
        ]})
    );
    assert_eq!(patched["spec"]["replicas"], 1);
}

#[test]
fn null_and_directives_remove_or_replace() {
    assert_eq!(merged(deployment(), over(json!({"replicas": null}))).unwrap()[0]["spec"].get("replicas"), None);
    let replaced = merged(deployment(), over(json!({"$patch": "replace", "paused": true}))).unwrap();
    assert_eq!(replaced[0]["spec"], json!({"paused": true}));
    let mut gone = over(json!({}));
    gone["$patch"] = json!("delete");
    assert_eq!(merged(deployment(), gone).unwrap(), Vec::<Value>::new());
}

#[test]
fn lists_of_custom_resources_are_replaced() {
    let custom = |containers: Value| json!({"apiVersion": "example.org/v1", "kind": "App", "metadata": {"name": "a"}, "spec": {"containers": containers}});
    let patched =
        merged(custom(json!([{"name": "a"}, {"name": "b"}])), custom(json!([{"name": "b", "x": 1}]))).unwrap();
    assert_eq!(patched[0]["spec"]["containers"], json!([{"name": "b", "x": 1}]));
}

#[test]
fn a_strategic_merge_needs_its_object() {
    let mut patch = over(json!({}));
    patch["metadata"]["name"] = json!("other");
    insta::assert_snapshot!(merged(deployment(), patch).unwrap_err(), @"helmfile.yaml:3:5: the strategic merge patch is for Deployment lab/other, which the chart does not render");
}
