//! The arguments of `plan`, `status` and `render`.

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
    #[arg(long, value_name = "WHICH")]
    pub(in crate::cli) secrets: Option<SecretsArg>,
}

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct StatusArgs {
    /// The cluster, by its name in the repository.
    pub(in crate::cli) cluster: String,
    /// Query the lab of this cluster.
    #[arg(long)]
    pub(in crate::cli) lab: bool,
}

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct RenderArgs {
    /// The cluster, by its name in the repository.
    pub(in crate::cli) cluster: String,
    /// One node, by its hostname or address; every node when absent.
    pub(in crate::cli) node: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) view: ViewArgs,
    /// Render for the lab that is up, with its placeholder secrets.
    #[arg(long)]
    pub(in crate::cli) lab: bool,
    /// Print secret values too, after a confirmation.
    #[arg(long)]
    pub(in crate::cli) show_secrets: bool,
}

/// What is shown of a config, when not the config itself.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub(in crate::cli) struct ViewArgs {
    /// Print every field with the layer that set it: file, line and column.
    #[arg(long)]
    pub(in crate::cli) explain: bool,
    /// Print what would change on the running nodes; exit code 5 when anything would.
    #[arg(long)]
    pub(in crate::cli) diff: bool,
}
