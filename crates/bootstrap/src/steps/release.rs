//! One Helm release: installed as Flux's helm-controller will adopt it, gated by our own readiness.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::api_errors::{api_error, gate_error, progress};
use super::context::RunContext;
use super::conversion;
use super::errors::helm_error;
use super::objects::apply_as;
use super::pending::{HelmAttempts, PendingDecision, PendingEvidence, decide_pending, kept, this_host, uninstalling};
use super::release_diff::ReleaseDiff;
use super::release_state::{self, DeployedState, RecordMarks, Repair};
use super::workload::Workload;
use super::{crds, fingerprints, webhook};
use engine::plan::{Fingerprint, Policy};
use engine::{Action, Code, Effect, Observation, StepContext, StepError};
use helm::comparison::{ReleaseObjects, differences, without_volatile};
use helm::manifest;
use helm::storage;
use helm::storage::{DesiredRelease, Recovery, ReleaseState, StoredRelease};
use helm::{FieldConflicts, PreparedChart, PulledChart, TemplateOptions, UpgradeOptions, upgrade_limit};
use helmfile::{InstallFlags, Release, ReleaseId, Wait};
use kubernetes::{ApplyOptions, GateError, InstalledObject, ObjectRef, ServiceName, UnpulledImage};

/// The field manager of Helm 4 (`kube.ManagedFieldsManager`, the name of its binary).
const HELM: &str = "helm";

/// A chart that is ready, and what it renders to.
struct Prepared {
    ready: PreparedChart,
    /// What stays in the cluster; its readiness is the gate.
    objects: Vec<Value>,
    /// What Helm itself runs and waits for.
    hooks: Vec<ObjectRef>,
    /// The pods of both.
    workloads: Vec<Workload>,
    /// Both, as they are compared with a record.
    rendered: ReleaseObjects,
}

/// How a release compares with its goal, and in detail if chart, version and values are the desired ones.
struct Assessment {
    observation: Observation,
    deployed: Option<DeployedState>,
}

impl From<Observation> for Assessment {
    fn from(observation: Observation) -> Self {
        Self { observation, deployed: None }
    }
}

/// Which step waits for the conversion webhooks of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConversionGate {
    /// The release's own.
    Own,
    /// One after it.
    LaterStep,
}

/// The release is deployed as its chart renders now, its objects are as they were applied, and all of them are ready.
pub(super) struct Installed {
    context: Arc<RunContext>,
    release: Release,
    conversion: ConversionGate,
    prepared: OnceCell<Prepared>,
    attempts: HelmAttempts,
    /// What repairs the drift that the last observation found.
    repair: Mutex<Repair>,
}

impl Installed {
    pub(super) fn new(context: Arc<RunContext>, release: Release, conversion: ConversionGate) -> Self {
        let (attempts, repair) = (HelmAttempts::default(), Mutex::default());
        Self { context, release, conversion, prepared: OnceCell::new(), attempts, repair }
    }

    pub(super) fn id(&self) -> &ReleaseId {
        &self.release.id
    }

    pub(super) async fn client(&self) -> Result<kube::Client, StepError> {
        self.context.kubernetes().await
    }

    /// The pods that it runs.
    pub(super) async fn workloads(&self) -> Result<Vec<Workload>, StepError> {
        Ok(self.prepared().await?.workloads.clone())
    }

    /// Whether the cluster records it as deployed, in any version.
    pub(super) async fn is_installed(&self, client: &kube::Client) -> Result<bool, StepError> {
        let labels = format!("owner=helm,name={},status=deployed", self.release.id.name);
        let records = kubernetes::secrets(client, &self.release.id.namespace, &labels).await;
        Ok(!records.map_err(|error| api_error(&error))?.is_empty())
    }

    /// Its Services.
    pub(super) async fn services(&self) -> Result<BTreeSet<ServiceName>, StepError> {
        Ok(conversion::services(&self.prepared().await?.objects))
    }

    async fn prepared(&self) -> Result<&Prepared, StepError> {
        self.prepared
            .get_or_try_init(|| async {
                let failed = |error| helm_error(&error, &self.release);
                let options = self.template_options();
                let charts = self.context.charts().await?;
                let version = self.context.chart_version(&self.release).await?;
                let ready = charts.prepare(&self.release, &version, &options).await.map_err(failed)?;
                let all = charts.helm.template(&self.release, &ready.chart, &options).await.map_err(failed)?;
                let rendered = ReleaseObjects::new(&self.release.id, all.clone());
                let (hooks, objects): (Vec<Value>, Vec<Value>) =
                    all.into_iter().map(|object| self.placed(object)).partition(manifest::is_hook);
                self.context.kinds.note(&self.release, &objects);
                self.context.owners.record(&self.release, &objects, &self.context.kinds)?;
                self.context.kinds.note(&self.release, &webhook::probes(&objects, &self.release.id.namespace));
                let workloads = hooks.iter().chain(&objects).filter_map(Workload::of).collect();
                let hooks = hooks.iter().filter_map(|object| ObjectRef::from_manifest(object).ok()).collect();
                Ok(Prepared { ready, objects, hooks, workloads, rendered })
            })
            .await
    }

    fn template_options(&self) -> TemplateOptions {
        TemplateOptions { include_crds: false, hooks: true, ..self.context.template_options() }
    }

    /// Helm puts what names no namespace into the release's; cluster-scoped kinds ignore it.
    fn placed(&self, mut object: Value) -> Value {
        manifest::set_namespace(&mut object, &self.release.id.namespace);
        object
    }

    /// The newest record of this release in the cluster.
    async fn stored(&self, client: &kube::Client) -> Result<Option<StoredRelease>, StepError> {
        let labels = format!("owner=helm,name={}", self.release.id.name);
        let secrets = kubernetes::secrets(client, &self.release.id.namespace, &labels).await;
        let secrets = secrets.map_err(|error| api_error(&error))?;
        let mut stored = Vec::new();
        for secret in secrets {
            let Some(data) = secret.data.as_ref().and_then(|data| data.get("release")) else { continue };
            let decoded = StoredRelease::decode(&data.0).map_err(|error| self.unreadable(&error))?;
            stored.push(decoded.with_labels(secret.metadata.labels.clone().unwrap_or_default()));
        }
        Ok(storage::newest(stored))
    }

    fn desired<'a>(&'a self, chart: &'a PulledChart) -> DesiredRelease<'a> {
        DesiredRelease { chart_name: &chart.name, chart_version: &chart.version, values: &self.release.values }
    }

    /// Whether Flux has taken this release over; then it is not written any more (F01).
    async fn owned_by_flux(&self, client: &kube::Client) -> Result<bool, StepError> {
        let releases = super::handoff::helm_releases(client).await?;
        Ok(releases.iter().any(|known| known.installs(&self.release.id)))
    }

    /// Waits for objects; of an image that cannot be pulled, it reports the registries that its node asks (H13).
    async fn wait_ready(
        &self,
        client: &kube::Client,
        objects: &[ObjectRef],
        cx: &StepContext,
    ) -> Result<(), GateError> {
        let asked = |unpulled: &UnpulledImage| self.context.image_endpoints(unpulled);
        kubernetes::wait_ready_explained(client, objects, &asked, &progress(cx)).await
    }

    /// Deletes a pending record if its helm is certainly dead; its workloads stay (H01). Returns the revision that helm writes
    /// next.
    async fn clear_pending(&self, client: &kube::Client, cx: &StepContext) -> Result<u32, StepError> {
        let stored = self.stored(client).await?;
        let next = stored.as_ref().map_or(1, |record| record.revision.saturating_add(1));
        let (Some(record), Recovery::DeleteRecord { namespace, secret, .. }) =
            (&stored, storage::recovery(stored.as_ref()))
        else {
            return Ok(next);
        };
        let evidence = PendingEvidence {
            attempts: &self.attempts.all(cx),
            host: &this_host(),
            lease: self.context.lease_view(),
            limit: upgrade_limit(&self.release.flags, self.prepared().await?.hooks.len()),
            now: Timestamp::now(),
        };
        match decide_pending(record, evidence) {
            PendingDecision::Remove(reason) => cx.progress(&reason),
            PendingDecision::Keep(reason) => return Err(kept(record, reason)),
            PendingDecision::Uninstalling => return Err(uninstalling(record, &self.context.kubeconfig_path())),
        }
        let object = ObjectRef::new("v1", "Secret", Some(&namespace), &secret);
        kubernetes::delete(client, &object).await.map_err(|error| api_error(&error).code(Code::H01))?;
        Ok(record.revision)
    }

    fn unreadable(&self, error: &dyn std::error::Error) -> StepError {
        StepError::failed_precondition("a stored release cannot be read")
            .with_place(format!("release {}", self.release.id))
            .caused_by(error)
            .code(Code::H16)
    }

    /// The objects of a record.
    fn recorded(&self, stored: &StoredRelease) -> Result<ReleaseObjects, StepError> {
        ReleaseObjects::from_record(stored).map_err(|error| self.unreadable(&error))
    }

    /// The same in the cluster.
    async fn installed(
        &self,
        client: &kube::Client,
        recorded: &ReleaseObjects,
    ) -> Result<Vec<InstalledObject>, StepError> {
        let mut objects: Vec<Value> = recorded.resources().cloned().collect();
        // Helm sets them on everything that it applies, whatever the chart says.
        objects.iter_mut().for_each(|object| manifest::add_ownership(object, &self.release.id));
        let found = kubernetes::installed_objects(client, &objects, &self.release.id.namespace).await;
        found.map_err(|error| api_error(&error))
    }

    /// A deployed release, compared with its inputs and with the cluster.
    async fn deployed(&self, client: &kube::Client, stored: &StoredRelease) -> Result<DeployedState, StepError> {
        let recorded = self.recorded(stored)?;
        let rendered = &self.prepared().await?.rendered;
        let is_rendered = differences(&recorded, &[rendered]).is_empty();
        let again = if is_rendered { None } else { Some(self.rendered_again().await?) };
        let renderings: Vec<&ReleaseObjects> = std::iter::once(rendered).chain(&again).collect();
        Ok(DeployedState {
            manifest: differences(&recorded, &renderings),
            // An upgrade would replace a random value by a new one, and restore none.
            objects: self.installed(client, &without_volatile(&recorded, &renderings)).await?,
            record: marks(stored),
            inputs: self.inputs().await?,
        })
    }

    /// A second rendering of the same inputs, as an upgrade would store it.
    async fn rendered_again(&self) -> Result<ReleaseObjects, StepError> {
        let failed = |error| helm_error(&error, &self.release);
        let helm = &self.context.charts().await?.helm;
        // A chart with patches is installed as it was rendered here.
        if self.release.patches.is_empty() {
            let kubeconfig = self.context.child_kubeconfig().await?;
            let (chart, method) = (&self.prepared().await?.ready.chart, self.context.apply_method());
            match helm.dry_run_upgrade(&self.release, chart, &kubeconfig.path(), method).await {
                Ok(stored) => return self.recorded(&stored),
                Err(error) if error.is_retryable() => return Err(failed(error)),
                // The upgrade itself reports it, if there is anything to upgrade.
                Err(_) => {}
            }
        }
        let options = self.template_options();
        let version = self.context.chart_version(&self.release).await?;
        let ready = self.context.charts().await?.prepare(&self.release, &version, &options).await.map_err(failed)?;
        let objects = helm.template(&self.release, &ready.chart, &options).await.map_err(failed)?;
        Ok(ReleaseObjects::new(&self.release.id, objects))
    }

    /// Everything that decides what the release renders.
    async fn inputs(&self) -> Result<Fingerprint, StepError> {
        let (prepared, charts) = (self.prepared().await?, self.context.charts().await?);
        let parts = Fingerprint::builder()
            .part(fingerprints::release(&self.release).as_str())
            .part(&prepared.ready.chart.digest)
            .part(&self.context.cluster.inventory.kubernetes_version)
            .part(charts.helm.version.to_string());
        Ok(parts.finish())
    }

    /// How a record compares with the inputs and the cluster; notes what repairs the drift.
    async fn assess(&self, client: &kube::Client, stored: Option<&StoredRelease>) -> Result<Assessment, StepError> {
        self.note_repair(Repair::default());
        if self.owned_by_flux(client).await? {
            let objects = match stored {
                Some(stored) => self.installed(client, &self.recorded(stored)?).await?,
                None => vec![],
            };
            return Ok(Observation::Skipped(release_state::owned_by_flux(&objects)).into());
        }
        let prepared = self.prepared().await?;
        let reason = match (storage::release_state(stored, &self.desired(&prepared.ready.chart)), stored) {
            (ReleaseState::Deployed, Some(stored)) => {
                let deployed = self.deployed(client, stored).await?;
                self.note_repair(deployed.repair());
                let observation = deployed.observation(self.release.flags.wait);
                return Ok(Assessment { observation, deployed: Some(deployed) });
            }
            (ReleaseState::Absent | ReleaseState::Deployed, _) => "not installed".to_owned(),
            (ReleaseState::Outdated(reason), _) => reason,
            (ReleaseState::Failed(reason), _) => format!("the last attempt failed: {reason}"),
            (ReleaseState::Pending { revision, status }, _) => format!("revision {revision} was left {status}"),
        };
        Ok(Observation::Missing(reason).into())
    }

    /// What a run would change.
    pub(super) async fn change(&self) -> Result<ReleaseDiff, StepError> {
        let client = self.context.kubernetes().await?;
        let Some(stored) = self.stored(&client).await? else { return Ok(ReleaseDiff::of_absent()) };
        let Assessment { observation, deployed } = self.assess(&client, Some(&stored)).await?;
        let diff = match (&observation, deployed) {
            (_, Some(deployed)) => deployed.diff(),
            (Observation::Missing(_), None) => self.deployed(&client, &stored).await?.diff(),
            (_, None) => String::new(),
        };
        Ok(ReleaseDiff::new(observation, diff))
    }

    fn note_repair(&self, repair: Repair) {
        *self.repair.lock().unwrap_or_else(PoisonError::into_inner) = repair;
    }

    fn noted_repair(&self) -> Repair {
        self.repair.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Creates objects of the record that are gone, as Helm would.
    async fn create(&self, client: &kube::Client, gone: &[ObjectRef], cx: &StepContext) -> Result<Effect, StepError> {
        let Some(stored) = self.stored(client).await? else { return Ok(Effect::Complete) };
        let is_gone = |object: &Value| {
            let placed = ObjectRef::from_manifest(object);
            // A cluster-scoped object has a namespace in its manifest at most.
            placed.is_ok_and(|placed| gone.contains(&placed) || gone.contains(&ObjectRef { namespace: None, ..placed }))
        };
        let recorded = self.recorded(&stored)?;
        let mut objects: Vec<Value> =
            recorded.resources().cloned().map(|object| self.placed(object)).filter(is_gone).collect();
        objects.iter_mut().for_each(|object| manifest::add_ownership(object, &self.release.id));
        apply_as(&self.context, ApplyOptions::new(HELM), &objects, cx).await
    }

    /// How the release is upgraded: fields that were changed in the cluster are taken over, unless Flux owns one.
    async fn upgrade_options(&self, client: &kube::Client) -> Result<UpgradeOptions, StepError> {
        let (conflicts, changed) = match self.noted_repair() {
            Repair::TakeOver(changed) => (FieldConflicts::TakeOver, Some(changed)),
            Repair::Upgrade | Repair::Create(_) => (FieldConflicts::AsDeclared, None),
        };
        let record = self.stored(client).await?.as_ref().map(marks).unwrap_or_default();
        Ok(UpgradeOptions {
            conflicts,
            labels: record.next(&self.inputs().await?, changed.as_ref()),
            hooks: self.prepared().await?.hooks.len(),
            ..UpgradeOptions::new(self.context.apply_method())
        })
    }
}

/// How long a release may make no progress: what Helm may need for one hook without a word, and at least as long as any
/// step.
pub(super) fn deadline(flags: &InstallFlags) -> Duration {
    helm::upgrade_limit(flags, 1).max(Policy::new(Code::H15).deadline)
}

fn marks(stored: &StoredRelease) -> RecordMarks {
    RecordMarks { revision: stored.revision, labels: stored.labels.clone() }
}

#[async_trait]
impl Action for Installed {
    async fn prepare(&self, _cx: &StepContext) -> Result<(), StepError> {
        self.prepared().await.map(|_| ())
    }

    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        let client = self.context.kubernetes().await?;
        let stored = self.stored(&client).await?;
        Ok(self.assess(&client, stored.as_ref()).await?.observation)
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        let client = self.context.kubernetes().await?;
        if let Repair::Create(gone) = self.noted_repair() {
            return self.create(&client, &gone, cx).await;
        }
        let prepared = self.prepared().await?;
        let revision = self.clear_pending(&client, cx).await?;
        if revision == 1 {
            crds::create_own(&self.context, &self.release, &prepared.ready.chart, cx).await?;
        }
        self.attempts.begin(cx, revision).await;
        let options = self.upgrade_options(&client).await?;
        let kubeconfig = self.context.child_kubeconfig().await?;
        let path = kubeconfig.path();
        let charts = self.context.charts().await?;
        let helm = charts.helm.upgrade(&self.release, &prepared.ready.chart, &path, &options, |_, _| {});
        let explained = async {
            // Helm reports nothing while it waits for its hooks; their pods show why.
            if prepared.hooks.is_empty() {
                std::future::pending::<()>().await;
            }
            let _ = self.wait_ready(&client, &prepared.hooks, cx).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            installed = helm => installed.map(|()| Effect::Complete).map_err(|error| helm_error(&error, &self.release)),
            () = explained => Ok(Effect::Complete),
        }
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        if self.release.flags.wait == Wait::Nothing {
            return Ok(());
        }
        let client = self.context.kubernetes().await?;
        let prepared = self.prepared().await?;
        let objects: Vec<ObjectRef> =
            prepared.objects.iter().filter_map(|object| ObjectRef::from_manifest(object).ok()).collect();
        self.wait_ready(&client, &objects, cx).await.map_err(|error| {
            let namespace = &self.release.id.namespace;
            let next = format!("check `kubectl -n {namespace} get pods,events`, then run again with --resume");
            gate_error(&error)
                .with_place(super::errors::release_place(&self.release))
                .context(|error| error.next(next).code(Code::H15))
        })?;
        for probe in webhook::probes(&prepared.objects, &self.release.id.namespace) {
            kubernetes::wait_admitted(&client, &probe, &progress(cx))
                .await
                .map_err(|error| api_error(&error).code(Code::H05))?;
        }
        if self.conversion == ConversionGate::Own {
            conversion::wait(&client, &conversion::services(&prepared.objects), cx).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_of_a_release_is_followed() {
        let deadline =
            |minutes| deadline(&InstallFlags { timeout: Duration::from_mins(minutes), ..InstallFlags::default() });
        assert_eq!(deadline(5), Duration::from_mins(15));
        assert_eq!(deadline(25), Duration::from_mins(35));
    }
}
