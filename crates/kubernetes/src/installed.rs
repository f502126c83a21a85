//! Objects that Helm applied, compared with the cluster: which are gone, and in which fields others have changed.
//!
//! A field that only looks different (a normalised quantity, a default) is distinguished by the API server: a dry run of a
//! server-side apply shows what an apply of the manifest would change. Only objects with a suspected drift cost that
//! request; every other object costs one read.

use futures::{FutureExt, StreamExt, TryStreamExt};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::Value;

use super::discovery::Kinds;
use super::drift::{FieldDrift, find_drift};
use super::error::{ApiError, with_retry};
use super::managed_fields::find_change;
use super::manifest::{flux_owner, to_send};
use super::object_ref::ObjectRef;
use super::objects::{read, value};
use super::readiness::{Readiness, readiness};

/// Concurrent requests; the API server's priority and fairness allows a client a few dozen.
const PARALLEL: usize = 16;
/// The field manager of dry runs. It owns nothing, so an apply of a part of its fields removes none.
const MANAGER: &str = "k8s-bootstrap-drift";

/// An object of an installed manifest, as it is in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledObject {
    pub reference: ObjectRef,
    pub state: InstalledState,
    /// An object that does not exist is ready: there is nothing to wait for.
    pub readiness: Readiness,
    /// The HelmRelease or Kustomization of Flux that manages it; only Flux changes it then (F01).
    pub flux_owner: Option<String>,
}

/// How an installed object compares with its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstalledState {
    /// Every field is as it was applied.
    Intact,
    Absent,
    /// A Job that Kubernetes deleted after it had finished, as its `ttlSecondsAfterFinished` asks for.
    Expired,
    /// A field has another value than the one that was applied.
    Changed(FieldDrift),
    /// A field may have another value, but the API server rejects the dry run that would show it.
    Unverified {
        drift: FieldDrift,
        why: ApiError,
    },
}

impl InstalledState {
    /// Whether an apply of the manifest would change something.
    pub fn is_drift(&self) -> bool {
        matches!(self, Self::Absent | Self::Changed(_))
    }
}

impl InstalledObject {
    fn without_live(reference: ObjectRef, state: InstalledState) -> Self {
        Self { reference, state, readiness: Readiness::Ready, flux_owner: None }
    }
}

/// Compares the objects of an installed manifest with the cluster, in their order. Objects without a name are left out.
/// Namespaced objects that name no namespace are read from `default_namespace`.
///
/// # Errors
///
/// When the API does not respond or rejects a read.
pub async fn installed_objects(
    client: &Client,
    manifest: &[Value],
    default_namespace: &str,
) -> Result<Vec<InstalledObject>, ApiError> {
    let kinds = Kinds::new(client.clone());
    let named = manifest.iter().filter_map(|object| Some((ObjectRef::from_manifest(object).ok()?, to_send(object))));
    // Collected first: a stream over borrowing closures is not known to be `Send`.
    let requests: Vec<_> = named
        .map(|(reference, object)| installed_object(client, &kinds, reference, object, default_namespace).boxed())
        .collect();
    futures::stream::iter(requests).buffered(PARALLEL).try_collect().await
}

async fn installed_object(
    client: &Client,
    kinds: &Kinds,
    mut reference: ObjectRef,
    mut object: Value,
    default_namespace: &str,
) -> Result<InstalledObject, ApiError> {
    let served = kinds.find(&reference.api_version, &reference.kind).await.map_err(|error| error.at(&reference))?;
    let Some(served) = served else { return Ok(InstalledObject::without_live(reference, InstalledState::Absent)) };
    super::apply::place(&served, &mut reference, &mut object, default_namespace);
    let api = served.api(client, reference.namespace.as_deref());
    let Some(live) = read(&api, &reference).await? else {
        let state = if expires(&object) { InstalledState::Expired } else { InstalledState::Absent };
        return Ok(InstalledObject::without_live(reference, state));
    };
    let state = match find_drift(&live, &object) {
        None => InstalledState::Intact,
        Some(suspected) => verify(&api, &reference, &object, &live, suspected).await?,
    };
    Ok(InstalledObject { readiness: readiness(&live), flux_owner: flux_owner(&live), reference, state })
}

/// Asks the API server what an apply of the manifest would change.
async fn verify(
    api: &Api<DynamicObject>,
    reference: &ObjectRef,
    object: &Value,
    live: &Value,
    suspected: FieldDrift,
) -> Result<InstalledState, ApiError> {
    let params =
        PatchParams { field_manager: Some(MANAGER.to_owned()), force: true, dry_run: true, ..PatchParams::default() };
    let patch = Patch::Apply(object);
    match with_retry(|| api.patch(&reference.name, &params, &patch)).await {
        Ok(applied) => {
            let change = find_change(live, &value(&applied)?);
            Ok(change.map_or(InstalledState::Intact, InstalledState::Changed))
        }
        Err(error) if error.is_retryable() => Err(error.at(reference)),
        Err(why) => Ok(InstalledState::Unverified { drift: suspected, why }),
    }
}

/// Whether Kubernetes deletes the object of this manifest by itself.
fn expires(object: &Value) -> bool {
    object["kind"] == "Job" && object.pointer("/spec/ttlSecondsAfterFinished").is_some_and(Value::is_number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_job_with_a_time_to_live_is_deleted_by_kubernetes() {
        let job = |spec: Value| json!({"kind": "Job", "spec": spec});
        assert!(expires(&job(json!({"ttlSecondsAfterFinished": 0}))));
        assert!(!expires(&job(json!({"backoffLimit": 1}))));
        assert!(!expires(&json!({"kind": "CronJob", "spec": {"ttlSecondsAfterFinished": 0}})));
    }
}
