//! A child that runs to its end.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::sleep;

use super::silence::LastOutput;
use super::tree::Supervision;
use super::{Credentials, guard, spawner};

/// How much of a child's error output is kept for a message.
const TAIL: usize = 4096;
/// Between SIGTERM and SIGKILL of a cancelled child.
const GRACE: Duration = Duration::from_secs(5);
/// How much a child may print before it is stopped; a chart's manifests are a few MiB.
const MAX_OUTPUT: u64 = 64 << 20;

/// Which of a child's streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

type OnLine = Arc<dyn Fn(Stream, &str) + Send + Sync>;

/// A program with its arguments. Arguments and environment never hold a secret; standard input may.
#[derive(Clone)]
pub struct Command {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
    credentials: Credentials,
    folder: Option<PathBuf>,
    input: Option<SecretString>,
    deadline: Option<Duration>,
    silence_limit: Option<Duration>,
    on_line: Option<OnLine>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("arguments", &self.arguments)
            .finish_non_exhaustive()
    }
}

/// What a child that succeeded printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub stdout: Vec<u8>,
    /// The last 4 KiB.
    pub stderr: String,
}

/// Why a child did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot start `{program}`")]
    Start { program: String, source: std::io::Error },
    #[error("`{program}` failed with {status}: {stderr}")]
    Failed { program: String, status: ExitStatus, stderr: String },
    #[error("cannot wait for `{program}`")]
    Wait { program: String, source: std::io::Error },
    #[error("`{program}` did not finish within {}s and was stopped", .deadline.as_secs_f32())]
    Deadline { program: String, deadline: Duration },
    #[error("`{program}` printed nothing for {}s and was stopped", .limit.as_secs_f32())]
    Silent { program: String, limit: Duration },
    #[error("`{program}` printed more than {} MiB and was stopped", MAX_OUTPUT >> 20)]
    TooMuch { program: String },
}

impl Command {
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: vec![],
            environment: vec![],
            credentials: Credentials::None,
            folder: None,
            input: None,
            deadline: None,
            silence_limit: None,
            on_line: None,
        }
    }

    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), Some(value.into())));
        self
    }

    #[must_use]
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), None));
        self
    }

    /// Lets the child inherit credentials of the operator; without this it gets none.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    #[must_use]
    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Feeds `input` to the child's standard input by a pipe.
    #[must_use]
    pub fn stdin(mut self, input: SecretString) -> Self {
        self.input = Some(input);
        self
    }

    /// Stops the child after this time.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Stops the child after it has printed nothing for this time, on either stream.
    #[must_use]
    pub fn silence_limit(mut self, limit: Duration) -> Self {
        self.silence_limit = Some(limit);
        self
    }

    /// Calls `on_line` with every line that the child prints, as it prints it.
    #[must_use]
    pub fn on_line(mut self, on_line: impl Fn(Stream, &str) + Send + Sync + 'static) -> Self {
        self.on_line = Some(Arc::new(on_line));
        self
    }

    fn name(&self) -> String {
        self.program.file_name().unwrap_or(OsStr::new("?")).to_string_lossy().into_owned()
    }

    /// The command as tokio starts it: in a group of its own, and under a supervisor.
    ///
    /// # Errors
    ///
    /// A program that has not named its supervisor.
    pub(super) fn build(&self) -> std::io::Result<(tokio::process::Command, Supervision)> {
        let supervision = guard::supervision()?;
        let command = match supervision {
            Supervision::Supervisor(own) => guard::supervised(own, self.program.as_os_str()),
            Supervision::ProcessGroup => std::process::Command::new(&self.program),
        };
        let mut command = tokio::process::Command::from(command);
        command.args(&self.arguments).process_group(0);
        for name in self.credentials.withheld(std::env::vars_os().map(|(name, _)| name)) {
            command.env_remove(name);
        }
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        Ok((command, supervision))
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Runs the child to its end, which is that of all that it started. Dropping the future kills them.
    ///
    /// # Errors
    ///
    /// A child that cannot be started, fails, takes too long or prints too much.
    pub async fn run(self) -> Result<Output, Error> {
        let program = self.name();
        let start = |source| Error::Start { program: program.clone(), source };
        let (mut command, supervision) = self.build().map_err(start)?;
        command.stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut tree = spawner::spawn(command, supervision).await.map_err(start)?;
        let (stdin, Some(stdout), Some(stderr)) = tree.streams() else {
            return Err(start(std::io::Error::other("its output streams are not available")));
        };
        let feed = feed(stdin, self.input.clone());
        let last = LastOutput::now();
        let (stdout, stderr) = (last.observe(stdout), last.observe(stderr));
        let collect = async {
            // Waited for beside the streams: descendants hold these, and end when the supervisor has ended.
            let (out, tail, (), status) = tokio::join!(
                collect(stdout, Stream::Out, self.on_line.clone(), usize::MAX),
                collect(stderr, Stream::Err, self.on_line.clone(), TAIL),
                feed,
                tree.wait()
            );
            (out, String::from_utf8_lossy(&tail).trim().to_owned(), status)
        };
        let (stdout, stderr, status) = tokio::select! {
            biased;
            done = collect => done,
            error = self.overdue(&program, &last) => {
                tree.stop(GRACE).await;
                return Err(error);
            }
        };
        if stdout.len() as u64 >= MAX_OUTPUT {
            return Err(Error::TooMuch { program });
        }
        match status {
            Ok(status) if status.success() => Ok(Output { stdout, stderr }),
            Ok(status) => Err(Error::Failed { program, status, stderr }),
            Err(source) => Err(Error::Wait { program, source }),
        }
    }

    /// Returns when the child has had its time.
    async fn overdue(&self, program: &str, last: &LastOutput) -> Error {
        let program = program.to_owned();
        match (self.deadline, self.silence_limit) {
            (None, None) => std::future::pending().await,
            (Some(deadline), None) => {
                sleep(deadline).await;
                Error::Deadline { program, deadline }
            }
            (None, Some(limit)) => {
                last.silence(limit).await;
                Error::Silent { program, limit }
            }
            (Some(deadline), Some(limit)) => tokio::select! {
                () = sleep(deadline) => Error::Deadline { program, deadline },
                () = last.silence(limit) => Error::Silent { program, limit },
            },
        }
    }
}

async fn feed(stdin: Option<tokio::process::ChildStdin>, input: Option<SecretString>) {
    if let (Some(mut stdin), Some(input)) = (stdin, input) {
        // A child that does not read its input fails with an error of its own.
        let _ = stdin.write_all(input.expose_secret().as_bytes()).await;
    }
}

/// Reads a stream to its end, keeping the last `keep` bytes.
async fn collect(
    stream: impl tokio::io::AsyncRead + Unpin,
    which: Stream,
    on_line: Option<OnLine>,
    keep: usize,
) -> Vec<u8> {
    let mut reader = BufReader::new(stream.take(MAX_OUTPUT));
    let (mut kept, mut line) = (Vec::new(), Vec::new());
    while let Ok(count) = reader.read_until(b'\n', &mut line).await {
        if count == 0 {
            break;
        }
        if let Some(on_line) = &on_line {
            on_line(which, String::from_utf8_lossy(&line).trim_end());
        }
        kept.append(&mut line);
        if kept.len() > keep {
            kept.drain(..kept.len() - keep);
        }
    }
    kept
}
