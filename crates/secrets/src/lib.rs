//! Secrets from 1Password, SOPS and other managers, and the redactor in front of every sink.
//!
//! [`Sources`] resolves a template's references with the program `op`, 1Password Connect, or a program that the operator
//! declares. [`sops`] decrypts files. Values exist in memory only.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod adapter;
mod connect;
mod connect_path;
mod error;
pub mod op;
mod placeholders;
mod prompt;
mod redactor;
pub mod sops;
mod sources;
mod unresolved;

pub use connect::{Connect, ResolvedTemplate};
pub use error::{Error, ErrorKind, Provider, SignedOut};
pub use prompt::{Answer, OperatorPrompt};
pub use redactor::Redactor;
pub use secret_references::{Adapter, Adapters, Reference};
pub use sources::{OnePassword, Sources, placeholders};
pub use unresolved::{ConnectObject, UnresolvedReason};

#[cfg(test)]
mod tests;
