use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use engine::journal::{Epoch, History, Holder, Journal, Lock, LockError, RunId, Store, Stored};
use engine::plan::{Plan, Step, StepId, builtin_phases};
use engine::{Action, Effect, Engine, Observation, StepError, StepSet, StopSignal};
use jiff::Timestamp;
use talos_client::{ContainerEnd, ContainerWait};

use super::*;

const API: &str = "no API server of the cluster is ready; 10.0.0.1:6443: Connection refused";
/// Talos 1.12.4 about an image that no registry has.
const PULL: &str = "Failed to run pre stage: failed to pull image \"ghcr.io/siderolabs/kubelet:v1.35.9\": not found";
const RESTART: &str =
    "Error running Containerd(kubelet), going to restart forever: task \"kubelet\" failed: exit code 1";

fn service(state: &str, healthy: bool, events: &[&str]) -> Vec<Service> {
    vec![Service {
        id: "kubelet".to_owned(),
        state: state.to_owned(),
        healthy,
        last_message: if healthy { String::new() } else { "connection refused".to_owned() },
        events: events.iter().map(|event| (*event).to_owned()).collect(),
    }]
}

fn shown(issue: Option<HealthIssue>) -> (Option<Code>, String) {
    issue.map_or((None, String::new()), |issue| (issue.code, issue.text))
}

#[test]
fn a_kubelet_that_starts_is_distinguished_from_one_that_does_not() {
    let kubelet = |state, healthy, events: &[&str]| shown(kubelet(&service(state, healthy, events)));
    assert_eq!(kubelet("Running", true, &[RESTART, "Started task kubelet"]), (None, String::new()));
    assert_eq!(kubelet("Failed", false, &[PULL]), (Some(Code::T27), format!("the kubelet does not start: {PULL}")));
    let unhealthy = kubelet("Failed", false, &[PULL, "Health check failed: service not running"]);
    assert_eq!(unhealthy, (Some(Code::T27), format!("the kubelet does not start: {PULL}")));
    let crashing = (Some(Code::T27), format!("the kubelet is crash-looping: {RESTART}"));
    assert_eq!(kubelet("Waiting", false, &["Started task", RESTART]), crashing);
    // Between two ends it runs for a moment.
    assert_eq!(kubelet("Running", false, &[RESTART, "Started task kubelet (PID 7)"]), crashing);
    let starting = (None, "the kubelet is preparing: Running pre state".to_owned());
    assert_eq!(kubelet("Preparing", false, &["Running pre state"]), starting);
    assert_eq!(
        kubelet("Running", false, &["Started task kubelet"]),
        (None, "the kubelet is not healthy: connection refused".to_owned())
    );
    assert_eq!(shown(super::kubelet(&[])), (None, "Talos does not list the kubelet yet".to_owned()));
}

fn pod(reason: &str, message: &str, end: Option<ContainerEnd>) -> Vec<HealthIssue> {
    let waiting = Some(ContainerWait { reason: reason.to_owned(), message: message.to_owned() });
    let container = StaticPodContainer { name: "kube-apiserver".to_owned(), waiting, last_end: end };
    let status = StaticPodStatus { containers: vec![container], ..StaticPodStatus::default() };
    static_pod("kube-system/kube-apiserver-cp-1", &status)
}

fn exit_code_1() -> ContainerEnd {
    ContainerEnd { exit_code: 1, reason: "Error".to_owned(), message: "unknown flag:\n  --foo".to_owned() }
}

#[test]
fn a_static_pod_that_fails_shows_the_kubelets_message_and_how_it_ended() {
    let texts = |issues: Vec<HealthIssue>| issues.into_iter().map(|issue| shown(Some(issue))).collect::<Vec<_>>();
    let crashing = "static pod kube-apiserver-cp-1 is in CrashLoopBackOff: back-off 40s restarting failed container; it \
                    ended last with exit code 1 (unknown flag: --foo)";
    let found = pod("CrashLoopBackOff", "back-off 40s restarting failed container", Some(exit_code_1()));
    assert_eq!(texts(found), [(Some(Code::T28), crashing.to_owned())]);
    let unpulled = "static pod kube-apiserver-cp-1 is in ImagePullBackOff: Back-off pulling image";
    let found = pod("ImagePullBackOff", "Back-off pulling image", None);
    assert_eq!(texts(found), [(Some(Code::T28), unpulled.to_owned())]);
    let creating = "static pod kube-apiserver-cp-1 is in ContainerCreating";
    assert_eq!(texts(pod("ContainerCreating", "", None)), [(None, creating.to_owned())]);
}

#[test]
fn what_fails_is_named_first_and_is_no_progress() {
    let node = |name: &str, issues: Vec<HealthIssue>| NodeHealth { node: name.to_owned(), issues };
    assert_eq!(api_wait(API, &[node("cp-1", vec![])]), StepWait::new(API).code(Code::K01));
    let starting = HealthIssue::starting("the kubelet is preparing: Running pre state".to_owned());
    let line = format!("{API}; cp-1: the kubelet is preparing: Running pre state");
    assert_eq!(api_wait(API, &[node("cp-1", vec![starting.clone()])]), StepWait::new(line).code(Code::K01));

    let kubelet = HealthIssue::failing(Code::T27, format!("the kubelet does not start: {PULL}"));
    let nodes =
        [node("cp-1", vec![starting]), node("cp-2", pod("CrashLoopBackOff", "", None)), node("cp-3", vec![kubelet])];
    let wait = api_wait(API, &nodes);
    assert_eq!(wait.code, Some(Code::T27));
    assert_eq!(wait.trend, engine::WaitTrend::Stuck);
    assert!(wait.line.starts_with("cp-1: the kubelet is preparing") && wait.line.ends_with(API), "{}", wait.line);
    assert_eq!(api_wait(API, &nodes[..2]).code, Some(Code::T28));
}

#[test]
fn talos_s_diagnosis_and_long_messages_are_one_line() {
    let overlap = Diagnostic {
        message: "host and Kubernetes pod/service CIDR addresses overlap".to_owned(),
        details: Some(vec!["host:\n10.244.0.5/24".to_owned()]),
    };
    assert_eq!(
        diagnosis("address-overlap", &overlap).text,
        "Talos's diagnosis address-overlap: host and Kubernetes pod/service CIDR addresses overlap; host: 10.244.0.5/24"
    );
    assert_eq!(one_line(&"é".repeat(400)).chars().count(), LONGEST + 1);
}

/// A journal that is not read.
struct NoStore;

#[async_trait]
impl Store for NoStore {
    fn location(&self) -> String {
        String::new()
    }

    async fn read(&self) -> io::Result<Stored> {
        Ok(Stored::default())
    }

    async fn append(&self, _line: &str) -> io::Result<()> {
        Ok(())
    }

    async fn archive(&self, _epoch: Epoch, _now: Timestamp) -> io::Result<String> {
        unreachable!("no epoch ends")
    }

    async fn lock(&self, _holder: Holder) -> Result<Lock, LockError> {
        unreachable!("no run locks it")
    }

    async fn holder(&self) -> Option<Holder> {
        None
    }
}

/// A gate behind an API that never comes.
struct Gate(Vec<NodeHealth>);

#[async_trait]
impl Action for Gate {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        Ok(Observation::InProgress(API.to_owned()))
    }

    async fn apply(&self, _cx: &StepContext) -> Result<Effect, StepError> {
        unreachable!("nothing is missing")
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        cx.waiting(api_wait(API, &self.0));
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_the_step_fails_with_the_reason_and_the_code_of_the_kubelet() {
    let id = StepId::new("kubernetes-api/ready");
    let plan = Plan::new(&builtin_phases().unwrap(), vec![Step::new("kubernetes-api", "ready", Code::K01)]).unwrap();
    let kubelet = HealthIssue::failing(Code::T27, format!("the kubelet does not start: {PULL}"));
    let mut steps = StepSet::default();
    steps.action(id.clone(), Arc::new(Gate(vec![NodeHealth { node: "cp-1".to_owned(), issues: vec![kubelet] }])));
    let journal = Journal::new(Arc::new(NoStore), RunId::new(Timestamp::now()), Epoch::FIRST);
    let report = Engine::new(plan, steps, journal, &History::default(), vec![], StopSignal::default()).run().await;
    let (step, error) = &report.failures[0];
    assert_eq!((step, error.code), (&id, Some(Code::T27)));
    let text = error.to_string();
    assert!(text.contains(&format!("cp-1: the kubelet does not start: {PULL}; {API}")), "{text}");
}
