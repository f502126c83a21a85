//! Waiting for the operator to renew a session (failure O01).

use std::io::BufRead;
use std::sync::{Arc, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Mutex, mpsc};

type Show = dyn Fn(&str) + Send + Sync;
type Stopped = dyn Fn() -> BoxFuture<'static, ()> + Send + Sync;

/// The operator at a terminal, who can be asked to do something.
#[derive(Clone)]
pub struct OperatorPrompt {
    show: Arc<Show>,
    stopped: Arc<Stopped>,
    lines: Arc<Lines>,
}

/// The lines that the operator types; read only once [`OperatorPrompt::ask`] waits for one.
struct Lines {
    source: std::sync::Mutex<Option<Box<dyn BufRead + Send>>>,
    read: Mutex<Option<mpsc::UnboundedReceiver<()>>>,
}

impl std::fmt::Debug for OperatorPrompt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperatorPrompt").finish_non_exhaustive()
    }
}

/// The operator pressed Enter, or stopped the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Done,
    Stopped,
}

impl OperatorPrompt {
    /// Messages go to `show`, lines come from `source`, and the run is stopped when `stopped` ends.
    pub fn new(
        show: impl Fn(&str) + Send + Sync + 'static,
        source: impl BufRead + Send + 'static,
        stopped: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        let source: Box<dyn BufRead + Send> = Box::new(source);
        let lines = Lines { source: std::sync::Mutex::new(Some(source)), read: Mutex::default() };
        Self { show: Arc::new(show), stopped: Arc::new(stopped), lines: Arc::new(lines) }
    }

    /// The same terminal, with another way to show messages and to be stopped.
    #[must_use]
    pub fn through(
        &self,
        show: impl Fn(&str) + Send + Sync + 'static,
        stopped: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self { show: Arc::new(show), stopped: Arc::new(stopped), lines: self.lines.clone() }
    }

    /// Shows a message and waits for Enter. Lines that were typed before are discarded.
    pub async fn ask(&self, message: &str) -> Answer {
        let mut read = self.lines.read.lock().await;
        let typed = read.get_or_insert_with(|| self.lines.listen());
        while typed.try_recv().is_ok() {}
        (self.show)(message);
        futures::select_biased! {
            () = (self.stopped)().fuse() => Answer::Stopped,
            line = typed.recv().fuse() => if line.is_some() { Answer::Done } else { Answer::Stopped },
        }
    }
}

impl Lines {
    /// A thread of its own, since a blocking read of a terminal cannot be cancelled; it ends with the process.
    fn listen(&self) -> mpsc::UnboundedReceiver<()> {
        let (send, receive) = mpsc::unbounded_channel();
        if let Some(mut source) = self.source.lock().unwrap_or_else(PoisonError::into_inner).take() {
            std::thread::spawn(move || {
                let mut line = String::new();
                while source.read_line(&mut line).is_ok_and(|count| count > 0) && send.send(()).is_ok() {
                    line.clear();
                }
            });
        }
        receive
    }
}
