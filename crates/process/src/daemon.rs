//! A child that runs until it is stopped.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::tree::Tree;
use super::{Command, Error, spawner};

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(3);

/// A long-lived child whose output goes to a log file. It ends with this value, and with this process, and all that it started ends with it.
#[derive(Debug)]
pub struct Daemon {
    tree: Tree,
    log: PathBuf,
}

impl Command {
    /// Starts the program as a daemon that logs to `log`.
    ///
    /// # Errors
    ///
    /// A log that cannot be written, a program that cannot be started.
    pub async fn spawn_daemon(self, log: &Path) -> Result<Daemon, Error> {
        let program = self.program().display().to_string();
        let start = |source| Error::Start { program: program.clone(), source };
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).map_err(start)?;
        let (mut command, supervision) = self.build().map_err(start)?;
        command.stdin(Stdio::null());
        command.stdout(file.try_clone().map_err(start)?).stderr(file);
        let tree = spawner::spawn(command, supervision).await.map_err(start)?;
        Ok(Daemon { tree, log: log.to_owned() })
    }
}

impl Daemon {
    /// Sends SIGTERM, after the grace period SIGKILL, and waits for the exit.
    pub async fn stop(mut self) {
        self.tree.stop(GRACE).await;
    }

    /// The last lines of the log and the exit status, when the program ended by itself.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.tree.try_wait().ok().flatten()?;
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        Some(format!("{status}: {}", lines.into_iter().rev().collect::<Vec<_>>().join(" | ")))
    }
}
