//! Server-side apply: in an order that works the first time, and compared with the world before.

use futures::stream::{self, StreamExt, TryStreamExt};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::Value;

use super::covers::{Difference, covers};
use super::gate::{GateError, wait_crds};
use super::objects::{Kinds, ObjectRef, to_value};
use super::retry::patiently;
use super::{ApiError, Tell};

/// How many requests are under way at once.
const PARALLEL: usize = 8;
/// Where a namespaced object goes that names no namespace.
const DEFAULT_NAMESPACE: &str = "default";
/// Labels by which Flux marks what it applies (Flux 2: kustomize-controller, helm-controller).
const FLUX_LABELS: [&str; 2] = ["kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name"];

/// In whose name objects are applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyOptions {
    pub field_manager: String,
    /// Take fields over that another manager owns.
    pub force: bool,
    /// For objects that name no namespace; `default` when absent.
    pub default_namespace: Option<String>,
}

/// Applies objects: namespaces first, then CRDs until they are served, then the rest.
///
/// # Errors
///
/// The first object that the API server, another manager or a webhook does not let pass.
pub async fn apply(
    client: &kube::Client,
    options: &ApplyOptions,
    objects: &[Value],
    tell: &Tell<'_>,
) -> Result<Vec<ObjectRef>, GateError> {
    let mut applied = Vec::with_capacity(objects.len());
    for stage in [Stage::Namespaces, Stage::Crds, Stage::Rest] {
        let mine: Vec<&Value> = objects.iter().filter(|object| Stage::of(object) == stage).collect();
        if mine.is_empty() {
            continue;
        }
        tell(&format!("applying {} {}", mine.len(), stage.noun()));
        let placed = place(client, options.default_namespace.as_deref(), &mine).await?;
        let names: Vec<ObjectRef> = stream::iter(placed)
            .map(|placed| apply_one(options.clone(), placed))
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await?;
        if stage == Stage::Crds {
            wait_crds(client, &names.iter().map(|object| object.name.clone()).collect::<Vec<_>>(), tell).await?;
        }
        applied.extend(names);
    }
    Ok(applied)
}

/// What must be there before what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Namespaces,
    Crds,
    Rest,
}

impl Stage {
    fn of(object: &Value) -> Self {
        match object.get("kind").and_then(Value::as_str) {
            Some("Namespace") => Self::Namespaces,
            Some("CustomResourceDefinition") => Self::Crds,
            _ => Self::Rest,
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Crds => "CRDs",
            Self::Rest => "objects",
        }
    }
}

/// An object with the API that takes it.
struct Placed {
    object: Value,
    name: ObjectRef,
    api: Api<DynamicObject>,
}

async fn place(client: &kube::Client, namespace: Option<&str>, objects: &[&Value]) -> Result<Vec<Placed>, ApiError> {
    let mut kinds = Kinds::new(client);
    let mut placed = Vec::with_capacity(objects.len());
    for object in objects {
        let name = ObjectRef::of(object)?;
        let Some(api) = kinds.api(&name, namespace.unwrap_or(DEFAULT_NAMESPACE)).await? else {
            return Err(ApiError::missing_kind(name.to_string(), &name.api_version, &name.kind));
        };
        placed.push(Placed { object: (*object).clone(), name, api });
    }
    Ok(placed)
}

async fn apply_one(options: ApplyOptions, placed: Placed) -> Result<ObjectRef, ApiError> {
    let Placed { object, name, api } = placed;
    let mut params = PatchParams::apply(&options.field_manager);
    params.force = options.force;
    patiently(|| async {
        let applied = api.patch(&name.name, &params, &Patch::Apply(&object)).await;
        applied.map_err(|error| ApiError::from_kube(name.to_string(), &error))
    })
    .await?;
    Ok(name)
}

/// Where the world falls short of these objects. What Flux applies by now is Flux's to judge (F01).
///
/// # Errors
///
/// When the API does not answer.
pub async fn differences(client: &kube::Client, objects: &[Value]) -> Result<Vec<(ObjectRef, Difference)>, ApiError> {
    let mut kinds = Kinds::new(client);
    let mut found = Vec::new();
    let mut lookups = Vec::new();
    for object in objects {
        let name = ObjectRef::of(object)?;
        match kinds.api(&name, DEFAULT_NAMESPACE).await? {
            None => found.push((name, Difference::Absent)),
            Some(api) => lookups.push(Placed { object: object.clone(), name, api }),
        }
    }
    let compared: Vec<Option<(ObjectRef, Difference)>> =
        stream::iter(lookups).map(compare).buffer_unordered(PARALLEL).try_collect().await?;
    found.extend(compared.into_iter().flatten());
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

async fn compare(placed: Placed) -> Result<Option<(ObjectRef, Difference)>, ApiError> {
    let Placed { object, name, api } = placed;
    let live = patiently(|| async {
        let found = api.get_opt(&name.name).await;
        found.map_err(|error| ApiError::from_kube(name.to_string(), &error))
    })
    .await?;
    let Some(live) = live else { return Ok(Some((name, Difference::Absent))) };
    let labels = live.metadata.labels.as_ref();
    if labels.is_some_and(|labels| FLUX_LABELS.iter().any(|label| labels.contains_key(*label))) {
        return Ok(None);
    }
    Ok(covers(&to_value(&live), &object).map(|difference| (name, difference)))
}

/// Asks the API server whether it would take an object, through every webhook, without keeping it.
///
/// # Errors
///
/// Why it would not.
pub async fn dry_run_create(client: &kube::Client, object: &Value) -> Result<(), ApiError> {
    let name = ObjectRef::of(object)?;
    let Some(api) = Kinds::new(client).api(&name, DEFAULT_NAMESPACE).await? else {
        return Err(ApiError::missing_kind(name.to_string(), &name.api_version, &name.kind));
    };
    let params = PostParams { dry_run: true, field_manager: None };
    let object: DynamicObject = serde_json::from_value(object.clone())
        .map_err(|error| ApiError::refused(name.to_string(), error.to_string()))?;
    api.create(&params, &object).await.map(|_| ()).map_err(|error| ApiError::from_kube(name.to_string(), &error))
}

/// Between two tries of a request that a webhook does not let pass yet; there is nothing to watch.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(150);

/// Waits until the API server, and every webhook behind it, would take an object.
///
/// # Errors
///
/// A refusal that will not change by itself.
pub async fn wait_admitted(client: &kube::Client, object: &Value, tell: &Tell<'_>) -> Result<(), GateError> {
    loop {
        match dry_run_create(client, object).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_retryable() => tell(&format!("a request through the webhook fails: {error}")),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
