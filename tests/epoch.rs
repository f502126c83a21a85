//! A cluster that was wiped and rebuilt: nothing that was recorded about the old one counts for the new one.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{LabProcess, TestEnvironment, processes};
use serde_json::Value;
use test_support::{CommandOutput, Condition, Deadline, wait_until};

/// What of a lab outlives its machines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// The operator's state folder.
    State,
    /// The secrets bundle too, as in a rebuild after a disaster.
    StateAndSecrets,
}

/// New machines at the addresses of the old ones.
fn rebuild(environment: &TestEnvironment, mut lab: LabProcess, kept: Kept) -> LabProcess {
    let folder = environment.state().join("labs/infra");
    let saved = environment.state().join("saved");
    std::fs::create_dir_all(&saved).unwrap();
    copy(&folder.join("run"), &saved.join("run"));
    std::fs::copy(folder.join("placeholder-secrets.yaml"), saved.join("secrets")).unwrap();
    lab.kill();
    // The supervisors end the children when the lab is reaped.
    let marker = folder.display().to_string();
    wait_until(Deadline::after(Duration::from_secs(30)), || match processes(&marker) {
        left if left.is_empty() => Condition::Met(()),
        left => Condition::Unmet(format!("{left:?}")),
    });
    let lab = environment.lab("infra");
    copy(&saved.join("run"), &folder.join("run"));
    if kept == Kept::StateAndSecrets {
        std::fs::copy(saved.join("secrets"), folder.join("placeholder-secrets.yaml")).unwrap();
    }
    lab
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn run_folder(environment: &TestEnvironment) -> PathBuf {
    environment.state().join("labs/infra/run")
}

fn read(environment: &TestEnvironment, file: &str) -> String {
    std::fs::read_to_string(run_folder(environment).join(file)).unwrap()
}

/// The journal of the first epoch, put aside.
fn archived(environment: &TestEnvironment) -> String {
    let names = std::fs::read_dir(run_folder(environment)).unwrap();
    let names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let name = names.iter().find(|name| name.starts_with("journal.epoch-1.")).unwrap_or_else(|| panic!("{names:?}"));
    read(environment, name)
}

fn epoch_of_first_record(journal: &str) -> Value {
    let record: Value = serde_json::from_str(journal.lines().next().unwrap()).unwrap();
    assert_eq!(record["entry"], "run-started");
    record["epoch"].clone()
}

#[test]
fn a_cluster_rebuilt_from_the_same_secrets_gets_its_hooks_and_files_again() {
    let environment = TestEnvironment::one_release();
    let repository = environment.repository.display();
    environment.write("count.sh", &format!("echo ran >> {repository}/ran\n"));
    environment.add_hooks(&[format!("{{events: [postsync], command: sh, args: [{repository}/count.sh]}}")]);
    let ran = || std::fs::read_to_string(environment.repository.join("ran")).unwrap();
    let lab = environment.lab("infra");
    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(ran(), "ran\n");
    let (kubeconfig, whole) = (read(&environment, "kubeconfig"), read(&environment, "journal.jsonl"));
    assert_eq!(epoch_of_first_record(&whole), 1);
    for fact in ["kube-system", "etcd-members", "node-boot"] {
        assert!(whole.contains(&format!("\"{fact}\":")), "no {fact} in {whole}");
    }

    // The first run counts as interrupted: that it can be resumed must not keep the rebuild from starting.
    let journal = whole
        .lines()
        .filter(|line| !line.contains("\"run-ended\""))
        .fold(String::new(), |text, line| text + line + "\n");
    std::fs::write(run_folder(&environment).join("journal.jsonl"), &journal).unwrap();
    let _lab = rebuild(&environment, lab, Kept::StateAndSecrets);
    let ask = ["plan", "infra", "--lab", "--detailed-exitcode"];
    let CommandOutput { code, stdout: out, stderr: err, .. } = environment.run(&ask);
    assert_eq!(code, 5, "{out}{err}");
    assert_eq!(read(&environment, "journal.jsonl"), journal, "a plan changes nothing");
    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("note: every control plane is back in maintenance mode: the record of epoch 1 is kept"),
        "{err}"
    );
    assert!(err.contains("and epoch 2 begins (O11)"), "{err}");
    assert_eq!(ran(), "ran\nran\n");
    assert_eq!(archived(&environment), journal);
    assert_eq!(epoch_of_first_record(&read(&environment, "journal.jsonl")), 2);
    assert_eq!(read(&environment, "kubeconfig.epoch-1"), kubeconfig);
    assert_ne!(read(&environment, "kubeconfig"), kubeconfig);

    // The epoch goes on.
    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("infra: nothing to do: all "), "{err}");
    assert_eq!(ran(), "ran\nran\n");
}

#[test]
fn a_cluster_rebuilt_with_other_secrets_replaces_the_files_of_the_old_one() {
    let environment = TestEnvironment::machines();
    let lab = environment.lab("infra");
    environment.bootstrap_machines("infra");
    let (kubeconfig, journal) = (read(&environment, "kubeconfig"), read(&environment, "journal.jsonl"));
    // As after a run that was killed between the first two renames of the new epoch.
    let folder = run_folder(&environment);
    std::fs::rename(folder.join("talosconfig"), folder.join("talosconfig.epoch-1")).unwrap();
    let _lab = rebuild(&environment, lab, Kept::State);
    environment.bootstrap_machines("infra");
    assert_eq!(archived(&environment), journal);
    assert_eq!(epoch_of_first_record(&read(&environment, "journal.jsonl")), 2);
    let authority = |text: &str| text.split_once("certificate-authority-data").unwrap().1[..600].to_owned();
    assert_ne!(authority(&read(&environment, "kubeconfig")), authority(&kubeconfig));
    environment.kubectl("infra", &["get", "nodes", "-o", "json"]);

    // A file of another cluster is replaced within an epoch too.
    std::fs::write(folder.join("kubeconfig"), &kubeconfig).unwrap();
    environment.resume_machines("infra");
    assert_ne!(authority(&read(&environment, "kubeconfig")), authority(&kubeconfig));
}
