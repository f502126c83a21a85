//! The hand-over: Flux follows the repository and owns what was installed.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::api_errors::{api_error, gate_error, progress};
use super::context::RunContext;
use super::rollout;
use engine::{Action, Check, CheckResult, Code, Effect, Observation, StepContext, StepError, StepWait};
use helmfile::ReleaseId;
use kubernetes::{ObjectRef, Readiness};

const HELM_RELEASE: (&str, &str) = ("helm.toolkit.fluxcd.io/v2", "HelmRelease");
const KUSTOMIZATION: (&str, &str) = ("kustomize.toolkit.fluxcd.io/v1", "Kustomization");

/// A HelmRelease in the cluster.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HelmRelease(pub(super) Value);

impl HelmRelease {
    fn text(&self, pointer: &str) -> Option<&str> {
        self.0.pointer(pointer).and_then(Value::as_str)
    }

    /// The Helm release that it installs (Flux 2.7: `releaseName` and `targetNamespace`, by default its own).
    fn target(&self) -> Option<ReleaseId> {
        let own = self.text("/metadata/namespace")?;
        let (name, namespace) = match self.text("/spec/targetNamespace") {
            Some(target) => (format!("{target}-{}", self.text("/metadata/name")?), target),
            None => (self.text("/metadata/name")?.to_owned(), own),
        };
        let name = self.text("/spec/releaseName").map_or(name, str::to_owned);
        Some(ReleaseId { namespace: namespace.to_owned(), name })
    }

    pub(super) fn installs(&self, release: &ReleaseId) -> bool {
        self.target().as_ref() == Some(release)
    }

    /// Why it has not adopted its release yet.
    fn pending(&self) -> Option<String> {
        match kubernetes::readiness(&self.0) {
            Readiness::Ready if self.0.pointer("/status/history/0").is_some() => None,
            Readiness::Ready => Some("helm-controller has not recorded a revision".to_owned()),
            Readiness::Progressing(reason) | Readiness::Failed(reason) => Some(reason),
        }
    }
}

/// Every HelmRelease of the cluster; none before Flux's CRDs are registered.
pub(super) async fn helm_releases(client: &kube::Client) -> Result<Vec<HelmRelease>, StepError> {
    let found = kubernetes::list(client, HELM_RELEASE.0, HELM_RELEASE.1, None).await;
    Ok(found.map_err(|error| api_error(&error))?.into_iter().map(HelmRelease).collect())
}

/// Every node is Ready, so the pod network works, and none is left cordoned by a run.
pub(super) struct NodesReady(Arc<RunContext>);

impl NodesReady {
    pub(super) fn new(context: Arc<RunContext>) -> Self {
        Self(context)
    }
}

#[async_trait]
impl Action for NodesReady {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        let cordoned = rollout::still_cordoned(&self.0).await?;
        if !cordoned.is_empty() {
            return Ok(Observation::Missing(format!("left cordoned by a run: {}", cordoned.join(", "))));
        }
        let found = kubernetes::nodes(&self.0.kubernetes().await?).await;
        let found = found.map_err(|error| api_error(&error))?;
        let ready = |name: &String| found.get(name).is_some_and(|node| node.ready);
        let missing: Vec<String> = self.0.hostnames().into_iter().filter(|name| !ready(name)).collect();
        Ok(if missing.is_empty() {
            Observation::UpToDate("all are Ready".to_owned())
        } else {
            Observation::InProgress(format!("not Ready yet: {}", missing.join(", ")))
        })
    }

    async fn apply(&self, _cx: &StepContext) -> Result<Effect, StepError> {
        rollout::uncordon_all(&self.0).await.map(|()| Effect::Complete)
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        let client = self.0.kubernetes().await?;
        kubernetes::wait_nodes_ready(&client, &self.0.hostnames(), &progress(cx))
            .await
            .map_err(|error| gate_error(&error).code(Code::K02))
    }
}

/// An object of Flux whose condition Ready shows that Flux works: the instance, its source, its root.
pub(super) struct FluxReady {
    context: Arc<RunContext>,
    object: ObjectRef,
    /// What it fails with.
    code: Code,
}

impl FluxReady {
    pub(super) fn new(context: Arc<RunContext>, object: ObjectRef, code: Code) -> Self {
        Self { context, object, code }
    }
}

#[async_trait]
impl Check for FluxReady {
    async fn observe(&self, _cx: &StepContext) -> Result<CheckResult, StepError> {
        let client = self.context.kubernetes().await?;
        let live = kubernetes::get(&client, &self.object).await.map_err(|error| api_error(&error))?;
        Ok(match live.as_ref().map(kubernetes::readiness) {
            Some(Readiness::Ready) => CheckResult::Passed("Ready".to_owned()),
            Some(Readiness::Progressing(reason) | Readiness::Failed(reason)) => CheckResult::Pending(reason),
            None => CheckResult::Pending("does not exist yet".to_owned()),
        })
    }

    async fn wait(&self, cx: &StepContext) -> Result<(), StepError> {
        let client = self.context.kubernetes().await?;
        let ready = kubernetes::wait_condition(&client, &self.object, "Ready", &progress(cx)).await;
        ready.map(|_| ()).map_err(|error| gate_error(&error).with_place(self.object.to_string()).code(self.code))
    }
}

/// The releases that Flux will own: those with a HelmRelease in the repository.
pub(super) fn expected(context: &RunContext) -> BTreeSet<ReleaseId> {
    let releases = context.cluster.bootstrap.releases.releases.iter();
    let owned = releases.filter(|release| context.cluster.flux.has_release(&release.id.name));
    owned.map(|release| release.id.clone()).collect()
}

/// helm-controller has adopted each release that the repository has a HelmRelease for.
pub(super) struct Adopted {
    context: Arc<RunContext>,
}

impl Adopted {
    pub(super) fn new(context: Arc<RunContext>) -> Self {
        Self { context }
    }

    fn expected(&self) -> BTreeSet<ReleaseId> {
        expected(&self.context)
    }

    /// Those that are not adopted yet, with the reason.
    fn missing(&self, found: &[HelmRelease]) -> Vec<String> {
        let reason = |release: &ReleaseId| match found.iter().find(|known| known.installs(release)) {
            None => Some(format!("{release}: its HelmRelease does not exist yet")),
            Some(known) => known.pending().map(|reason| format!("{release}: {reason}")),
        };
        self.expected().iter().filter_map(reason).collect()
    }

    /// What else Flux works on: listed, never waited for (F04).
    async fn others(&self, client: &kube::Client, releases: &[HelmRelease]) -> Result<Vec<String>, StepError> {
        let kustomizations = kubernetes::list(client, KUSTOMIZATION.0, KUSTOMIZATION.1, None).await;
        Ok(unready_others(&kustomizations.map_err(|error| api_error(&error))?, releases, &self.expected()))
    }
}

/// Kustomizations, and HelmReleases of other releases than those that are `expected`, that are not Ready; with the reason.
fn unready_others(kustomizations: &[Value], releases: &[HelmRelease], expected: &BTreeSet<ReleaseId>) -> Vec<String> {
    let is_expected = |release: &&HelmRelease| release.target().is_some_and(|target| expected.contains(&target));
    let others = releases.iter().filter(|release| !is_expected(release)).map(|release| &release.0);
    let unready = |object: &Value| match kubernetes::readiness(object) {
        Readiness::Ready => None,
        Readiness::Progressing(reason) | Readiness::Failed(reason) => {
            Some(format!("{}: {reason}", ObjectRef::from_manifest(object).ok()?))
        }
    };
    kustomizations.iter().chain(others).filter_map(unready).collect()
}

#[async_trait]
impl Check for Adopted {
    async fn observe(&self, _cx: &StepContext) -> Result<CheckResult, StepError> {
        let client = self.context.kubernetes().await?;
        let missing = self.missing(&helm_releases(&client).await?);
        Ok(match missing.first() {
            None => CheckResult::Passed(format!("Flux owns all {} releases", self.expected().len())),
            Some(first) => CheckResult::Pending(first.clone()),
        })
    }

    async fn wait(&self, cx: &StepContext) -> Result<(), StepError> {
        let client = self.context.kubernetes().await?;
        let missing = |objects: &[Value]| {
            let found: Vec<HelmRelease> = objects.iter().cloned().map(HelmRelease).collect();
            let missing = self.missing(&found);
            (!missing.is_empty()).then(|| missing.join("; "))
        };
        let adopted = kubernetes::wait_all(&client, HELM_RELEASE.0, HELM_RELEASE.1, &progress(cx), missing).await;
        adopted.map_err(|error| api_error(&error).code(Code::F05))?;
        let others = self.others(&client, &helm_releases(&client).await?).await?;
        if !others.is_empty() {
            cx.waiting(StepWait::new(format!("not waited for: {}", others.join("; "))).code(Code::F04));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn release(spec: &Value) -> HelmRelease {
        HelmRelease(json!({"metadata": {"name": "cilium", "namespace": "flux-system"}, "spec": spec}))
    }

    #[test]
    fn a_helm_release_names_its_target_as_flux_does() {
        let id = |namespace: &str, name: &str| ReleaseId { namespace: namespace.to_owned(), name: name.to_owned() };
        assert!(release(&json!({})).installs(&id("flux-system", "cilium")));
        assert!(release(&json!({"targetNamespace": "kube-system"})).installs(&id("kube-system", "kube-system-cilium")));
        let named = json!({"targetNamespace": "kube-system", "releaseName": "cilium"});
        assert!(release(&named).installs(&id("kube-system", "cilium")));
    }

    #[test]
    fn a_release_is_adopted_once_it_is_ready_and_has_a_revision() {
        let ready = json!({"metadata": {"name": "a", "namespace": "b", "generation": 1},
            "status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}]}});
        assert!(HelmRelease(ready.clone()).pending().is_some());
        let mut recorded = ready;
        recorded["status"]["history"] = json!([{"version": 2}]);
        assert_eq!(HelmRelease(recorded).pending(), None);
    }
    #[test]
    fn what_else_is_not_ready_is_listed_and_expected_releases_are_not() {
        let object = |kind: &str, name: &str, ready: &str| {
            let condition =
                json!({"type": "Ready", "status": ready, "reason": "HealthCheckFailed", "message": "no disk"});
            json!({"apiVersion": format!("{}.toolkit.fluxcd.io/v1", if kind == "HelmRelease" { "helm" } else { "kustomize" }),
                "kind": kind, "metadata": {"name": name, "namespace": "apps", "generation": 1},
                "status": {"observedGeneration": 1, "conditions": [condition]}})
        };
        let kustomizations = [object("Kustomization", "media", "False"), object("Kustomization", "cluster", "True")];
        let releases = ["cilium", "plex"].map(|name| HelmRelease(object("HelmRelease", name, "False")));
        let expected = BTreeSet::from([ReleaseId { namespace: "apps".to_owned(), name: "cilium".to_owned() }]);
        let listed = unready_others(&kustomizations, &releases, &expected);
        assert_eq!(listed.len(), 2, "{listed:?}");
        assert!(listed[0].starts_with("Kustomization apps/media: ") && listed[0].contains("no disk"), "{listed:?}");
        assert!(listed[1].starts_with("HelmRelease apps/plex: "), "{listed:?}");
    }
}
