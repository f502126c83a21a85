//! Where the pods of a workload may run, and which images they need.

use std::collections::BTreeMap;

use helm::manifest;
use serde_json::Value;
use talos_config::registries::full_name;
use talos_config::{InventoryNode, Role};
use talos_schema::Documents;

/// Beyond so many nodes, a pod that runs on one of them is not worth a pull on each: registries count those too, and the
/// images that are needed first share the line with them.
const FEW: usize = 3;
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
pub(super) struct Host {
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
    pub(super) fn of(node: &InventoryNode, config: &Documents) -> Self {
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
pub(super) fn images_of(host: &Host, all: &[Host], releases: &[Vec<Workload>]) -> Vec<String> {
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
