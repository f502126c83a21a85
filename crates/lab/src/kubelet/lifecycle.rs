//! The stage of a pod on its node, as a pure function of what the kubelet knows.

use std::collections::BTreeSet;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::scenario::{PodFault, PodFaultKind, Scenario};

/// The stage of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PodStage {
    /// The node has no pod network yet.
    NoNetwork,
    /// Images are pulled, containers created.
    Creating,
    /// An image cannot be pulled. Contains the registry's error message.
    PullFailed(String),
    /// A volume cannot be mounted. Contains the volume plugin's error message.
    MountFailed(String),
    /// Its init containers run.
    Initializing,
    Running {
        ready: bool,
    },
    /// Its container is crash-looping. Contains the container's error message.
    Crashed(String),
    Completed,
    /// It was deleted and has ended.
    Ended,
}

/// A stage, and when it changes by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NextStage {
    pub(super) stage: PodStage,
    pub(super) wake: Option<Instant>,
}

/// What a kubelet knows about a pod.
#[derive(Debug, Clone, Copy)]
pub(super) struct PodTimeline<'l> {
    pub(super) pod: &'l Pod,
    /// When it was bound to the node, or when the node booted, if that was later.
    pub(super) bound: Instant,
    /// When its deletion was seen.
    pub(super) deleted: Option<Instant>,
    /// When the node's network became ready.
    pub(super) network: Option<Instant>,
    /// When the last of its images is on the node. `None` before the pull starts.
    pub(super) pulled: Option<Instant>,
}

/// Whether the pod uses its node's network.
pub(super) fn uses_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

/// Whether its containers run to completion.
pub(super) fn completes(pod: &Pod) -> bool {
    let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    matches!(policy, Some("Never" | "OnFailure"))
}

/// Init containers without sidecars.
pub(super) fn init_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let all = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    all.filter(|container| container.restart_policy.as_deref() != Some("Always"))
}

/// The images that the pod needs.
pub(super) fn images(pod: &Pod) -> impl Iterator<Item = &str> {
    let spec = pod.spec.iter();
    let containers = spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    containers.filter_map(|container| container.image.as_deref())
}

fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether a scenario's `holds` keep the pod from becoming ready or completing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Completion {
    Allowed,
    Held,
}

/// A fault of a pod.
struct ActiveFault<'s> {
    fault: &'s PodFault,
    end: Option<Instant>,
}

/// The fault that affects the pod at `now`.
fn active_fault<'s>(
    timeline: &PodTimeline<'_>,
    began: Instant,
    scenario: &'s Scenario,
    now: Instant,
) -> Option<ActiveFault<'s>> {
    let faults = scenario.pod_faults.iter().filter(|fault| fault.pod.selects(timeline.pod));
    faults
        .map(|fault| ActiveFault { fault, end: fault.lasts.map(|lasts| began + lasts.duration()) })
        .find(|active| active.end.is_none_or(|end| now < end))
}

impl PodTimeline<'_> {
    /// When its sandbox can be created. From then on images are pulled.
    pub(super) fn sandbox(&self) -> Option<Instant> {
        if uses_host_network(self.pod) { Some(self.bound) } else { self.network.map(|network| network.max(self.bound)) }
    }

    /// The pod's stage at `now`, given the facts in the lab's record.
    pub(super) fn next(&self, scenario: &Scenario, known: &BTreeSet<String>, now: Instant) -> NextStage {
        let at = |stage, wake| NextStage { stage, wake };
        let timings = &scenario.pods;
        if let Some(deleted) = self.deleted {
            let end = deleted + timings.stop.duration();
            if now >= end {
                return at(PodStage::Ended, None);
            }
            return at(self.stage_while_running(scenario, known, now).stage, Some(end));
        }
        self.stage_while_running(scenario, known, now)
    }

    fn stage_while_running(&self, scenario: &Scenario, known: &BTreeSet<String>, now: Instant) -> NextStage {
        let at = |stage, wake| NextStage { stage, wake };
        if is_terminal(self.pod) {
            return at(PodStage::Completed, None);
        }
        let Some(sandbox) = self.sandbox() else { return at(PodStage::NoNetwork, None) };
        let crash = match active_fault(self, sandbox, scenario, now) {
            None => None,
            Some(ActiveFault { fault, end }) => match fault.what {
                PodFaultKind::ImagePull => return at(PodStage::PullFailed(fault.message.clone()), end),
                PodFaultKind::Mount => return at(PodStage::MountFailed(fault.message.clone()), end),
                PodFaultKind::Crash => Some(ActiveFault { fault, end }),
            },
        };
        let timings = &scenario.pods;
        let Some(pulled) = self.pulled else { return at(PodStage::Creating, None) };
        if now < pulled {
            return at(PodStage::Creating, Some(pulled));
        }
        let count = u32::try_from(init_containers(self.pod).count()).unwrap_or(u32::MAX);
        let initialized = pulled + timings.init.duration().saturating_mul(count);
        if now < initialized {
            return at(PodStage::Initializing, Some(initialized));
        }
        let started = initialized + timings.start.duration();
        if now < started {
            return at(PodStage::Creating, Some(started));
        }
        if let Some(crash) = crash {
            return at(PodStage::Crashed(crash.fault.message.clone()), crash.end);
        }
        let is_held = timings.holds.iter().any(|hold| hold.pod.selects(self.pod) && !known.contains(&hold.until));
        let completion = if is_held { Completion::Held } else { Completion::Allowed };
        self.stage_after_start(started + timings.run.duration(), completion, now)
    }

    /// The stage of started containers. Those that run to completion do so at `end`, unless the pod is held.
    fn stage_after_start(&self, end: Instant, completion: Completion, now: Instant) -> NextStage {
        if !completes(self.pod) {
            return NextStage { stage: PodStage::Running { ready: completion == Completion::Allowed }, wake: None };
        }
        if now >= end && completion == Completion::Allowed {
            return NextStage { stage: PodStage::Completed, wake: None };
        }
        NextStage { stage: PodStage::Running { ready: true }, wake: (now < end).then_some(end) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "check-x7", "namespace": "infra"}, "spec": spec})).unwrap()
    }

    /// Everything takes 100 ms.
    fn scenario(extra: &str) -> Scenario {
        let file = tempfile::NamedTempFile::new().unwrap();
        let pods = "imagePull: 100, init: 100, start: 100, run: 100, stop: 100, images: {}";
        std::fs::write(
            file.path(),
            format!("pods: {{{pods}, holds: [{{pod: {{name: check}}, until: served}}]}}\n{extra}"),
        )
        .unwrap();
        Scenario::load(file.path().to_str().unwrap()).unwrap()
    }

    struct Clock {
        start: Instant,
        scenario: Scenario,
        known: BTreeSet<String>,
    }

    impl Clock {
        fn new(extra: &str) -> Self {
            Self { start: Instant::now(), scenario: scenario(extra), known: BTreeSet::new() }
        }

        fn at(&self, millis: u64) -> Instant {
            self.start + Duration::from_millis(millis)
        }

        /// A pod that was bound at 0 on a node with a network, its images there at 100 ms.
        fn timeline<'p>(&self, pod: &'p Pod) -> PodTimeline<'p> {
            PodTimeline { pod, bound: self.start, deleted: None, network: Some(self.start), pulled: Some(self.at(100)) }
        }

        fn stage(&self, timeline: &PodTimeline<'_>, millis: u64) -> PodStage {
            timeline.next(&self.scenario, &self.known, self.at(millis)).stage
        }
    }

    #[test]
    fn a_pod_waits_for_the_network_unless_it_uses_the_hosts() {
        let clock = Clock::new("");
        let plain = pod(json!({"containers": [{"name": "a", "image": "a"}]}));
        let without = PodTimeline { network: None, pulled: None, ..clock.timeline(&plain) };
        assert_eq!(clock.stage(&without, 9000), PodStage::NoNetwork);
        let on_host = pod(json!({"hostNetwork": true, "containers": [{"name": "a", "image": "a"}]}));
        let host = PodTimeline { pod: &on_host, pulled: Some(clock.start), ..without };
        assert_eq!(host.sandbox(), Some(clock.start));
        assert_eq!(clock.stage(&host, 9000), PodStage::Running { ready: false });
    }

    #[test]
    fn a_pod_passes_its_stages_and_reports_the_next_change() {
        let clock = Clock::new("");
        let pod = pod(json!({
            "initContainers": [{"name": "i", "image": "i"}, {"name": "s", "image": "s", "restartPolicy": "Always"}],
            "containers": [{"name": "a", "image": "a"}],
        }));
        let other = pod.clone();
        let renamed = Pod { metadata: kube::api::ObjectMeta { name: Some("web-1".into()), ..other.metadata }, ..other };
        let timeline = clock.timeline(&renamed);
        let mut now = clock.start;
        let mut stages = vec![];
        loop {
            let next = timeline.next(&clock.scenario, &clock.known, now);
            stages.push(next.stage);
            match next.wake {
                Some(wake) => now = wake,
                None => break,
            }
        }
        let expected =
            [PodStage::Creating, PodStage::Initializing, PodStage::Creating, PodStage::Running { ready: true }];
        assert_eq!(stages, expected);
        assert_eq!(now, clock.at(300));
    }

    #[test]
    fn a_held_job_completes_once_the_fact_is_true() {
        let mut clock = Clock::new("");
        let job = pod(json!({"restartPolicy": "OnFailure", "containers": [{"name": "a", "image": "a"}]}));
        let timeline = clock.timeline(&job);
        assert_eq!(clock.stage(&timeline, 9000), PodStage::Running { ready: true });
        clock.known.insert("served".to_owned());
        assert_eq!(clock.stage(&timeline, 250), PodStage::Running { ready: true });
        assert_eq!(clock.stage(&timeline, 300), PodStage::Completed);
    }

    #[test]
    fn a_held_pod_runs_and_is_not_ready() {
        let clock = Clock::new("");
        let web = pod(json!({"containers": [{"name": "a", "image": "a"}]}));
        assert_eq!(clock.stage(&clock.timeline(&web), 9000), PodStage::Running { ready: false });
    }

    #[test]
    fn a_fault_ends_after_its_time() {
        let fault = |what: &str| {
            format!("podFaults: [{{pod: {{name: check, namespace: infra}}, what: {what}, message: no, lasts: 1000}}]")
        };
        let web = pod(json!({"containers": [{"name": "a", "image": "a"}]}));
        for (what, stage) in [
            ("image-pull", PodStage::PullFailed("no".into())),
            ("mount", PodStage::MountFailed("no".into())),
            ("crash", PodStage::Crashed("no".into())),
        ] {
            let clock = Clock::new(&fault(what));
            let timeline = clock.timeline(&web);
            let next = timeline.next(&clock.scenario, &clock.known, clock.at(500));
            assert_eq!(next, NextStage { stage, wake: Some(clock.at(1000)) });
            assert_eq!(clock.stage(&timeline, 1000), PodStage::Running { ready: false });
        }
    }

    #[test]
    fn a_deleted_pod_ends_in_every_stage() {
        let clock = Clock::new("");
        let web = pod(json!({"containers": [{"name": "a", "image": "a"}]}));
        let timeline =
            PodTimeline { deleted: Some(clock.at(500)), network: None, pulled: None, ..clock.timeline(&web) };
        let next = timeline.next(&clock.scenario, &clock.known, clock.at(550));
        assert_eq!(next, NextStage { stage: PodStage::NoNetwork, wake: Some(clock.at(600)) });
        assert_eq!(clock.stage(&timeline, 600), PodStage::Ended);
    }
}
