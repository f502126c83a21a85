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

use super::tree::Supervision;

/// The hidden subcommand that supervises a program.
pub const SUPERVISE: &str = "__supervise";
/// The hidden subcommand that becomes a program.
pub const CHILD: &str = "__child";

/// What a supervisor shows as its command line's first word.
pub(super) const NAME: &str = "k8s-bootstrap";
/// The kernel's path to the running binary; it stays valid when the file is replaced.
pub(super) const OWN_BINARY: &str = if cfg!(target_os = "linux") { "/proc/self/exe" } else { "" };

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Makes the running binary, whatever its file is called, the one that supervises. A program that knows the two
/// subcommands calls this first; without it nothing can be started.
///
/// # Errors
///
/// A binary whose path the system does not report; never on Linux.
pub fn set_own_program() -> std::io::Result<()> {
    set_program(if OWN_BINARY.is_empty() { std::env::current_exe()? } else { PathBuf::from(OWN_BINARY) });
    Ok(())
}

/// Names another binary that knows the subcommands; only tests need this, since they are binaries of their own.
pub fn set_program(path: PathBuf) {
    // A second call names the same binary.
    let _ = PROGRAM.set(path);
}

/// Who ends what a child starts. The tests of a crate are binaries that know no subcommand; only for them is there
/// anything but a supervisor.
///
/// # Errors
///
/// A program that has not named its supervisor.
pub(super) fn supervision() -> std::io::Result<Supervision> {
    match PROGRAM.get() {
        Some(program) => Ok(Supervision::Supervisor(program)),
        None if cfg!(any(test, feature = "unsupervised")) => Ok(Supervision::ProcessGroup),
        None => Err(std::io::Error::other("this program has named no supervisor for what it starts")),
    }
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
