//! From bare Talos Linux nodes to a Kubernetes cluster that Flux manages: the command line.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod cli;
mod rehearsal;
pub mod report;
