//! Gates: waiting, by watching, until objects are ready, and saying what is missing and why.

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

use super::cause::{Cause, Unpulled, dig};
use super::discovery::Kinds;
use super::error::{ApiError, malformed};
use super::objects::{ObjectRef, value};
use super::readiness::{Readiness, readiness};
use super::served::served;
use super::watch::{Mirror, Tell, Teller, only, watch};

/// Between two looks for a cause, when something changed and when nothing did: events come without a change.
const DIG_AFTER_CHANGE: Duration = Duration::from_millis(500);
const DIG_ANYWAY: Duration = Duration::from_secs(3);
/// How long the cause of a final failure is looked for.
const LAST_DIG: Duration = Duration::from_secs(10);
/// How many of the objects that are not ready are looked into at a time.
const DIG_INTO: usize = 4;

/// Why a gate does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The object's controller gave up; waiting longer changes nothing.
    #[error("{object} {reason}")]
    Failed { object: ObjectRef, reason: String },
}

impl GateError {
    /// Whether the same wait may well end otherwise later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Api(error) if error.is_retryable())
    }
}

/// Waits until all objects exist and are ready at the same time, and tells in one line how many are not, which one, and
/// why as far as can be found.
///
/// # Errors
///
/// An object that has failed for good, with the cause; an API that refuses.
pub async fn wait_ready(client: &Client, objects: &[ObjectRef], tell: &Tell<'_>) -> Result<(), GateError> {
    wait_ready_explained(client, objects, &|_| None, tell).await
}

/// What is known beside the cluster about an image that cannot be pulled.
pub type Explain<'e> = dyn Fn(&Unpulled) -> Option<String> + Send + Sync + 'e;

/// The same; `explain` adds to what is told of an image that cannot be pulled.
///
/// # Errors
///
/// As [`wait_ready`].
pub async fn wait_ready_explained(
    client: &Client,
    objects: &[ObjectRef],
    explain: &Explain<'_>,
    tell: &Tell<'_>,
) -> Result<(), GateError> {
    let mut gate = Gate::new(client, objects, tell).await?;
    if gate.groups.is_empty() {
        return Ok(());
    }
    let mut teller = Teller::new(tell);
    let mut digging: OptionFuture<BoxFuture<'_, Option<(ObjectRef, Cause)>>> = None.into();
    let (mut busy, mut next_dig) = (false, Instant::now());
    let mut last_dig: Option<Instant> = None;
    loop {
        tokio::select! {
            Some((group, event)) = gate.events.next() => {
                if let Some(opened) = gate.take(group, event, explain, &mut teller).await {
                    return opened;
                }
                next_dig = last_dig.map_or_else(Instant::now, |last| next_dig.min(last + DIG_AFTER_CHANGE));
            }
            Some(found) = &mut digging, if busy => {
                busy = false;
                gate.cause = found.map(|(object, cause)| (object, explained(cause, explain)));
                gate.say(&mut teller);
            }
            () = tokio::time::sleep_until(next_dig), if !busy && gate.is_synced() => {
                busy = true;
                digging = Some(dig_into(client.clone(), gate.worst()).boxed()).into();
                last_dig = Some(Instant::now());
                next_dig = Instant::now() + DIG_ANYWAY;
            }
        }
    }
}

/// The first object for which there is a cause, and the cause.
async fn dig_into(client: Client, objects: Vec<ObjectRef>) -> Option<(ObjectRef, Cause)> {
    for object in objects {
        if let Some(cause) = dig(&client, &object).await {
            return Some((object, cause));
        }
    }
    None
}

fn explained(cause: Cause, explain: &Explain<'_>) -> String {
    match cause.unpulled.as_ref().and_then(explain) {
        Some(more) => format!("{}; {more}", cause.text),
        None => cause.text,
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
    /// The last cause that was found, and whose it is.
    cause: Option<(ObjectRef, String)>,
}

impl Gate {
    async fn new(client: &Client, objects: &[ObjectRef], tell: &Tell<'_>) -> Result<Self, GateError> {
        let kinds = Kinds::new(client.clone());
        let mut names: BTreeMap<(&str, &str, Option<&str>), BTreeSet<String>> = BTreeMap::new();
        for object in objects {
            let group = (object.api_version.as_str(), object.kind.as_str(), object.namespace.as_deref());
            names.entry(group).or_default().insert(object.name.clone());
        }
        let mut gate = Self { client: client.clone(), groups: Vec::new(), events: SelectAll::new(), cause: None };
        for ((api_version, kind, namespace), names) in names {
            let first = names.first().map(String::as_str).unwrap_or_default();
            let served = served(client, &kinds, &ObjectRef::new(api_version, kind, namespace, first), tell).await?;
            if served.namespaced && namespace.is_none() {
                return Err(malformed(format!("{kind} {first} is to be waited for, but no namespace is said")).into());
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

    /// Takes in an event; the outcome of the gate when there is one.
    async fn take(
        &mut self,
        group: usize,
        event: Result<Event<DynamicObject>, ApiError>,
        explain: &Explain<'_>,
        teller: &mut Teller<'_>,
    ) -> Option<Result<(), GateError>> {
        match event {
            Ok(event) => self.groups[group].take(event),
            Err(error) if error.is_retryable() => {
                teller.say(error.to_string());
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
            let cause = tokio::time::timeout(LAST_DIG, dig(&self.client, object)).await.ok().flatten();
            let cause = cause.map(|cause| explained(cause, explain));
            let reason = cause.map_or_else(|| reason.clone(), |cause| format!("{reason}: {cause}"));
            return Some(Err(GateError::Failed { object: object.clone(), reason }));
        }
        self.say(teller);
        None
    }

    fn is_synced(&self) -> bool {
        self.groups.iter().all(|group| group.mirror.all().is_some())
    }

    /// Every object that is not ready, the most telling first. Without a readiness it does not exist.
    fn unready(&self) -> Vec<(ObjectRef, Option<Readiness>)> {
        let mut unready: Vec<_> = self.groups.iter().flat_map(Group::unready).collect();
        unready.sort_by_key(|(object, readiness)| rank(object, readiness.as_ref()));
        unready
    }

    /// The objects to look for a cause of.
    fn worst(&self) -> Vec<ObjectRef> {
        let existing = self.unready().into_iter().filter(|(_, readiness)| readiness.is_some());
        existing.map(|(object, _)| object).take(DIG_INTO).collect()
    }

    fn say(&self, teller: &mut Teller<'_>) {
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
        let cause = match &self.cause {
            Some((other, cause)) if other == object => format!(": {cause}"),
            _ => String::new(),
        };
        teller.say(format!("{} of {all} not ready: {object} {reason}{cause}", unready.len()));
    }
}

impl Group {
    fn take(&mut self, event: Event<DynamicObject>) {
        let (api_version, kind, names) = (&self.api_version, &self.kind, &self.names);
        self.mirror.take(event, |mut object| {
            // A list of many is watched as a whole; the others in it do not matter.
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

/// What an operator wants to hear of first.
fn rank(object: &ObjectRef, readiness: Option<&Readiness>) -> u8 {
    match (readiness, object.kind.as_str()) {
        (Some(Readiness::Failed(_)), _) => 0,
        (Some(_), "DaemonSet" | "Deployment" | "StatefulSet" | "Job" | "Pod" | "ReplicaSet") => 1,
        (Some(_), _) => 2,
        (None, _) => 3,
    }
}
