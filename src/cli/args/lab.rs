//! The arguments of `rehearse` and `lab`.

use clap::{Args, Subcommand, ValueEnum};

use super::SecretsArg;

/// Options of a lab.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct LabOptionsArgs {
    /// A built-in scenario by name (`default`, `fast`) or a scenario file.
    #[arg(long, value_name = "NAME|FILE", default_value = "default")]
    pub(in crate::cli) scenario: String,
    /// Keep the lab's folder, for kubectl and talosctl.
    #[arg(long)]
    pub(in crate::cli) keep: bool,
    /// Serve stand-in charts, or pull the original charts first.
    #[arg(long, value_name = "stand-ins|real", default_value = "stand-ins")]
    pub(in crate::cli) charts: ChartsArg,
    /// Run an API server on the first control plane that is up, or on all of them (about 260 MB each).
    #[arg(long, value_name = "one|all", default_value = "one")]
    pub(in crate::cli) control_planes: ControlPlanesArg,
    /// Play Flux, or let the real kustomize-controller build the working tree (built with go when first used).
    #[arg(long, value_name = "played|real", default_value = "played")]
    pub(in crate::cli) flux: FluxArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum FluxArg {
    Played,
    Real,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ControlPlanesArg {
    One,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ChartsArg {
    StandIns,
    Real,
}

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct RehearseArgs {
    /// The cluster to rehearse, by its name in the repository.
    pub(in crate::cli) cluster: String,
    #[command(flatten)]
    pub(in crate::cli) lab: LabOptionsArgs,
    /// Use the operator's own secrets, or placeholders.
    #[arg(long, value_name = "real|placeholder", default_value = "placeholder")]
    pub(in crate::cli) secrets: SecretsArg,
    /// Internal: this process was started in a network namespace of its own.
    #[arg(long, hide = true)]
    pub(in crate::cli) sealed: bool,
}

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct LabArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: LabCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum LabCommand {
    /// Start the lab of a cluster and stay in the foreground until `lab down` or Ctrl-C.
    Up {
        cluster: String,
        #[command(flatten)]
        lab: LabOptionsArgs,
    },
    /// Stop the lab of a cluster, and every process in it.
    Down { cluster: String },
    /// Print the lab's nodes, members, calls and faults.
    Status { cluster: String },
}
