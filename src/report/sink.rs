//! Writers that mask secrets.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// Replaces secrets in a text.
pub type Mask = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// A writer with a mask in front of it.
#[derive(Clone)]
pub struct Sink {
    writer: Arc<Mutex<Box<dyn Write + Send>>>,
    mask: Mask,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").finish_non_exhaustive()
    }
}

impl Sink {
    pub fn new(writer: impl Write + Send + 'static, mask: Mask) -> Self {
        Self { writer: Arc::new(Mutex::new(Box::new(writer))), mask }
    }

    /// Writes one line. A closed pipe must not stop a bootstrap, so failures are dropped.
    pub fn line(&self, text: &str) {
        let text = (self.mask)(text);
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(writer, "{text}").and_then(|()| writer.flush());
    }

    /// The text as it may be shown.
    pub fn masked(&self, text: &str) -> String {
        (self.mask)(text)
    }
}
