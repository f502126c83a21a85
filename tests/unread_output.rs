//! A reader who does not read stops neither a run nor its signals.
#![allow(clippy::unwrap_used)]

use crate::common::TestEnvironment;

use std::os::fd::AsFd;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use test_support::{Condition, Deadline, wait_until};

/// Starts a run whose output goes into pipes of one page, which are full at once.
fn unread(environment: &TestEnvironment, arguments: &[&str]) -> Child {
    let mut command = environment.command(arguments);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    rustix::pipe::fcntl_setpipe_size(child.stdout.as_ref().unwrap().as_fd(), 4096).unwrap();
    rustix::pipe::fcntl_setpipe_size(child.stderr.as_ref().unwrap().as_fd(), 4096).unwrap();
    child
}

fn exit_code(child: &mut Child) -> Option<i32> {
    let ended = wait_until(Deadline::after(Duration::from_mins(5)), || match child.try_wait().unwrap() {
        Some(status) => Condition::Met(status),
        None => Condition::Unmet("the run still runs".to_owned()),
    });
    ended.code()
}

#[test]
fn a_run_whose_events_are_not_read_completes() {
    let environment = TestEnvironment::copy();
    let _lab = environment.lab("infra");
    let mut run = unread(&environment, &["-o", "json", "infra", "--lab"]);
    assert_eq!(exit_code(&mut run), Some(0));
}

#[test]
fn a_run_whose_output_is_not_read_stops_when_it_is_asked_to() {
    let environment = TestEnvironment::machines();
    let _lab = environment.lab("infra");
    let mut run = unread(&environment, &["infra", "--lab"]);
    // By then it has printed more than fits.
    wait_until(Deadline::after(Duration::from_mins(2)), || {
        match environment.status("infra")["record"]["bootstrap_accepted"].as_u64() {
            Some(1) => Condition::Met(()),
            accepted => Condition::Unmet(format!("{accepted:?} Bootstrap calls")),
        }
    });
    kill_process(Pid::from_child(&run), Signal::TERM).unwrap();
    assert_eq!(exit_code(&mut run), Some(130));
}
