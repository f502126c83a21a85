//! Waiting for a person while a session has to be renewed (failure O01).

use std::io::BufRead;
use std::sync::{Arc, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Mutex, mpsc};

type Say = dyn Fn(&str) + Send + Sync;
type Stopped = dyn Fn() -> BoxFuture<'static, ()> + Send + Sync;

/// A person at a terminal, who can be asked for something.
#[derive(Clone)]
pub struct Person {
    say: Arc<Say>,
    stopped: Arc<Stopped>,
    lines: Arc<Lines>,
}

/// The lines that a person types; read only once somebody waits for one.
struct Lines {
    source: std::sync::Mutex<Option<Box<dyn BufRead + Send>>>,
    read: Mutex<Option<mpsc::UnboundedReceiver<()>>>,
}

impl std::fmt::Debug for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Person").finish_non_exhaustive()
    }
}

/// The person has done it, or will not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Done,
    Stopped,
}

impl Person {
    /// Somebody who reads what `say` is given, types what `source` has, and stops the run when `stopped` ends.
    pub fn new(
        say: impl Fn(&str) + Send + Sync + 'static,
        source: impl BufRead + Send + 'static,
        stopped: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        let source: Box<dyn BufRead + Send> = Box::new(source);
        let lines = Lines { source: std::sync::Mutex::new(Some(source)), read: Mutex::default() };
        Self { say: Arc::new(say), stopped: Arc::new(stopped), lines: Arc::new(lines) }
    }

    /// The same person, spoken to and stopped in another way.
    #[must_use]
    pub fn through(
        &self,
        say: impl Fn(&str) + Send + Sync + 'static,
        stopped: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self { say: Arc::new(say), stopped: Arc::new(stopped), lines: self.lines.clone() }
    }

    /// Says `words` and waits for Enter. What was typed before counts for nothing.
    pub async fn ask(&self, words: &str) -> Answer {
        let mut read = self.lines.read.lock().await;
        let typed = read.get_or_insert_with(|| self.lines.listen());
        while typed.try_recv().is_ok() {}
        (self.say)(words);
        futures::select_biased! {
            () = (self.stopped)().fuse() => Answer::Stopped,
            line = typed.recv().fuse() => if line.is_some() { Answer::Done } else { Answer::Stopped },
        }
    }
}

impl Lines {
    /// A thread of its own, since a read of a terminal cannot be given up; it ends with the process.
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
