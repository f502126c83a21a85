//! What is run, in its order: Helm's installations, and hooks, which really run, of a stand-in.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use helmfile::{Helmfile, Hook, HookEvent, ListedRelease, OnFailure, Release, StateFile, Wait};
use serde_json::{Value, json};

use super::case::{Case, Run};
use super::compare::{differ, groups};

/// Flags of `helm upgrade` that helmfiles decide and that are passed on.
const FLAGS: &[&str] = &[
    "--cleanup-on-fail",
    "--create-namespace",
    "--force-conflicts",
    "--force-replace",
    "--rollback-on-failure",
    "--skip-crds",
    "--skip-schema-validation",
    "--take-ownership",
    "--wait",
];
/// The same with a value.
const VALUED: &[&str] = &["--description", "--history-max", "--labels", "--server-side", "--timeout"];

/// Compares the calls of an installation. What other commands call are their hooks, which read along only.
pub(crate) fn compare(case: &Case, run: &Run, ours: &Helmfile, result: &Path) -> Result<(), String> {
    if run.verb != "sync" {
        return Ok(());
    }
    let text = std::fs::read_to_string(result).unwrap();
    let calls: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let theirs: Vec<Value> = calls.iter().filter_map(theirs).collect();
    let ours = sequence(case, ours);
    differ("calls", &Value::from(ours), &Value::from(theirs))
}

fn theirs(call: &Value) -> Option<Value> {
    let words: Vec<&str> = call["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    match (call["tool"].as_str().unwrap(), words.as_slice()) {
        ("helm", ["upgrade", "--install", name, rest @ ..]) => {
            let mut flags = BTreeSet::new();
            let mut rest = rest.iter();
            while let Some(word) = rest.next() {
                if VALUED.contains(word) {
                    flags.insert(format!("{word}={}", rest.next().unwrap()));
                } else if FLAGS.contains(word) {
                    flags.insert((*word).to_owned());
                } else if *word == "--wait-for-jobs" && words.contains(&"--wait") {
                    // Without `--wait` helm does not look at it.
                    flags.insert((*word).to_owned());
                }
            }
            Some(json!({"install": name, "flags": with_defaults(flags)}))
        }
        ("helm", _) => None,
        (tool, words) => Some(json!({"run": tool, "args": words})),
    }
}

/// helmfile's own defaults are Helm's.
fn with_defaults(mut flags: BTreeSet<String>) -> BTreeSet<String> {
    flags.remove("--history-max=10");
    if !flags.iter().any(|flag| flag.starts_with("--timeout")) {
        flags.insert("--timeout=300s".to_owned());
    }
    flags
}

/// What a run would do, file after file, group after group.
fn sequence(case: &Case, helmfile: &Helmfile) -> Vec<Value> {
    let runner = Runner::new(case);
    let mut calls = vec![];
    for file in &helmfile.files {
        let releases = in_order(helmfile, file);
        calls.extend(runner.hooks(&file.hooks, HookEvent::Prepare));
        for release in helmfile.releases.iter().filter(|release| release.file == file.path) {
            calls.extend(runner.hooks(&release.hooks, HookEvent::Prepare));
        }
        for release in releases {
            calls.extend(runner.hooks(&release.hooks, HookEvent::Presync));
            calls.push(json!({"install": release.id.name, "flags": flags(release)}));
            calls.extend(runner.hooks(&release.hooks, HookEvent::Postsync));
            calls.extend(runner.hooks(&release.hooks, HookEvent::Cleanup));
        }
        calls.extend(runner.hooks(&file.hooks, HookEvent::Cleanup));
    }
    calls
}

fn in_order<'h>(helmfile: &'h Helmfile, file: &StateFile) -> Vec<&'h Release> {
    let listed: Vec<&ListedRelease> = file.releases.iter().collect();
    let order: Vec<_> = groups(&listed).into_iter().flatten().collect();
    let own = |id| helmfile.releases.iter().find(|release| release.file == file.path && release.id == id);
    order.into_iter().filter_map(own).collect()
}

fn flags(release: &Release) -> BTreeSet<String> {
    let flags = &release.flags;
    let mut all = BTreeSet::new();
    let mut add = |wanted: bool, flag: &str| {
        if wanted {
            all.insert(flag.to_owned());
        }
    };
    add(flags.wait != Wait::Nothing, "--wait");
    add(flags.wait == Wait::WorkloadsAndJobs, "--wait-for-jobs");
    add(flags.on_failure == OnFailure::CleanUp, "--cleanup-on-fail");
    add(flags.on_failure == OnFailure::RollBack, "--rollback-on-failure");
    add(flags.create_namespace, "--create-namespace");
    add(flags.force_conflicts, "--force-conflicts");
    for argument in &flags.args {
        let name = argument.split('=').next().unwrap();
        add(FLAGS.contains(&argument.as_str()) || VALUED.contains(&name), argument);
    }
    all.insert(format!("--timeout={}s", flags.timeout.as_secs()));
    with_defaults(all)
}

/// Runs hooks with a stand-in for kubectl that writes down how it is called.
struct Runner<'r> {
    case: &'r Case,
    folder: tempfile::TempDir,
}

impl<'r> Runner<'r> {
    fn new(case: &'r Case) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = "#!/bin/sh\nfor word in \"$@\"; do printf '%s\\037' \"$word\"; done >> \"$CALLS\"\nprintf '\\036' >> \"$CALLS\"\n";
        let kubectl = folder.path().join("kubectl");
        std::fs::write(&kubectl, script).unwrap();
        std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { case, folder }
    }

    fn hooks(&self, hooks: &[Hook], event: HookEvent) -> Vec<Value> {
        hooks.iter().filter(|hook| hook.events.contains(&event)).flat_map(|hook| self.run(hook)).collect()
    }

    fn run(&self, hook: &Hook) -> Vec<Value> {
        let calls = self.folder.path().join("calls");
        std::fs::write(&calls, "").unwrap();
        let path = format!("{}:{}", self.folder.path().display(), self.case.variables["PATH"]);
        let program =
            if hook.command == "kubectl" { self.folder.path().join("kubectl") } else { (&hook.command).into() };
        let mut command = test_support::child(program);
        command.args(&hook.args).current_dir(&hook.folder).envs(&self.case.variables);
        command.env("PATH", path).env("CALLS", &calls).output().unwrap();
        let written = std::fs::read_to_string(&calls).unwrap();
        let calls = written.split_terminator('\u{1e}').map(|call| {
            let words: Vec<&str> = call.split_terminator('\u{1f}').collect();
            json!({"run": "kubectl", "args": words})
        });
        calls.collect()
    }
}
