//! From bare Talos Linux nodes to a Kubernetes cluster that Flux manages.
//!
//! Arrows between the rooms point down; `docs/architecture.md` draws them.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod cli;
pub mod cluster;
pub mod dial;
pub mod engine;
pub mod helm;
pub mod journal;
pub mod kubernetes;
pub mod lab;
pub mod plan;
pub mod process;
pub mod proto;
pub mod report;
pub mod retry;
pub mod secrets;
pub mod steps;
pub mod talos;
pub mod template;
pub mod tools;
pub mod yaml;
