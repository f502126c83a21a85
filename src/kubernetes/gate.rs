//! Gates: waiting, by watching, until the world confirms a goal, and saying in one line what is missing and why.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::Scope;
use serde_json::Value;

use super::cause::cause;
use super::objects::{Kinds, ObjectRef};
use super::readiness::{Readiness, readiness, takes_time};
use super::watch::Watches;
use super::{ApiError, Tell};

/// Why a gate was not passed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GateError {
    #[error("{object} failed: {reason}")]
    Failed { object: ObjectRef, reason: String },
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl GateError {
    /// Whether waiting again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Api(error) if error.is_retryable())
    }
}

/// Waits until every object is ready at the same time.
///
/// # Errors
///
/// An object that will not become ready by itself; an API that stays away.
pub async fn wait_ready(client: &kube::Client, objects: &[ObjectRef], tell: &Tell<'_>) -> Result<(), GateError> {
    let wanted: Vec<&ObjectRef> = objects.iter().filter(|object| takes_time(&object.kind)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut kinds = Kinds::new(client);
    let mut scene = Scene { watches: Watches::new(), places: Vec::new(), pods: BTreeMap::new() };
    let mut opened: BTreeMap<(String, String, Option<String>), usize> = BTreeMap::new();
    for object in wanted {
        let Some((resource, capabilities)) = kinds.find(&object.api_version, &object.kind).await? else {
            return Err(ApiError::missing_kind(object.to_string(), &object.api_version, &object.kind).into());
        };
        let namespace = match capabilities.scope {
            Scope::Cluster => None,
            Scope::Namespaced => Some(object.namespace.clone().unwrap_or_else(|| "default".to_owned())),
        };
        let key = (object.api_version.clone(), object.kind.clone(), namespace.clone());
        let watch =
            *opened.entry(key).or_insert_with(|| scene.watches.add(client, &resource, namespace.as_deref(), None));
        if let Some(namespace) = &namespace {
            scene.watch_pods(client, namespace);
        }
        scene.places.push(Place { object: object.clone(), namespace, watch });
    }
    loop {
        if let Err(reason) = scene.watches.changed().await {
            tell(&format!("the API server is away: {reason}"));
            continue;
        }
        if !scene.watches.complete() {
            continue;
        }
        match scene.judge()? {
            None => return Ok(()),
            Some(line) => tell(&line),
        }
    }
}

/// What `wait_ready` looks at.
struct Scene {
    watches: Watches,
    places: Vec<Place>,
    pods: BTreeMap<String, usize>,
}

/// A wanted object and where it shows.
struct Place {
    object: ObjectRef,
    namespace: Option<String>,
    watch: usize,
}

impl Scene {
    fn watch_pods(&mut self, client: &kube::Client, namespace: &str) {
        if self.pods.contains_key(namespace) {
            return;
        }
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
        let watch = self.watches.add(client, &resource, Some(namespace), None);
        self.pods.insert(namespace.to_owned(), watch);
    }

    /// What is missing, in one line; nothing when everything is ready.
    fn judge(&self) -> Result<Option<String>, GateError> {
        let mut unready: Vec<String> = Vec::new();
        for place in &self.places {
            let Some(live) = self.watches.get(place.watch, place.namespace.as_deref(), &place.object.name) else {
                unready.push(format!("{}: it is not there yet", place.object));
                continue;
            };
            match readiness(live) {
                Readiness::Ready => {}
                Readiness::Progressing(reason) => {
                    let why = self.why(place, live).map(|why| format!(": {why}")).unwrap_or_default();
                    unready.push(format!("{}: {reason}{why}", place.object));
                }
                Readiness::Failed(reason) => {
                    let why = self.why(place, live).map(|why| format!(": {why}")).unwrap_or_default();
                    return Err(GateError::Failed { object: place.object.clone(), reason: format!("{reason}{why}") });
                }
            }
        }
        let more = unready.len().saturating_sub(1);
        let rest = if more == 0 { String::new() } else { format!("; {more} more of {}", self.places.len()) };
        Ok(unready.into_iter().next().map(|first| first + &rest))
    }

    fn why(&self, place: &Place, live: &Value) -> Option<String> {
        let pods = *self.pods.get(place.namespace.as_deref()?)?;
        cause(live, self.watches.all(pods))
    }
}

/// Watches the objects of one kind, which may not be served yet, until `enough` is content with them.
///
/// # Errors
///
/// An API that stays away, and what `enough` fails with.
pub async fn wait_kind<E: From<ApiError>>(
    client: &kube::Client,
    api_version: &str,
    kind: &str,
    name: Option<(&str, Option<&str>)>,
    tell: &Tell<'_>,
    mut enough: impl FnMut(Vec<&Value>) -> Result<bool, E>,
) -> Result<(), E> {
    let resource = wait_served(client, api_version, kind, tell).await?;
    let mut watches = Watches::new();
    let watch = match name {
        Some((name, namespace)) => watches.add(client, &resource, namespace, Some(name)),
        None => watches.add(client, &resource, None, None),
    };
    loop {
        match watches.changed().await {
            Err(reason) => tell(&format!("the API server is away: {reason}")),
            Ok(()) if watches.complete() => {
                if enough(watches.all(watch).collect())? {
                    return Ok(());
                }
            }
            Ok(()) => {}
        }
    }
}

/// Waits until a kind is served, by watching the CRDs.
async fn wait_served(
    client: &kube::Client,
    api_version: &str,
    kind: &str,
    tell: &Tell<'_>,
) -> Result<ApiResource, ApiError> {
    if let Some((resource, _)) = Kinds::new(client).find(api_version, kind).await? {
        return Ok(resource);
    }
    tell(&format!("the API serves no {kind} yet"));
    let mut watches = Watches::new();
    watches.add(client, &crd_resource(), None, None);
    loop {
        if let Err(reason) = watches.changed().await {
            tell(&format!("the API server is away: {reason}"));
            continue;
        }
        if let Some((resource, _)) = Kinds::new(client).find(api_version, kind).await? {
            return Ok(resource);
        }
    }
}

fn crd_resource() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition"))
}

/// Waits until one object, which may not exist yet, is ready by its own condition, and returns it.
///
/// # Errors
///
/// A condition that says that it will never be; an API that stays away.
pub async fn wait_object(client: &kube::Client, object: &ObjectRef, tell: &Tell<'_>) -> Result<(), GateError> {
    let name = Some((object.name.as_str(), object.namespace.as_deref()));
    wait_kind(client, &object.api_version, &object.kind, name, tell, |found: Vec<&Value>| {
        let Some(live) = found.first() else {
            tell(&format!("{object} is not there yet"));
            return Ok(false);
        };
        match readiness(live) {
            Readiness::Ready if live.pointer("/status/conditions").is_none() => {
                tell(&format!("{object}: nothing has looked at it yet"));
                Ok(false)
            }
            Readiness::Ready => Ok(true),
            // A source or a release that failed is tried again by its controller.
            Readiness::Progressing(reason) | Readiness::Failed(reason) => {
                tell(&format!("{object}: {reason}"));
                Ok(false)
            }
        }
    })
    .await
}

/// Which of these CRDs are not established.
///
/// # Errors
///
/// When the API does not answer.
pub async fn missing_crds(client: &kube::Client, names: &[String]) -> Result<Vec<String>, ApiError> {
    let found = super::list(client, "apiextensions.k8s.io/v1", "CustomResourceDefinition", None).await?;
    Ok(unestablished(&found.iter().collect::<Vec<_>>(), names))
}

fn unestablished(found: &[&Value], names: &[String]) -> Vec<String> {
    let established: BTreeSet<&str> = found
        .iter()
        .filter(|crd| readiness(crd) == Readiness::Ready)
        .filter_map(|crd| crd.pointer("/metadata/name")?.as_str())
        .collect();
    names.iter().filter(|name| !established.contains(name.as_str())).cloned().collect()
}

/// Waits until these CRDs exist, are established, and are served.
///
/// # Errors
///
/// An API that stays away.
pub async fn wait_crds(client: &kube::Client, names: &[String], tell: &Tell<'_>) -> Result<(), GateError> {
    let mut kinds: BTreeSet<(String, String)> = BTreeSet::new();
    wait_kind(client, "apiextensions.k8s.io/v1", "CustomResourceDefinition", None, tell, |found: Vec<&Value>| {
        let missing = unestablished(&found, names);
        if !missing.is_empty() {
            tell(&format!(
                "{} of {} CRDs are there, missing {}",
                names.len() - missing.len(),
                names.len(),
                missing.join(", ")
            ));
            return Ok::<bool, GateError>(false);
        }
        let mine = |crd: &&&Value| {
            let name = crd.pointer("/metadata/name").and_then(Value::as_str);
            name.is_some_and(|name| names.iter().any(|wanted| wanted == name))
        };
        kinds = found.iter().filter(mine).flat_map(|crd| served(crd)).collect();
        Ok(true)
    })
    .await?;
    for (api_version, kind) in kinds {
        wait_served(client, &api_version, &kind, tell).await?;
    }
    Ok(())
}

/// The versions of a CRD that discovery will show.
fn served(crd: &Value) -> Vec<(String, String)> {
    let text = |pointer: &str| crd.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, kind) = (text("/spec/group"), text("/spec/names/kind"));
    let versions = crd.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten();
    versions
        .filter(|version| version.get("served") == Some(&Value::Bool(true)))
        .filter_map(|version| Some((format!("{group}/{}", version.get("name")?.as_str()?), kind.to_owned())))
        .collect()
}
