//! Images pulled onto a node before a pod waits for them: beside the run, which neither waits for it nor fails by it.
//!
//! Which node pulls what is decided by one pure function out of what the releases render. What a node has, it does not
//! pull again, and what belongs to a release that is installed already is no concern of this.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use futures::stream::{self, StreamExt};
use serde_json::Value;
use tokio::sync::{OnceCell, Semaphore};

use super::release::Installed;
use super::site::{Site, step_error};
use engine::{Observation, Step, StepContext, StepError};
use helm::manifest;
use talos_client::{Client, ClientError, ClientErrorKind, ImageSpace};
use talos_config::registries::full_name;
use talos_config::{InventoryNode, Role};
use talos_schema::Documents;

/// Pulls at once, on one node and on all together: registries count requests.
const ON_A_NODE: usize = 2;
const ON_ALL: usize = 16;
/// Beyond so many nodes, a pod that runs on one of them is not worth a pull on each: registries count those too, and what
/// is needed first shares the line with them.
const FEW: usize = 3;
/// A cluster that is there already answers within this.
const THERE: Duration = Duration::from_secs(3);
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// Pods of one workload, as far as it matters where they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workload {
    on_every_node: bool,
    selector: BTreeMap<String, String>,
    /// Taints that it bears; nothing stands for all of them.
    bears: Option<Vec<String>>,
    images: Vec<String>,
}

/// A node as a scheduler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Host {
    labels: BTreeMap<String, String>,
    taints: Vec<String>,
}

impl Workload {
    /// The workload that an object describes, when it runs pods.
    pub(super) fn of(object: &Value) -> Option<Self> {
        let images: Vec<String> = manifest::images(std::slice::from_ref(object)).into_iter().collect();
        let spec = &object["spec"];
        let pods = [&spec["jobTemplate"]["spec"]["template"]["spec"], &spec["template"]["spec"], spec];
        let pod = pods.into_iter().find(|pod| pod["containers"].is_array())?;
        let selector = pod["nodeSelector"].as_object().into_iter().flatten();
        let tolerations: Vec<&Value> = pod["tolerations"].as_array().into_iter().flatten().collect();
        let every = tolerations.iter().any(|toleration| borne(toleration).is_none());
        Some(Self {
            on_every_node: object["kind"] == "DaemonSet",
            selector: selector.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect(),
            bears: (!every)
                .then(|| tolerations.iter().filter_map(|toleration| borne(toleration)).map(str::to_owned).collect()),
            images,
        })
    }

    fn may_run_on(&self, host: &Host) -> bool {
        let selected = self.selector.iter().all(|(key, value)| host.labels.get(key) == Some(value));
        let borne = |taint: &String| self.bears.as_ref().is_none_or(|bears| bears.contains(taint));
        selected && host.taints.iter().all(borne)
    }
}

/// The taint that a toleration is for; none when it is for all.
fn borne(toleration: &Value) -> Option<&str> {
    toleration.get("key").and_then(Value::as_str).filter(|key| !key.is_empty())
}

impl Host {
    /// What a config makes of a node. Labels that something else gives it are not known, and nobody is sent there by
    /// them.
    fn of(node: &InventoryNode, config: &Documents) -> Self {
        let legacy = config.legacy();
        let field = |path: &str| legacy.and_then(|legacy| legacy.pointer(path));
        let mut labels: BTreeMap<String, String> = field("/machine/nodeLabels")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        labels.insert("kubernetes.io/hostname".to_owned(), node.hostname.clone());
        labels.insert("kubernetes.io/os".to_owned(), "linux".to_owned());
        let taints = field("/machine/nodeTaints").and_then(Value::as_object).into_iter().flatten();
        let mut taints: Vec<String> = taints.map(|(key, _)| key.clone()).collect();
        if node.role == Role::ControlPlane {
            labels.insert(CONTROL_PLANE.to_owned(), String::new());
            let allowed = field("/cluster/allowSchedulingOnControlPlanes").and_then(Value::as_bool);
            if allowed != Some(true) {
                taints.push(CONTROL_PLANE.to_owned());
            }
        }
        Self { labels, taints }
    }
}

/// What a node pulls, in the order in which it is needed: of each release what runs on every node first.
fn wanted(host: &Host, all: &[Host], releases: &[Vec<Workload>]) -> Vec<String> {
    let mut images: Vec<String> = Vec::new();
    for workloads in releases {
        let mut workloads: Vec<&Workload> = workloads.iter().filter(|workload| workload.may_run_on(host)).collect();
        workloads.sort_by_key(|workload| !workload.on_every_node);
        for workload in workloads {
            let hosts = all.iter().filter(|host| workload.may_run_on(host)).count();
            if workload.on_every_node || hosts <= FEW {
                images.extend(workload.images.iter().map(|image| full_name(image)));
            }
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    images.retain(|image| seen.insert(image.clone()));
    images
}

/// What each node is to have of the releases that are still to be installed. One for the whole run.
pub(super) struct Ahead {
    site: Arc<Site>,
    releases: Vec<Arc<Installed>>,
    lanes: Semaphore,
    /// By the node's name.
    wanted: OnceCell<BTreeMap<String, Vec<String>>>,
}

impl Ahead {
    pub(super) fn new(site: Arc<Site>, releases: Vec<Arc<Installed>>) -> Self {
        Self { site, releases, lanes: Semaphore::new(ON_ALL), wanted: OnceCell::new() }
    }

    async fn wanted(&self) -> Result<&BTreeMap<String, Vec<String>>, StepError> {
        self.wanted.get_or_try_init(|| self.decide()).await
    }

    async fn decide(&self) -> Result<BTreeMap<String, Vec<String>>, StepError> {
        let api = tokio::time::timeout(THERE, self.site.kubernetes()).await.ok().and_then(Result::ok);
        let mut releases = Vec::new();
        for release in &self.releases {
            let there = match &api {
                Some(api) => release.is_installed(api).await?,
                None => false,
            };
            if !there {
                releases.push(release.workloads().await?);
            }
        }
        let nodes = &self.site.cluster.inventory.nodes;
        let hosts: Vec<Host> = nodes.iter().map(|node| Host::of(node, &self.site.config(node))).collect();
        let of_each = nodes.iter().zip(&hosts);
        Ok(of_each.map(|(node, host)| (node.hostname.clone(), wanted(host, &hosts, &releases))).collect())
    }
}

/// The node has the images of the releases that are still to be installed.
pub(super) struct Pulled {
    ahead: Arc<Ahead>,
    node: InventoryNode,
}

impl Pulled {
    pub(super) fn new(ahead: Arc<Ahead>, node: InventoryNode) -> Self {
        Self { ahead, node }
    }

    async fn client(&self) -> Result<Client, StepError> {
        let site = &self.ahead.site;
        let connected = Client::connect(&site.dialer, self.node.address, &site.client_identity).await;
        connected.map_err(|error| step_error(&error, &self.node))
    }

    /// The images that are wanted here and not there yet.
    async fn missing(&self, client: &Client) -> Result<Vec<String>, StepError> {
        let mut missing = self.ahead.wanted().await?.get(&self.node.hostname).cloned().unwrap_or_default();
        if !missing.is_empty() {
            let there = client.images(ImageSpace::Pods).await.map_err(|error| step_error(&error, &self.node))?;
            missing.retain(|image| !there.iter().any(|known| known.name == *image));
        }
        Ok(missing)
    }

    async fn pull(&self, client: &Client, image: &str, cx: &StepContext) -> Result<String, ClientError> {
        let pull = || async {
            // Held for as long as the pull takes; it is never closed.
            let _lane = self.ahead.lanes.acquire().await;
            client.pull_image(ImageSpace::Pods, image, &|_| {}).await
        };
        let patience = ExponentialBuilder::default().with_max_times(6).with_jitter();
        // The container runtime of a node that has just booted comes a moment later.
        let passes =
            |error: &ClientError| matches!(error.kind, ClientErrorKind::Unavailable | ClientErrorKind::NotReady);
        let pulled = pull.retry(patience).when(passes).await;
        if let Err(error) = &pulled {
            cx.tell(&format!("{image} is not pulled ahead: {}; the kubelet will try again", error.reason));
        }
        pulled
    }

    /// Pulls what is missing; what cannot be had is told, and left to the kubelet.
    async fn pull_all(&self, cx: &StepContext) -> Result<(), StepError> {
        let client = self.client().await?;
        let missing = self.missing(&client).await?;
        let client = &client;
        let pulls = stream::iter(missing).map(|image| async move { self.pull(client, &image, cx).await });
        let mut pulls = std::pin::pin!(pulls.buffer_unordered(ON_A_NODE));
        while let Some(pulled) = pulls.next().await {
            if matches!(pulled, Err(ClientError { kind: ClientErrorKind::Unimplemented, .. })) {
                cx.tell("this node pulls no images ahead; the kubelet will");
                break;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Step for Pulled {
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError> {
        let look = async { self.missing(&self.client().await?).await };
        Ok(match look.await {
            Ok(missing) if missing.is_empty() => Observation::Holds("nothing is to be pulled".to_owned()),
            Ok(missing) => Observation::Missing(format!("{} images are not there", missing.len())),
            Err(error) if error.code.is_none() && cx.attempt < 3 => {
                return Err(StepError::retryable(error.to_string()));
            }
            Err(error) => {
                cx.tell(&format!("no images are pulled ahead: {error}"));
                Observation::Holds("left to the kubelet".to_owned())
            }
        })
    }

    async fn apply(&self, cx: &StepContext) -> Result<(), StepError> {
        if let Err(error) = self.pull_all(cx).await {
            cx.tell(&format!("images are left to the kubelet: {error}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workload(kind: &str, image: &str, pod: Value) -> Workload {
        let mut spec = json!({"containers": [{"image": image}]});
        spec.as_object_mut().unwrap().extend(pod.as_object().unwrap().clone());
        Workload::of(&json!({"kind": kind, "spec": {"template": {"spec": spec}}})).unwrap()
    }

    fn host(labels: &[(&str, &str)], taints: &[&str]) -> Host {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Host { labels, taints: taints.iter().map(|taint| (*taint).to_owned()).collect() }
    }

    #[test]
    fn what_runs_on_every_node_comes_first_and_nothing_goes_where_it_cannot_run() {
        let worker = host(&[("kubernetes.io/os", "linux")], &[]);
        let control_plane = host(&[("kubernetes.io/os", "linux"), (CONTROL_PLANE, "")], &[CONTROL_PLANE]);
        let all = [worker.clone(), control_plane.clone()];
        let releases = [
            vec![
                workload("Deployment", "ghcr.io/a/operator:1", json!({"tolerations": [{"operator": "Exists"}]})),
                workload("DaemonSet", "ghcr.io/a/agent:1", json!({"tolerations": [{"operator": "Exists"}]})),
            ],
            vec![
                workload("Deployment", "ghcr.io/a/app:1", json!({})),
                workload("Job", "ghcr.io/a/gpu:1", json!({"nodeSelector": {"gpu": "yes"}})),
                workload(
                    "Deployment",
                    "ghcr.io/a/api:1",
                    json!({
                        "nodeSelector": {CONTROL_PLANE: ""}, "tolerations": [{"key": CONTROL_PLANE, "operator": "Exists"}],
                    }),
                ),
            ],
        ];
        assert_eq!(wanted(&worker, &all, &releases), ["ghcr.io/a/agent:1", "ghcr.io/a/operator:1", "ghcr.io/a/app:1"]);
        assert_eq!(
            wanted(&control_plane, &all, &releases),
            ["ghcr.io/a/agent:1", "ghcr.io/a/operator:1", "ghcr.io/a/api:1"]
        );
    }

    #[test]
    fn on_many_nodes_only_what_runs_on_each_is_pulled_and_each_once() {
        let all: Vec<Host> = (0..=FEW).map(|_| host(&[], &[])).collect();
        let releases = [
            vec![workload("DaemonSet", "nginx", json!({})), workload("Deployment", "redis", json!({}))],
            vec![workload("DaemonSet", "docker.io/library/nginx:latest", json!({}))],
        ];
        assert_eq!(wanted(&all[0], &all, &releases), ["docker.io/library/nginx:latest"]);
        assert_eq!(wanted(&all[0], &all[..FEW], &releases).len(), 2);
    }

    #[test]
    fn an_object_without_pods_is_no_workload() {
        assert_eq!(Workload::of(&json!({"kind": "Service", "spec": {"ports": []}})), None);
    }
}
