//! Images pulled onto a node before a pod waits for them: in the background of the run, which never fails because of it.
//!
//! One pure function decides which node pulls what, from what the releases render. Images that a node has, and those of
//! releases that are installed already, are left out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use retry::policies::IMAGE_PULL;
use retry::{Verdict, retry};
use serde_json::Value;
use tokio::sync::{OnceCell, Semaphore};

use super::context::RunContext;
use super::errors::step_error;
use super::release::Installed;
use engine::{Action, Code, Effect, ErrorClass, Observation, StepContext, StepError, StepWait};
use helm::manifest;
use talos_client::{Client, ClientError, ClientErrorKind, ImageSpace};
use talos_config::registries::full_name;
use talos_config::{InventoryNode, Role};
use talos_schema::Documents;

/// Pulls at once, on one node and on all together: registries count requests.
const ON_A_NODE: usize = 2;
const ON_ALL: usize = 16;
/// Beyond so many nodes, a pod that runs on one of them is not worth a pull on each: registries count those too, and the
/// images that are needed first share the line with them.
const FEW: usize = 3;
/// A cluster that exists responds within this.
const API_TIMEOUT: Duration = Duration::from_secs(3);
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// Pods of one workload, as far as it matters where they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workload {
    on_every_node: bool,
    selector: BTreeMap<String, String>,
    /// Taints that it tolerates; nothing stands for all of them.
    tolerates: Option<Vec<String>>,
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
        let every = tolerations.iter().any(|toleration| tolerated(toleration).is_none());
        Some(Self {
            on_every_node: object["kind"] == "DaemonSet",
            selector: selector.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect(),
            tolerates: (!every).then(|| {
                tolerations.iter().filter_map(|toleration| tolerated(toleration)).map(str::to_owned).collect()
            }),
            images,
        })
    }

    fn may_run_on(&self, host: &Host) -> bool {
        let selected = self.selector.iter().all(|(key, value)| host.labels.get(key) == Some(value));
        let tolerated = |taint: &String| self.tolerates.as_ref().is_none_or(|tolerates| tolerates.contains(taint));
        selected && host.taints.iter().all(tolerated)
    }
}

/// The taint that a toleration is for; none when it is for all.
fn tolerated(toleration: &Value) -> Option<&str> {
    toleration.get("key").and_then(Value::as_str).filter(|key| !key.is_empty())
}

impl Host {
    /// The labels and taints that a node gets from its config. Labels from elsewhere are unknown, so no pod is expected
    /// there because of them.
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

/// The images that a node pulls, in the order in which they are needed: of each release, those of every node first.
fn images_of(host: &Host, all: &[Host], releases: &[Vec<Workload>]) -> Vec<String> {
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

/// The images that each node pulls for the releases that are still to be installed. One for the whole run.
pub(super) struct ImagePrepull {
    context: Arc<RunContext>,
    releases: Vec<Arc<Installed>>,
    lanes: Semaphore,
    /// By the node's name.
    images: OnceCell<BTreeMap<String, Vec<String>>>,
}

impl ImagePrepull {
    pub(super) fn new(context: Arc<RunContext>, releases: Vec<Arc<Installed>>) -> Self {
        Self { context, releases, lanes: Semaphore::new(ON_ALL), images: OnceCell::new() }
    }

    async fn images(&self) -> Result<&BTreeMap<String, Vec<String>>, StepError> {
        self.images.get_or_try_init(|| self.decide()).await
    }

    async fn decide(&self) -> Result<BTreeMap<String, Vec<String>>, StepError> {
        let api = tokio::time::timeout(API_TIMEOUT, self.context.kubernetes()).await.ok().and_then(Result::ok);
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
        let nodes = &self.context.cluster.inventory.nodes;
        let hosts: Vec<Host> = nodes.iter().map(|node| Host::of(node, self.context.config(node))).collect();
        let of_each = nodes.iter().zip(&hosts);
        Ok(of_each.map(|(node, host)| (node.hostname.clone(), images_of(host, &hosts, &releases))).collect())
    }
}

/// The node has the images of the releases that are still to be installed.
pub(super) struct NodeImages {
    prepull: Arc<ImagePrepull>,
    node: InventoryNode,
}

impl NodeImages {
    pub(super) fn new(prepull: Arc<ImagePrepull>, node: InventoryNode) -> Self {
        Self { prepull, node }
    }

    async fn client(&self) -> Result<Client, StepError> {
        let context = &self.prepull.context;
        let connected = context.node_client(&self.node).await;
        connected.map_err(|error| step_error(&error, &self.node))
    }

    /// The images that the node still has to pull.
    async fn missing(&self, client: &Client) -> Result<Vec<String>, StepError> {
        let mut missing = self.prepull.images().await?.get(&self.node.hostname).cloned().unwrap_or_default();
        if !missing.is_empty() {
            let there = client.images(ImageSpace::Pods).await.map_err(|error| step_error(&error, &self.node))?;
            missing.retain(|image| !there.iter().any(|known| known.name == *image));
        }
        Ok(missing)
    }

    async fn pull(&self, client: &Client, image: &str, cx: &StepContext) -> Result<String, ClientError> {
        let pull = || async {
            // Held for as long as the pull takes; the semaphore is never closed.
            let _lane = self.prepull.lanes.acquire().await;
            client.pull_image(ImageSpace::Pods, image, &|_| {}).await
        };
        // The container runtime of a node that has just booted starts a moment later.
        let passes =
            |error: &ClientError| matches!(error.kind, ClientErrorKind::Unavailable | ClientErrorKind::NotReady);
        let pulled = retry(IMAGE_PULL, pull, Verdict::by(passes)).await;
        if let Err(error) = &pulled {
            let line = format!("{image} is not pulled in advance: {}; the kubelet will retry", error.reason);
            cx.waiting(StepWait::new(line).code(Code::H13));
        }
        pulled
    }

    /// Pulls what is missing; images that cannot be pulled are left to the kubelet.
    async fn pull_all(&self, cx: &StepContext) -> Result<Effect, StepError> {
        let client = self.client().await?;
        let missing = self.missing(&client).await?;
        let (client, total) = (&client, missing.len());
        let pulls = stream::iter(missing).map(|image| async move {
            let pulled = self.pull(client, &image, cx).await;
            (image, pulled)
        });
        let mut pulls = std::pin::pin!(pulls.buffer_unordered(ON_A_NODE));
        let mut failed = Vec::new();
        while let Some((image, pulled)) = pulls.next().await {
            match pulled {
                Ok(_) => {}
                Err(ClientError { kind: ClientErrorKind::Unimplemented, .. }) => {
                    return Ok(Effect::Degraded("this Talos version cannot pull images in advance".to_owned()));
                }
                Err(error) => failed.push(format!("{image} ({})", error.reason)),
            }
        }
        failed.sort();
        Ok(match failed.as_slice() {
            [] => Effect::Complete,
            failed => Effect::Degraded(format!(
                "{} of {total} images are left to the kubelet: {}",
                failed.len(),
                failed.join("; ")
            )),
        })
    }
}

#[async_trait]
impl Action for NodeImages {
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError> {
        let missing = async { self.missing(&self.client().await?).await };
        Ok(match missing.await {
            Ok(missing) if missing.is_empty() => Observation::UpToDate("every image is on the node".to_owned()),
            Ok(missing) => Observation::Missing(format!("{} images are missing", missing.len())),
            Err(error) if error.code.is_none() && cx.attempt < 3 => {
                return Err(StepError { class: ErrorClass::Unavailable, ..error });
            }
            Err(error) => Observation::Degraded(format!("images are left to the kubelet: {error}")),
        })
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        let pulled = self.pull_all(cx).await;
        pulled.or_else(|error| Ok(Effect::Degraded(format!("images are left to the kubelet: {error}"))))
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
    fn images_of_every_node_come_first_and_none_goes_where_its_pod_cannot_run() {
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
        assert_eq!(
            images_of(&worker, &all, &releases),
            ["ghcr.io/a/agent:1", "ghcr.io/a/operator:1", "ghcr.io/a/app:1"]
        );
        assert_eq!(
            images_of(&control_plane, &all, &releases),
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
        assert_eq!(images_of(&all[0], &all, &releases), ["docker.io/library/nginx:latest"]);
        assert_eq!(images_of(&all[0], &all[..FEW], &releases).len(), 2);
    }

    #[test]
    fn an_object_without_pods_is_not_a_workload() {
        assert_eq!(Workload::of(&json!({"kind": "Service", "spec": {"ports": []}})), None);
    }
}
