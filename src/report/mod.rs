//! Progress on a terminal, plain lines, JSON lines: readers of the engine's events.
//!
//! Every reader writes through a [`Sink`], which masks secrets first.

mod json;
mod lines;
mod sink;
mod terminal;

pub use json::JsonLines;
pub use lines::PlainLines;
pub use sink::{Mask, Sink};
pub use terminal::Terminal;

#[cfg(test)]
mod tests;
