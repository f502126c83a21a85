//! One bootstrap that is killed again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use kill_points::{KILL_AT, KILL_LOG};
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::end_state::end_state;
use super::remains::Remains;
use crate::common::{LabProcess, TestEnvironment};

/// A run that was not killed.
pub(super) struct Undisturbed {
    /// The name of each point that it reached.
    pub points: Vec<String>,
    pub phases: BTreeSet<String>,
    pub end_state: BTreeSet<String>,
}

pub(super) fn undisturbed(cluster: &str) -> Undisturbed {
    let environment = TestEnvironment::copy();
    let mut chain = Chain::start(&environment, cluster);
    let mut command = chain.command();
    let ended = chain.go_on(&mut command, None);
    assert_eq!(ended.code(), Some(0), "the run that is compared with failed: {:#?}", chain.last_events);
    Undisturbed { points: chain.points(), phases: chain.phases.clone(), end_state: chain.end_state() }
}

/// A resumed run writes one record for a step that is done, with a point before and after it.
const POINTS_OF_A_DONE_STEP: usize = 2;

/// Where the runs of a chain are killed.
pub(super) struct Kills(Box<dyn Iterator<Item = Kill>>);

enum Kill {
    /// At this point, counted from 1 after those of steps that were done before.
    Point(usize),
    /// After this time.
    Instant(Duration),
}

impl Kills {
    /// At the point `first`, and then at each `stride`th point of what is left to do.
    pub(super) fn at_points(first: usize, stride: usize) -> Self {
        Self(Box::new(std::iter::once(first).chain(std::iter::repeat(stride)).map(Kill::Point)))
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

/// What becomes of the first run that begins a step of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InEachPhase {
    Killed,
    NotKilled,
}

/// A lab and the runs on it.
pub(super) struct Chain<'e> {
    environment: &'e TestEnvironment,
    cluster: &'e str,
    lab: LabProcess,
    remains: Remains,
    /// Steps that an earlier run finished.
    done: BTreeSet<String>,
    last_events: Vec<String>,
    phases: BTreeSet<String>,
    in_each_phase: InEachPhase,
    /// Phases of which a step was being done when a run was killed.
    pub interrupted: BTreeSet<String>,
    /// Names of points; the first run that reaches one of a name is killed there, too.
    names: BTreeSet<String>,
    /// Names of the points at which a run was killed.
    pub killed_at: BTreeSet<String>,
}

impl<'e> Chain<'e> {
    pub(super) fn start(environment: &'e TestEnvironment, cluster: &'e str) -> Self {
        let lab = environment.lab(cluster);
        let remains = Remains::new(environment, cluster);
        let none = BTreeSet::new;
        let (done, phases, interrupted, names, killed_at) = (none(), none(), none(), none(), none());
        let in_each_phase = InEachPhase::NotKilled;
        let last_events = Vec::new();
        Self {
            environment,
            cluster,
            lab,
            remains,
            done,
            last_events,
            phases,
            in_each_phase,
            interrupted,
            names,
            killed_at,
        }
    }

    /// Kills at the first point of each name, too.
    pub(super) fn kill_at_each_name(self, points: &[String]) -> Self {
        Self { names: points.iter().cloned().collect(), ..self }
    }

    /// Kills the first run that begins a step of a phase, too.
    pub(super) fn kill_in_each_phase(self) -> Self {
        Self { in_each_phase: InEachPhase::Killed, ..self }
    }

    /// Kills until a run completes, and returns how often. `between` is called with that number before each run.
    pub(super) fn run(&mut self, kills: Kills, mut between: impl FnMut(usize) -> Inputs) -> usize {
        let mut runs_without_progress = 0;
        for (killed, kill) in kills.0.map(Some).chain(std::iter::once(None)).enumerate() {
            let done_before = self.done.len();
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
                    // A step that consists of many effects begins anew.
                    let number = self.done.len() * POINTS_OF_A_DONE_STEP + number * (1 + runs_without_progress);
                    let met = &self.killed_at;
                    let names = self.names.iter().filter(|name| !met.contains(*name)).cloned();
                    let points: Vec<String> = std::iter::once(number.to_string()).chain(names).collect();
                    command.env(KILL_AT, points.join(","));
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
            runs_without_progress = if self.done.len() > done_before { 0 } else { runs_without_progress + 1 };
            if limit.is_none() {
                self.killed_at.extend(self.points().pop());
            }
            self.check();
            // One that was killed at its first point may have recorded nothing.
            if killed == 1 {
                self.assert_that_resuming_is_asked_for();
            }
        }
        panic!("the last run was not killed and did not complete: {:#?}", self.last_events);
    }

    pub(super) fn end_state(&self) -> BTreeSet<String> {
        end_state(self.environment, self.cluster)
    }

    /// A run without `--resume` does not go on with one that was killed.
    fn assert_that_resuming_is_asked_for(&self) {
        let run = self.environment.run(&[self.cluster, "--lab"]);
        assert_eq!(run.code, 3, "{run}");
        assert!(run.stderr.contains("is unfinished"), "{run}");
    }

    fn command(&self) -> Command {
        let _ = std::fs::remove_file(self.log());
        let mut command = self.environment.command(&["-o", "json", self.cluster, "--lab"]);
        command.env(KILL_LOG, self.log());
        command
    }

    fn log(&self) -> PathBuf {
        self.environment.state().join("points")
    }

    /// The points that the last run reached.
    fn points(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Executes a run, killed after `limit`, and reads its events.
    fn go_on(&mut self, command: &mut Command, limit: Option<Duration>) -> ExitStatus {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = lines(&mut child);
        let mut deadline = limit.map(|limit| Instant::now() + limit);
        let (mut applied, mut done) = (Vec::new(), Vec::new());
        let (mut phase_of, mut begun) = (BTreeMap::new(), BTreeSet::new());
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
                        Some("run-started") => phase_of = phases(&event),
                        Some("step-started") => {
                            let is_first = phase_of.get(&step).is_some_and(|phase| !self.interrupted.contains(phase));
                            begun.insert(step);
                            if is_first && self.in_each_phase == InEachPhase::Killed {
                                child.kill().unwrap();
                            }
                        }
                        Some("applying") => applied.push(step),
                        Some("step-done") => {
                            begun.remove(&step);
                            done.push(step);
                        }
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
        if !child.wait().unwrap().success() {
            self.interrupted.extend(begun.iter().filter_map(|step| phase_of.get(step)).cloned());
        }
        self.phases.extend(phase_of.into_values());
        child.wait().unwrap()
    }

    /// What holds after each kill.
    fn check(&self) {
        self.remains.assert_none(self.environment, &self.lab);
        let accepted = self.environment.status(self.cluster)["record"]["bootstrap_accepted"].as_u64().unwrap();
        assert!(accepted <= 1, "{accepted} Bootstrap calls were accepted");
    }
}

/// The phase of each step.
fn phases(started: &Value) -> BTreeMap<String, String> {
    let text = |step: &Value, field: &str| step[field].as_str().unwrap().to_owned();
    let steps = started["steps"].as_array().unwrap();
    steps.iter().map(|step| (text(step, "id"), text(step, "phase"))).collect()
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
