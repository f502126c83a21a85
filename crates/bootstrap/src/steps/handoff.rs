//! The hand-over: Flux follows the repository and owns what was installed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::Value;

use super::api_errors::{api_error, gate_error, progress_by};
use super::boots::{self, NodeGoal};
use super::context::RunContext;
use super::rollout;
use engine::{Action, Check, CheckResult, Code, Effect, Observation, StepContext, StepError, StepWait};
use error_report::ErrorReport;
use helmfile::{Release, ReleaseId};
use kubernetes::{ObjectRef, Readiness, WaitReason};
use repository::{HelmReleaseNames, OwnedRelease};

const HELM_RELEASE: (&str, &str) = ("helm.toolkit.fluxcd.io/v2", "HelmRelease");
const KUSTOMIZATION: (&str, &str) = ("kustomize.toolkit.fluxcd.io/v1", "Kustomization");

/// A HelmRelease in the cluster.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HelmRelease(pub(super) Value);

impl HelmRelease {
    fn text(&self, pointer: &str) -> Option<&str> {
        self.0.pointer(pointer).and_then(Value::as_str)
    }

    fn owned(&self) -> OwnedRelease {
        OwnedRelease::owned_by(HelmReleaseNames {
            name: self.text("/metadata/name").unwrap_or_default(),
            namespace: self.text("/metadata/namespace"),
            release_name: self.text("/spec/releaseName"),
            target_namespace: self.text("/spec/targetNamespace"),
            storage_namespace: self.text("/spec/storageNamespace"),
        })
    }

    pub(super) fn installs(&self, release: &ReleaseId) -> bool {
        self.owned().installs(release)
    }

    /// What it installs instead, if it is named as the one that is to adopt `release`.
    fn installs_instead(&self, release: &ReleaseId) -> Option<String> {
        let owned = self.owned();
        let is_meant = self.text("/metadata/name") == Some(&release.name)
            && owned.namespace.as_deref() == Some(&release.namespace)
            && !owned.installs(release);
        is_meant.then(|| format!("installs {owned} instead"))
    }

    fn is_suspended(&self) -> bool {
        self.0.pointer("/spec/suspend") == Some(&Value::Bool(true))
    }

    /// Why it has not adopted its release yet.
    fn pending(&self) -> Option<String> {
        if self.is_suspended() {
            return None;
        }
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

    /// Kubelets of the inventory without a serving certificate (K04). Nothing of a run needs one, so requests that cannot be
    /// listed are none.
    async fn pending_certificates(&self) -> Option<String> {
        let client = self.0.kubernetes().await.ok()?;
        let pending = kubernetes::pending_serving_requests(&client).await.unwrap_or_default();
        let ours: Vec<String> = self.0.hostnames().into_iter().filter(|name| pending.contains(name)).collect();
        (!ours.is_empty()).then(|| format!("kubelets wait for a serving certificate: {}", ours.join(", ")))
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
        let ready =
            |name: &String, boot: Option<&str>| found.get(name).is_some_and(|node| node.ready && node.is_current(boot));
        let expected = self.0.expected_nodes().await;
        let missing = expected.into_iter().filter(|(name, boot)| !ready(name, boot.as_deref()));
        let missing: Vec<String> = missing.map(|(name, _)| name).collect();
        Ok(if !missing.is_empty() {
            Observation::InProgress(format!("not Ready yet: {}", missing.join(", ")))
        } else if let Some(pending) = self.pending_certificates().await {
            Observation::Degraded(format!("all are Ready; {pending} ({})", Code::K04))
        } else {
            Observation::UpToDate("all are Ready".to_owned())
        })
    }

    async fn apply(&self, _cx: &StepContext) -> Result<Effect, StepError> {
        rollout::uncordon_all(&self.0).await.map(|()| Effect::Complete)
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        let client = self.0.kubernetes().await?;
        if let Some(pending) = self.pending_certificates().await {
            cx.waiting(StepWait::new(format!("not waited for: {pending}")).code(Code::K04));
        }
        boots::wait_for_nodes(&self.0, &client, NodeGoal::Ready, cx)
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
        let code = |message: &str| self.context.network_code(message).unwrap_or(self.code);
        let show = progress_by(cx, |reason| code(&reason.text));
        let ready = kubernetes::wait_condition(&client, &self.object, "Ready", &show).await;
        ready.map(|_| ()).map_err(|error| {
            let code = code(&ErrorReport::new(&error).to_string());
            gate_error(&error).with_place(self.object.to_string()).code(code)
        })
    }
}

/// The releases that Flux will own: those with a HelmRelease in the repository that is not suspended.
pub(super) fn expected(context: &RunContext) -> BTreeSet<ReleaseId> {
    let releases = context.cluster.bootstrap.releases.releases.iter();
    let is_owned =
        |release: &&Release| context.cluster.flux.counterpart(release).is_some_and(|flux| flux.suspended.is_none());
    releases.filter(is_owned).map(|release| release.id.clone()).collect()
}

/// The kinds that create HelmReleases and bring their charts: while one fails, an adoption waits for it.
const CAUSES: [(&str, &str); 6] = [
    KUSTOMIZATION,
    ("source.toolkit.fluxcd.io/v1", "GitRepository"),
    ("source.toolkit.fluxcd.io/v1", "OCIRepository"),
    ("source.toolkit.fluxcd.io/v1", "Bucket"),
    ("source.toolkit.fluxcd.io/v1", "HelmRepository"),
    ("source.toolkit.fluxcd.io/v1", "HelmChart"),
];

/// Why releases are not adopted yet.
#[derive(Debug, Default)]
struct AdoptionView {
    missing: Vec<String>,
    /// What fails of each of [`CAUSES`].
    failing: BTreeMap<usize, Vec<String>>,
}

/// So many failures are shown, each with so many characters: their messages come from charts and controllers.
const SHOWN: usize = 3;
const LONGEST: usize = 300;

impl AdoptionView {
    /// What fails, and what waits for it; nothing when nothing fails.
    fn failing(&self) -> Option<String> {
        let failing: Vec<&String> = self.failing.values().flatten().collect();
        if failing.is_empty() || self.missing.is_empty() {
            return None;
        }
        let more = failing.len().saturating_sub(SHOWN);
        let more = (more > 0).then(|| format!("{more} more fail"));
        let shown = failing.into_iter().take(SHOWN).map(|text| text.chars().take(LONGEST).collect());
        Some(shown.chain(more).chain(self.missing.iter().cloned()).collect::<Vec<String>>().join("; "))
    }
}

/// What the controller of an object says about its failure.
fn failure(object: &Value) -> Option<String> {
    let name = ObjectRef::from_manifest(object).ok()?;
    kubernetes::reported_failure(object).map(|failure| format!("{name}: {failure}"))
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
            None => Some(match found.iter().find_map(|known| known.installs_instead(release)) {
                Some(other) => format!("{release}: its HelmRelease {other}"),
                None => format!("{release}: its HelmRelease does not exist yet"),
            }),
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
    let is_expected =
        |release: &&HelmRelease| !release.is_suspended() && expected.iter().any(|expected| release.installs(expected));
    let others = releases.iter().filter(|release| !is_expected(release)).map(|release| &release.0);
    let unready = |object: &Value| {
        let name = ObjectRef::from_manifest(object).ok()?;
        if object.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
            return Some(format!("{name}: is suspended"));
        }
        kubernetes::readiness(object).unready().map(|reason| format!("{name}: {reason}"))
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
        let seen = Mutex::new(AdoptionView { missing: self.missing(&[]), ..AdoptionView::default() });
        let view = || seen.lock().unwrap_or_else(PoisonError::into_inner);
        let code = |message: &str| self.context.network_code(message).unwrap_or(Code::F05);
        // What fails beside the releases is shown, and does not restart the deadline.
        let show_failing = || {
            if let Some(line) = view().failing() {
                let code = code(&line);
                cx.waiting(StepWait::new(line).code(code).stuck());
            }
        };
        let show = |reason: &WaitReason| {
            progress_by(cx, |reason| code(&reason.text))(reason);
            show_failing();
        };
        let missing = |objects: &[Value]| {
            let found: Vec<HelmRelease> = objects.iter().cloned().map(HelmRelease).collect();
            let mut view = view();
            view.missing = self.missing(&found);
            (!view.missing.is_empty()).then(|| view.missing.join("; "))
        };
        let failing = |kind: usize, objects: &[Value]| {
            view().failing.insert(kind, objects.iter().filter_map(failure).collect());
            show_failing();
            Some(String::new())
        };
        let adopted = kubernetes::wait_all(&client, HELM_RELEASE.0, HELM_RELEASE.1, &show, missing);
        let quiet = |_: &WaitReason| {};
        let causes = CAUSES.iter().enumerate().map(|(index, (api_version, kind))| {
            kubernetes::wait_all(&client, api_version, kind, &quiet, move |objects| failing(index, objects))
        });
        let watched = async {
            // What cannot be watched explains nothing, and the adoption is waited for all the same.
            futures::future::join_all(causes).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            adopted = adopted => adopted.map_err(|error| api_error(&error).code(Code::F05))?,
            () = watched => {}
        }
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
        let named =
            json!({"targetNamespace": "kube-system", "releaseName": "cilium", "storageNamespace": "kube-system"});
        assert!(release(&named).installs(&id("kube-system", "cilium")));
    }

    #[test]
    fn a_helm_release_that_installs_another_release_says_which() {
        let cilium = ReleaseId { namespace: "kube-system".to_owned(), name: "cilium".to_owned() };
        let instead = |spec: &Value| release(spec).installs_instead(&cilium);
        assert_eq!(
            instead(&json!({"targetNamespace": "kube-system"})).unwrap(),
            "installs kube-system/kube-system-cilium instead"
        );
        let named = json!({"targetNamespace": "kube-system", "releaseName": "cilium"});
        assert_eq!(instead(&named), None);
        assert_eq!(instead(&json!({"targetNamespace": "other"})), None, "another release of the same name");
    }

    #[test]
    fn a_failing_object_explains_what_is_missing() {
        let kustomization = json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"name": "apps", "namespace": "flux-system", "generation": 1},
        "status": {"observedGeneration": -1, "conditions": [
            {"type": "Ready", "status": "False", "reason": "BuildFailed", "message": "decryption failed", "observedGeneration": 1},
        ]}});
        let mut view = AdoptionView {
            missing: vec!["a/b: its HelmRelease does not exist yet".to_owned()],
            ..AdoptionView::default()
        };
        view.failing.insert(0, failure(&kustomization).into_iter().collect());
        assert_eq!(
            view.failing().unwrap(),
            "Kustomization flux-system/apps: BuildFailed: decryption failed; a/b: its HelmRelease does not exist yet"
        );
        view.failing.insert(1, (0..9).map(|number| format!("{number}{}", "x".repeat(9999))).collect());
        let line = view.failing().unwrap();
        assert!(line.len() < 1200 && line.contains("; 7 more fail; a/b"), "{line}");
        view.missing.clear();
        assert_eq!(view.failing(), None);
    }

    #[test]
    fn a_suspended_release_is_not_waited_for() {
        let suspended = HelmRelease(json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"suspend": true}}));
        assert_eq!(suspended.pending(), None);
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
