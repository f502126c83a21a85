//! Secrets in a run: a session that expires during an interactive run, and the proof that Flux can decrypt.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::{TestEnvironment, failures};
use serde_json::Value;

const KUSTOMIZATION: &str = "apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: apps, namespace: flux-system}
spec:
  path: ./manifests
  decryption: {provider: sops, secretRef: {name: sops-age}}
";

fn write(environment: &TestEnvironment, path: &str, text: &str) -> PathBuf {
    let path = environment.repository.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

/// A line of an age key file, from where `start` stands in it.
fn line_of(text: &str, start: &str) -> String {
    let line = text.lines().find(|line| line.contains(start)).unwrap();
    line[line.find(start).unwrap()..].trim().to_owned()
}

fn key_of_the_operator() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/age.key")).unwrap()
}

/// Seals a Secret for a recipient.
fn seal(environment: &TestEnvironment, path: &str, name: &str, key: &str, value: &str, recipient: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: flux-system}}\nstringData: {{{key}: {value}}}\n"
    );
    let path = write(environment, path, &text);
    let output = test_support::child(common::tool("sops"))
        .args([
            "--disable-version-check",
            "encrypt",
            "--in-place",
            "--encrypted-regex",
            "^stringData$",
            "--age",
            recipient,
        ])
        .arg(&path)
        // The rules of our own repository are not this one's.
        .current_dir(&environment.repository)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A program of the test's own, found before all others.
fn program(folder: &Path, name: &str, script: &str) -> std::ffi::OsString {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\nset -eu\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let others = std::env::var_os("PATH").unwrap();
    std::env::join_paths(std::iter::once(folder.to_owned()).chain(std::env::split_paths(&others))).unwrap()
}

#[test]
fn flux_gets_a_key_that_opens_the_repository_or_nothing_is_begun() {
    let environment = TestEnvironment::machines();
    let own = key_of_the_operator();
    let (recipient, identity) = (line_of(&own, "age1"), line_of(&own, "AGE-SECRET-KEY-"));
    seal(&environment, "bootstrap/infra/sops-age.sops.yaml", "sops-age", "age.agekey", &identity, &recipient);
    write(&environment, "flux/apps.yaml", KUSTOMIZATION);
    let other = test_support::child(common::tool("age-keygen")).stderr(Stdio::null()).output().unwrap();
    let other = line_of(&String::from_utf8(other.stdout).unwrap(), "age1");
    let _lab = environment.lab("infra");
    let run = ["infra", "--lab", "--secrets", "real"];

    seal(&environment, "manifests/app.sops.yaml", "app", "password", "a-password-of-the-app", &other);
    let mut child = environment.command(&[&["-o", "json"], &run[..]].concat()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let events: Vec<Value> = lines
        .map(|line| serde_json::from_str(&line).unwrap())
        // A run that begins something would go on for long.
        .take_while(|event: &Value| event["event"] != "applying")
        .collect();
    let ended = events.iter().any(|event| event["event"] == "run-ended");
    if !ended {
        child.kill().unwrap();
    }
    let code = child.wait().unwrap().code();
    assert!(ended, "something was begun: {events:?}");
    let failed: Vec<&Value> = events.iter().filter(|event| event["event"] == "step-failed").collect();
    assert_eq!(code, Some(3), "{failed:?}");
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!((&failed[0]["step"], &failed[0]["error"]["code"]), (&"preflight/decryption".into(), &"F03".into()));
    assert_eq!(failed[0]["error"]["place"], "manifests/app.sops.yaml");

    seal(&environment, "manifests/app.sops.yaml", "app", "password", "a-password-of-the-app", &recipient);
    let arguments = [&["-o", "json"], &run[..], &["--resume"]].concat();
    let mut child = environment.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let events = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap());
    let of_step = |event: &Value, step: &str| event["step"] == step && event["event"] == "observed";
    let mut details = Vec::new();
    for event in events {
        assert_ne!(event["event"], "step-failed", "{event}");
        for step in ["preflight/decryption", "base/decryption"] {
            if of_step(&event, step) {
                details.push(format!("{step}: {}", event["detail"].as_str().unwrap()));
            }
        }
        if event["step"] == "base/decryption" && event["event"] == "step-done" {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        details,
        ["preflight", "base"]
            .map(|phase| format!("{phase}/decryption: the keys in flux-system/sops-age decrypt 1 files"))
    );
}

#[test]
fn a_session_that_ended_is_waited_for_at_a_terminal_and_fails_elsewhere() {
    let environment = TestEnvironment::machines();
    write(
        &environment,
        "bootstrap/infra/secrets.yaml.tpl",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: default}\nstringData: {key: 'op://v/i/f'}\n",
    );
    let folder = tempfile::tempdir().unwrap();
    let unlocked = folder.path().join("unlocked");
    let path = program(
        folder.path(),
        "op",
        &format!(
            "[ \"$1\" = inject ] || {{ echo 2.32.0; exit 0; }}\n\
             [ -e {0} ] || {{ echo '[ERROR] 2026/01/31 12:00:00 session expired' >&2; exit 1; }}\n\
             sed 's|op://v/i/f|value-of-the-session|'; touch {0}.used",
            unlocked.display()
        ),
    );
    let _lab = environment.lab("infra");

    let mut alone = environment.command(&["infra", "--lab", "--secrets", "real"]);
    let output = environment.output(alone.env("PATH", &path).stdin(Stdio::null()));
    insta::assert_snapshot!(failures(&output), @"
    exit code: 3
    preflight/secrets: error[O01]: a secret reference cannot be resolved
        where: bootstrap/infra/secrets.yaml.tpl
        why: op is not signed in: session expired
        page: docs/errors/O01.md
        next: eval $(op signin), or set OP_SERVICE_ACCOUNT_TOKEN
    ");
    assert!(!output.stderr.contains("press Enter"), "{output}");

    // `script` gives the run a terminal: what is written to its input is typed.
    let run = environment.command(&["infra", "--lab", "--secrets", "real", "--resume"]);
    let words = std::iter::once(run.get_program()).chain(run.get_args()).map(|word| word.to_string_lossy());
    let line = words.map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let mut terminal = test_support::child("script");
    terminal.env("TERM", "xterm");
    terminal.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
    for (name, value) in run.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        terminal.env(name, value);
    }
    let mut child = terminal.env("PATH", &path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut keys = child.stdin.take().unwrap();
    let mut screen = child.stdout.take().unwrap();
    let mut until = |words: &str| {
        let mut seen = String::new();
        let mut bytes = [0; 4096];
        while !seen.contains(words) {
            let count = screen.read(&mut bytes).unwrap();
            assert!(count > 0, "it ended before it printed `{words}`: {seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        seen
    };
    until("press Enter");
    assert!(!unlocked.with_extension("used").exists());
    std::fs::write(&unlocked, "").unwrap();
    keys.write_all(b"\n").unwrap();
    let seen = until("ok  preflight");
    assert!(unlocked.with_extension("used").exists() && !seen.contains("value-of-the-session"), "{seen}");
    // Ctrl-C, twice: it goes through the terminal as from a keyboard.
    keys.write_all(b"\x03").unwrap();
    until("stopping at a safe point");
    keys.write_all(b"\x03").unwrap();
    let mut rest = Vec::new();
    screen.read_to_end(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{}", String::from_utf8_lossy(&rest));
}
