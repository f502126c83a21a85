//! CustomResourceDefinitions: existing, established, and served.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ApiResource;
use kube::core::{ClusterResourceScope, GroupVersionKind};
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::discovery::{Kinds, Served};
use super::error::not_served;
use super::error::{ApiError, with_retry};
use super::gate_error::GateError;
use super::object_ref::ObjectRef;
use super::wait::{Progress, WaitCause, WaitReason};
use super::watch::{Key, Reporter, only, until};
use retry::policies::API_POLL;

const API_VERSION: &str = "apiextensions.k8s.io/v1";
const KIND: &str = "CustomResourceDefinition";
/// Definitions are up to 1 MiB each, so a page has few.
const PAGE: u32 = 20;

/// A CustomResourceDefinition without its schemas, which are most of its size.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Definition {
    pub(super) metadata: ObjectMeta,
    pub(super) spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Spec {
    group: String,
    names: Names,
    scope: String,
    #[serde(default)]
    versions: Vec<Version>,
    pub(super) conversion: Option<Conversion>,
}

/// How objects are converted between versions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Conversion {
    pub(super) strategy: String,
    pub(super) webhook: Option<Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Names {
    kind: String,
    plural: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Version {
    name: String,
    served: bool,
    storage: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Option<Vec<DefinitionCondition>>,
}

/// A condition of a definition; unlike those of other kinds its time is optional.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct DefinitionCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(default)]
    message: String,
}

impl Resource for Definition {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "apiextensions.k8s.io".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "customresourcedefinitions".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Definition {
    fn condition(&self, kind: &str) -> Option<&DefinitionCondition> {
        self.status.conditions.iter().flatten().find(|condition| condition.kind == kind)
    }

    fn is_established(&self) -> bool {
        self.condition("Established").is_some_and(|condition| condition.status == "True")
    }

    /// Why it cannot be established.
    fn failure(&self) -> Option<&str> {
        let names = self.condition("NamesAccepted").filter(|condition| condition.status == "False")?;
        Some(&names.message)
    }

    fn api_versions(&self) -> impl Iterator<Item = String> {
        let served = self.spec.versions.iter().filter(|version| version.served);
        served.map(|version| format!("{}/{}", self.spec.group, version.name))
    }

    /// The served versions that objects are not stored in.
    pub(super) fn converted(&self) -> impl Iterator<Item = &str> {
        let versions = self.spec.versions.iter().filter(|version| version.served && !version.storage);
        versions.map(|version| version.name.as_str())
    }

    pub(super) fn is_namespaced(&self) -> bool {
        self.spec.scope == "Namespaced"
    }

    /// The API resource of its objects in a version.
    pub(super) fn resource(&self, version: &str) -> ApiResource {
        let kind = GroupVersionKind::gvk(&self.spec.group, version, &self.spec.names.kind);
        ApiResource::from_gvk_with_plural(&kind, &self.spec.names.plural)
    }
}

pub(super) fn reference(name: &str) -> ObjectRef {
    ObjectRef::new(API_VERSION, KIND, None, name)
}

/// Waits until CustomResourceDefinitions exist, are established, and all their versions are served, so that their
/// objects can be applied (H03).
///
/// # Errors
///
/// A definition whose names conflict with another; a request that the API rejects.
pub async fn wait_crds(client: &Client, names: &[String], progress: &Progress<'_>) -> Result<(), GateError> {
    if names.is_empty() {
        return Ok(());
    }
    let mut reporter = Reporter::new(progress);
    let config = match names {
        [name] => only(name),
        _ => watcher::Config::default().page_size(PAGE),
    };
    let api = Api::<Definition>::all(client.clone());
    let names_to_keep = names.to_vec();
    let reduce = move |definition: Definition| {
        names_to_keep.iter().any(|name| Some(name) == definition.metadata.name.as_ref()).then_some(definition)
    };
    let definitions =
        until(api, config, reduce, &mut reporter, |seen, reporter| established(names, seen, reporter)).await?;
    let kinds = definitions
        .iter()
        .flat_map(|definition| definition.api_versions().map(|version| (version, definition.spec.names.kind.clone())));
    await_discovery(client, kinds.collect(), &mut reporter).await?;
    Ok(())
}

/// The definitions, once all of them are established.
fn established(
    names: &[String],
    seen: &BTreeMap<Key, Option<Definition>>,
    reporter: &mut Reporter<'_>,
) -> Option<Result<Vec<Definition>, GateError>> {
    let mut ready = Vec::with_capacity(names.len());
    let mut missing = Vec::new();
    for name in names {
        match seen.get(&(None, name.clone())).and_then(Option::as_ref) {
            Some(definition) if definition.is_established() => ready.push(definition.clone()),
            Some(definition) => match definition.failure() {
                Some(reason) => {
                    let text = format!("has a name conflict: {reason}");
                    let reason = WaitReason::new(text, WaitCause::KindNotServed);
                    return Some(Err(GateError::Failed { object: reference(name), reason }));
                }
                None => missing.push(format!("{name} is not established yet")),
            },
            None => missing.push(format!("{name} does not exist yet")),
        }
    }
    let Some(first) = missing.first() else { return Some(Ok(ready)) };
    let text = format!("{} of {} CustomResourceDefinitions established: {first}", ready.len(), names.len());
    reporter.report(WaitReason::new(text, WaitCause::KindNotServed));
    None
}

/// Waits until discovery lists kinds whose definitions are established. Discovery cannot be watched.
async fn await_discovery(
    client: &Client,
    mut missing: Vec<(String, String)>,
    reporter: &mut Reporter<'_>,
) -> Result<(), ApiError> {
    let mut backoff = API_POLL.backoff();
    loop {
        let kinds = Kinds::new(client.clone());
        let mut still = Vec::new();
        for (api_version, kind) in missing {
            if kinds.find(&api_version, &kind).await?.is_none() {
                still.push((api_version, kind));
            }
        }
        let Some((api_version, kind)) = still.first() else { return Ok(()) };
        let text = format!("{} kinds are not served yet, such as {kind} of {api_version}", still.len());
        reporter.report(WaitReason::new(text, WaitCause::KindNotServed));
        missing = still;
        backoff.wait().await;
    }
}

/// Every definition.
pub(super) async fn definitions(client: &Client) -> Result<Vec<Definition>, ApiError> {
    let api = Api::<Definition>::all(client.clone());
    let mut params = kube::api::ListParams::default().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = with_retry(|| api.list(&params)).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// The name of the definition of a kind, if one exists.
async fn definition_of(client: &Client, group: &str, kind: &str) -> Result<Option<String>, ApiError> {
    let all = definitions(client).await?;
    let found = all.into_iter().find(|found| found.spec.group == group && found.spec.names.kind == kind);
    Ok(found.and_then(|found| found.metadata.name))
}

/// The kind of an object; waits for one whose definition exists but is not served yet (H03).
pub(super) async fn served(
    client: &Client,
    kinds: &Kinds,
    object: &ObjectRef,
    progress: &Progress<'_>,
) -> Result<Served, ApiError> {
    let (api_version, kind) = (object.api_version.as_str(), object.kind.as_str());
    if let Some(served) = kinds.find(api_version, kind).await.map_err(|error| error.at(object))? {
        return Ok(served);
    }
    let missing = || not_served(api_version, kind).at(object);
    let name = definition_of(client, object.group(), kind).await?.ok_or_else(missing)?;
    match wait_crds(client, &[name], progress).await {
        Ok(()) => kinds.find(api_version, kind).await?.ok_or_else(missing),
        Err(GateError::Api(error)) => Err(error),
        Err(GateError::Failed { .. }) => Err(missing()),
    }
}

/// Waits until a kind is served; its definition may be missing, such as one that an operator registers (H07).
pub(super) async fn wait_served(
    client: &Client,
    object: &ObjectRef,
    reporter: &mut Reporter<'_>,
) -> Result<Served, ApiError> {
    let (group, kind) = (object.group().to_owned(), object.kind.clone());
    let kinds = Kinds::new(client.clone());
    if let Some(served) = kinds.find(&object.api_version, &kind).await? {
        return Ok(served);
    }
    let api = Api::<Definition>::all(client.clone());
    let config = watcher::Config::default().page_size(PAGE);
    let reduce = |definition: Definition| {
        definition.is_established() && definition.spec.group == group && definition.spec.names.kind == kind
    };
    until(api, config, reduce, reporter, |seen, reporter| {
        if seen.values().any(|is_it| *is_it) {
            return Some(Ok::<_, ApiError>(()));
        }
        let text = format!("{object}: the definition of {kind} in {group} is not registered yet");
        reporter.report(WaitReason::new(text, WaitCause::KindNotServed));
        None
    })
    .await?;
    await_discovery(client, vec![(object.api_version.clone(), object.kind.clone())], reporter).await?;
    kinds.resolve(&object.api_version, &object.kind).await
}
