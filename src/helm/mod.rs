//! Helm: the helmfile model, chart sources, the helm process.

pub mod helmfile;
