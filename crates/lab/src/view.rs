//! What the lab sees of its Kubernetes: one watch a kind for the whole lab, shared by kubelets, network and operators.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Helm's mark on what a release owns (Helm 3.2 and newer).
const RELEASE_NAME: &str = "meta.helm.sh/release-name";
const RELEASE_NAMESPACE: &str = "meta.helm.sh/release-namespace";

/// The lab's own mark on what its operators make: the fact that it followed.
pub(super) const CAUSE: &str = "lab.k8s-bootstrap/after";

/// The objects that the lab acts on. What is read here may lag behind the API by a moment.
pub(super) struct View {
    pub(super) client: kube::Client,
    pub(super) pods: Store<Pod>,
    pub(super) nodes: Store<Node>,
    pub(super) services: Store<Service>,
    deployments: Store<Deployment>,
    replica_sets: Store<ReplicaSet>,
    daemon_sets: Store<DaemonSet>,
    stateful_sets: Store<StatefulSet>,
    jobs: Store<Job>,
    changed: watch::Sender<()>,
}

impl Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("pods", &self.pods.len()).finish_non_exhaustive()
    }
}

impl View {
    /// Begins to watch; the watches live in `tasks` and come back after the API was away.
    pub(super) fn start(client: kube::Client, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let changed = watch::Sender::new(());
        Arc::new(Self {
            pods: follow(&client, &changed, tasks),
            nodes: follow(&client, &changed, tasks),
            services: follow(&client, &changed, tasks),
            deployments: follow(&client, &changed, tasks),
            replica_sets: follow(&client, &changed, tasks),
            daemon_sets: follow(&client, &changed, tasks),
            stateful_sets: follow(&client, &changed, tasks),
            jobs: follow(&client, &changed, tasks),
            client,
            changed,
        })
    }

    /// Wakes at every change.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Waits until `look` finds something.
    pub(super) async fn until<T>(&self, look: impl Fn(&Self) -> Option<T>) -> T {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            if let Some(found) = look(self) {
                return found;
            }
            // The sender lives in this value, so this only ever waits.
            let _ = changes.changed().await;
        }
    }

    /// Whether a Ready pod stands behind the Service.
    pub(super) fn is_backed(&self, namespace: &str, name: &str) -> bool {
        let service = named(&self.services, namespace, name);
        let Some(selector) = service.and_then(|service| service.spec.as_ref()?.selector.clone()) else { return false };
        let behind = |pod: &Pod| selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value));
        let ready = |pod: &Pod| pod.metadata.namespace.as_deref() == Some(namespace) && behind(pod) && is_ready(pod);
        self.pods.find(ready).is_some()
    }

    /// A Ready pod of a Deployment of this name in whatever namespace: where it is, and the fact that it is Ready.
    pub(super) fn ready_of(&self, deployment: &str) -> Option<(String, String)> {
        let pod = self.pods.find(|pod| is_ready(pod) && self.deployment_of(pod).as_deref() == Some(deployment))?;
        let namespace = pod.namespace().unwrap_or_default();
        let fact = format!("pod/{namespace}/{}/ready", pod.name_any());
        Some((namespace, fact))
    }

    /// The fact that an operator named when it made the pod's Deployment.
    pub(super) fn cause_of(&self, pod: &Pod) -> Option<String> {
        let deployment = named(&self.deployments, pod.metadata.namespace.as_deref()?, &self.deployment_of(pod)?)?;
        deployment.annotations().get(CAUSE).cloned()
    }

    fn deployment_of(&self, pod: &Pod) -> Option<String> {
        let owner = controller(pod).filter(|owner| owner.kind == "ReplicaSet")?;
        let replica_set = named(&self.replica_sets, pod.metadata.namespace.as_deref()?, &owner.name)?;
        controller(replica_set.as_ref()).map(|owner| owner.name)
    }

    /// The Helm release, namespace and name, that the pod came from.
    pub(super) fn release_of(&self, pod: &Pod) -> Option<(String, String)> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let owner = controller(pod)?;
        match owner.kind.as_str() {
            "ReplicaSet" => {
                let replica_set = named(&self.replica_sets, namespace, &owner.name)?;
                let owner = controller(replica_set.as_ref())?;
                release(named(&self.deployments, namespace, &owner.name)?.as_ref())
            }
            "DaemonSet" => release(named(&self.daemon_sets, namespace, &owner.name)?.as_ref()),
            "StatefulSet" => release(named(&self.stateful_sets, namespace, &owner.name)?.as_ref()),
            "Job" => release(named(&self.jobs, namespace, &owner.name)?.as_ref()),
            _ => None,
        }
    }

    /// Whether every workload of the release has its pods Ready; nothing when the release has no workload.
    pub(super) fn release_ready(&self, release_namespace: &str, name: &str) -> Option<bool> {
        let wanted = Some((release_namespace.to_owned(), name.to_owned()));
        let mut found = Vec::new();
        for deployment in self.deployments.state_filter(|object| release(object) == wanted) {
            let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let status = deployment.status.as_ref();
            let ready = status.and_then(|status| status.ready_replicas).unwrap_or_default();
            found.push(ready >= replicas);
        }
        for set in self.stateful_sets.state_filter(|object| release(object) == wanted) {
            let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let ready = set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
            found.push(ready >= replicas);
        }
        for set in self.daemon_sets.state_filter(|object| release(object) == wanted) {
            let status = set.status.as_ref();
            let ready = |status: &k8s_openapi::api::apps::v1::DaemonSetStatus| {
                status.desired_number_scheduled > 0 && status.number_ready >= status.desired_number_scheduled
            };
            found.push(status.is_some_and(ready));
        }
        (!found.is_empty()).then(|| found.into_iter().all(|ready| ready))
    }
}

/// Keeps a copy of every object of a kind.
fn follow<K>(client: &kube::Client, changed: &watch::Sender<()>, tasks: &mut JoinSet<()>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Hash + Eq + Clone,
{
    let (reader, writer) = store();
    let stream = reflector(writer, watcher(Api::<K>::all(client.clone()), watcher::Config::default()));
    let changed = changed.clone();
    tasks.spawn(stream.default_backoff().for_each(move |_| {
        changed.send_replace(());
        std::future::ready(())
    }));
    reader
}

fn named<K>(objects: &Store<K>, namespace: &str, name: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    objects.get(&ObjectRef::new(name).within(namespace))
}

/// Whether the pod's condition says Ready, and nobody wishes it gone.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready =
        conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// The owner that controls the object.
pub(super) fn controller(object: &impl Resource) -> Option<OwnerReference> {
    object.owner_references().iter().find(|owner| owner.controller == Some(true)).cloned()
}

/// Helm's ownership marks: the release's namespace and name.
pub(super) fn release(object: &impl Resource) -> Option<(String, String)> {
    let annotations = object.annotations();
    Some((annotations.get(RELEASE_NAMESPACE)?.clone(), annotations.get(RELEASE_NAME)?.clone()))
}
