//! One bootstrap that is killed again and again.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use kill_points::{KILL_AT, KILL_LOG};
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::end_state::end_state;
use crate::common::{LabProcess, TestEnvironment};

/// The number of points of a run that is not killed, and the end state.
pub(super) fn count_points(environment: &TestEnvironment, cluster: &str) -> (usize, BTreeSet<String>) {
    let mut chain = Chain::start(environment, cluster);
    let log = environment.state().join("points");
    let mut command = chain.command();
    command.env(KILL_LOG, &log);
    let ended = chain.go_on(&mut command, None);
    assert_eq!(ended.code(), Some(0), "the run that is compared with failed: {:#?}", chain.last_events);
    (std::fs::read_to_string(log).unwrap().lines().count(), chain.end_state())
}

/// Where the runs of a chain are killed.
pub(super) struct Kills(Box<dyn Iterator<Item = Kill>>);

enum Kill {
    /// At this point, counted from 1 in each run.
    Point(usize),
    /// After this time.
    Instant(Duration),
}

impl Kills {
    pub(super) fn at_points(first: usize, stride: usize) -> Self {
        Self(Box::new((first..).step_by(stride).map(Kill::Point)))
    }

    /// At `count` instants that the seed decides.
    pub(super) fn at_instants(seed: u64, count: usize) -> Self {
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let instants = (0..count).map(move |_| Kill::Instant(Duration::from_millis(random.random_range(200..9_000))));
        Self(Box::new(instants))
    }
}

/// Whether the operator corrects an input between two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inputs {
    Unchanged,
    Changed,
}

/// A lab and the runs on it.
pub(super) struct Chain<'e> {
    environment: &'e TestEnvironment,
    cluster: &'e str,
    _lab: LabProcess,
    /// Steps that an earlier run finished.
    done: BTreeSet<String>,
    last_events: Vec<String>,
}

impl<'e> Chain<'e> {
    pub(super) fn start(environment: &'e TestEnvironment, cluster: &'e str) -> Self {
        let lab = environment.lab(cluster);
        Self { environment, cluster, _lab: lab, done: BTreeSet::new(), last_events: Vec::new() }
    }

    /// Kills until a run completes, and returns how often. `between` is called with that number before each run.
    pub(super) fn run(&mut self, kills: Kills, mut between: impl FnMut(usize) -> Inputs) -> usize {
        for (killed, kill) in kills.0.map(Some).chain(std::iter::once(None)).enumerate() {
            if between(killed) == Inputs::Changed {
                // Steps that were done are due again.
                self.done.clear();
            }
            let mut command = self.command();
            if killed > 0 {
                command.arg("--resume");
            }
            let limit = match kill {
                Some(Kill::Point(number)) => {
                    command.env(KILL_AT, number.to_string());
                    None
                }
                Some(Kill::Instant(limit)) => Some(limit),
                None => None,
            };
            let ended = self.go_on(&mut command, limit);
            if ended.code() == Some(0) {
                return killed;
            }
            assert_eq!(ended.signal(), Some(9), "run {} failed: {:#?}", killed + 1, self.last_events);
            self.check();
        }
        panic!("the last run was not killed and did not complete: {:#?}", self.last_events);
    }

    pub(super) fn end_state(&self) -> BTreeSet<String> {
        end_state(self.environment, self.cluster)
    }

    fn command(&self) -> Command {
        self.environment.command(&["-o", "json", self.cluster, "--lab"])
    }

    /// Executes a run, killed after `limit`, and reads its events.
    fn go_on(&mut self, command: &mut Command, limit: Option<Duration>) -> ExitStatus {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = lines(&mut child);
        let mut deadline = limit.map(|limit| Instant::now() + limit);
        let (mut applied, mut done) = (Vec::new(), Vec::new());
        self.last_events.clear();
        loop {
            let line = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(left) => lines.recv_timeout(left),
            };
            match line {
                Ok(line) => {
                    // The last line of a killed run may be cut off.
                    let event: Value = serde_json::from_str(&line).unwrap_or_default();
                    let step = event["step"].as_str().unwrap_or_default().to_owned();
                    match event["event"].as_str() {
                        Some("applying") => applied.push(step),
                        Some("step-done") => done.push(step),
                        _ => {}
                    }
                    self.last_events.push(line);
                }
                Err(RecvTimeoutError::Timeout) => {
                    child.kill().unwrap();
                    deadline = None;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let repeated: Vec<&String> = applied.iter().filter(|step| self.done.contains(*step)).collect();
        assert!(repeated.is_empty(), "finished steps were repeated: {repeated:?}");
        self.done.extend(done);
        child.wait().unwrap()
    }

    /// What holds after each kill.
    fn check(&self) {
        self.environment.wait_for_no_helm(self.cluster);
        let accepted = self.environment.status(self.cluster)["record"]["bootstrap_accepted"].as_u64().unwrap();
        assert!(accepted <= 1, "{accepted} Bootstrap calls were accepted");
    }
}

fn lines(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
