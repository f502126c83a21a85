//! The one thread that starts children: the parent-death signal is bound to it, so it lives as long as we do.

use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use tokio::process::{Child, Command};
use tokio::sync::oneshot;

type Job = (Command, tokio::runtime::Handle, oneshot::Sender<std::io::Result<Child>>);

static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();

/// Starts `command` on the spawning thread.
pub(super) async fn spawn(command: Command) -> std::io::Result<Child> {
    let jobs = SPAWNER.get_or_init(|| {
        let (sender, receiver) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, runtime, answer) in receiver {
                let _context = runtime.enter();
                // The receiver is gone when the run was cancelled meanwhile; dropping the child then kills it.
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (answer, child) = oneshot::channel();
    let gone = || std::io::Error::other("the thread that starts children is gone");
    jobs.send((command, tokio::runtime::Handle::current(), answer)).map_err(|_| gone())?;
    child.await.map_err(|_| gone())?
}
