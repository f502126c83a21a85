//! A run whose output is not read.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::process::Stdio;
use std::time::Duration;

use common::TestEnvironment;
use rustix::process::{Pid, Signal, kill_process};
use test_support::{Condition, Deadline, wait_until};

#[test]
fn a_full_pipe_stops_neither_a_run_nor_its_signals() {
    let environment = TestEnvironment::machines();
    let _lab = environment.lab("infra");
    // The first event, which lists every step, fills it.
    let (_reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    let mut command = environment.command(&["-o", "json", "infra", "--lab"]);
    let mut run = command.stdout(writer.try_clone().unwrap()).stderr(writer).stdin(Stdio::null()).spawn().unwrap();
    drop(command);
    let journal = environment.state().join("labs/infra/run/journal.jsonl");
    wait_until(Deadline::after(Duration::from_mins(3)), || {
        let text = std::fs::read_to_string(&journal).unwrap_or_default();
        let is_far = |line: &str| line.contains("\"step-done\"") && line.contains("\"kubernetes-api/nodes\"");
        if text.lines().any(is_far) { Condition::Met(()) } else { Condition::Unmet(text) }
    });
    kill_process(Pid::from_child(&run), Signal::TERM).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
}
