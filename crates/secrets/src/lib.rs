//! Secrets from 1Password, SOPS and other managers, and the redactor in front of every sink.
//!
//! [`Sources`] fills in a template's references, whoever answers for them: the program `op`, 1Password Connect, or a
//! program that the operator declares. [`sops`] opens encrypted files. Values exist in memory only.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod adapter;
mod connect;
mod error;
pub mod op;
mod pause;
mod redactor;
mod reference;
mod shape;
pub mod sops;
mod sources;

pub use adapter::{Adapter, Adapters};
pub use connect::{Connect, Filled};
pub use error::Error;
pub use pause::{Answer, Person};
pub use redactor::Redactor;
pub use reference::Reference;
pub use sources::{OnePassword, Sources, placeholders};

#[cfg(test)]
mod tests;
