//! The limits of a rollout: how many workers at once, a drain that is blocked, an API that stays away.

use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// Machines that take long enough to boot for two outages to overlap.
const SLOW: &str = "base: fast\nboot: 3000\n";

/// The largest number of nodes that were down at once.
fn most_at_once(outages: &[Outage]) -> usize {
    let down_at = |moment: f64| outages.iter().filter(|outage| outage.began <= moment && moment < outage.ended).count();
    outages.iter().map(|outage| down_at(outage.began)).max().unwrap_or_default()
}

fn is_control_plane(outage: &Outage) -> bool {
    outage.node.starts_with("infra-cp")
}

/// No other node was down while a control plane was.
fn assert_control_planes_alone(outages: &[Outage]) {
    for control_plane in outages.iter().filter(|outage| is_control_plane(outage)) {
        for other in outages.iter().filter(|other| other.node != control_plane.node) {
            let is_apart = other.ended <= control_plane.began || control_plane.ended <= other.began;
            assert!(is_apart, "{other:?} was down with the control plane {control_plane:?}");
        }
    }
}

#[test]
fn as_many_workers_reboot_at_once_as_the_operator_allows() {
    let (environment, _lab) = finished_with(SLOW);
    add(&environment, NEEDS_REBOOT);
    let since = now(&environment);
    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab", "--max-unavailable", "2"]);
    assert_eq!(code, 0, "{err}");
    let outages = outages(&environment, since);
    assert_eq!(outages.len(), NODES.len(), "{outages:#?}");
    assert_control_planes_alone(&outages);
    assert_eq!(outages.iter().filter(|outage| !is_control_plane(outage)).count(), 3);
    assert_eq!(most_at_once(&outages), 2, "{outages:#?}");
    assert_none_cordoned(&environment);
}

#[test]
fn a_drain_that_is_blocked_stops_the_rollout_and_changes_nothing() {
    let (environment, _lab) = finished();
    let labels = json!({"app": "guarded"});
    create(
        &environment,
        &json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "guarded", "namespace": "default"},
            "spec": {"replicas": 3, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [{"name": "app", "image": "example.org/app:1"}],
                    // One on each worker.
                    "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                        {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"},
                    ]}},
                },
            }},
        }),
    );
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "guard", "namespace": "default"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": labels}},
    });
    create(&environment, &budget);
    environment.kubectl_wait("infra", &["deployment/guarded", "--for=condition=Available"]);
    add(&environment, NEEDS_REBOOT);
    let since = now(&environment);
    let CommandOutput { code, stdout: out, stderr: err, .. } =
        environment.run(&["infra", "--lab", "--drain-timeout", "2s"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(err.contains("error[T24]: the node cannot be drained"), "{err}");
    assert!(err.contains("is left after 2s without progress: PodDisruptionBudget guard allows no disruption"), "{err}");
    assert!(err.contains("error[T21]: the node was not rebooted, because the rollout ended"), "{err}");
    assert_none_cordoned(&environment);
    let stopped = outages(&environment, since);
    assert!(stopped.iter().all(|outage| outage.node.starts_with("infra-cp")), "{stopped:#?}");

    environment.kubectl_delete("infra", &["poddisruptionbudget", "guard"]);
    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab", "--resume"]);
    assert_eq!(code, 0, "{err}");
    assert_one_at_a_time(&outages(&environment, since));
    assert_none_cordoned(&environment);
}

/// The lab's kube-apiserver, stopped until this is dropped: it accepts connections and answers nothing.
struct StoppedApi(Pid);

impl StoppedApi {
    fn new(environment: &TestEnvironment) -> Self {
        let folder = environment.state().join("labs/infra").display().to_string();
        let is_ours = |path: &PathBuf| {
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.split(' ').next().is_some_and(|program| program.ends_with("kube-apiserver")) && line.contains(&folder)
        };
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
        let found = processes.filter(is_ours).find_map(|path| path.file_name()?.to_str()?.parse().ok());
        let pid = Pid::from_raw(found.unwrap_or_else(|| panic!("the lab has no kube-apiserver"))).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for StoppedApi {
    fn drop(&mut self) {
        // A node's reboot may have ended it.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Reads events until one of them has this text in its reason or detail.
fn until_text(child: &mut Child, part: &str) -> impl Iterator<Item = Value> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let is_seen = events.by_ref().any(|event| event.to_string().contains(part));
    assert!(is_seen, "the run ended without: {part}");
    events
}

#[test]
fn an_api_that_stays_away_is_reported_and_etcd_alone_decides() {
    let (environment, _lab) = finished();
    add(&environment, NEEDS_REBOOT);
    let since = now(&environment);
    let api = StoppedApi::new(&environment);
    let mut run = environment.command(&["-o", "json", "infra", "--lab"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut events = until_text(&mut run, "the Kubernetes API does not respond");
    let decides = "the Kubernetes API does not respond: etcd's quorum alone decides, and the node is not drained";
    assert!(events.by_ref().any(|event| event["reason"] == decides), "the run ended without: {decides}");
    // The reboot of the control plane that the API server runs on may start it again; otherwise it is back now.
    drop(api);
    events.for_each(drop);
    assert_eq!(run.wait().unwrap().code(), Some(0));
    let rebooted = outages(&environment, since);
    assert_eq!(rebooted.len(), NODES.len(), "{rebooted:#?}");
    assert_control_planes_alone(&rebooted);
    assert_none_cordoned(&environment);
}

#[test]
fn a_cordon_that_a_run_left_is_removed_although_the_api_was_away_at_first() {
    let (environment, _lab) = finished();
    let cordon = r#"{"metadata":{"annotations":{"k8s-bootstrap.io/cordoned":"true"}},"spec":{"unschedulable":true}}"#;
    for node in ["infra-cp-02", "infra-worker-02"] {
        environment.kubectl("infra", &["patch", "node", node, "-o", "json", "--type", "merge", "-p", cordon]);
    }
    let api = StoppedApi::new(&environment);
    // An unfinished run, so that this one resumes it.
    let mut run =
        environment.command(&["-o", "json", "infra", "--lab", "--resume"]).stdout(Stdio::piped()).spawn().unwrap();
    let events = until_text(&mut run, "whether it is cordoned is unknown while the Kubernetes API does not respond");
    drop(api);
    events.for_each(drop);
    assert_eq!(run.wait().unwrap().code(), Some(0));
    assert_none_cordoned(&environment);
}
