//! The re-exec that ties a child's life to ours.
//!
//! `k8s-bootstrap __child PARENT PROGRAM ARGUMENT…` sets the parent-death signal (Linux `prctl(2)`,
//! `PR_SET_PDEATHSIG`), makes sure that the parent is still the one that started it, and becomes PROGRAM. The signal is
//! bound to the thread that started the child, which is why `spawner` keeps one for as long as we live.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::sync::OnceLock;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "__child";

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Names the binary that knows [`SUBCOMMAND`]; only tests need this, since they are binaries of their own.
pub fn set_program(path: PathBuf) {
    // A second call names the same binary.
    let _ = PROGRAM.set(path);
}

/// Our own binary, when it is one that knows the subcommand.
pub(super) fn program() -> Option<PathBuf> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    if let Some(path) = PROGRAM.get() {
        return Some(path.clone());
    }
    let own = std::env::current_exe().ok()?;
    (own.file_stem()? == "k8s-bootstrap").then_some(own)
}

/// Becomes the program that the arguments name. Returns only when that is not possible, with the reason.
#[cfg(target_os = "linux")]
pub fn become_child(parent: u32, program: &OsString, arguments: &[OsString]) -> std::io::Error {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    let alive = getppid().is_some_and(|pid| u32::try_from(pid.as_raw_nonzero().get()) == Ok(parent));
    if !alive {
        return std::io::Error::other("the process that started this one is gone");
    }
    let mut command = std::process::Command::new(program);
    command.args(arguments);
    command.exec()
}
