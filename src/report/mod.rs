//! Progress on a terminal, plain lines, JSON lines: subscribers to the engine's events.
//!
//! All of them write through a [`Sink`], which masks secrets first.

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
