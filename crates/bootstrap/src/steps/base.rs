//! Namespaces, and the secrets that later phases need.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::context::RunContext;
use super::objects::{apply_as, apply_objects, observe_as, observe_objects};
use super::secret_manifests::SecretManifests;
use engine::{Action, Check, CheckResult, Effect, Observation, StepContext, StepError};
use kubernetes::ApplyOptions;

/// The field manager of namespaces. Manifests with secrets may hold the same namespace with labels of their own, and a
/// server-side apply removes what its manager applied before.
const NAMESPACES_MANAGER: &str = "k8s-bootstrap-namespaces";

/// Every cluster has these.
const BUILTIN: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// The namespaces of every release.
pub(super) struct Namespaces {
    context: Arc<RunContext>,
    objects: Vec<Value>,
}

impl Namespaces {
    pub(super) fn new(context: Arc<RunContext>) -> Self {
        let objects = namespaces(&context);
        Self { context, objects }
    }
}

/// The namespaces of releases, with their labels.
pub(super) fn namespaces(context: &RunContext) -> Vec<Value> {
    names(context).iter().map(|name| namespace(context, name)).collect()
}

/// The names of the namespaces that releases use and that no cluster has by itself.
pub(super) fn names(context: &RunContext) -> BTreeSet<String> {
    let releases = context.cluster.bootstrap.releases.releases.iter();
    releases.map(|release| release.id.namespace.clone()).filter(|name| !BUILTIN.contains(&name.as_str())).collect()
}

/// The namespaces that manifests use and that nothing else creates: neither a release nor the manifests themselves.
pub(super) fn missing_namespaces(context: &RunContext, objects: &[Value]) -> Vec<Value> {
    let text = |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let is_namespace = |object: &&Value| text(object, "/kind").as_deref() == Some("Namespace");
    let created = objects.iter().filter(is_namespace).filter_map(|object| text(object, "/metadata/name"));
    let created: BTreeSet<String> = created.chain(names(context)).chain(BUILTIN.map(str::to_owned)).collect();
    let named: BTreeSet<String> = objects.iter().filter_map(|object| text(object, "/metadata/namespace")).collect();
    named.difference(&created).map(|name| namespace(context, name)).collect()
}

/// A namespace with the Pod Security labels that the repository gives it.
fn namespace(context: &RunContext, name: &str) -> Value {
    let mut metadata = json!({"name": name});
    let labels = context.cluster.flux.pod_security(name);
    if !labels.is_empty() {
        metadata["labels"] = json!(labels);
    }
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
}

#[async_trait]
impl Action for Namespaces {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        observe_as(&self.context, ApplyOptions::new(NAMESPACES_MANAGER), &self.objects).await
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        let options = ApplyOptions { force: true, ..ApplyOptions::new(NAMESPACES_MANAGER) };
        apply_as(&self.context, options, &self.objects, cx).await
    }
}

/// The secrets can be decrypted or resolved; checked before any node is changed.
pub(super) struct ResolvableSecrets(Arc<SecretManifests>);

impl ResolvableSecrets {
    pub(super) fn new(manifests: Arc<SecretManifests>) -> Self {
        Self(manifests)
    }
}

#[async_trait]
impl Check for ResolvableSecrets {
    async fn prepare(&self, _cx: &StepContext) -> Result<(), StepError> {
        self.0.objects().await.map(|_| ())
    }

    async fn observe(&self, _cx: &StepContext) -> Result<CheckResult, StepError> {
        let count = self.0.objects().await?.len();
        Ok(CheckResult::Passed(format!("{count} manifests")))
    }
}

/// The secrets are in the cluster.
pub(super) struct Secrets {
    context: Arc<RunContext>,
    manifests: Arc<SecretManifests>,
}

impl Secrets {
    pub(super) fn new(context: Arc<RunContext>, manifests: Arc<SecretManifests>) -> Self {
        Self { context, manifests }
    }
}

#[async_trait]
impl Action for Secrets {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        observe_objects(&self.context, self.manifests.objects().await?).await
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        apply_objects(&self.context, self.manifests.objects().await?, cx).await
    }
}
