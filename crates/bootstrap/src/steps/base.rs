//! Namespaces, and the secrets that later phases need.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::context::RunContext;
use super::namespaces::namespaces;
use super::objects::{apply_as, apply_objects, observe_as, observe_objects};
use super::secret_manifests::SecretManifests;
use engine::{Action, Check, CheckResult, Effect, Observation, StepContext, StepError};
use kubernetes::ApplyOptions;

/// The field manager of namespaces. Manifests with secrets may hold the same namespace with labels of their own, and a
/// server-side apply removes what its manager applied before.
const NAMESPACES_MANAGER: &str = "k8s-bootstrap-namespaces";

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
