//! One Helm release: installed as Flux's helm-controller will adopt it, gated by our own readiness.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::context::RunContext;
use super::conversion;
use super::errors::helm_error;
use super::images::Workload;
use super::objects::{api_error, gate_error, progress};
use super::pending::{HelmAttempts, PendingDecision, PendingEvidence, decide_pending, kept, this_host};
use super::webhook;
use engine::{Action, Code, Effect, Observation, StepContext, StepError};
use helm::storage;
use helm::storage::{DesiredRelease, Recovery, ReleaseState, StoredRelease};
use helm::{AROUND_HOOKS, PreparedChart, PulledChart, TemplateOptions};
use helmfile::{Release, Wait};
use kubernetes::{GateError, ObjectRef, Readiness, ServiceName, UnpulledImage};

/// A chart that is ready, and what it renders to.
struct Prepared {
    ready: PreparedChart,
    /// What stays in the cluster; its readiness is the gate.
    objects: Vec<Value>,
    /// What Helm itself runs and waits for.
    hooks: Vec<ObjectRef>,
    /// The pods of both.
    workloads: Vec<Workload>,
}

/// Which step waits for the conversion webhooks of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConversionGate {
    /// The release's own.
    Own,
    /// One after it.
    LaterStep,
}

/// The release is deployed with this chart and these values, and everything in it is ready.
pub(super) struct Installed {
    context: Arc<RunContext>,
    release: Release,
    conversion: ConversionGate,
    prepared: OnceCell<Prepared>,
    attempts: HelmAttempts,
}

impl Installed {
    pub(super) fn new(context: Arc<RunContext>, release: Release, conversion: ConversionGate) -> Self {
        Self { context, release, conversion, prepared: OnceCell::new(), attempts: HelmAttempts::default() }
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
                let options = TemplateOptions { include_crds: false, hooks: true, ..self.context.template_options() };
                let charts = self.context.charts().await?;
                let ready = charts.prepare(&self.release, &options).await.map_err(failed)?;
                let rendered = charts.helm.template(&self.release, &ready.chart, &options).await;
                let (hooks, objects): (Vec<Value>, Vec<Value>) =
                    rendered.map_err(failed)?.into_iter().map(|object| self.placed(object)).partition(is_hook);
                self.context.kinds.note(&self.release, &objects);
                self.context.owners.record(&self.release, &objects, &self.context.kinds)?;
                self.context.kinds.note(&self.release, &webhook::probes(&objects, &self.release.id.namespace));
                let workloads = hooks.iter().chain(&objects).filter_map(Workload::of).collect();
                let hooks = hooks.iter().filter_map(|object| ObjectRef::from_manifest(object).ok()).collect();
                Ok(Prepared { ready, objects, hooks, workloads })
            })
            .await
    }

    /// Helm puts what names no namespace into the release's; cluster-scoped kinds ignore it.
    fn placed(&self, mut object: Value) -> Value {
        let named = object.pointer("/metadata/namespace").is_some();
        if !named && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("namespace".to_owned(), Value::from(self.release.id.namespace.clone()));
        }
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
            let decoded = StoredRelease::decode(&data.0).map_err(|error| {
                StepError::failed_precondition("a stored release cannot be read")
                    .with_place(format!("release {}", self.release.id))
                    .caused_by(&error)
                    .code(Code::H16)
            })?;
            stored.push(decoded);
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
            limit: self.release.flags.timeout + AROUND_HOOKS,
            now: Timestamp::now(),
        };
        match decide_pending(record, evidence) {
            PendingDecision::Remove(reason) => cx.progress(&reason),
            PendingDecision::Keep(reason) => return Err(kept(record, reason)),
        }
        let object = ObjectRef::new("v1", "Secret", Some(&namespace), &secret);
        kubernetes::delete(client, &object).await.map_err(|error| api_error(&error).code(Code::H01))?;
        Ok(record.revision)
    }

    /// The first object that has to be ready and is not.
    async fn unready(&self, client: &kube::Client, objects: &[Value]) -> Result<Option<String>, StepError> {
        let lookups = objects.iter().filter_map(|object| ObjectRef::from_manifest(object).ok());
        let found = futures::future::join_all(lookups.map(|object| async move {
            let live = kubernetes::get(client, &object).await;
            (object, live)
        }))
        .await;
        for (object, live) in found {
            match live.map_err(|error| api_error(&error))? {
                None => return Ok(Some(format!("{object} does not exist"))),
                Some(live) => match kubernetes::readiness(&live) {
                    Readiness::Ready => {}
                    Readiness::Progressing(reason) | Readiness::Failed(reason) => {
                        return Ok(Some(format!("{object}: {reason}")));
                    }
                },
            }
        }
        Ok(None)
    }
}

fn is_hook(object: &Value) -> bool {
    object.pointer("/metadata/annotations").is_some_and(|annotations| annotations.get("helm.sh/hook").is_some())
}

#[async_trait]
impl Action for Installed {
    async fn prepare(&self, _cx: &StepContext) -> Result<(), StepError> {
        self.prepared().await.map(|_| ())
    }

    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        let client = self.context.kubernetes().await?;
        if self.owned_by_flux(&client).await? {
            return Ok(Observation::Skipped(format!("Flux owns it ({})", Code::F01)));
        }
        let prepared = self.prepared().await?;
        let stored = self.stored(&client).await?;
        Ok(match storage::release_state(stored.as_ref(), &self.desired(&prepared.ready.chart)) {
            ReleaseState::Absent => Observation::Missing("not installed".to_owned()),
            ReleaseState::Outdated(reason) => Observation::Missing(reason),
            ReleaseState::Failed(reason) => Observation::Missing(format!("the last attempt failed: {reason}")),
            ReleaseState::Pending { revision, status } => {
                Observation::Missing(format!("revision {revision} was left {status}"))
            }
            ReleaseState::Deployed if self.release.flags.wait == Wait::Nothing => {
                Observation::UpToDate("deployed".to_owned())
            }
            ReleaseState::Deployed => match self.unready(&client, &prepared.objects).await? {
                None => Observation::UpToDate("deployed and ready".to_owned()),
                Some(reason) => Observation::InProgress(reason),
            },
        })
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        let client = self.context.kubernetes().await?;
        let prepared = self.prepared().await?;
        let revision = self.clear_pending(&client, cx).await?;
        self.attempts.begin(cx, revision).await;
        let kubeconfig = self.context.child_kubeconfig().await?;
        let path = kubeconfig.path();
        let helm = self.context.charts().await?.helm.upgrade(
            &self.release,
            &prepared.ready.chart,
            &path,
            self.context.apply_method(),
            |_, _| {},
        );
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
                .with_place(super::chain::place(&self.release))
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
