//! The one thread that starts children. It knows which children of this process it started, so it can kill the others:
//! those that a killed supervisor left behind.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::process::Pid;
use tokio::process::Command;
use tokio::sync::oneshot;

use super::descendants;
use super::tree::{Supervision, Tree};

enum Job {
    Start {
        command: Box<Command>,
        supervision: Supervision,
        runtime: tokio::runtime::Handle,
        answer: oneshot::Sender<std::io::Result<Tree>>,
    },
    Ended(Pid),
    KillOrphans,
}

static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();

/// Starts `command` on the spawning thread.
pub(super) async fn spawn(command: Command, supervision: Supervision) -> std::io::Result<Tree> {
    let (answer, child) = oneshot::channel();
    let gone = || std::io::Error::other("the thread that starts children is gone");
    let runtime = tokio::runtime::Handle::current();
    jobs().send(Job::Start { command: command.into(), supervision, runtime, answer }).map_err(|_| gone())?;
    child.await.map_err(|_| gone())?
}

/// Forgets a child that has been waited for: its number may be another process's from now on.
pub(super) fn forget(pid: Pid) {
    // Without the thread nothing is remembered.
    let _ = jobs().send(Job::Ended(pid));
}

/// Kills the children of this process that were not started here, and their descendants.
pub(super) fn kill_orphans() {
    // Without the thread this process starts nothing and adopts nothing.
    let _ = jobs().send(Job::KillOrphans);
}

fn jobs() -> &'static Sender<Job> {
    SPAWNER.get_or_init(|| {
        let (sender, receiver) = channel();
        std::thread::spawn(move || work(receiver));
        sender
    })
}

fn work(receiver: Receiver<Job>) {
    let mut started = HashSet::<Pid>::new();
    for job in receiver {
        match job {
            Job::Start { command, supervision, runtime, answer } => {
                let _context = runtime.enter();
                let tree = match supervision {
                    Supervision::Supervisor(_) => descendants::adopt_orphans(),
                    Supervision::ProcessGroup => Ok(()),
                };
                let tree = tree.and_then(|()| Tree::start(*command, supervision));
                started.extend(tree.as_ref().ok().and_then(Tree::pid));
                // The receiver is gone when the run was cancelled meanwhile; dropping the tree then kills it.
                let _ = answer.send(tree);
            }
            Job::Ended(pid) => {
                started.remove(&pid);
            }
            Job::KillOrphans => {
                descendants::kill(|pid| !started.contains(&pid));
            }
        }
    }
}
