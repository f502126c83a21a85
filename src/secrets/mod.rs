//! Secrets from `op` and SOPS, and the redactor in front of every sink.
