use std::io::Write;
use std::sync::{Arc, Mutex};

use super::*;
use engine::plan::StepId;
use engine::{Code, Event, EventKind, Outcome, RunOutcome, StepError, Subscriber};

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn mask() -> Mask {
    Arc::new(|text: &str| text.replace("hunter2", "******"))
}

fn events() -> Vec<Event> {
    let step = StepId::new("release/kube-system/cilium");
    let error = StepError::failed_precondition("helm could not install the release")
        .with_place("release kube-system/cilium")
        .because("the token hunter2 was rejected")
        .next("k8s-bootstrap blue --resume")
        .code(Code::H10);
    vec![
        EventKind::Waiting { step: step.clone(), reason: "2 of 6 pods ready".into(), code: None },
        EventKind::StepDone { step: step.clone(), outcome: Outcome::Applied, seconds: 4.25 },
        EventKind::StepFailed { step, error },
        EventKind::RunEnded { outcome: RunOutcome::Failed, seconds: 9.0 },
    ]
    .into_iter()
    .map(|kind| Event { elapsed: 1.5, kind })
    .collect()
}

#[test]
fn plain_lines_answer_what_where_why_and_what_next_and_hide_secrets() {
    let out = Shared::default();
    let lines = PlainLines::new(Sink::new(out.clone(), mask()));
    events().iter().for_each(|event| lines.notice(event));
    insta::assert_snapshot!(out.text(), @r"
    [    1.5s] release/kube-system/cilium: waiting: 2 of 6 pods ready
    [    1.5s] release/kube-system/cilium: done in 4.2s
    [    1.5s] release/kube-system/cilium: error[H10]: helm could not install the release
    [    1.5s]     where: release kube-system/cilium
    [    1.5s]     why: the token ****** was rejected
    [    1.5s]     page: docs/errors/H10.md
    [    1.5s]     next: k8s-bootstrap blue --resume
    [    1.5s] failed after 9.0s; resume with --resume
    ");
}

#[test]
fn json_lines_are_one_event_each_and_hide_secrets() {
    let out = Shared::default();
    let json = JsonLines::new(Sink::new(out.clone(), mask()));
    events().iter().for_each(|event| json.notice(event));
    let text = out.text();
    assert!(!text.contains("hunter2"), "{text}");
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        first,
        serde_json::json!({"elapsed": 1.5, "event": "waiting", "step": "release/kube-system/cilium",
                           "reason": "2 of 6 pods ready"})
    );
    assert_eq!(text.lines().count(), 4);
}
