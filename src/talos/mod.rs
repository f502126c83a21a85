//! The Talos API and machine configs.

pub mod client;
pub mod config;
pub mod install;
pub mod registries;
