//! Children: pipes, memfd, supervisor, deadline, death with the parent.
//!
//! Every child has a [`supervisor`] between itself and us, which is our own binary started again ([`guard`]). It kills
//! what the child started when the child ends, and everything when this process ends, even at `kill -9`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod command;
mod credentials;
mod daemon;
mod descendants;
pub mod guard;
mod identity;
pub mod seal;
mod secret_file;
mod silence;
mod spawner;
pub mod supervisor;
mod tree;

pub use command::{Command, Error, Output, Stream};
pub use credentials::Credentials;
pub use daemon::Daemon;
pub use identity::{InvalidProcessIdentity, ProcessIdentity};
pub use secret_file::SecretFile;

#[cfg(test)]
mod tests;
