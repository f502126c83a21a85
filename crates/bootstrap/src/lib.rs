//! Where engine and adapters meet: the steps of a bootstrap.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod steps;
