//! helm-controller over the HelmReleases that exist in the cluster: each is reconciled by its own spec.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use error_report::ErrorReport;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::adoption::succeeded;
use super::failure::fail_first;
use super::helm::{self, ReleaseUpgrade, ReleaseValues, UpgradeError};
use super::helm_release::{HelmRelease, ObjectName, ReleaseState, WantedChart};
use super::kinds::{GIT_REPOSITORY, HELM_RELEASE, HELM_REPOSITORY, OCI_REPOSITORY};
use super::values::{self, ValuesError};
use crate::cluster_context::ClusterContext;
use crate::operators::objects::{ObjectKind, at_generation, condition, is_ready, set_status};
use crate::record::facts;
use crate::scenario::FluxStage;

/// Between two attempts while something that a HelmRelease refers to is missing.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// The HelmReleases that were seen, and the generation in which each was begun.
#[derive(Debug, Default)]
struct Queue {
    known: BTreeMap<ObjectName, HelmRelease>,
    begun: BTreeMap<ObjectName, i64>,
}

impl Queue {
    fn insert(&mut self, release: HelmRelease) {
        self.known.insert(release.object.clone(), release);
    }

    /// Those to reconcile now: not suspended, not begun in their generation, and with dependencies that are Ready.
    fn take_due(&mut self) -> Vec<HelmRelease> {
        let is_ready = |name: &ObjectName| self.known.get(name).is_some_and(|other| other.state == ReleaseState::Ready);
        let is_due = |release: &&HelmRelease| {
            release.state != ReleaseState::Suspended
                && self.begun.get(&release.object) != Some(&release.generation)
                && release.depends_on.iter().all(is_ready)
        };
        let due: Vec<HelmRelease> = self.known.values().filter(is_due).cloned().collect();
        self.begun.extend(due.iter().map(|release| (release.object.clone(), release.generation)));
        due
    }
}

/// Reconciles every HelmRelease until the lab ends. `kustomize` is the fact that the controller which creates them is up.
pub(super) async fn run(context: &ClusterContext, kustomize: &str) {
    let controller = context.cache.wait_until(|cache| cache.ready_pod_of("helm-controller")).await;
    let causes = [controller.fact, kustomize.to_owned(), facts::FLUX_REPOSITORY_READY.to_owned()];
    let mut objects = HELM_RELEASE.watch(&context.cache.client);
    let (mut queue, mut running) = (Queue::default(), FuturesUnordered::new());
    loop {
        running.extend(queue.take_due().into_iter().map(|release| reconcile(context, release, &causes)));
        tokio::select! {
            object = objects.next() => match object {
                Some(object) => queue.insert(HelmRelease::from_object(&object)),
                None => return,
            },
            Some(()) = running.next() => {}
        }
    }
}

/// Why a HelmRelease is not reconciled.
#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error("{0} is not ready")]
    SourceNotReady(String),
    #[error("could not resolve the values")]
    Values(#[from] ValuesError),
    #[error(
        "Helm's record would be in namespace {storage} and the release in {namespace}, which a rehearsal does not play"
    )]
    Storage { storage: String, namespace: String },
    #[error("Helm upgrade failed")]
    Upgrade(#[from] UpgradeError),
}

impl ReconcileError {
    fn reason(&self) -> &'static str {
        match self {
            Self::SourceNotReady(_) => "SourceNotReady",
            Self::Values(_) => "ValuesError",
            Self::Storage { .. } | Self::Upgrade(_) => "UpgradeFailed",
        }
    }

    /// Whether what is missing may still appear.
    fn is_temporary(&self) -> bool {
        matches!(self, Self::SourceNotReady(_) | Self::Values(_))
    }
}

async fn reconcile(context: &ClusterContext, release: HelmRelease, causes: &[String]) {
    let began = Instant::now();
    let ObjectName { namespace, name } = &release.object;
    tokio::time::sleep(context.lab.scenario.operators.adoption.duration()).await;
    fail_first(context, FluxStage::HelmRelease, HELM_RELEASE, namespace, name).await;
    let mut shown = String::new();
    loop {
        let error = match attempt(context, &release).await {
            Ok(status) => {
                set_status(&context.cache.client, HELM_RELEASE, Some(namespace), name, &status).await;
                let fact = facts::release_adopted(&release.release);
                return context.lab.recorder.record_fact(fact, began, causes.to_vec());
            }
            Err(error) => error,
        };
        let message = ErrorReport::new(&error).to_string();
        if message != shown {
            tracing::debug!(message, name, "a HelmRelease is not reconciled");
            let failed = at_generation(condition("Ready", "False", error.reason(), &message), release.generation);
            let status = json!({"conditions": [failed]});
            set_status(&context.cache.client, HELM_RELEASE, Some(namespace), name, &status).await;
            shown = message;
        }
        if !error.is_temporary() {
            return;
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// Upgrades the release once. Returns the status of its HelmRelease.
async fn attempt(context: &ClusterContext, release: &HelmRelease) -> Result<Value, ReconcileError> {
    let source = ready_source(context, release).await?;
    let wanted = WantedChart::from_source(&release.chart, &source.data["spec"]);
    let values = values::compose(&context.cache.client, release).await?;
    let Some(wanted) = wanted else { return Ok(not_installed(context, release, "its chart's source is not played")) };
    let Some(served) = wanted.served(&context.releases) else {
        return Ok(not_installed(context, release, "its chart is not one of the run's"));
    };
    if release.storage_namespace != release.release.namespace {
        let (storage, namespace) = (release.storage_namespace.clone(), release.release.namespace.clone());
        return Err(ReconcileError::Storage { storage, namespace });
    }
    let recorder = &context.lab.recorder;
    if let (Some(version), Some(other)) = (&wanted.version, &served.version)
        && version != other
    {
        recorder.record_not_judged(format!("chart {version} of HelmRelease {} ({other} was used)", release.object));
    }
    if release.post_renderers > 0 {
        recorder.record_not_judged(format!("postRenderers of HelmRelease {}", release.object));
    }
    let upgrade = ReleaseUpgrade {
        release: release.release.clone(),
        chart: wanted.chart,
        version: served.version.clone(),
        naming: wanted.naming,
        values: ReleaseValues::Given(values),
        rollout: release.rollout,
    };
    let ObjectName { namespace, name } = &release.object;
    let progress = condition("Ready", "Unknown", "Progressing", "Running 'upgrade' action");
    let status = json!({"conditions": [at_generation(progress, release.generation)]});
    set_status(&context.cache.client, HELM_RELEASE, Some(namespace), name, &status).await;
    let revision = helm::upgrade(context, &upgrade).await?;
    Ok(succeeded(&upgrade, &revision, release.generation))
}

/// The source of the chart, once source-controller has it.
async fn ready_source(context: &ClusterContext, release: &HelmRelease) -> Result<DynamicObject, ReconcileError> {
    let (kind, name) = (source_kind(release.chart.kind()), release.chart.source());
    let found = kind.api(&context.cache.client, Some(&name.namespace)).get(&name.name).await;
    let ready = found.ok().filter(is_ready);
    ready.ok_or_else(|| ReconcileError::SourceNotReady(format!("{} '{name}'", release.chart.kind())))
}

fn source_kind(kind: &str) -> ObjectKind {
    match kind {
        "HelmRepository" => HELM_REPOSITORY,
        "GitRepository" => GIT_REPOSITORY,
        _ => OCI_REPOSITORY,
    }
}

/// The status of a HelmRelease that is taken as installed, so that what depends on it goes on.
fn not_installed(context: &ClusterContext, release: &HelmRelease, reason: &str) -> Value {
    context.lab.recorder.record_not_judged(format!("HelmRelease {} ({reason})", release.object));
    let message = format!("not installed in a rehearsal: {reason}");
    let ready = at_generation(condition("Ready", "True", "InstallSucceeded", &message), release.generation);
    json!({"observedGeneration": release.generation, "conditions": [ready]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(name: &str, depends_on: &[&str], state: ReleaseState) -> HelmRelease {
        let depends_on: Vec<Value> = depends_on.iter().map(|name| json!({"name": name})).collect();
        let object = json!({
            "metadata": {"name": name, "namespace": "a", "generation": 1}, "spec": {"dependsOn": depends_on},
        });
        HelmRelease { state, ..HelmRelease::from_object(&serde_json::from_value(object).unwrap()) }
    }

    fn due(queue: &mut Queue) -> Vec<String> {
        queue.take_due().into_iter().map(|release| release.object.name).collect()
    }

    #[test]
    fn a_release_waits_for_its_dependencies_and_is_begun_once_in_a_generation() {
        let mut queue = Queue::default();
        queue.insert(release("app", &["database"], ReleaseState::Pending));
        queue.insert(release("off", &[], ReleaseState::Suspended));
        assert_eq!(due(&mut queue), [""; 0]);
        queue.insert(release("database", &[], ReleaseState::Pending));
        assert_eq!(due(&mut queue), ["database"]);
        assert_eq!(due(&mut queue), [""; 0]);
        queue.insert(release("database", &[], ReleaseState::Ready));
        assert_eq!(due(&mut queue), ["app"]);
        queue.insert(HelmRelease { generation: 2, ..release("database", &[], ReleaseState::Pending) });
        assert_eq!(due(&mut queue), ["database"]);
    }
}
