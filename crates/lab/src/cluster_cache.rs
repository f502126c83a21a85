//! A cache of the Kubernetes objects that the lab acts on: one watch per kind, shared by kubelets, network and operators.

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

use super::record::facts;
use super::spec::ReleaseKey;

/// The annotations by which Helm marks the objects of a release (Helm 3.2 and later).
const RELEASE_NAME: &str = "meta.helm.sh/release-name";
const RELEASE_NAMESPACE: &str = "meta.helm.sh/release-namespace";

/// The annotation on Deployments that simulated operators create: the fact that caused the Deployment.
pub(super) const CAUSE_ANNOTATION: &str = "lab.k8s-bootstrap/after";

/// A Service by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ServiceKey {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// A Ready pod of a simulated operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReadyPod {
    pub(super) namespace: String,
    /// The fact that it is Ready.
    pub(super) fact: String,
}

/// The objects that the lab acts on. The cache may lag behind the API.
pub(super) struct ClusterCache {
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

impl Debug for ClusterCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterCache").field("pods", &self.pods.len()).finish_non_exhaustive()
    }
}

impl ClusterCache {
    /// Starts the watches as `tasks`. They reconnect when the API server restarts.
    pub(super) fn start(client: kube::Client, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let changed = watch::Sender::new(());
        Arc::new(Self {
            pods: watch_all(&client, &changed, tasks),
            nodes: watch_all(&client, &changed, tasks),
            services: watch_all(&client, &changed, tasks),
            deployments: watch_all(&client, &changed, tasks),
            replica_sets: watch_all(&client, &changed, tasks),
            daemon_sets: watch_all(&client, &changed, tasks),
            stateful_sets: watch_all(&client, &changed, tasks),
            jobs: watch_all(&client, &changed, tasks),
            client,
            changed,
        })
    }

    /// Notified of every change.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Waits until `find` returns something.
    pub(super) async fn wait_until<T>(&self, find: impl Fn(&Self) -> Option<T>) -> T {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            if let Some(found) = find(self) {
                return found;
            }
            // The sender lives in this value, so this only ever waits.
            let _ = changes.changed().await;
        }
    }

    /// Whether the Service selects a Ready pod.
    pub(super) fn has_ready_endpoint(&self, service: &ServiceKey) -> bool {
        let namespace = service.namespace.as_str();
        let service = get(&self.services, namespace, &service.name);
        let Some(selector) = service.and_then(|service| service.spec.as_ref()?.selector.clone()) else { return false };
        let is_selected = |pod: &Pod| selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value));
        let ready =
            |pod: &Pod| pod.metadata.namespace.as_deref() == Some(namespace) && is_selected(pod) && is_ready(pod);
        self.pods.find(ready).is_some()
    }

    /// A Ready pod of a Deployment of this name in any namespace.
    pub(super) fn ready_pod_of(&self, deployment: &str) -> Option<ReadyPod> {
        let pod = self.pods.find(|pod| is_ready(pod) && self.deployment_of(pod).as_deref() == Some(deployment))?;
        Some(ReadyPod { namespace: pod.namespace().unwrap_or_default(), fact: facts::pod_ready(&pod) })
    }

    /// The fact that a simulated operator recorded on the pod's Deployment as its cause.
    pub(super) fn recorded_cause(&self, pod: &Pod) -> Option<String> {
        let deployment = get(&self.deployments, pod.metadata.namespace.as_deref()?, &self.deployment_of(pod)?)?;
        deployment.annotations().get(CAUSE_ANNOTATION).cloned()
    }

    fn deployment_of(&self, pod: &Pod) -> Option<String> {
        let owner = controller(pod).filter(|owner| owner.kind == "ReplicaSet")?;
        let replica_set = get(&self.replica_sets, pod.metadata.namespace.as_deref()?, &owner.name)?;
        controller(replica_set.as_ref()).map(|owner| owner.name)
    }

    /// The Helm release that the pod's workload belongs to.
    pub(super) fn owning_release(&self, pod: &Pod) -> Option<ReleaseKey> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let owner = controller(pod)?;
        match owner.kind.as_str() {
            "ReplicaSet" => {
                let replica_set = get(&self.replica_sets, namespace, &owner.name)?;
                let owner = controller(replica_set.as_ref())?;
                helm_release_of(get(&self.deployments, namespace, &owner.name)?.as_ref())
            }
            "DaemonSet" => helm_release_of(get(&self.daemon_sets, namespace, &owner.name)?.as_ref()),
            "StatefulSet" => helm_release_of(get(&self.stateful_sets, namespace, &owner.name)?.as_ref()),
            "Job" => helm_release_of(get(&self.jobs, namespace, &owner.name)?.as_ref()),
            _ => None,
        }
    }

    /// Whether all pods of the release's workloads are Ready. `None` if the release has no workload.
    pub(super) fn is_release_ready(&self, release: &ReleaseKey) -> Option<bool> {
        let mut workloads = Vec::new();
        for deployment in self.deployments.state_filter(|object| helm_release_of(object).as_ref() == Some(release)) {
            let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let status = deployment.status.as_ref();
            let ready = status.and_then(|status| status.ready_replicas).unwrap_or_default();
            workloads.push(ready >= replicas);
        }
        for set in self.stateful_sets.state_filter(|object| helm_release_of(object).as_ref() == Some(release)) {
            let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let ready = set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
            workloads.push(ready >= replicas);
        }
        for set in self.daemon_sets.state_filter(|object| helm_release_of(object).as_ref() == Some(release)) {
            let status = set.status.as_ref();
            let ready = |status: &k8s_openapi::api::apps::v1::DaemonSetStatus| {
                status.desired_number_scheduled > 0 && status.number_ready >= status.desired_number_scheduled
            };
            workloads.push(status.is_some_and(ready));
        }
        (!workloads.is_empty()).then(|| workloads.into_iter().all(|ready| ready))
    }
}

/// Keeps a copy of every object of a kind.
fn watch_all<K>(client: &kube::Client, changed: &watch::Sender<()>, tasks: &mut JoinSet<()>) -> Store<K>
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

fn get<K>(objects: &Store<K>, namespace: &str, name: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    objects.get(&ObjectRef::new(name).within(namespace))
}

/// Whether the pod is Ready and is not being deleted.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready =
        conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// The object's controller owner reference.
pub(super) fn controller(object: &impl Resource) -> Option<OwnerReference> {
    object.owner_references().iter().find(|owner| owner.controller == Some(true)).cloned()
}

/// The Helm release that the object's annotations name.
pub(super) fn helm_release_of(object: &impl Resource) -> Option<ReleaseKey> {
    let annotations = object.annotations();
    Some(ReleaseKey {
        namespace: annotations.get(RELEASE_NAMESPACE)?.clone(),
        name: annotations.get(RELEASE_NAME)?.clone(),
    })
}
