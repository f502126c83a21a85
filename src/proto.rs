//! The generated Talos and COSI API types, see `proto/` at the top of the repository.
