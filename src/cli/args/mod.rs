//! The command line as types.

mod bundle;
mod etcd;
mod lab;
mod machineconfig;
mod node;
mod plan;
mod releases;
mod render;
mod run;
mod secrets;
mod status;
mod tools;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(super) use bundle::{BundleArgs, BundleCommand};
pub(super) use etcd::{EtcdArgs, EtcdCommand};
pub(super) use lab::{ChartsArg, ControlPlanesArg, FluxArg, LabArgs, LabCommand, LabOptionsArgs, RehearseArgs};
pub(super) use machineconfig::{GenArgs, MachineconfigArgs, MachineconfigCommand, OutputType, PatchArgs, ValidateArgs};
pub(super) use node::{Afterwards, How, NodeArgs, NodeCommand};
pub(super) use plan::PlanArgs;
pub(super) use releases::{HelmfileArgs, ReleasesArgs, ReleasesCommand};
pub(super) use render::RenderArgs;
pub(super) use run::RunArgs;
pub(super) use secrets::{SecretsArgs, SecretsCommand};
pub(super) use status::StatusArgs;
pub(super) use tools::{ToolsArgs, ToolsCommand};

/// Bootstraps bare Talos Linux nodes into a Kubernetes cluster that Flux manages, on day one and after a disaster.
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

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(super) struct Common {
    /// The repository that describes the clusters.
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".", global = true)]
    pub(super) directory: PathBuf,
    /// The folder of journals, kubeconfigs and labs.
    #[arg(long, value_name = "DIR", env = "K8S_BOOTSTRAP_STATE_DIR", global = true)]
    pub(super) state_dir: Option<PathBuf>,
    /// The folder that is searched first for external programs (helm, sops, op, …).
    #[arg(long, value_name = "DIR", global = true)]
    pub(super) tools_dir: Option<PathBuf>,
    /// Output format.
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
    /// Start, stop or inspect a lab: simulated nodes and a real Kubernetes control plane.
    Lab(LabArgs),
    /// Print what a run would do; change nothing.
    Plan(PlanArgs),
    /// Print the progress of the last run and the state of the cluster.
    Status(StatusArgs),
    /// Print the machine configs as they would be applied, secrets masked.
    Render(RenderArgs),
    /// List or install the external programs that a run or a rehearsal needs.
    Tools(ToolsArgs),
    /// Print the releases of a helmfile, their values or their manifests.
    Releases(ReleasesArgs),
    /// Put all charts of a cluster into one file, for air-gapped installs.
    Bundle(BundleArgs),
    /// Generate the secrets bundle of a cluster.
    Secrets(SecretsArgs),
    /// Inspect or back up the etcd of a running cluster.
    Etcd(EtcdArgs),
    /// Inspect, reboot, upgrade or reset one node of a running cluster.
    Node(NodeArgs),
    /// Print the page of an error code, such as T17: symptom, cause, what to do.
    Explain(ExplainArgs),
    /// Machine configs without a repository, with talosctl's flags.
    Machineconfig(MachineconfigArgs),
}

#[derive(Debug, Clone, Args)]
pub(super) struct ExplainArgs {
    /// The code in an error, such as T17.
    pub(super) code: engine::Code,
}
