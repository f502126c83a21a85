//! The command line as types.

mod etcd;
mod inspect;
mod lab;
mod machineconfig;
mod node;
mod releases;
mod run;
mod supplies;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(super) use etcd::{EtcdArgs, EtcdCommand};
pub(super) use inspect::{PlanArgs, RenderArgs, StatusArgs};
pub(super) use lab::{ChartsArg, ControlPlanesArg, LabArgs, LabCommand, RehearseArgs, WorldArgs};
pub(super) use machineconfig::{GenArgs, MachineconfigArgs, MachineconfigCommand, OutputType, PatchArgs, ValidateArgs};
pub(super) use node::{Afterwards, How, NodeArgs, NodeCommand};
pub(super) use releases::{HelmfileArgs, ReleasesArgs, ReleasesCommand};
pub(super) use run::RunArgs;
pub(super) use supplies::{BundleArgs, BundleCommand, SecretsArgs, SecretsCommand, ToolsArgs, ToolsCommand};

/// Takes bare Talos Linux nodes to a Kubernetes cluster that Flux manages, and can do so again after a disaster.
#[derive(Debug, Parser)]
#[command(
    name = "k8s-bootstrap",
    version,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    override_usage = "k8s-bootstrap [OPTIONS] <CLUSTER> [--resume]\n       k8s-bootstrap [OPTIONS] <COMMAND> …"
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) run: RunArgs,
    #[command(flatten)]
    pub(super) common: Common,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(super) struct Common {
    /// The repository that describes the clusters.
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".", global = true)]
    pub(super) directory: PathBuf,
    /// Where journals, kubeconfigs and labs are kept.
    #[arg(long, value_name = "DIR", env = "K8S_BOOTSTRAP_STATE_DIR", global = true)]
    pub(super) state_dir: Option<PathBuf>,
    /// Where outside programs are looked for first.
    #[arg(long, value_name = "DIR", global = true)]
    pub(super) tools_dir: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_name = "FORMAT", default_value = "text", global = true)]
    pub(super) output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SecretsArg {
    Real,
    Placeholder,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the whole bootstrap against simulated nodes and a real Kubernetes control plane on this machine.
    Rehearse(RehearseArgs),
    /// The world of a rehearsal by itself.
    Lab(LabArgs),
    /// Print what a run would do; change nothing.
    Plan(PlanArgs),
    /// Print where the last run stands and what the cluster says now.
    Status(StatusArgs),
    /// Print the machine configs as they would be applied, secrets masked.
    Render(RenderArgs),
    /// The outside programs that a run or a rehearsal needs.
    Tools(ToolsArgs),
    /// What helmfiles say: the releases, their values, their manifests.
    Releases(ReleasesArgs),
    /// All charts of a cluster in one file, for a site that reaches no registry.
    Bundle(BundleArgs),
    /// The secrets bundle of a cluster.
    Secrets(SecretsArgs),
    /// The etcd of a running cluster.
    Etcd(EtcdArgs),
    /// One machine of a running cluster: look at it, or give it an order.
    Node(NodeArgs),
    /// Machine configs without a repository, with talosctl's flags.
    Machineconfig(MachineconfigArgs),
    #[command(name = "__child", hide = true)]
    Child(ChildArgs),
}

/// Not for people: becomes another program that dies with the process that started it.
#[derive(Debug, Clone, Args)]
pub(super) struct ChildArgs {
    pub(super) parent: u32,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 1..)]
    pub(super) command: Vec<std::ffi::OsString>,
}
