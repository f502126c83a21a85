//! Objects of an installed manifest, compared with the cluster, and fields that left a manifest.
#![allow(clippy::unwrap_used)]

use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kubernetes::{ApplyOptions, InstalledObject, InstalledState, apply, delete, installed_objects, object_drifts};
use serde_json::{Value, json};

use super::server::server;
use super::{US, config_map, definition, deployment, namespace, quiet};

const HELM: ApplyOptions<'_> = ApplyOptions { field_manager: "helm", force: false, default_namespace: "default" };

async fn states(client: &Client, manifest: &[Value]) -> Vec<InstalledState> {
    let found = installed_objects(client, manifest, "default").await.unwrap();
    found.into_iter().map(|object| object.state).collect()
}

fn changed(state: &InstalledState) -> String {
    match state {
        InstalledState::Changed(drift) => drift.to_string(),
        other => format!("{other:?}"),
    }
}

async fn merge(
    client: &Client,
    group: &str,
    kind: &str,
    object: (&str, &str),
    change: Value,
    subresource: Option<&str>,
) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), object.0, &resource);
    let params = PatchParams { field_manager: Some("someone".to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(change);
    match subresource {
        Some(subresource) => drop(api.patch_subresource(subresource, object.1, &params, &patch).await.unwrap()),
        None => drop(api.patch(object.1, &params, &patch).await.unwrap()),
    }
}

/// Quantities, defaults and fields that the API drops are as they were applied; a deletion and an edit are not.
#[tokio::test]
async fn only_what_an_apply_would_change_is_drift() {
    let client = server().client();
    let mut workload = deployment("installed", "app");
    // Unlike any list of known quantities can tell, these are equal once they are normalised.
    workload["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["ephemeral-storage"] =
        json!("1024Mi");
    workload["spec"]["template"]["spec"]["volumes"] = json!([{"name": "tmp", "emptyDir": {"sizeLimit": "0.5Gi"}}]);
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "app", "namespace": "installed"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "app"}}},
    });
    let quota = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "app", "namespace": "installed"},
        "spec": {"limits": [{"type": "Container", "maxLimitRequestRatio": {"memory": "2000m"}}]},
    });
    let map = config_map("installed", "map", "1");
    let manifest = [workload, budget, quota, map];
    let objects = [&[namespace("installed")], manifest.as_slice()].concat();
    apply(&client, &HELM, &objects, &quiet).await.unwrap();
    let found = states(&client, &manifest).await;
    assert!(found.iter().all(|state| *state == InstalledState::Intact), "{found:#?}");

    let image = json!({"spec": {"template": {"spec": {"hostNetwork": true}}}});
    merge(&client, "apps", "Deployment", ("installed", "app"), image, None).await;
    merge(&client, "", "ConfigMap", ("installed", "map"), json!({"data": {"key": "2", "other": "3"}}), None).await;
    let found = states(&client, &manifest).await;
    assert_eq!(changed(&found[0]), ".spec.template.spec.hostNetwork is unexpected");
    assert_eq!(changed(&found[3]), ".data.key differs");
    let map = kubernetes::ObjectRef::new("v1", "ConfigMap", Some("installed"), "map");
    delete(&client, &map).await.unwrap();
    assert_eq!(states(&client, &manifest[3..]).await, [InstalledState::Absent]);
    let unknown = json!({"apiVersion": "none.example.com/v1", "kind": "None", "metadata": {"name": "x"}});
    assert_eq!(states(&client, &[unknown]).await, [InstalledState::Absent]);
}

#[tokio::test]
async fn replicas_of_an_autoscaler_are_not_drift_and_those_of_an_edit_are() {
    let client = server().client();
    let manifest = [deployment("default", "scaled")];
    apply(&client, &HELM, &manifest, &quiet).await.unwrap();
    let scaled = json!({"spec": {"replicas": 3}});
    merge(&client, "apps", "Deployment", ("default", "scaled"), scaled, Some("scale")).await;
    assert_eq!(states(&client, &manifest).await, [InstalledState::Intact]);

    let manifest = [deployment("default", "edited")];
    apply(&client, &HELM, &manifest, &quiet).await.unwrap();
    let edited = json!({"spec": {"replicas": 3}});
    merge(&client, "apps", "Deployment", ("default", "edited"), edited, None).await;
    assert_eq!(changed(&states(&client, &manifest).await[0]), ".spec.replicas differs");
}

#[tokio::test]
async fn an_object_of_flux_names_its_owner_and_a_finished_job_may_be_gone() {
    let client = server().client();
    let mut owned = config_map("default", "installed-of-flux", "1");
    owned["metadata"]["labels"] = json!({
        "kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
    });
    apply(&client, &HELM, &[owned], &quiet).await.unwrap();
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "expired"}, "spec": {"ttlSecondsAfterFinished": 60},
    });
    let manifest = [config_map("default", "installed-of-flux", "2"), job];
    let found: Vec<InstalledObject> = installed_objects(&client, &manifest, "default").await.unwrap();
    assert_eq!(found[0].flux_owner.as_deref(), Some("Kustomization flux-system/apps"));
    assert_eq!(changed(&found[0].state), ".data.key differs");
    assert_eq!(
        (found[1].reference.to_string().as_str(), &found[1].state),
        ("Job default/expired", &InstalledState::Expired)
    );
}

/// What the same manager applied before and no longer applies has to go; what others set stays.
#[tokio::test]
async fn a_field_that_left_the_manifest_is_drift_until_it_is_applied_again() {
    let client = server().client();
    let labelled = |mut object: Value, labels: Value| {
        object["metadata"]["labels"] = labels;
        object
    };
    let all =
        [namespace("abandoned"), definition("abandoned.example.com", "Left"), config_map("default", "abandoned", "1")];
    let before: Vec<Value> = all.iter().map(|object| labelled(object.clone(), json!({"tier": "one"}))).collect();
    apply(&client, &US, &before, &quiet).await.unwrap();
    assert_eq!(object_drifts(&client, &US, &before).await.unwrap(), []);
    let found = object_drifts(&client, &US, &all).await.unwrap();
    let lines: Vec<String> = found.iter().map(|(_, drift)| drift.to_string()).collect();
    assert_eq!(lines, [".metadata.labels is unexpected"; 3]);
    let other = ApplyOptions { field_manager: "another", ..US };
    assert_eq!(object_drifts(&client, &other, &all).await.unwrap(), [], "of another manager");
    apply(&client, &US, &all, &quiet).await.unwrap();
    assert_eq!(object_drifts(&client, &US, &all).await.unwrap(), []);
}
