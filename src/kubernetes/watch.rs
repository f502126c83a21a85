//! Watches of any kinds, kept up over API flaps, seen as one picture that changes.

use std::collections::HashMap;

use futures::stream::{BoxStream, SelectAll, StreamExt};
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, TypeMeta};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;

use super::error::chain;
use super::objects::to_value;

type Change = (usize, Result<watcher::Event<DynamicObject>, watcher::Error>);

/// Several watches and what they have shown so far.
pub(super) struct Watches {
    streams: SelectAll<BoxStream<'static, Change>>,
    views: Vec<View>,
}

/// One kind's objects by namespace and name.
struct View {
    types: TypeMeta,
    objects: HashMap<(Option<String>, String), Value>,
    complete: bool,
}

impl Watches {
    pub(super) fn new() -> Self {
        Self { streams: SelectAll::new(), views: Vec::new() }
    }

    /// Adds a watch and says under which number its objects are found.
    pub(super) fn add(
        &mut self,
        client: &kube::Client,
        resource: &ApiResource,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> usize {
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
            None => Api::all_with(client.clone(), resource),
        };
        let config = name.map_or_else(watcher::Config::default, |name| {
            watcher::Config::default().fields(&format!("metadata.name={name}"))
        });
        let index = self.views.len();
        self.streams.push(watcher(api, config).default_backoff().map(move |event| (index, event)).boxed());
        let types = TypeMeta { api_version: resource.api_version.clone(), kind: resource.kind.clone() };
        self.views.push(View { types, objects: HashMap::new(), complete: false });
        index
    }

    /// Waits for the picture to change. A watch that broke is being taken up again; the reason is returned to be told.
    pub(super) async fn changed(&mut self) -> Result<(), String> {
        let Some((index, event)) = self.streams.next().await else {
            // Every watch renews itself, so the stream has no end.
            return std::future::pending().await;
        };
        let Some(view) = self.views.get_mut(index) else { return Ok(()) };
        match event {
            Ok(watcher::Event::Init) => {
                view.objects.clear();
                view.complete = false;
            }
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => view.keep(object),
            Ok(watcher::Event::InitDone) => view.complete = true,
            Ok(watcher::Event::Delete(object)) => {
                view.objects.remove(&key(&object));
            }
            Err(error) => return Err(chain(&error)),
        }
        Ok(())
    }

    /// Whether every watch has listed its objects once.
    pub(super) fn complete(&self) -> bool {
        self.views.iter().all(|view| view.complete)
    }

    pub(super) fn get(&self, watch: usize, namespace: Option<&str>, name: &str) -> Option<&Value> {
        let key = (namespace.map(str::to_owned), name.to_owned());
        self.views.get(watch)?.objects.get(&key)
    }

    pub(super) fn all(&self, watch: usize) -> impl Iterator<Item = &Value> {
        self.views.get(watch).into_iter().flat_map(|view| view.objects.values())
    }
}

impl View {
    fn keep(&mut self, mut object: DynamicObject) {
        // Items of a list do not carry their own type.
        object.types.get_or_insert_with(|| self.types.clone());
        self.objects.insert(key(&object), to_value(&object));
    }
}

fn key(object: &DynamicObject) -> (Option<String>, String) {
    (object.metadata.namespace.clone(), object.metadata.name.clone().unwrap_or_default())
}
