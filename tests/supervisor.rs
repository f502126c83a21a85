//! Nothing that a child starts outlives it or the process that started it, however either ends.
//!
//! The process that starts children is this test binary, started again ([`starter`]). Whether descendants are alive is
//! read from a named pipe that all of them hold open: it is at its end when the last of them has ended.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use process::{Credentials, guard};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use test_support::{Condition, Deadline, wait_until};

/// Names the script for [`starter`].
const SCRIPT: &str = "STARTER_SCRIPT";
/// Names the file for what came of the script.
const RESULT: &str = "STARTER_RESULT";
/// Far beyond what the slowest machine needs; reached only by a failure.
const LIMIT: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

/// A process that says that it is there and stays.
const STAY: &str = "'echo ready >&3; exec sleep 600'";

/// The process that starts a child: a no-op as a test of its own.
#[test]
fn starter() {
    let (Some(script), Some(result)) = (std::env::var_os(SCRIPT), std::env::var_os(RESULT)) else { return };
    guard::set_program(PathBuf::from(env!("CARGO_BIN_EXE_k8s-bootstrap")));
    let (sender, order) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || sender.send(std::io::stdin().lines().next().unwrap().unwrap()));
    let command = process::Command::new("sh").arg("-c").arg(script).credentials(Credentials::Operator);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut order = order;
        tokio::select! {
            ran = command.stdin("input".into()).run() => {
                let text = match ran {
                    Ok(output) => format!("ok: {}", String::from_utf8(output.stdout).unwrap()),
                    Err(error) => format!("error: {error}"),
                };
                std::fs::write(result, text).unwrap();
                assert_eq!(order.await.unwrap(), "end");
            }
            order = &mut order => panic!("ordered to {}", order.unwrap()),
        }
    });
}

/// A running [`starter`] and the pipes of its script.
struct Starter {
    folder: tempfile::TempDir,
    child: Child,
}

impl Starter {
    /// Runs `script`, in which `$ALIVE` is the pipe that descendants hold and `$GO` is one that they can wait for.
    fn run(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for pipe in ["alive", "go"] {
            assert!(test_support::child("mkfifo").arg(folder.path().join(pipe)).status().unwrap().success());
        }
        let mut command = test_support::child(std::env::current_exe().unwrap());
        command.args(["supervisor::starter", "--exact", "--nocapture"]);
        command.env(SCRIPT, script).env(RESULT, folder.path().join("result"));
        std::fs::write(folder.path().join("chain"), "sh $0 &\n").unwrap();
        command.env("CHAIN", folder.path().join("chain")).env("ALIVE", folder.path().join("alive"));
        command.env("GO", folder.path().join("go"));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { folder, child }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn order(&mut self, order: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{order}").unwrap();
    }

    /// Runs a script that ends by itself; what came of it.
    fn result(script: &str) -> String {
        let mut starter = Self::run(script);
        starter.order_end();
        assert!(starter.child.wait().unwrap().success());
        std::fs::read_to_string(starter.path("result")).unwrap()
    }

    /// Lets the process end after its child; before that it would be an order to panic.
    fn order_end(&mut self) {
        let result = self.path("result");
        wait_until(Deadline::after(Duration::from_secs(20)), || match std::fs::read(&result) {
            Ok(text) if !text.is_empty() => Condition::Met(()),
            _ => Condition::Unmet("no result".to_owned()),
        });
        self.order("end");
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The reader of a pipe that descendants hold.
struct Alive(File);

impl Alive {
    /// Waits until a descendant says that it is there.
    fn open(path: &Path) -> Self {
        let pipe =
            std::fs::OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path);
        let mut alive = Self(pipe.unwrap());
        let mut line = [0; 6];
        assert!(alive.is_readable(), "no descendant has started");
        alive.0.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"ready\n");
        alive
    }

    fn is_readable(&self) -> bool {
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&LIMIT)).unwrap() > 0
    }

    /// Waits until no process holds the pipe.
    fn expect_end(mut self, what: &str) {
        assert!(self.is_readable(), "{what}: a descendant is still alive");
        assert_eq!(self.0.read(&mut [0; 64]).unwrap(), 0, "{what}");
    }
}

/// Ways in which a program leaves processes behind, each of which holds `$ALIVE`.
fn descendants(folder: &Path) -> Vec<(&'static str, String)> {
    let mut ways = vec![
        ("grandchild", format!("sh -c {STAY} &")),
        ("double fork", format!("(sh -c {STAY} &)")),
        ("session of its own", format!("setsid sh -c {STAY} &")),
        ("daemon", format!("setsid -f sh -c \"sh -c {STAY} &\"")),
        ("signals ignored", "sh -c \"trap '' TERM HUP INT QUIT; echo ready >&3; sleep 600\" &".to_owned()),
    ];
    let shell = set_group_id_shell(folder);
    ways.push(("set-group-id", format!("{shell} -c {STAY} &", shell = shell.display())));
    ways.push(("set-group-id program", format!("exec {shell} -c {STAY}", shell = shell.display())));
    ways
}

/// A shell that runs with another group, which makes the kernel forget the parent-death signal.
fn set_group_id_shell(folder: &Path) -> PathBuf {
    let own = rustix::process::getegid();
    let group = if rustix::process::geteuid().is_root() {
        1
    } else {
        let other = rustix::process::getgroups().unwrap().into_iter().find(|group| *group != own);
        other.unwrap_or_else(|| panic!("needs root, or a second group of the user")).as_raw()
    };
    let shell = folder.join("group-sh");
    std::fs::copy("/bin/sh", &shell).unwrap();
    std::os::unix::fs::chown(&shell, None, Some(group)).unwrap();
    std::fs::set_permissions(&shell, std::fs::Permissions::from_mode(0o2755)).unwrap();
    assert_eq!(std::fs::metadata(&shell).unwrap().mode() & 0o2000, 0o2000);
    shell
}

fn for_each_way(end: impl Fn(&mut Starter, &str)) {
    let folder = tempfile::tempdir().unwrap();
    for (name, way) in descendants(folder.path()) {
        let mut starter = Starter::run(&format!("exec 3>$ALIVE\n{way}\nread -r _ < $GO"));
        let alive = Alive::open(&starter.path("alive"));
        end(&mut starter, name);
        alive.expect_end(name);
    }
}

#[test]
fn descendants_end_with_a_killed_process() {
    for_each_way(|starter, _| starter.signal(Signal::KILL));
}

#[test]
fn descendants_end_with_a_process_that_a_signal_ends() {
    for signal in [Signal::TERM, Signal::HUP] {
        for_each_way(|starter, _| {
            starter.signal(signal);
            assert_eq!(starter.child.wait().unwrap().signal(), Some(signal.as_raw()));
        });
    }
}

#[test]
fn descendants_end_with_a_process_that_panics() {
    for_each_way(|starter, _| {
        starter.order("panic");
        assert_eq!(starter.child.wait().unwrap().code(), Some(101));
    });
}

#[test]
fn descendants_end_with_the_program_that_started_them() {
    for_each_way(|starter, name| {
        // This one is the program itself.
        if name == "set-group-id program" {
            return starter.signal(Signal::KILL);
        }
        std::fs::write(starter.path("go"), "\n").unwrap();
        starter.order_end();
        assert_eq!(std::fs::read_to_string(starter.path("result")).unwrap(), "ok: ");
    });
}

#[test]
fn descendants_end_with_a_killed_supervisor() {
    let folder = tempfile::tempdir().unwrap();
    for (name, way) in descendants(folder.path()) {
        let starter = Starter::run(&format!("exec 3>$ALIVE\n{way}\nread -r _ < $GO"));
        let alive = Alive::open(&starter.path("alive"));
        let children = format!("/proc/{}/task", starter.child.id());
        let lists = std::fs::read_dir(children).unwrap().map(|task| task.unwrap().path().join("children"));
        let pids: String = lists.map(|list| std::fs::read_to_string(list).unwrap()).collect();
        let supervisor = Pid::from_raw(pids.trim().parse().expect("one child")).unwrap();
        kill_process(supervisor, Signal::KILL).unwrap();
        // The process that started it stays.
        alive.expect_end(name);
    }
}

#[test]
fn a_chain_of_processes_that_each_outlive_their_parent_is_caught() {
    let mut starter = Starter::run("exec 3>$ALIVE\necho ready >&3\nsh $CHAIN &\nread -r _ < $GO");
    let alive = Alive::open(&starter.path("alive"));
    starter.signal(Signal::KILL);
    starter.child.wait().unwrap();
    alive.expect_end("chain");
}

/// Ends a command that waits for a program, which has started a process in a session of its own.
fn expect_end_with_command(signal: Signal, script: &Path, command: impl FnOnce(&Path) -> Command) {
    let folder = tempfile::tempdir().unwrap();
    for pipe in ["alive", "go"] {
        assert!(test_support::child("mkfifo").arg(folder.path().join(pipe)).status().unwrap().success());
    }
    let text = format!(
        "#!/bin/sh\nPATH=/usr/bin:/bin\nexec 3>{folder}/alive\nsetsid sh -c {STAY} &\nread -r _ < {folder}/go\n",
        folder = folder.path().display()
    );
    std::fs::write(script, text).unwrap();
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = command(folder.path());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let alive = Alive::open(&folder.path().join("alive"));
    kill_process(Pid::from_child(&child), signal).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(signal.as_raw()));
    alive.expect_end(&script.display().to_string());
}

/// Ends `program` while it waits for a program that a template runs.
fn expect_end_with_template(signal: Signal, mut program: Command) {
    let repository = tempfile::tempdir().unwrap();
    let script = repository.path().join("program");
    let helmfile = format!("releases: []\nvalues: [{{x: '{{{{ exec \"{}\" (list) }}}}'}}]\n", script.display());
    std::fs::write(repository.path().join("helmfile.yaml.gotmpl"), helmfile).unwrap();
    expect_end_with_command(signal, &script, |_| {
        program.arg("-C").arg(repository.path()).args(["releases", "list", "-f", "helmfile.yaml.gotmpl"]);
        program
    });
}

#[test]
fn descendants_of_a_template_s_program_end_with_the_command() {
    expect_end_with_template(Signal::TERM, common::program());
}

/// Installed as `kb`, or run from a file that a package manager has replaced.
#[test]
fn a_binary_under_another_name_supervises_its_children_too() {
    let own = Path::new(env!("CARGO_BIN_EXE_k8s-bootstrap"));
    // Beside the binary: a hard link stays on its file system.
    let folder = tempfile::tempdir_in(own.parent().unwrap()).unwrap();
    let link = folder.path().join("kb");
    std::fs::hard_link(own, &link).unwrap();
    for signal in [Signal::KILL, Signal::TERM] {
        expect_end_with_template(signal, test_support::child(&link));
    }
}

#[test]
fn descendants_of_a_compiler_end_with_the_command() {
    let programs = tempfile::tempdir().unwrap();
    expect_end_with_command(Signal::TERM, &programs.path().join("go"), |cache| {
        let mut command = common::program();
        command.args(["tools", "install"]);
        command.env("PATH", programs.path()).env("XDG_CACHE_HOME", cache);
        command
    });
}

#[test]
fn only_the_process_crate_starts_programs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_excepted = ["crates/process", "crates/test-support", "tests"].iter().any(|end| path.ends_with(end));
            if path.is_dir() && !is_excepted {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for foreign in ["std::process::Command", "tokio::process"] {
                    assert!(!text.contains(foreign), "{}: {foreign} has no supervisor", path.display());
                }
            }
        }
    }
}

#[test]
fn a_program_sees_the_streams_and_its_end_is_reported_as_without_a_supervisor() {
    // What the test binary itself was given is passed on both ways.
    for script in [
        "ls /proc/self/fd | tr '\\n' ' '",
        // Signals 1 to 28: `posix_spawn` of glibc ignores 32 and 33, which are its own, in some children.
        "sed -nE 's/^(SigBlk|SigIgn).*(.{7})$/\\1 \\2/p' /proc/self/status",
        "pwd; env | grep -x GO=x",
    ] {
        let plain =
            test_support::child("sh").args(["-c", script]).env("GO", "x").stdin(Stdio::piped()).output().unwrap();
        let plain = String::from_utf8(plain.stdout).unwrap();
        let supervised = Starter::result(&format!("GO=x; {script}"));
        assert_eq!(supervised, format!("ok: {plain}"));
    }
    assert_eq!(Starter::result("cat"), "ok: input");
    assert_eq!(
        Starter::result("echo no such chart >&2; exit 3"),
        "error: `sh` failed with exit status: 3: no such chart"
    );
    assert_eq!(Starter::result("kill -TERM $$"), "error: `sh` failed with signal: 15 (SIGTERM): ");
    assert_eq!(Starter::result("kill -KILL $$"), "error: `sh` failed with signal: 9 (SIGKILL): ");
    assert_eq!(Starter::result("kill -SEGV $$"), "error: `sh` failed with signal: 11 (SIGSEGV): ");
}
