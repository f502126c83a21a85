//! What becomes of a pod on its node: a pure decision from what is known now.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::scenario::{PodFault, PodTrouble, Scenario};

/// Where a pod stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// There is no pod network on the node yet.
    NoNetwork,
    /// Images are pulled, containers created.
    Creating,
    /// An image cannot be pulled, in the registry's words.
    PullFailed(String),
    /// A volume cannot be mounted, in the plugin's words.
    MountFailed(String),
    /// Its init containers run.
    Initializing,
    Running {
        ready: bool,
    },
    /// Its container ended with an error, in the container's words, and will be started again.
    Crashed(String),
    Completed,
    /// It was to go, and has gone.
    Ended,
}

/// A stage, and when to look again although nothing changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) stage: Stage,
    pub(super) wake: Option<Instant>,
}

/// What a kubelet knows of a pod.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life<'l> {
    pub(super) pod: &'l Pod,
    /// When it was bound to the node, or when the node booted if that is later.
    pub(super) bound: Instant,
    /// When the wish to delete it was seen.
    pub(super) unwanted: Option<Instant>,
    /// When the node's network was there, if it is.
    pub(super) network: Option<Instant>,
    /// When the last of its images is on the node, once the pull has begun.
    pub(super) pulled: Option<Instant>,
}

/// Whether the pod uses its node's own network.
pub(super) fn host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

/// Whether its containers are to end by themselves.
pub(super) fn completes(pod: &Pod) -> bool {
    let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    matches!(policy, Some("Never" | "OnFailure"))
}

/// Init containers, those that go on running beside the others excepted.
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

/// The fault that befalls the pod at `now`, and the moment in which it ends.
fn trouble<'s>(
    life: &Life<'_>,
    began: Instant,
    scenario: &'s Scenario,
    now: Instant,
) -> Option<(&'s PodFault, Option<Instant>)> {
    let faults = scenario.pod_faults.iter().filter(|fault| fault.pod.selects(life.pod));
    faults
        .map(|fault| (fault, fault.lasts.map(|lasts| began + lasts.duration())))
        .find(|(_, end)| end.is_none_or(|end| now < end))
}

impl Life<'_> {
    /// When its sandbox can be there: from then on images are pulled.
    pub(super) fn sandbox(&self) -> Option<Instant> {
        if host_network(self.pod) { Some(self.bound) } else { self.network.map(|network| network.max(self.bound)) }
    }

    /// The pod's stage at `now`, given the facts that are true in the lab's world.
    pub(super) fn next(&self, scenario: &Scenario, known: &BTreeSet<String>, now: Instant) -> Next {
        let at = |stage, wake| Next { stage, wake };
        let pace = &scenario.pods;
        if let Some(unwanted) = self.unwanted {
            let end = unwanted + pace.stop.duration();
            if now >= end {
                return at(Stage::Ended, None);
            }
            return at(self.alive(scenario, known, now).stage, Some(end));
        }
        self.alive(scenario, known, now)
    }

    fn alive(&self, scenario: &Scenario, known: &BTreeSet<String>, now: Instant) -> Next {
        let at = |stage, wake| Next { stage, wake };
        if is_terminal(self.pod) {
            return at(Stage::Completed, None);
        }
        let Some(sandbox) = self.sandbox() else { return at(Stage::NoNetwork, None) };
        let crash = match trouble(self, sandbox, scenario, now) {
            Some((fault, end)) if fault.what == PodTrouble::ImagePull => {
                return at(Stage::PullFailed(fault.message.clone()), end);
            }
            Some((fault, end)) if fault.what == PodTrouble::Mount => {
                return at(Stage::MountFailed(fault.message.clone()), end);
            }
            crash => crash,
        };
        let pace = &scenario.pods;
        let Some(pulled) = self.pulled else { return at(Stage::Creating, None) };
        if now < pulled {
            return at(Stage::Creating, Some(pulled));
        }
        let count = u32::try_from(init_containers(self.pod).count()).unwrap_or(u32::MAX);
        let initialized = pulled + pace.init.duration().saturating_mul(count);
        if now < initialized {
            return at(Stage::Initializing, Some(initialized));
        }
        let started = initialized + pace.start.duration();
        if now < started {
            return at(Stage::Creating, Some(started));
        }
        if let Some((fault, end)) = crash {
            return at(Stage::Crashed(fault.message.clone()), end);
        }
        let held = pace.holds.iter().any(|hold| hold.pod.selects(self.pod) && !known.contains(&hold.until));
        self.started(started, held, pace.run.duration(), now)
    }

    fn started(&self, started: Instant, held: bool, run: Duration, now: Instant) -> Next {
        if !completes(self.pod) {
            return Next { stage: Stage::Running { ready: !held }, wake: None };
        }
        let end = started + run;
        if now >= end && !held {
            return Next { stage: Stage::Completed, wake: None };
        }
        Next { stage: Stage::Running { ready: true }, wake: (now < end).then_some(end) }
    }
}

#[cfg(test)]
mod tests {
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
        fn life<'p>(&self, pod: &'p Pod) -> Life<'p> {
            Life { pod, bound: self.start, unwanted: None, network: Some(self.start), pulled: Some(self.at(100)) }
        }

        fn stage(&self, life: &Life<'_>, millis: u64) -> Stage {
            life.next(&self.scenario, &self.known, self.at(millis)).stage
        }
    }

    #[test]
    fn a_pod_waits_for_the_network_unless_it_is_on_the_hosts() {
        let clock = Clock::new("");
        let plain = pod(json!({"containers": [{"name": "a", "image": "a"}]}));
        let without = Life { network: None, pulled: None, ..clock.life(&plain) };
        assert_eq!(clock.stage(&without, 9000), Stage::NoNetwork);
        let on_host = pod(json!({"hostNetwork": true, "containers": [{"name": "a", "image": "a"}]}));
        let host = Life { pod: &on_host, pulled: Some(clock.start), ..without };
        assert_eq!(host.sandbox(), Some(clock.start));
        assert_eq!(clock.stage(&host, 9000), Stage::Running { ready: false });
    }

    #[test]
    fn a_pod_goes_through_its_stages_and_says_when_to_look_again() {
        let clock = Clock::new("");
        let pod = pod(json!({
            "initContainers": [{"name": "i", "image": "i"}, {"name": "s", "image": "s", "restartPolicy": "Always"}],
            "containers": [{"name": "a", "image": "a"}],
        }));
        let other = pod.clone();
        let renamed = Pod { metadata: kube::api::ObjectMeta { name: Some("web-1".into()), ..other.metadata }, ..other };
        let life = clock.life(&renamed);
        let mut now = clock.start;
        let mut stages = vec![];
        loop {
            let next = life.next(&clock.scenario, &clock.known, now);
            stages.push(next.stage);
            match next.wake {
                Some(wake) => now = wake,
                None => break,
            }
        }
        let expected = [Stage::Creating, Stage::Initializing, Stage::Creating, Stage::Running { ready: true }];
        assert_eq!(stages, expected);
        assert_eq!(now, clock.at(300));
    }

    #[test]
    fn a_held_job_completes_once_the_fact_is_there() {
        let mut clock = Clock::new("");
        let job = pod(json!({"restartPolicy": "OnFailure", "containers": [{"name": "a", "image": "a"}]}));
        let life = clock.life(&job);
        assert_eq!(clock.stage(&life, 9000), Stage::Running { ready: true });
        clock.known.insert("served".to_owned());
        assert_eq!(clock.stage(&life, 250), Stage::Running { ready: true });
        assert_eq!(clock.stage(&life, 300), Stage::Completed);
    }

    #[test]
    fn a_held_pod_runs_and_is_not_ready() {
        let clock = Clock::new("");
        let web = pod(json!({"containers": [{"name": "a", "image": "a"}]}));
        assert_eq!(clock.stage(&clock.life(&web), 9000), Stage::Running { ready: false });
    }

    #[test]
    fn trouble_comes_and_goes() {
        let fault = |what: &str| {
            format!("podFaults: [{{pod: {{name: check, namespace: infra}}, what: {what}, message: no, lasts: 1000}}]")
        };
        let web = pod(json!({"containers": [{"name": "a", "image": "a"}]}));
        for (what, stage) in [
            ("image-pull", Stage::PullFailed("no".into())),
            ("mount", Stage::MountFailed("no".into())),
            ("crash", Stage::Crashed("no".into())),
        ] {
            let clock = Clock::new(&fault(what));
            let life = clock.life(&web);
            let next = life.next(&clock.scenario, &clock.known, clock.at(500));
            assert_eq!(next, Next { stage, wake: Some(clock.at(1000)) });
            assert_eq!(clock.stage(&life, 1000), Stage::Running { ready: false });
        }
    }

    #[test]
    fn an_unwanted_pod_ends_whatever_its_stage() {
        let clock = Clock::new("");
        let web = pod(json!({"containers": [{"name": "a", "image": "a"}]}));
        let life = Life { unwanted: Some(clock.at(500)), network: None, pulled: None, ..clock.life(&web) };
        let next = life.next(&clock.scenario, &clock.known, clock.at(550));
        assert_eq!(next, Next { stage: Stage::NoNetwork, wake: Some(clock.at(600)) });
        assert_eq!(clock.stage(&life, 600), Stage::Ended);
    }
}
