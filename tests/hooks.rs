//! Hooks that are commands: what came of each is remembered, and one that must not run twice does not.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use common::{ONE_RELEASE_FILE, TestEnvironment, failures};
use test_support::{CommandOutput, Condition, Deadline, wait_until};

/// Ends the run that started it while it is at work, with a process in the background that holds a pipe; a second one
/// would go through. The run is the process whose memory has the kubeconfig.
const SEED: &str = "echo seed >> $1/ran
[ -e $1/killed ] || { touch $1/killed; setsid -f sh $1/stay.sh $1; read -r _ < $1/held
  run=${KUBECONFIG#/proc/}; kill -9 ${run%%/*}; read -r _ < $1/never; }
";
const STAY: &str = "exec 3> $1/held\necho ready >&3\nexec sleep 600\n";
const ENROL: &str = "echo enrol >> $1/ran\n[ -e $1/failed ] || { touch $1/failed; echo no quorum >&2; exit 9; }\n";

/// An answer about a hook whose outcome is known is refused.
fn assert_not_in_question(run: &CommandOutput, step: &str, hint: &str) {
    assert_eq!(run.code, 2, "{run}");
    let error = format!("`--hook {step}`: the outcome of this hook is not in question; nothing was changed");
    assert!(run.stderr.contains(&format!("error[I02]: {error}\nhint: {hint}\n")), "{run}");
}

#[test]
fn a_hook_that_must_not_run_twice_asks_the_operator_what_became_of_it() {
    let environment = TestEnvironment::one_release();
    let scratch = environment.repository.join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    for pipe in ["never", "held"] {
        assert!(test_support::child("mkfifo").arg(scratch.join(pipe)).status().unwrap().success());
    }
    std::fs::write(scratch.join("stay.sh"), STAY).unwrap();
    let hook = |script: &str, text: &str| {
        std::fs::write(scratch.join(script), text).unwrap();
        let folder = scratch.display();
        format!("{{events: [postsync], command: sh, args: [{folder}/{script}, {folder}]}}")
    };
    environment.add_hooks(&[hook("seed.sh", SEED), hook("enrol.sh", ENROL)]);
    let settings = |command: &str| {
        let rule = format!("{{command: {command}, idempotent: false}}");
        std::fs::write(
            environment.repository.join("k8s-bootstrap.yaml"),
            format!("clusters: {{infra: {{hooks: [{rule}]}}}}\n"),
        )
        .unwrap();
    };
    let ran = || std::fs::read_to_string(scratch.join("ran")).unwrap().replace('\n', " ");
    let _lab = environment.lab("infra");

    settings("bash seed.sh");
    let run = environment.run(&["infra", "--lab"]);
    assert_eq!(run.code, 2, "{run}");
    insta::assert_snapshot!(run.redacted_stderr(), @"
    error[I01]: k8s-bootstrap.yaml:1:28: no hook of `infra` begins with `bash seed.sh`
    hint: correct the files, then run the command again
    ");

    settings("sh");
    let CommandOutput { code, .. } = environment.run(&["infra", "--lab"]);
    assert_eq!(code, -1, "the hook ended the run");
    wait_for_no_writer(&scratch.join("held"));
    let resume = ["infra", "--lab", "--resume"];
    let run = environment.run(&resume);
    insta::assert_snapshot!(failures(&run), @"
    exit code: 1
    hook/cilium/1: error[H12]: the outcome of the hook `sh` is unknown
        where: bootstrap/infra/helmfile.d/01-apps.yaml:2:95
        why: it was started, and the run ended before it did, and it is declared with `idempotent: false`
        page: docs/errors/H12.md
        next: check what it has done, then run k8s-bootstrap infra --resume --hook hook/cilium/1=done, or --hook hook/cilium/1=again
    ");
    let run = environment.run(&[&resume[..], &["--hook", "hook/rook/1=done"]].concat());
    assert_eq!(run.code, 2, "{run}");
    insta::assert_snapshot!(run.redacted_stderr(), @"
    error[I02]: `--hook hook/rook/1`: step not found in the plan
    hint: `k8s-bootstrap plan infra` lists the steps
    ");
    assert_eq!(ran(), "seed ");

    let run = environment.run(&[&resume[..], &["--hook", "hook/cilium/1=done"]].concat());
    insta::assert_snapshot!(failures(&run), @"
    exit code: 1
    hook/cilium/2: error[H12]: the hook `sh` failed
        where: bootstrap/infra/helmfile.d/01-apps.yaml:3:5
        why: `sh` failed with exit status: 9: no quorum
        page: docs/errors/H12.md
        next: fix the cause in the hook's output, then run again with --resume; it will be run again
    ");
    // The answer of before is about a hook that has run by now.
    let run = environment.run(&[&resume[..], &["--hook", "hook/cilium/1=again"]].concat());
    assert_not_in_question(&run, "hook/cilium/1", "in question: hook/cilium/2");
    let run = environment.run(&resume);
    insta::assert_snapshot!(failures(&run), @"
    exit code: 1
    hook/cilium/2: error[H12]: the outcome of the hook `sh` is unknown
        where: bootstrap/infra/helmfile.d/01-apps.yaml:3:5
        why: it failed, and it is declared with `idempotent: false`
        page: docs/errors/H12.md
        next: check what it has done, then run k8s-bootstrap infra --resume --hook hook/cilium/2=done, or --hook hook/cilium/2=again
    ");
    assert_eq!(ran(), "seed enrol ");
    let CommandOutput { code, stderr: err, .. } =
        environment.run(&[&resume[..], &["--hook", "hook/cilium/2=again"]].concat());
    assert_eq!(code, 0, "{err}");
    assert_eq!(ran(), "seed enrol enrol ");

    // The command of before, once more.
    let run = environment.run(&[&resume[..], &["--hook", "hook/cilium/2=again"]].concat());
    assert_not_in_question(&run, "hook/cilium/2", "no hook is in question; leave --hook out");
    assert_eq!(ran(), "seed enrol enrol ");
}

#[test]
fn a_hook_is_known_by_what_it_is_with_and_without_a_journal() {
    let environment = TestEnvironment::machines();
    let scratch = environment.repository.join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    for name in ["seed", "other"] {
        std::fs::write(scratch.join(format!("{name}.sh")), format!("echo {name} $2 >> $1/ran\n")).unwrap();
    }
    let folder = scratch.display();
    let hook = |name: &str, argument: &str| {
        format!("- {{events: [prepare], command: sh, args: [{folder}/{name}.sh, {folder}, {argument}]}}")
    };
    let write = |hooks: &[String]| {
        let helmfile = format!("hooks:\n{}\nreleases: []\n", hooks.join("\n"));
        environment.write(ONE_RELEASE_FILE, &helmfile);
    };
    let settings = "clusters: {infra: {hooks: [{command: sh, idempotent: false}]}}\n";
    std::fs::write(environment.repository.join("k8s-bootstrap.yaml"), settings).unwrap();
    let ran = || std::fs::read_to_string(scratch.join("ran")).unwrap().replace('\n', ", ");
    let journal = environment.state().join("labs/infra/run/journal.jsonl");
    let _lab = environment.lab("infra");
    write(&[hook("seed", "a")]);
    environment.bootstrap_machines("infra");
    assert_eq!(ran(), "seed a, ");

    // Another one before it.
    write(&[hook("other", "a"), hook("seed", "a")]);
    environment.resume_machines("infra");
    assert_eq!(ran(), "seed a, other a, ");

    // The journal is lost; the cluster has the record.
    let kubeconfig = environment.state().join("labs/infra/run/kubeconfig");
    let delete = |object: &[&str]| {
        let mut kubectl = environment.child("kubectl");
        kubectl.arg("--kubeconfig").arg(&kubeconfig).args(["delete", "-n", "kube-system"]).args(object);
        assert!(kubectl.status().unwrap().success(), "{object:?}");
    };
    let lose_journal = || {
        std::fs::remove_file(&journal).unwrap();
        // As after a minute: without the journal, the lease of the killed run is another's.
        delete(&["lease", "k8s-bootstrap-infra"]);
    };
    lose_journal();
    environment.resume_machines("infra");
    assert_eq!(ran(), "seed a, other a, ");

    // Another argument: it may be the same hook or a new one.
    write(&[hook("other", "a"), hook("seed", "b")]);
    let run = environment.run(&["infra", "--lab", "--resume"]);
    insta::assert_snapshot!(failures(&run), @"
    exit code: 1
    hook/file-1/2: error[H12]: the outcome of the hook `sh` is unknown
        where: bootstrap/infra/helmfile.d/01-apps.yaml:3:3
        why: a hook that is not in the files now has run (`sh`), and this may be the same one, changed, and it is declared with `idempotent: false`
        page: docs/errors/H12.md
        next: check what it has done, then run k8s-bootstrap infra --resume --hook hook/file-1/2=done, or --hook hook/file-1/2=again
    ");
    assert_eq!(ran(), "seed a, other a, ");

    // Neither has a record of anything.
    write(&[hook("other", "a"), hook("seed", "a")]);
    delete(&["configmap", "k8s-bootstrap-hooks"]);
    lose_journal();
    let run = environment.run(&["infra", "--lab", "--resume"]);
    insta::assert_snapshot!(failures(&run), @"
    exit code: 1
    hook/file-1/1: error[H12]: the outcome of the hook `sh` is unknown
        where: bootstrap/infra/helmfile.d/01-apps.yaml:2:3
        why: the cluster is older than this journal, and neither has a record of it, and it is declared with `idempotent: false`
        page: docs/errors/H12.md
        next: check what it has done, then run k8s-bootstrap infra --resume --hook hook/file-1/1=done, or --hook hook/file-1/1=again
    ");
    assert_eq!(ran(), "seed a, other a, ");
}

/// Waits until no process has the pipe open for writing.
fn wait_for_no_writer(pipe: &Path) {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut pipe = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(pipe).unwrap();
    wait_until(Deadline::after(Duration::from_secs(30)), || match pipe.read(&mut [0; 64]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Condition::Unmet("a process of a hook outlives the run".to_owned())
        }
        _ => Condition::Met(()),
    });
}
