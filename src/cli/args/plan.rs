//! The arguments of `plan`.

use std::path::PathBuf;

use clap::Args;

use super::SecretsArg;

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct PlanArgs {
    /// The cluster, by its name in the repository.
    pub(in crate::cli) cluster: String,
    /// Query the cluster for the state of each step: exit code 0 when all are up to date, 5 when a run would change something.
    #[arg(long)]
    pub(in crate::cli) detailed_exitcode: bool,
    /// Render each release as the bootstrap installs it and as Flux will, and print the difference.
    #[arg(long)]
    pub(in crate::cli) drift: bool,
    /// Query the lab of this cluster.
    #[arg(long)]
    pub(in crate::cli) lab: bool,
    /// Read every chart from this file (`k8s-bootstrap bundle create`) instead of registries.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) bundle: Option<PathBuf>,
    /// Plan with the operator's own secrets (the default) or with placeholders; with placeholders, fingerprints of steps that
    /// contain secrets differ from those of a run.
    #[arg(long, value_name = "real|placeholder")]
    pub(in crate::cli) secrets: Option<SecretsArg>,
}
