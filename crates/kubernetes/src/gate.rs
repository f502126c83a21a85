//! Gates: wait, by watching, until objects are ready, and report which is not and why.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::Duration;

use futures::future::{BoxFuture, OptionFuture};
use futures::stream::SelectAll;
use futures::{FutureExt, Stream, StreamExt};
use kube::Client;
use kube::api::DynamicObject;
use kube::core::TypeMeta;
use kube::runtime::watcher::{self, Event};
use tokio::time::Instant;

use super::cause::find_cause;
use super::discovery::Kinds;
use super::error::{ApiError, malformed};
use super::gate_error::GateError;
use super::object_ref::ObjectRef;
use super::objects::value;
use super::readiness::{Readiness, readiness};
use super::served::served;
use super::wait::{Progress, UnpulledImage, WaitCause, WaitReason};
use super::watch::{Mirror, Reporter, only, watch};

/// Between two searches for a cause after a change.
const SEARCH_AFTER_CHANGE: Duration = Duration::from_millis(500);
/// Between two searches without a change of the objects: events about their pods appear without one.
const SEARCH_ANYWAY: Duration = Duration::from_secs(3);
/// Limit of the search for the cause of a final failure.
const LAST_SEARCH: Duration = Duration::from_secs(10);
/// How many objects that are not ready are searched at a time.
const SEARCHED: usize = 4;

/// Waits until all objects exist and are ready at the same time; reports in one line how many are not, which one, and
/// why as far as it can be found.
///
/// # Errors
///
/// An object that failed for good, with the cause; a request that the API rejects.
pub async fn wait_ready(client: &Client, objects: &[ObjectRef], progress: &Progress<'_>) -> Result<(), GateError> {
    wait_ready_explained(client, objects, &|_| None, progress).await
}

/// Adds what is known outside the cluster about an image that a node cannot pull.
pub type ExplainPull<'e> = dyn Fn(&UnpulledImage) -> Option<String> + Send + Sync + 'e;

/// As [`wait_ready`]; `explain` adds to the reason when a node cannot pull an image.
///
/// # Errors
///
/// As [`wait_ready`].
pub async fn wait_ready_explained(
    client: &Client,
    objects: &[ObjectRef],
    explain: &ExplainPull<'_>,
    progress: &Progress<'_>,
) -> Result<(), GateError> {
    let mut gate = Gate::new(client, objects, progress).await?;
    if gate.groups.is_empty() {
        return Ok(());
    }
    let mut reporter = Reporter::new(progress);
    let mut search: OptionFuture<BoxFuture<'_, Option<(ObjectRef, WaitReason)>>> = None.into();
    let (mut is_searching, mut next_search) = (false, Instant::now());
    let mut last_search: Option<Instant> = None;
    loop {
        tokio::select! {
            Some((group, event)) = gate.events.next() => {
                if let Some(opened) = gate.record(group, event, explain, &mut reporter).await {
                    return opened;
                }
                next_search = last_search.map_or_else(Instant::now, |last| next_search.min(last + SEARCH_AFTER_CHANGE));
            }
            Some(found) = &mut search, if is_searching => {
                is_searching = false;
                gate.cause = found.map(|(object, cause)| (object, explained(cause, explain)));
                gate.report(&mut reporter);
            }
            () = tokio::time::sleep_until(next_search), if !is_searching && gate.is_synced() => {
                is_searching = true;
                search = Some(first_cause(client.clone(), gate.worst()).boxed()).into();
                last_search = Some(Instant::now());
                next_search = Instant::now() + SEARCH_ANYWAY;
            }
        }
    }
}

/// The first object with a known cause, and the cause.
async fn first_cause(client: Client, objects: Vec<ObjectRef>) -> Option<(ObjectRef, WaitReason)> {
    for object in objects {
        if let Some(cause) = find_cause(&client, &object).await {
            return Some((object, cause));
        }
    }
    None
}

fn explained(reason: WaitReason, explain: &ExplainPull<'_>) -> WaitReason {
    match &reason.cause {
        WaitCause::ImagePull(image) => match explain(image) {
            Some(more) => WaitReason { text: format!("{}; {more}", reason.text), ..reason },
            None => reason,
        },
        _ => reason,
    }
}

/// Objects of one kind and namespace, watched together.
struct Group {
    api_version: String,
    kind: String,
    namespace: Option<String>,
    names: BTreeSet<String>,
    mirror: Mirror<Option<Readiness>>,
}

type Events = Pin<Box<dyn Stream<Item = (usize, Result<Event<DynamicObject>, ApiError>)> + Send>>;

struct Gate {
    client: Client,
    groups: Vec<Group>,
    events: SelectAll<Events>,
    /// The last cause that was found, and its object.
    cause: Option<(ObjectRef, WaitReason)>,
}

impl Gate {
    async fn new(client: &Client, objects: &[ObjectRef], progress: &Progress<'_>) -> Result<Self, GateError> {
        let kinds = Kinds::new(client.clone());
        let mut names: BTreeMap<(&str, &str, Option<&str>), BTreeSet<String>> = BTreeMap::new();
        for object in objects {
            let group = (object.api_version.as_str(), object.kind.as_str(), object.namespace.as_deref());
            names.entry(group).or_default().insert(object.name.clone());
        }
        let mut gate = Self { client: client.clone(), groups: Vec::new(), events: SelectAll::new(), cause: None };
        for ((api_version, kind, namespace), names) in names {
            let first = names.first().map(String::as_str).unwrap_or_default();
            let served = served(client, &kinds, &ObjectRef::new(api_version, kind, namespace, first), progress).await?;
            if served.namespaced && namespace.is_none() {
                return Err(malformed(format!("{kind} {first} has no namespace")).into());
            }
            let namespace = namespace.filter(|_| served.namespaced);
            let config = if names.len() == 1 { only(first) } else { watcher::Config::default() };
            let index = gate.groups.len();
            let events = watch(served.api(client, namespace), config);
            gate.events.push(Box::pin(events.map(move |event| (index, event))));
            gate.groups.push(Group {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                namespace: namespace.map(str::to_owned),
                names,
                mirror: Mirror::default(),
            });
        }
        Ok(gate)
    }

    /// Records an event; returns the outcome of the gate when it is decided.
    async fn record(
        &mut self,
        group: usize,
        event: Result<Event<DynamicObject>, ApiError>,
        explain: &ExplainPull<'_>,
        reporter: &mut Reporter<'_>,
    ) -> Option<Result<(), GateError>> {
        match event {
            Ok(event) => self.groups[group].record(event),
            Err(error) if error.is_retryable() => {
                reporter.report(&error);
                return None;
            }
            Err(error) => return Some(Err(error.into())),
        }
        if !self.is_synced() {
            return None;
        }
        let unready = self.unready();
        if unready.is_empty() {
            return Some(Ok(()));
        }
        if let Some((object, Some(Readiness::Failed(reason)))) = unready.first() {
            let cause = tokio::time::timeout(LAST_SEARCH, find_cause(&self.client, object)).await.ok().flatten();
            let reason = match cause.map(|cause| explained(cause, explain)) {
                Some(cause) => WaitReason { text: format!("{reason}: {cause}"), ..cause },
                None => reason.clone().into(),
            };
            return Some(Err(GateError::Failed { object: object.clone(), reason }));
        }
        self.report(reporter);
        None
    }

    fn is_synced(&self) -> bool {
        self.groups.iter().all(|group| group.mirror.all().is_some())
    }

    /// Every object that is not ready, the most informative first. One without a readiness does not exist.
    fn unready(&self) -> Vec<(ObjectRef, Option<Readiness>)> {
        let mut unready: Vec<_> = self.groups.iter().flat_map(Group::unready).collect();
        unready.sort_by_key(|(object, readiness)| rank(object, readiness.as_ref()));
        unready
    }

    /// The objects whose causes are searched.
    fn worst(&self) -> Vec<ObjectRef> {
        let existing = self.unready().into_iter().filter(|(_, readiness)| readiness.is_some());
        existing.map(|(object, _)| object).take(SEARCHED).collect()
    }

    fn report(&self, reporter: &mut Reporter<'_>) {
        if !self.is_synced() {
            return;
        }
        let unready = self.unready();
        let of_cause = self.cause.as_ref().and_then(|(object, _)| unready.iter().find(|(other, _)| other == object));
        let Some((object, readiness)) = of_cause.or(unready.first()) else { return };
        let all: usize = self.groups.iter().map(|group| group.names.len()).sum();
        let reason = match readiness {
            Some(Readiness::Progressing(reason) | Readiness::Failed(reason)) => reason,
            _ => "does not exist yet",
        };
        let line = format!("{} of {all} not ready: {object} {reason}", unready.len());
        reporter.report(match &self.cause {
            Some((other, found)) if other == object => WaitReason::new(format!("{line}: {found}"), found.cause.clone()),
            _ => line.into(),
        });
    }
}

impl Group {
    fn record(&mut self, event: Event<DynamicObject>) {
        let (api_version, kind, names) = (&self.api_version, &self.kind, &self.names);
        self.mirror.record(event, |mut object| {
            // Several objects of a kind are watched by one list, which contains others too.
            names.contains(object.metadata.name.as_deref().unwrap_or_default()).then(|| {
                object.types.get_or_insert_with(|| TypeMeta { api_version: api_version.clone(), kind: kind.clone() });
                match value(&object) {
                    Ok(object) => readiness(&object),
                    Err(error) => Readiness::Progressing(format!("cannot be read: {error}")),
                }
            })
        });
    }

    fn unready(&self) -> impl Iterator<Item = (ObjectRef, Option<Readiness>)> {
        self.names.iter().filter_map(|name| {
            let seen = self.mirror.all()?.get(&(self.namespace.clone(), name.clone())).cloned().flatten();
            let reference = ObjectRef::new(&self.api_version, &self.kind, self.namespace.as_deref(), name);
            (seen != Some(Readiness::Ready)).then_some((reference, seen))
        })
    }
}

/// What is reported first.
fn rank(object: &ObjectRef, readiness: Option<&Readiness>) -> u8 {
    match (readiness, object.kind.as_str()) {
        (Some(Readiness::Failed(_)), _) => 0,
        (Some(_), "DaemonSet" | "Deployment" | "StatefulSet" | "Job" | "Pod" | "ReplicaSet") => 1,
        (Some(_), _) => 2,
        (None, _) => 3,
    }
}
