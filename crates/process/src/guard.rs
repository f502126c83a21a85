//! The re-execs that tie a child and all its descendants to this process.
//!
//! `k8s-bootstrap __supervise PARENT PROGRAM ARGUMENT…` is the child that we start: the [`supervisor`](super::supervisor)
//! of one program. On Linux it starts `k8s-bootstrap __child PARENT PROGRAM ARGUMENT…`, which sets the parent-death
//! signal (`prctl(2)`, `PR_SET_PDEATHSIG`) and becomes PROGRAM, so that the program also ends with a killed supervisor.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The hidden subcommand that supervises a program.
pub const SUPERVISE: &str = "__supervise";
/// The hidden subcommand that becomes a program.
pub const CHILD: &str = "__child";

/// What a supervisor shows as its command line's first word.
pub(super) const NAME: &str = "k8s-bootstrap";
/// The kernel's path to the running binary; it stays valid when the file is replaced.
pub(super) const OWN_BINARY: &str = if cfg!(target_os = "linux") { "/proc/self/exe" } else { "" };

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Names the binary that knows the subcommands; only tests need this, since they are binaries of their own.
pub fn set_program(path: PathBuf) {
    // A second call names the same binary.
    let _ = PROGRAM.set(path);
}

/// Our own binary, when it is one that knows the subcommands.
pub(super) fn program() -> Option<PathBuf> {
    if let Some(path) = PROGRAM.get() {
        return Some(path.clone());
    }
    let own = std::env::current_exe().ok()?;
    // The kernel marks the path of a binary that was replaced while it runs.
    let replaced = format!("{NAME} (deleted)");
    let name = own.file_name()?;
    (name == NAME || name == replaced.as_str()).then(|| own_binary(own.clone()))
}

fn own_binary(path: PathBuf) -> PathBuf {
    if OWN_BINARY.is_empty() { path } else { PathBuf::from(OWN_BINARY) }
}

/// The command that supervises `program`, as a child of this process.
pub(super) fn supervised(own: &Path, program: &OsStr) -> Command {
    let mut command = Command::new(own);
    command.arg0(NAME).arg(SUPERVISE).arg(std::process::id().to_string()).arg(program);
    command
}

/// The program that a supervisor starts: it dies with its parent where the kernel can do that.
pub(super) fn tied(program: &OsStr, arguments: &[OsString]) -> Command {
    let mut command = if OWN_BINARY.is_empty() {
        Command::new(program)
    } else {
        let mut command = Command::new(OWN_BINARY);
        command.arg0(NAME).arg(CHILD).arg(std::process::id().to_string()).arg(program);
        command
    };
    command.args(arguments);
    command
}

/// Becomes the program that the arguments name. Returns only when that is not possible, with the reason.
#[cfg(target_os = "linux")]
pub fn become_child(parent: u32, program: &OsStr, arguments: &[OsString]) -> std::io::Error {
    use rustix::process::{Signal, set_parent_process_death_signal};
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    if !is_parent(parent) {
        return parent_gone();
    }
    Command::new(program).args(arguments).exec()
}

/// Whether the process that started this one is still `parent`.
pub(super) fn is_parent(parent: u32) -> bool {
    rustix::process::getppid().is_some_and(|pid| u32::try_from(pid.as_raw_nonzero().get()) == Ok(parent))
}

pub(super) fn parent_gone() -> std::io::Error {
    std::io::Error::other("the process that started this one has ended")
}
