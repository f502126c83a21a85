//! Where engine and adapters meet: the steps of a bootstrap, and what each command does.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod charts;
mod config_diff;
mod identity;
pub mod ops;
mod private_file;
pub mod steps;
mod template_programs;

pub use identity::client_identity;
pub use template_programs::template_programs;
