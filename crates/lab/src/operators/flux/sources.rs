//! The sources that Kustomizations and HelmReleases name, as a played source-controller reports them.

use futures::StreamExt;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::instance::FluxInstance;
use super::kinds::{BUCKET, GIT_REPOSITORY, HELM_REPOSITORY, OCI_REPOSITORY};
use super::sync::StoredArtifact;
use crate::cluster_context::ClusterContext;
use crate::operators::objects::{ObjectKind, at_generation, condition, set_status};

/// What becomes of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SourceFate {
    /// The instance's own, which is reported elsewhere.
    Instance,
    /// The repository of the instance under another name.
    SameRepository,
    /// Of charts, which the lab's registry serves or which are not installed.
    Charts,
    /// There is nothing to fetch it from.
    NotFetched,
}

/// Reports every source until the lab ends.
pub(super) async fn run(context: &ClusterContext, instance: &FluxInstance, sync: &Value, stored: &StoredArtifact) {
    let report = |kind| watch(context, instance, sync, stored, kind);
    tokio::join!(report(OCI_REPOSITORY), report(HELM_REPOSITORY), report(GIT_REPOSITORY), report(BUCKET));
}

async fn watch(
    context: &ClusterContext,
    instance: &FluxInstance,
    sync: &Value,
    stored: &StoredArtifact,
    kind: ObjectKind,
) {
    let mut objects = kind.watch(&context.cache.client);
    while let Some(object) = objects.next().await {
        if object.data.pointer("/status/conditions").is_some() {
            continue;
        }
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let is_own = kind == instance.sync_kind() && namespace == instance.namespace && name == instance.sync_name();
        let fate = if is_own { SourceFate::Instance } else { fate(kind, &object, instance.sync_kind(), sync) };
        let generation = object.metadata.generation.unwrap_or_default();
        let ready = |status: &str, reason: &str, message: &str| {
            let ready = at_generation(condition("Ready", status, reason, message), generation);
            json!({"observedGeneration": generation, "conditions": [ready]})
        };
        let status = match fate {
            SourceFate::Instance => continue,
            SourceFate::SameRepository => {
                let mut status = ready("True", "Succeeded", &stored.message());
                status["artifact"] = stored.status();
                status
            }
            SourceFate::Charts => ready("True", "Succeeded", "stored artifact"),
            SourceFate::NotFetched => {
                context.lab.recorder.record_not_judged(format!("{} {namespace}/{name} (not fetched)", kind.name));
                ready("False", "FetchFailed", "a rehearsal has only the repository's own working tree")
            }
        };
        set_status(&context.cache.client, kind, Some(&namespace), &name, &status).await;
    }
}

fn fate(kind: ObjectKind, object: &DynamicObject, sync_kind: ObjectKind, sync: &Value) -> SourceFate {
    let place = |url: Option<&Value>| {
        let url = url.and_then(Value::as_str).unwrap_or_default().trim_end_matches('/');
        url.strip_suffix(".git").unwrap_or(url).to_owned()
    };
    let own = place(sync.get("url"));
    let url = object.data.pointer("/spec/url").or_else(|| object.data.pointer("/spec/endpoint"));
    if kind == sync_kind && !own.is_empty() && place(url) == own {
        return SourceFate::SameRepository;
    }
    if [OCI_REPOSITORY, HELM_REPOSITORY].contains(&kind) { SourceFate::Charts } else { SourceFate::NotFetched }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_under_another_name_is_the_working_tree_too() {
        let source = |kind: ObjectKind, url: &str| {
            let object = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"url": url}});
            let sync = json!({"url": "ssh://git@github.com/acme/ops.git"});
            fate(kind, &serde_json::from_value(object).unwrap(), GIT_REPOSITORY, &sync)
        };
        assert_eq!(source(GIT_REPOSITORY, "ssh://git@github.com/acme/ops"), SourceFate::SameRepository);
        assert_eq!(source(GIT_REPOSITORY, "https://github.com/acme/other"), SourceFate::NotFetched);
        assert_eq!(source(OCI_REPOSITORY, "oci://ghcr.io/acme/charts/a"), SourceFate::Charts);
        assert_eq!(source(HELM_REPOSITORY, "https://acme.github.io/charts"), SourceFate::Charts);
        assert_eq!(source(BUCKET, ""), SourceFate::NotFetched);
    }
}
