//! Output for operators and programs: a run's events on a terminal, as plain lines and as JSON lines; plans, summaries, status.
//!
//! Readers of events write through a [`Sink`], which masks secrets first. The other functions make text, and the command
//! line masks and prints it.

mod background;
mod etcd;
mod explain;
mod json;
mod lab;
mod lines;
mod node;
mod plan;
mod releases;
mod sink;
mod status;
mod summary;
mod terminal;

pub use background::Background;
pub(crate) use etcd::{etcd_json, etcd_table};
pub(crate) use explain::{explained_json, explained_text};
pub use json::JsonLines;
pub(crate) use lab::lab_table;
pub use lines::PlainLines;
pub(crate) use lines::heading;
pub(crate) use node::{NodeTable, clock_table, disk_table, image_table, resources_text, service_table};
pub(crate) use plan::{plan_json, plan_text};
pub(crate) use releases::{documents, release_list_json, release_table, release_values, state_files, to_json};
pub use sink::{Mask, Sink};
pub(crate) use status::{status_json, status_text};
pub(crate) use summary::summary;
pub use terminal::Terminal;

#[cfg(test)]
mod tests;
