//! Server-side apply, and what an apply would change.

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::Value;

use super::discovery::{Kinds, Served};
use super::drift::{FieldDrift, find_drift};
use super::error::{ApiError, ApiErrorKind, with_retry};
use super::gate_error::GateError;
use super::managed_fields::find_abandoned;
use super::manifest::{Wave, flatten, flux_owner, to_send, wave};
use super::object_ref::ObjectRef;
use super::objects::{dynamic, read};
use super::served::{served, wait_crds};
use super::wait::Progress;
use super::watch::Reporter;
use retry::policies::API_POLL;

/// Concurrent requests; the API server's priority and fairness allows a client a few dozen.
const PARALLEL: usize = 16;

/// The field manager of an apply, and how it resolves conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyOptions<'a> {
    /// The owner of the fields afterwards, such as `kustomize-controller`, so that Flux can change them later.
    pub field_manager: &'a str,
    /// Takes ownership of fields from other managers instead of failing with a conflict.
    pub force: bool,
    /// For namespaced objects without a namespace.
    pub default_namespace: &'a str,
}

impl<'a> ApplyOptions<'a> {
    /// Options that fail on conflicts and default to the namespace `default`.
    pub fn new(field_manager: &'a str) -> Self {
        Self { field_manager, force: false, default_namespace: "default" }
    }
}

/// How a live object differs from its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectDrift {
    Absent,
    Changed(FieldDrift),
    /// Managed by this HelmRelease or Kustomization of Flux, so only Flux changes it (F01).
    OwnedByFlux(String),
}

impl ObjectDrift {
    /// Whether there is something to apply.
    pub fn needs_apply(&self) -> bool {
        !matches!(self, Self::OwnedByFlux(_))
    }
}

impl std::fmt::Display for ObjectDrift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("is absent"),
            Self::Changed(field) => field.fmt(f),
            Self::OwnedByFlux(owner) => write!(f, "is managed by Flux's {owner}"),
        }
    }
}

/// An object with its API path.
struct Prepared {
    reference: ObjectRef,
    api: Api<DynamicObject>,
    object: Value,
}

/// Applies objects: Namespaces first, then CustomResourceDefinitions until they are served, then all others at once.
/// Returns the applied objects, in the order of `objects` within these three waves.
///
/// # Errors
///
/// The first object that failed; others may have been applied.
pub async fn apply(
    client: &Client,
    options: &ApplyOptions<'_>,
    objects: &[Value],
    progress: &Progress<'_>,
) -> Result<Vec<ObjectRef>, ApiError> {
    let objects: Vec<Value> = flatten(objects).iter().map(to_send).collect();
    let kinds = Kinds::new(client.clone());
    let mut applied = Vec::with_capacity(objects.len());
    for turn in [Wave::Namespaces, Wave::Definitions, Wave::Rest] {
        let due: Vec<&Value> = objects.iter().filter(|object| wave(object) == turn).collect();
        if due.is_empty() {
            continue;
        }
        let kinds = &kinds;
        let one = |object| async move {
            let prepared = prepare(client, kinds, object, options.default_namespace, progress).await?;
            apply_one(&prepared, options).await.map(|()| prepared.reference)
        };
        let sent: Vec<ObjectRef> = in_parallel(due.into_iter().map(|object| one(object).boxed())).await?;
        if turn == Wave::Definitions {
            let names: Vec<String> = sent.iter().map(|definition| definition.name.clone()).collect();
            wait_crds(client, &names, progress).await.map_err(|error| match error {
                GateError::Api(error) => error,
                GateError::Failed { object, reason } => {
                    let refused =
                        ApiErrorKind::Refused { code: 422, reason: "Invalid".to_owned(), message: reason.text };
                    ApiError::new(refused).at(&object)
                }
            })?;
        }
        applied.extend(sent);
        progress(&format!("{} of {} objects applied", applied.len(), objects.len()).into());
    }
    Ok(applied)
}

/// Sends requests concurrently, up to a limit, and keeps their order.
async fn in_parallel<T>(
    requests: impl Iterator<Item = BoxFuture<'_, Result<T, ApiError>>>,
) -> Result<Vec<T>, ApiError> {
    // Collected first: a stream over borrowing closures is not known to be `Send`.
    let requests: Vec<_> = requests.collect();
    futures::stream::iter(requests).buffered(PARALLEL).try_collect().await
}

/// Finds an object's API path and namespace.
async fn prepare(
    client: &Client,
    kinds: &Kinds,
    object: &Value,
    default_namespace: &str,
    progress: &Progress<'_>,
) -> Result<Prepared, ApiError> {
    let mut reference = ObjectRef::from_manifest(object)?;
    let served = served(client, kinds, &reference, progress).await?;
    let mut object = object.clone();
    place(&served, &mut reference, &mut object, default_namespace);
    Ok(Prepared { api: served.api(client, reference.namespace.as_deref()), reference, object })
}

/// Gives an object the namespace of its API path.
pub(super) fn place(served: &Served, reference: &mut ObjectRef, object: &mut Value, default_namespace: &str) {
    if served.namespaced {
        set_namespace(reference, object, default_namespace);
    } else {
        remove_namespace(reference, object);
    }
}

fn set_namespace(reference: &mut ObjectRef, object: &mut Value, default_namespace: &str) {
    reference.namespace.get_or_insert_with(|| default_namespace.to_owned());
    object["metadata"]["namespace"] = reference.namespace.clone().into();
}

/// A cluster-scoped object has no namespace.
fn remove_namespace(reference: &mut ObjectRef, object: &mut Value) {
    reference.namespace = None;
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("namespace");
    }
}

async fn apply_one(prepared: &Prepared, options: &ApplyOptions<'_>) -> Result<(), ApiError> {
    let params = PatchParams {
        field_manager: Some(options.field_manager.to_owned()),
        force: options.force,
        ..PatchParams::default()
    };
    let patch = Patch::Apply(&prepared.object);
    let sent = with_retry(|| prepared.api.patch(&prepared.reference.name, &params, &patch));
    let sent = kill_points::around("apply of an object", sent).await;
    sent.map(|_| ()).map_err(|error| error.by(options.field_manager).at(&prepared.reference))
}

/// Compares live objects with their manifests, and with what the field manager of `options` applied before: a field that
/// left the manifest is drift too. Objects without drift are left out; those that Flux manages are always included, so
/// that they are not applied beside Flux.
///
/// # Errors
///
/// When the API does not respond or rejects the request.
pub async fn object_drifts(
    client: &Client,
    options: &ApplyOptions<'_>,
    objects: &[Value],
) -> Result<Vec<(ObjectRef, ObjectDrift)>, ApiError> {
    let objects: Vec<Value> = flatten(objects).iter().map(to_send).collect();
    let kinds = Kinds::new(client.clone());
    let one = |object| object_drift(client, &kinds, object, options).boxed();
    let compared = in_parallel(objects.iter().map(one)).await?;
    Ok(compared.into_iter().flatten().collect())
}

async fn object_drift(
    client: &Client,
    kinds: &Kinds,
    object: &Value,
    options: &ApplyOptions<'_>,
) -> Result<Option<(ObjectRef, ObjectDrift)>, ApiError> {
    let mut reference = ObjectRef::from_manifest(object)?;
    let served = kinds.find(&reference.api_version, &reference.kind).await.map_err(|error| error.at(&reference))?;
    let Some(served) = served else { return Ok(Some((reference, ObjectDrift::Absent))) };
    let mut object = object.clone();
    place(&served, &mut reference, &mut object, options.default_namespace);
    let live = read(&served.api(client, reference.namespace.as_deref()), &reference).await?;
    let drift = match live {
        None => Some(ObjectDrift::Absent),
        Some(live) => match flux_owner(&live) {
            Some(owner) => Some(ObjectDrift::OwnedByFlux(owner)),
            None => find_drift(&live, &object)
                .or_else(|| find_abandoned(&live, &object, options.field_manager))
                .map(ObjectDrift::Changed),
        },
    };
    Ok(drift.map(|drift| (reference, drift)))
}

/// Sends a dry-run create, which calls every admission webhook (H05).
///
/// # Errors
///
/// Why the API server would reject the object. An object that exists already is accepted: admission comes first.
pub async fn dry_run_create(client: &Client, object: &Value) -> Result<(), ApiError> {
    let kinds = Kinds::new(client.clone());
    let prepared = prepare(client, &kinds, &to_send(object), "default", &|_| {}).await?;
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let content = dynamic(&prepared.object)?;
    match with_retry(|| prepared.api.create(&params, &content)).await {
        Ok(_) => Ok(()),
        Err(ApiError { kind: ApiErrorKind::Refused { code: 409, ref reason, .. }, .. })
            if reason == "AlreadyExists" =>
        {
            Ok(())
        }
        Err(error) => Err(error.at(&prepared.reference)),
    }
}

/// Repeats [`dry_run_create`] until the API server accepts the object, and reports why it does not. Whether a webhook is
/// reachable cannot be watched.
///
/// # Errors
///
/// A rejection that a retry cannot change: the object is invalid or forbidden.
pub async fn wait_admitted(client: &Client, object: &Value, progress: &Progress<'_>) -> Result<(), ApiError> {
    let mut reporter = Reporter::new(progress);
    let mut backoff = API_POLL.backoff();
    loop {
        let error = match dry_run_create(client, object).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // A webhook may deny a request only because its own caches are still empty.
        let is_temporary = matches!(error.kind, ApiErrorKind::WebhookDenied { .. } | ApiErrorKind::NotServed { .. });
        if !error.is_retryable() && !is_temporary {
            return Err(error);
        }
        reporter.report(&error);
        backoff.wait().await;
    }
}
