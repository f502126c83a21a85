//! A started child with all that it started, ended together.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::{spawner, supervisor};

/// Who ends the descendants of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Supervision {
    /// A process between us and the program: this binary.
    Supervisor(&'static Path),
    /// We do, as far as they stay in the child's process group.
    ProcessGroup,
}

/// A running child. Its end is that of its descendants; dropping this value kills them.
#[derive(Debug)]
pub(super) struct Tree {
    child: Child,
    supervision: Supervision,
    killed: bool,
}

impl Tree {
    /// Starts `command`, which is in a process group of its own.
    pub(super) fn start(mut command: Command, supervision: Supervision) -> std::io::Result<Self> {
        // A supervisor must live until its descendants do not.
        command.kill_on_drop(supervision == Supervision::ProcessGroup);
        Ok(Self { child: command.spawn()?, supervision, killed: false })
    }

    pub(super) fn streams(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take())
    }

    pub(super) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        let pid = self.pid();
        let status = self.child.wait().await?;
        self.ended(pid, status);
        Ok(status)
    }

    pub(super) fn try_wait(&mut self) -> std::io::Result<Option<ExitStatus>> {
        let pid = self.pid();
        let status = self.child.try_wait()?;
        if let Some(status) = status {
            self.ended(pid, status);
        }
        Ok(status)
    }

    /// Sends SIGTERM to the program, after `grace` kills it with its descendants, and waits for the end.
    pub(super) async fn stop(&mut self, grace: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(grace, self.wait()).await.is_err() {
            self.kill();
            // SIGKILL cannot be ignored; this only reaps the process.
            let _ = self.wait().await;
        }
    }

    fn kill(&mut self) {
        self.killed = true;
        self.signal(match self.supervision {
            Supervision::Supervisor(_) => supervisor::KILL_ALL,
            Supervision::ProcessGroup => Signal::KILL,
        });
    }

    /// Signals a child that has not been waited for; its number cannot have been reused.
    fn signal(&self, signal: Signal) {
        let Some(pid) = self.pid() else { return };
        // A child that has ended meanwhile needs no signal.
        let _ = match self.supervision {
            Supervision::Supervisor(_) => kill_process(pid, signal),
            Supervision::ProcessGroup => kill_process_group(pid, signal),
        };
    }

    /// The number of a child that has not been waited for.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
    }

    /// The descendants of a supervisor that another process killed have become our children.
    fn ended(&self, pid: Option<Pid>, status: ExitStatus) {
        if let Some(pid) = pid {
            spawner::forget(pid);
        }
        let is_killed = status.signal() == Some(Signal::KILL.as_raw()) && !self.killed;
        if is_killed && self.supervision != Supervision::ProcessGroup {
            spawner::kill_orphans();
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.kill();
    }
}
