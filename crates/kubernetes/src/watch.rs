//! Watches that survive an API server's outage, and what they have seen so far.

use std::collections::BTreeMap;

use futures::{Stream, StreamExt, TryStreamExt};
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, utils, watcher as start};
use kube::{Api, Resource, ResourceExt};
use retry::Backoff;
use serde::de::DeserializeOwned;

use super::error::{ApiError, ApiErrorKind};
use super::wait::{Progress, WaitReason};
use retry::policies::API_POLL;

impl From<watcher::Error> for ApiError {
    fn from(error: watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => error.into(),
            // The watcher lists again when its version is too old.
            watcher::Error::WatchError(status) if status.code == 410 => {
                Self::new(ApiErrorKind::Busy { message: status.message.clone(), retry_after: None })
            }
            watcher::Error::WatchError(status) => kube::Error::Api(status).into(),
            watcher::Error::NoResourceVersion => super::error::malformed("its kind does not support watch"),
        }
    }
}

/// The delays of [`API_POLL`] between the attempts of a watch.
struct WatchBackoff(Backoff);

impl Iterator for WatchBackoff {
    type Item = std::time::Duration;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl utils::Backoff for WatchBackoff {
    fn reset(&mut self) {
        self.0.refill();
    }
}

/// Watches until it is dropped; it survives errors.
pub(super) fn watch<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = Result<Event<K>, ApiError>> + Send
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    start(api, config).backoff(WatchBackoff(API_POLL.backoff())).map_err(ApiError::from)
}

/// A namespace, when there is one, and a name.
pub(super) type Key = (Option<String>, String);

/// What a watch has seen of each object, reduced to what matters.
#[derive(Debug)]
pub(super) struct Mirror<T> {
    current: BTreeMap<Key, T>,
    /// Filled while the watch restarts.
    incoming: Option<BTreeMap<Key, T>>,
    synced: bool,
}

impl<T> Default for Mirror<T> {
    fn default() -> Self {
        Self { current: BTreeMap::new(), incoming: None, synced: false }
    }
}

impl<T> Mirror<T> {
    /// Records an event.
    pub(super) fn record<K: Resource>(&mut self, event: Event<K>, reduce: impl Fn(K) -> T) {
        let key = |object: &K| (object.namespace(), object.name_any());
        match event {
            Event::Init => self.incoming = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                let key = key(&object);
                self.incoming.get_or_insert_default().insert(key, reduce(object));
            }
            Event::InitDone => {
                self.current = self.incoming.take().unwrap_or_default();
                self.synced = true;
            }
            Event::Apply(object) => {
                self.current.insert(key(&object), reduce(object));
            }
            Event::Delete(object) => {
                self.current.remove(&key(&object));
            }
        }
    }

    /// All objects; nothing while the watch is not synchronised.
    pub(super) fn all(&self) -> Option<&BTreeMap<Key, T>> {
        (self.synced && self.incoming.is_none()).then_some(&self.current)
    }
}

/// Reports wait reasons, each only when it differs from the one before.
pub(super) struct Reporter<'p> {
    progress: &'p Progress<'p>,
    last: Option<WaitReason>,
}

impl<'p> Reporter<'p> {
    pub(super) fn new(progress: &'p Progress<'p>) -> Self {
        Self { progress, last: None }
    }

    pub(super) fn report(&mut self, reason: impl Into<WaitReason>) {
        let reason = reason.into();
        if self.last.as_ref() != Some(&reason) {
            (self.progress)(&reason);
            self.last = Some(reason);
        }
    }
}

/// Watches until `decide` returns a result.
pub(super) async fn until<K, T, R, E>(
    api: Api<K>,
    config: watcher::Config,
    reduce: impl Fn(K) -> T,
    reporter: &mut Reporter<'_>,
    mut decide: impl FnMut(&BTreeMap<Key, T>, &mut Reporter<'_>) -> Option<Result<R, E>>,
) -> Result<R, E>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    E: From<ApiError>,
{
    let mut mirror = Mirror::default();
    let mut events = std::pin::pin!(watch(api, config));
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => mirror.record(event, &reduce),
            Err(error) if error.is_retryable() => reporter.report(&error),
            Err(error) => return Err(error.into()),
        }
        if let Some(decided) = mirror.all().and_then(|seen| decide(seen, reporter)) {
            return decided;
        }
    }
    Err(ApiError::new(ApiErrorKind::Unreachable("the watch ended".to_owned())).into())
}

/// Selects one object by name.
pub(super) fn only(name: &str) -> watcher::Config {
    watcher::Config::default().fields(&format!("metadata.name={name}"))
}

/// A namespaced, typed API.
pub(super) fn namespaced<K>(client: &kube::Client, namespace: &str) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    Api::namespaced(client.clone(), namespace)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn named(name: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.to_owned());
        object
    }

    fn names(mirror: &Mirror<()>) -> Option<Vec<&str>> {
        mirror.all().map(|all| all.keys().map(|(_, name)| name.as_str()).collect())
    }

    #[test]
    fn a_restarting_watch_knows_nothing_and_drops_what_was_deleted_meanwhile() {
        let mut mirror = Mirror::default();
        let drop_all = |_| ();
        mirror.record(Event::Init, drop_all);
        mirror.record(Event::InitApply(named("a")), drop_all);
        assert_eq!(names(&mirror), None);
        mirror.record(Event::InitDone, drop_all);
        mirror.record(Event::Apply(named("b")), drop_all);
        assert_eq!(names(&mirror), Some(vec!["a", "b"]));
        mirror.record(Event::Init, drop_all);
        mirror.record(Event::InitApply(named("b")), drop_all);
        assert_eq!(names(&mirror), None);
        mirror.record(Event::InitDone, drop_all);
        assert_eq!(names(&mirror), Some(vec!["b"]));
        mirror.record(Event::Delete(named("b")), drop_all);
        assert_eq!(names(&mirror), Some(vec![]));
    }
}
