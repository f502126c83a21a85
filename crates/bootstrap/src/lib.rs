//! Where engine and adapters meet: the steps of a bootstrap.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod identity;
pub mod steps;

pub use identity::client_identity;
