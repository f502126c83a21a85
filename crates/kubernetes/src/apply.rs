//! Server-side apply, and what an apply would still change.

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::Value;

use super::covers::{Difference, covers};
use super::discovery::Kinds;
use super::error::{ApiError, ApiErrorKind, backoff, patiently};
use super::gate::GateError;
use super::manifest::{Wave, flatten, flux_owner, to_send, wave};
use super::objects::{ObjectRef, dynamic, read};
use super::served::{served, wait_crds};
use super::watch::{Tell, Teller};

/// Requests under way at once; the API server's fairness allows a client a few dozen.
const PARALLEL: usize = 16;

/// As whom, and how, objects are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyOptions<'a> {
    /// Who owns the fields afterwards, such as `kustomize-controller`, so that Flux may change them later.
    pub field_manager: &'a str,
    /// Takes fields away from other managers instead of failing with a conflict.
    pub force: bool,
    /// For namespaced objects that name none.
    pub default_namespace: &'a str,
}

impl<'a> ApplyOptions<'a> {
    /// Options that take nothing away from another manager and default to the namespace `default`.
    pub fn new(field_manager: &'a str) -> Self {
        Self { field_manager, force: false, default_namespace: "default" }
    }
}

/// What an apply would still change about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deviation {
    Absent,
    Differs(Difference),
    /// Flux manages it, so it is Flux's to change: the HelmRelease or Kustomization that does (F01).
    OwnedByFlux(String),
}

impl Deviation {
    /// Whether there is something to apply.
    pub fn is_ours_to_apply(&self) -> bool {
        !matches!(self, Self::OwnedByFlux(_))
    }
}

impl std::fmt::Display for Deviation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("is absent"),
            Self::Differs(difference) => difference.fmt(f),
            Self::OwnedByFlux(owner) => write!(f, "is managed by Flux's {owner}"),
        }
    }
}

/// An object that is ready to be sent.
struct Prepared {
    reference: ObjectRef,
    api: Api<DynamicObject>,
    object: Value,
}

/// Applies objects: Namespaces first, then CustomResourceDefinitions until they are served, then all others at once.
/// Returns what was applied, in the order of `objects` within these three.
///
/// # Errors
///
/// The first object that could not be applied; others may have been.
pub async fn apply(
    client: &Client,
    options: &ApplyOptions<'_>,
    objects: &[Value],
    tell: &Tell<'_>,
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
            let prepared = prepare(client, kinds, object, options.default_namespace, tell).await?;
            apply_one(&prepared, options).await.map(|()| prepared.reference)
        };
        let sent: Vec<ObjectRef> = in_parallel(due.into_iter().map(|object| one(object).boxed())).await?;
        if turn == Wave::Definitions {
            let names: Vec<String> = sent.iter().map(|definition| definition.name.clone()).collect();
            wait_crds(client, &names, tell).await.map_err(|error| match error {
                GateError::Api(error) => error,
                GateError::Failed { object, reason } => {
                    let refused = ApiErrorKind::Refused { code: 422, reason: "Invalid".to_owned(), message: reason };
                    ApiError::new(refused).at(&object)
                }
            })?;
        }
        applied.extend(sent);
        tell(&format!("{} of {} objects applied", applied.len(), objects.len()));
    }
    Ok(applied)
}

/// Does all of it, some at a time, and keeps the order.
async fn in_parallel<T>(
    requests: impl Iterator<Item = BoxFuture<'_, Result<T, ApiError>>>,
) -> Result<Vec<T>, ApiError> {
    // Collected first: a stream over borrowing closures is not known to be `Send`.
    let requests: Vec<_> = requests.collect();
    futures::stream::iter(requests).buffered(PARALLEL).try_collect().await
}

/// Finds out where an object goes: its kind's path and its namespace.
async fn prepare(
    client: &Client,
    kinds: &Kinds,
    object: &Value,
    default_namespace: &str,
    tell: &Tell<'_>,
) -> Result<Prepared, ApiError> {
    let mut reference = ObjectRef::of(object)?;
    let served = served(client, kinds, &reference, tell).await?;
    let mut object = object.clone();
    settle(served.namespaced, &mut reference, &mut object, default_namespace);
    Ok(Prepared { api: served.api(client, reference.namespace.as_deref()), reference, object })
}

/// Gives a namespaced object its namespace, and takes a stray one away from any other.
fn settle(namespaced: bool, reference: &mut ObjectRef, object: &mut Value, default_namespace: &str) {
    if namespaced {
        reference.namespace.get_or_insert_with(|| default_namespace.to_owned());
        object["metadata"]["namespace"] = reference.namespace.clone().into();
    } else {
        reference.namespace = None;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("namespace");
        }
    }
}

async fn apply_one(prepared: &Prepared, options: &ApplyOptions<'_>) -> Result<(), ApiError> {
    let params = PatchParams {
        field_manager: Some(options.field_manager.to_owned()),
        force: options.force,
        ..PatchParams::default()
    };
    let patch = Patch::Apply(&prepared.object);
    let sent = patiently(|| prepared.api.patch(&prepared.reference.name, &params, &patch)).await;
    sent.map(|_| ()).map_err(|error| error.by(options.field_manager).at(&prepared.reference))
}

/// Compares live objects with what is desired. Objects that need nothing are left out; those that Flux manages are in
/// it whatever they say, so that nobody writes beside Flux.
///
/// # Errors
///
/// When the API does not answer, or refuses.
pub async fn differences(
    client: &Client,
    objects: &[Value],
    default_namespace: &str,
) -> Result<Vec<(ObjectRef, Deviation)>, ApiError> {
    let objects: Vec<Value> = flatten(objects).iter().map(to_send).collect();
    let kinds = Kinds::new(client.clone());
    let one = |object| difference(client, &kinds, object, default_namespace).boxed();
    let compared = in_parallel(objects.iter().map(one)).await?;
    Ok(compared.into_iter().flatten().collect())
}

async fn difference(
    client: &Client,
    kinds: &Kinds,
    object: &Value,
    default_namespace: &str,
) -> Result<Option<(ObjectRef, Deviation)>, ApiError> {
    let mut reference = ObjectRef::of(object)?;
    let served = kinds.find(&reference.api_version, &reference.kind).await.map_err(|error| error.at(&reference))?;
    let Some(served) = served else { return Ok(Some((reference, Deviation::Absent))) };
    let mut object = object.clone();
    settle(served.namespaced, &mut reference, &mut object, default_namespace);
    let live = read(&served.api(client, reference.namespace.as_deref()), &reference).await?;
    let deviation = match live {
        None => Some(Deviation::Absent),
        Some(live) => match flux_owner(&live) {
            Some(owner) => Some(Deviation::OwnedByFlux(owner)),
            None => covers(&live, &object).map(Deviation::Differs),
        },
    };
    Ok(deviation.map(|deviation| (reference, deviation)))
}

/// Asks the API server to create an object without keeping it, which asks every admission webhook (H05).
///
/// # Errors
///
/// Why it would not be created. That it exists already is no error: admission is asked before that is noticed.
pub async fn dry_run_create(client: &Client, object: &Value) -> Result<(), ApiError> {
    let kinds = Kinds::new(client.clone());
    let prepared = prepare(client, &kinds, &to_send(object), "default", &|_| {}).await?;
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let content = dynamic(&prepared.object)?;
    match patiently(|| prepared.api.create(&params, &content)).await {
        Ok(_) => Ok(()),
        Err(ApiError { kind: ApiErrorKind::Refused { code: 409, ref reason, .. }, .. })
            if reason == "AlreadyExists" =>
        {
            Ok(())
        }
        Err(error) => Err(error.at(&prepared.reference)),
    }
}

/// Repeats [`dry_run_create`] until the API server would take the object, telling why it does not. There is nothing
/// to watch: whether a webhook can be asked shows only by asking.
///
/// # Errors
///
/// An answer that repeating cannot change: the object is wrong, or we may not create it.
pub async fn wait_admitted(client: &Client, object: &Value, tell: &Tell<'_>) -> Result<(), ApiError> {
    let mut teller = Teller::new(tell);
    let mut delays = backon::BackoffBuilder::build(backoff().without_max_times());
    loop {
        let error = match dry_run_create(client, object).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // A webhook may say no only because its own caches are still empty.
        let passes = matches!(error.kind, ApiErrorKind::WebhookDenied { .. } | ApiErrorKind::NotServed { .. });
        if !error.is_retryable() && !passes {
            return Err(error);
        }
        teller.say(error.to_string());
        tokio::time::sleep(delays.next().unwrap_or_default()).await;
    }
}
