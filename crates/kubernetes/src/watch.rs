//! Watches that outlive an API server's absence, and what they have seen so far.

use std::collections::BTreeMap;

use futures::{Stream, StreamExt, TryStreamExt};
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event, ExponentialBackoff};
use kube::runtime::{WatchStreamExt, watcher as start};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::error::{ApiError, ApiErrorKind, backoff};

/// What the tellers of a gate are: they take one line at a time.
pub(super) type Tell<'t> = dyn Fn(&str) + Send + Sync + 't;

impl From<watcher::Error> for ApiError {
    fn from(error: watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => error.into(),
            // The watcher lists anew when its version has become too old.
            watcher::Error::WatchError(status) if status.code == 410 => {
                Self::new(ApiErrorKind::Busy { message: status.message.clone(), retry_after: None })
            }
            watcher::Error::WatchError(status) => kube::Error::Api(status).into(),
            watcher::Error::NoResourceVersion => super::error::malformed("its kind cannot be watched"),
        }
    }
}

/// Watches until it is dropped. After an error it goes on, quickly at first, then every second.
pub(super) fn watch<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = Result<Event<K>, ApiError>> + Send
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    start(api, config).backoff(ExponentialBackoff::from(backoff().without_max_times())).map_err(ApiError::from)
}

/// A namespace, when there is one, and a name.
pub(super) type Key = (Option<String>, String);

/// What a watch has seen of each object, reduced to what matters.
#[derive(Debug)]
pub(super) struct Mirror<T> {
    current: BTreeMap<Key, T>,
    /// Filled while the watch starts anew.
    incoming: Option<BTreeMap<Key, T>>,
    synced: bool,
}

impl<T> Default for Mirror<T> {
    fn default() -> Self {
        Self { current: BTreeMap::new(), incoming: None, synced: false }
    }
}

impl<T> Mirror<T> {
    /// Takes in an event.
    pub(super) fn take<K: Resource>(&mut self, event: Event<K>, reduce: impl Fn(K) -> T) {
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

    /// Everything there is; nothing while the watch does not know yet.
    pub(super) fn all(&self) -> Option<&BTreeMap<Key, T>> {
        (self.synced && self.incoming.is_none()).then_some(&self.current)
    }
}

/// Says a line only when it is another one than before.
pub(super) struct Teller<'t> {
    tell: &'t Tell<'t>,
    last: String,
}

impl<'t> Teller<'t> {
    pub(super) fn new(tell: &'t Tell<'t>) -> Self {
        Self { tell, last: String::new() }
    }

    pub(super) fn say(&mut self, line: String) {
        if line != self.last {
            (self.tell)(&line);
            self.last = line;
        }
    }
}

/// Watches until `decide` has an answer.
pub(super) async fn until<K, T, R, E>(
    api: Api<K>,
    config: watcher::Config,
    reduce: impl Fn(K) -> T,
    teller: &mut Teller<'_>,
    mut decide: impl FnMut(&BTreeMap<Key, T>, &mut Teller<'_>) -> Option<Result<R, E>>,
) -> Result<R, E>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    E: From<ApiError>,
{
    let mut mirror = Mirror::default();
    let mut events = std::pin::pin!(watch(api, config));
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => mirror.take(event, &reduce),
            Err(error) if error.is_retryable() => teller.say(error.to_string()),
            Err(error) => return Err(error.into()),
        }
        if let Some(decided) = mirror.all().and_then(|seen| decide(seen, teller)) {
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
    fn nothing_is_known_while_a_watch_starts_anew_and_what_vanished_meanwhile_is_gone() {
        let mut mirror = Mirror::default();
        let drop_all = |_| ();
        mirror.take(Event::Init, drop_all);
        mirror.take(Event::InitApply(named("a")), drop_all);
        assert_eq!(names(&mirror), None);
        mirror.take(Event::InitDone, drop_all);
        mirror.take(Event::Apply(named("b")), drop_all);
        assert_eq!(names(&mirror), Some(vec!["a", "b"]));
        mirror.take(Event::Init, drop_all);
        mirror.take(Event::InitApply(named("b")), drop_all);
        assert_eq!(names(&mirror), None);
        mirror.take(Event::InitDone, drop_all);
        assert_eq!(names(&mirror), Some(vec!["b"]));
        mirror.take(Event::Delete(named("b")), drop_all);
        assert_eq!(names(&mirror), Some(vec![]));
    }
}
