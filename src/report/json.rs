//! One event a line, for machines. The format is documented in `docs/events.md`.

use super::Sink;
use engine::{Event, Subscriber};

/// Writes every event as a JSON object on a line of its own.
#[derive(Debug)]
pub struct JsonLines(Sink);

impl JsonLines {
    pub fn new(sink: Sink) -> Self {
        Self(sink)
    }
}

impl Subscriber for JsonLines {
    fn notice(&self, event: &Event) {
        if let Ok(line) = serde_json::to_string(event) {
            self.0.line(&line);
        }
    }
}
