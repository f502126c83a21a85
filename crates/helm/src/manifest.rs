//! Rendered manifests: parses documents to objects, and finds CRDs and images in them.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use helmfile::ReleaseId;

/// A manifest that is not YAML.
#[derive(Debug, thiserror::Error)]
#[error("invalid YAML: {0}")]
pub struct ManifestError(serde_saphyr::Error);

/// Parses what helm rendered: empty documents are dropped, `List`s become their items.
///
/// # Errors
///
/// Invalid YAML.
pub fn parse(text: &str) -> Result<Vec<Value>, ManifestError> {
    // Templates sometimes repeat keys; helm and Kubernetes use the last one.
    let options = serde_saphyr::options! {
        budget: None,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options).map_err(ManifestError)?;
    let mut objects = Vec::new();
    documents.into_iter().for_each(|document| flatten(document, &mut objects));
    Ok(objects)
}

fn flatten(document: Value, objects: &mut Vec<Value>) {
    let is_list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match document {
        Value::Object(mut list) if is_list && list.get("items").is_some_and(Value::is_array) => {
            if let Some(Value::Array(items)) = list.remove("items") {
                items.into_iter().for_each(|item| flatten(item, objects));
            }
        }
        Value::Object(object) if !object.is_empty() => objects.push(Value::Object(object)),
        _ => {}
    }
}

/// Keeps only the custom resource definitions.
pub fn crds(objects: Vec<Value>) -> Vec<Value> {
    objects.into_iter().filter(|object| object["kind"] == "CustomResourceDefinition").collect()
}

/// Whether Helm runs an object as a hook instead of applying it with the release.
pub fn is_hook(object: &Value) -> bool {
    object.pointer("/metadata/annotations").is_some_and(|annotations| annotations.get("helm.sh/hook").is_some())
}

/// Sets the release's namespace where an object names none, as Helm does; cluster-scoped kinds ignore it.
pub fn set_namespace(object: &mut Value, namespace: &str) {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(metadata) = metadata.filter(|metadata| !metadata.contains_key("namespace")) {
        metadata.insert("namespace".to_owned(), Value::from(namespace));
    }
}

/// Adds Helm's ownership labels and annotations: Helm adopts an existing object into a release only with these (Helm 4,
/// `pkg/action/validate.go`).
pub fn add_ownership(object: &mut Value, release: &ReleaseId) {
    let marks = [
        ("labels", "app.kubernetes.io/managed-by", "Helm"),
        ("annotations", "meta.helm.sh/release-name", &release.name),
        ("annotations", "meta.helm.sh/release-namespace", &release.namespace),
    ];
    for (map, key, value) in marks {
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
        let map = metadata.map(|metadata| metadata.entry(map).or_insert_with(|| Value::Object(Map::new())));
        if let Some(map) = map.and_then(Value::as_object_mut) {
            map.insert(key.to_owned(), value.into());
        }
    }
}

/// The images of all pods of these objects.
pub fn images(objects: &[Value]) -> BTreeSet<String> {
    let mut images = BTreeSet::new();
    for object in objects {
        let spec = &object["spec"];
        let pods = [spec, &spec["template"]["spec"], &spec["jobTemplate"]["spec"]["template"]["spec"]];
        for pod in pods {
            for list in ["containers", "initContainers", "ephemeralContainers"] {
                let containers = pod[list].as_array().into_iter().flatten();
                images.extend(containers.filter_map(|container| Some(container["image"].as_str()?.to_owned())));
            }
        }
    }
    images
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENDERED: &str = "---\n# Source: a\n---\napiVersion: v1\nkind: List\nitems:\n- kind: Pod\n  spec:\n    \
        initContainers: [{image: a:1}]\n    containers: [{image: b:1}]\n- kind: Secret\n---\nkind: CronJob\nspec:\n  \
        jobTemplate: {spec: {template: {spec: {containers: [{image: c:1}]}}}}\n---\nkind: CustomResourceDefinition\n";

    #[test]
    fn lists_are_flattened_and_empty_documents_dropped() {
        let kinds: Vec<_> = parse(RENDERED).unwrap().iter().map(|object| object["kind"].clone()).collect();
        assert_eq!(kinds, ["Pod", "Secret", "CronJob", "CustomResourceDefinition"]);
        assert_eq!(parse("").unwrap(), Vec::<Value>::new());
    }

    #[test]
    fn only_crds_pass_the_filter() {
        let crds = crds(parse(RENDERED).unwrap());
        assert_eq!(crds, [serde_json::json!({"kind": "CustomResourceDefinition"})]);
    }

    #[test]
    fn ownership_is_added_to_existing_metadata() {
        let mut object = serde_json::json!({"metadata": {"name": "x", "annotations": {"a": "b"}}});
        add_ownership(&mut object, &ReleaseId { namespace: "security".into(), name: "secrets".into() });
        assert_eq!(
            object["metadata"],
            serde_json::json!({
                "name": "x",
                "labels": {"app.kubernetes.io/managed-by": "Helm"},
                "annotations": {
                    "a": "b",
                    "meta.helm.sh/release-name": "secrets",
                    "meta.helm.sh/release-namespace": "security",
                },
            })
        );
    }

    #[test]
    fn images_are_found_in_all_pod_specs() {
        let images: Vec<_> = images(&parse(RENDERED).unwrap()).into_iter().collect();
        assert_eq!(images, ["a:1", "b:1", "c:1"]);
    }

    #[test]
    fn scalars_resolve_as_in_kubernetes() {
        let text = "kind: X\nmode: 0644\nsame: 1\nsame: 2\nword: 'yes'\nbig: 9007199254740993\n";
        assert_eq!(
            parse(text).unwrap(),
            [serde_json::json!({"kind": "X", "mode": 420, "same": 2, "word": "yes", "big": 9_007_199_254_740_993_i64})]
        );
    }
}
