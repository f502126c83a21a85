//! Children: pipes, memfd, process group, deadline, death with the parent.
//!
//! Every child runs in a process group of its own. On Linux it dies with this process, even at `kill -9`: it is started
//! through a small re-exec of ourselves ([`guard`]) that asks the kernel for that and then becomes the program.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod command;
mod credentials;
mod daemon;
pub mod guard;
pub mod seal;
mod secret_file;
mod spawner;

pub use command::{Command, Error, Output, Stream};
pub use credentials::Credentials;
pub use daemon::Daemon;
pub use secret_file::SecretFile;

#[cfg(test)]
mod tests;
