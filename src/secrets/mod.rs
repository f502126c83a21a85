//! Secrets from 1Password and SOPS, and the redactor in front of every sink.

pub mod op;
mod redactor;
mod shape;
pub mod sops;

pub use redactor::Redactor;

#[cfg(test)]
mod tests;
