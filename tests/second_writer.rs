//! Two operators of one cluster, each with a state folder of its own.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{TestEnvironment, failures};
use jiff::Timestamp;
use serde_json::{Value, json};
use test_support::CommandOutput;

/// The state folder of another operator, who sees the same lab.
fn other_operator(environment: &TestEnvironment, name: &str) -> PathBuf {
    let (ours, state) = (environment.state().join("labs/infra"), environment.state().join(name));
    let theirs = state.join("labs/infra");
    std::fs::create_dir_all(&theirs).unwrap();
    for entry in std::fs::read_dir(ours).unwrap().map(Result::unwrap).filter(|entry| entry.file_name() != "run") {
        std::os::unix::fs::symlink(entry.path(), theirs.join(entry.file_name())).unwrap();
    }
    state
}

fn apply(environment: &TestEnvironment, object: &Value) {
    let file = environment.state().join("object.json");
    std::fs::write(&file, object.to_string()).unwrap();
    environment.kubectl("infra", &["apply", "-o", "json", "-f", file.to_str().unwrap()]);
}

/// The record that helm writes before it begins.
fn pending_record(since: Timestamp) -> Value {
    let release = json!({
        "name": "cilium", "namespace": "kube-system", "version": 2, "config": {}, "manifest": "",
        "info": {"status": "pending-upgrade", "description": "Preparing upgrade", "last_deployed": since},
        "chart": {"metadata": {"name": "cilium", "version": "1.0.0"}},
    });
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
        "metadata": {
            "name": "sh.helm.release.v1.cilium.v2", "namespace": "kube-system",
            "labels": {"name": "cilium", "owner": "helm", "status": "pending-upgrade", "version": "2"},
        },
        "stringData": {"release": STANDARD.encode(release.to_string())},
    })
}

fn lease(holder: Option<&str>, renewed: Timestamp) -> Value {
    let time = renewed.strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "k8s-bootstrap-infra", "namespace": "kube-system"},
        "spec": {"holderIdentity": holder, "acquireTime": time, "renewTime": time, "leaseDurationSeconds": 60},
    })
}

fn status_of_record(environment: &TestEnvironment) -> String {
    let secret = ["-n", "kube-system", "get", "secret", "sh.helm.release.v1.cilium.v2", "-o", "json"];
    let secret = environment.kubectl("infra", &secret);
    secret["metadata"]["labels"]["status"].as_str().unwrap().to_owned()
}

#[test]
fn what_another_operator_does_is_left_alone() {
    let environment = TestEnvironment::one_release();
    let _lab = environment.lab("infra");
    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(environment.lease_holder("infra"), Value::Null, "the lease is given back at the end");

    // The first operator's helm is at work; a second one has a journal of his own.
    let other = other_operator(&environment, "second");
    let second = || environment.output(&mut environment.command_with_state(&other, &["infra", "--lab", "--resume"]));
    apply(&environment, &pending_record(Timestamp::now()));
    let run = second();
    insta::assert_snapshot!(failures(&run), @"
    exit code: 4
    release/cilium: error[O04]: another helm may be at work on this release
        where: Secret kube-system/sh.helm.release.v1.cilium.v2
        why: revision 2 is pending-upgrade since [TIME], [DURATION] ago; it was not written by an earlier run of this state folder, and helm may take 15m
        page: docs/errors/O04.md
        next: wait until it ends or its timeout has passed, then run again with --resume
    ");
    assert_eq!(status_of_record(&environment), "pending-upgrade");
    assert_eq!(environment.lease_holder("infra"), Value::Null);

    // The other run lives.
    apply(&environment, &lease(Some("bob@desktop/20260102T030405Z-beef"), Timestamp::now()));
    for arguments in [&["infra", "--lab"][..], &["infra", "--lab", "--take-over"]] {
        let run = environment.run(arguments);
        assert_eq!(run.code, 4, "{run}");
        insta::allow_duplicates!(insta::assert_snapshot!(last_error(&run), @"
        error[O04]: the run was not started: another run holds the lease of the cluster: bob@desktop/[RUN], since [TIME], renewed last at [TIME]
        hint: wait for it to end, or stop it there; then run with --resume
        "));
    }
    // It has not been heard of for years.
    apply(&environment, &lease(Some("bob@desktop/20260102T030405Z-beef"), "2020-01-02T03:04:05Z".parse().unwrap()));
    let run = environment.run(&["infra", "--lab"]);
    assert_eq!(run.code, 4, "{run}");
    insta::assert_snapshot!(last_error(&run), @"
    error[O04]: the run was not started: the lease of the cluster belongs to a run that no longer renews it: bob@desktop/[RUN], since [TIME], renewed last at [TIME]
    hint: make sure that this run is dead, then add --take-over
    ");
    assert_eq!(status_of_record(&environment), "pending-upgrade");

    // It is over, and its helm has long timed out.
    apply(&environment, &lease(None, Timestamp::now()));
    apply(&environment, &pending_record("2020-01-02T03:04:05Z".parse().unwrap()));
    let CommandOutput { code, stderr: err, .. } = second();
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("release/cilium: waiting: revision 2 was left pending-upgrade for longer than helm's timeout"),
        "{err}"
    );
    assert_eq!(status_of_record(&environment), "deployed");

    // A third one has no journal at all, and finds what the first one resumes.
    let resumed = outcomes(&environment, &environment.state());
    let mut adopted = outcomes(&environment, &other_operator(&environment, "third"));
    let written = adopted.insert("kubernetes-api/credentials".into(), "up-to-date".into());
    assert_eq!(written.as_deref(), Some("applied"), "the third one has no kubeconfig yet");
    assert_eq!(adopted, resumed);
    assert!(resumed.values().all(|outcome| outcome != "applied"), "{resumed:#?}");
}

/// The error that ended a run before its first step.
fn last_error(run: &CommandOutput) -> String {
    let stderr = run.redacted_stderr();
    stderr[stderr.rfind("error").unwrap()..].to_owned()
}

/// How each step of a resumed run ended.
fn outcomes(environment: &TestEnvironment, state: &Path) -> BTreeMap<String, String> {
    let run =
        environment.output(&mut environment.command_with_state(state, &["-o", "json", "infra", "--lab", "--resume"]));
    assert_eq!(run.code, 0, "{run}");
    let events = run.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let done = events.filter(|event| event["event"] == "step-done");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    done.map(|event| (text(&event["step"]), text(&event["outcome"]))).collect()
}

/// A repository whose hook writes to the first pipe and waits for a line from the second.
fn with_waiting_hook() -> (TestEnvironment, PathBuf, PathBuf) {
    let environment = TestEnvironment::one_release();
    let [reached, goes_on] = ["reached", "goes-on"].map(|name| environment.repository.join(name));
    for pipe in [&reached, &goes_on] {
        assert!(test_support::child("mkfifo").arg(pipe).status().unwrap().success());
    }
    let script = environment.repository.join("hook.sh");
    let text = format!("echo > {}\nread -r _ < {}\n", reached.display(), goes_on.display());
    std::fs::write(&script, text).unwrap();
    environment.add_hooks(&[format!("{{events: [presync], command: sh, args: [{}]}}", script.display())]);
    (environment, reached, goes_on)
}

#[test]
fn a_copy_of_the_state_folder_does_not_take_the_lease_of_a_run_that_lives() {
    let (environment, reached, goes_on) = with_waiting_hook();
    let _lab = environment.lab("infra");
    let mut run = environment.command(&["infra", "--lab"]).stderr(Stdio::null()).spawn().unwrap();
    std::fs::read_to_string(&reached).unwrap();
    let ours = environment.lease_holder("infra");
    // By the same operator on the same machine, with the journal and without the lock.
    let copy = other_operator(&environment, "copy");
    let (from, to) = (environment.state().join("labs/infra/run"), copy.join("labs/infra/run"));
    std::fs::create_dir(&to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
    let second = || environment.output(&mut environment.command_with_state(&copy, &["infra", "--lab", "--resume"]));
    let refused = second();
    assert_eq!(refused.code, 4, "{refused}");
    assert!(refused.stderr.contains("another run holds the lease of the cluster: "), "{refused}");
    assert_eq!(environment.lease_holder("infra"), ours);
    // A run that is certainly dead is not waited for.
    run.kill().unwrap();
    run.wait().unwrap();
    let release = std::thread::spawn(move || {
        std::fs::read_to_string(&reached).unwrap();
        std::fs::File::options().write(true).open(&goes_on).unwrap().write_all(b"\n").unwrap();
    });
    let resumed = second();
    assert_eq!(resumed.code, 0, "{resumed}");
    release.join().unwrap();
}

#[test]
fn a_run_that_loses_the_lease_starts_nothing_more() {
    let (environment, reached, goes_on) = with_waiting_hook();
    let _lab = environment.lab("infra");
    let mut run = environment.command(&["infra", "--lab"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    // Opening waits until the hook runs.
    std::fs::read_to_string(&reached).unwrap();
    let ours = environment.lease_holder("infra");
    assert!(ours.as_str().unwrap().contains('@'), "{ours}");
    apply(&environment, &lease(Some("bob@desktop/20260102T030405Z-beef"), Timestamp::now()));
    let seen: Vec<String> = lines.by_ref().take_while(|line| !line.contains("starts nothing more (O04)")).collect();
    std::fs::File::options().write(true).open(&goes_on).unwrap().write_all(b"\n").unwrap();
    let rest: Vec<String> = lines.collect();
    assert_eq!(run.wait().unwrap().code(), Some(4), "{seen:#?}{rest:#?}");
    let rest = rest.join("\n");
    assert!(
        rest.contains("error[O04]: the run was stopped: another run took over the lease of the cluster: bob@desktop/"),
        "{rest}"
    );
    let records = environment.kubectl("infra", &["get", "secrets", "-A", "-l", "owner=helm", "-o", "json"]);
    assert_eq!(records["items"].as_array().unwrap().len(), 0, "a release was installed without the lease");
    assert_eq!(environment.lease_holder("infra"), "bob@desktop/20260102T030405Z-beef");
}
