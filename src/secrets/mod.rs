//! Secrets from SOPS, and the redactor in front of every sink.

mod redactor;
pub mod sops;

pub use redactor::Redactor;

#[cfg(test)]
mod tests;
