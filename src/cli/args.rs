//! The command line as types.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use bootstrap::steps::Verdict;
use engine::plan::StepId;
use talos_client::CertificateFingerprint;

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

#[derive(Debug, Clone, Args)]
pub(super) struct RunArgs {
    /// The cluster to bootstrap, by its name in the repository.
    pub(super) cluster: Option<String>,
    /// Continue an interrupted or failed run, or adopt a running cluster.
    #[arg(long)]
    pub(super) resume: bool,
    /// Run against the lab of this cluster (`k8s-bootstrap lab up`).
    #[arg(long)]
    pub(super) lab: bool,
    /// Use the operator's own secrets, or placeholders (the default with --lab).
    #[arg(long, value_name = "WHICH")]
    pub(super) secrets: Option<SecretsArg>,
    /// Read every chart from this file (`k8s-bootstrap bundle create`) instead of registries.
    #[arg(long, value_name = "FILE")]
    pub(super) bundle: Option<PathBuf>,
    /// Apply a config to this node only when its certificate in maintenance mode has this fingerprint, which its console shows.
    #[arg(long, value_name = "NODE=FINGERPRINT", value_parser = pin)]
    pub(super) cert_fingerprint: Vec<(String, CertificateFingerprint)>,
    /// Bootstrap etcd on this control plane although others do not respond; only when those are lost for good.
    #[arg(long, value_name = "NODE")]
    pub(super) force_bootstrap_node: Option<String>,
    /// The outcome of a hook that was interrupted and must not run twice: `hook/rook/1=done`, or `=again` to run it.
    #[arg(long, value_name = "STEP=done|again", value_parser = verdict, requires = "resume")]
    pub(super) hook: Vec<(StepId, Verdict)>,
    /// Merge the cluster into the operator's kubeconfig at the end of the run.
    #[arg(long)]
    pub(super) merge_kubeconfig: bool,
}

fn pin(text: &str) -> Result<(String, CertificateFingerprint), Box<dyn std::error::Error + Send + Sync>> {
    let (node, fingerprint) = text.split_once('=').ok_or("expected NODE=FINGERPRINT")?;
    Ok((node.to_owned(), fingerprint.parse()?))
}

fn verdict(text: &str) -> Result<(StepId, Verdict), String> {
    let verdict = match text.split_once('=') {
        Some((step, "done")) => Some((step, Verdict::Done)),
        Some((step, "again")) => Some((step, Verdict::Again)),
        _ => None,
    };
    let (step, verdict) = verdict.ok_or("expected STEP=done or STEP=again")?;
    Ok((StepId::new(step), verdict))
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
    Node(super::node::NodeArgs),
    /// Machine configs without a repository, with talosctl's flags.
    Machineconfig(super::machineconfig::MachineconfigArgs),
    #[command(name = "__child", hide = true)]
    Child(ChildArgs),
}

#[derive(Debug, Clone, Args)]
pub(super) struct PlanArgs {
    /// The cluster, by its name in the repository.
    pub(super) cluster: String,
    /// Query the cluster for the state of each step: exit code 0 when all are up to date, 5 when a run would change something.
    #[arg(long)]
    pub(super) detailed_exitcode: bool,
    /// Render each release as the bootstrap installs it and as Flux will, and print the difference.
    #[arg(long)]
    pub(super) drift: bool,
    /// Query the lab of this cluster.
    #[arg(long)]
    pub(super) lab: bool,
    /// Read every chart from this file (`k8s-bootstrap bundle create`) instead of registries.
    #[arg(long, value_name = "FILE")]
    pub(super) bundle: Option<PathBuf>,
    /// Plan with the operator's own secrets (the default) or with placeholders; with placeholders, fingerprints of steps that
    /// contain secrets differ from those of a run.
    #[arg(long, value_name = "WHICH")]
    pub(super) secrets: Option<SecretsArg>,
}

#[derive(Debug, Clone, Args)]
pub(super) struct EtcdArgs {
    #[command(subcommand)]
    pub(super) command: EtcdCommand,
}

#[derive(Debug, Clone, Args)]
pub(super) struct EtcdOf {
    /// The cluster, by its name in the repository.
    pub(super) cluster: String,
    /// The cluster's lab.
    #[arg(long)]
    pub(super) lab: bool,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum EtcdCommand {
    /// Write a snapshot and check its digest. It contains every secret of the cluster.
    Snapshot {
        #[command(flatten)]
        of: EtcdOf,
        /// The file to write, with mode 0600.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Print each control plane's member: its role, version, size and alarms.
    Status {
        #[command(flatten)]
        of: EtcdOf,
    },
    /// Disarm all alarms, such as after a defragmentation.
    Disarm {
        #[command(flatten)]
        of: EtcdOf,
    },
}

#[derive(Debug, Clone, Args)]
pub(super) struct StatusArgs {
    /// The cluster, by its name in the repository.
    pub(super) cluster: String,
    /// Query the lab of this cluster.
    #[arg(long)]
    pub(super) lab: bool,
}

#[derive(Debug, Clone, Args)]
pub(super) struct RenderArgs {
    /// The cluster, by its name in the repository.
    pub(super) cluster: String,
    /// One node, by its hostname or address; every node when absent.
    pub(super) node: Option<String>,
    #[command(flatten)]
    pub(super) view: ViewArgs,
    /// Render for the lab that is up, with its placeholder secrets.
    #[arg(long)]
    pub(super) lab: bool,
    /// Print secret values too, after a confirmation.
    #[arg(long)]
    pub(super) show_secrets: bool,
}

/// What is shown of a config, when not the config itself.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub(super) struct ViewArgs {
    /// Print every field with the layer that set it: file, line and column.
    #[arg(long)]
    pub(super) explain: bool,
    /// Print what would change on the running nodes; exit code 5 when anything would.
    #[arg(long)]
    pub(super) diff: bool,
}

/// Options of a lab.
#[derive(Debug, Clone, Args)]
pub(super) struct LabOptionsArgs {
    /// A built-in scenario by name (`default`, `fast`) or a scenario file.
    #[arg(long, value_name = "NAME|FILE", default_value = "default")]
    pub(super) scenario: String,
    /// Keep the lab's folder, for kubectl and talosctl.
    #[arg(long)]
    pub(super) keep: bool,
    /// Serve stand-in charts, or pull the original charts first.
    #[arg(long, value_name = "WHICH", default_value = "stand-ins")]
    pub(super) charts: ChartsArg,
    /// Run an API server on the first control plane that is up, or on all of them (about 260 MB each).
    #[arg(long, value_name = "WHICH", default_value = "one")]
    pub(super) control_planes: ControlPlanesArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ControlPlanesArg {
    One,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ChartsArg {
    StandIns,
    Real,
}

#[derive(Debug, Clone, Args)]
pub(super) struct RehearseArgs {
    /// The cluster to rehearse, by its name in the repository.
    pub(super) cluster: String,
    #[command(flatten)]
    pub(super) lab: LabOptionsArgs,
    /// Use the operator's own secrets, or placeholders.
    #[arg(long, value_name = "WHICH", default_value = "placeholder")]
    pub(super) secrets: SecretsArg,
    /// Internal: this process was started in a network namespace of its own.
    #[arg(long, hide = true)]
    pub(super) sealed: bool,
}

#[derive(Debug, Clone, Args)]
pub(super) struct LabArgs {
    #[command(subcommand)]
    pub(super) command: LabCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum LabCommand {
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

#[derive(Debug, Clone, Args)]
pub(super) struct BundleArgs {
    #[command(subcommand)]
    pub(super) command: BundleCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum BundleCommand {
    /// Pull every chart that a run needs, and list the images that the releases run.
    Create {
        /// The cluster, by its name in the repository.
        cluster: String,
        /// The file to write: a tar of an OCI image layout.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

#[derive(Debug, Clone, Args)]
pub(super) struct ToolsArgs {
    #[command(subcommand)]
    pub(super) command: ToolsCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum ToolsCommand {
    /// Print the path and version of each program.
    List,
    /// Install every program that a rehearsal needs: download it, or build it with go.
    Install,
}

#[derive(Debug, Clone, Args)]
pub(super) struct SecretsArgs {
    #[command(subcommand)]
    pub(super) command: SecretsCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum SecretsCommand {
    /// Print a new secrets bundle; encrypt it with SOPS at once: `… secrets gen | sops encrypt …`.
    Gen {
        /// The Talos version that the cluster starts with.
        #[arg(long, value_name = "VERSION")]
        talos_version: Option<String>,
    },
}

#[derive(Debug, Clone, Args)]
pub(super) struct ReleasesArgs {
    #[command(subcommand)]
    pub(super) command: ReleasesCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum ReleasesCommand {
    /// Print every release, including disabled ones (as `helmfile list`).
    List(HelmfileArgs),
    /// Print each state file as it was read: `.Values`, and the releases with their fields rendered (as `helmfile build`).
    Build(HelmfileArgs),
    /// Print the values of each release (as `helmfile write-values`, plus `set`).
    Values(HelmfileArgs),
    /// Print the manifests of each release, patches applied (as `helmfile template`).
    Template {
        #[command(flatten)]
        helmfile: HelmfileArgs,
        /// Include the CRDs of the charts' `crds` folders.
        #[arg(long)]
        include_crds: bool,
        /// Leave out the charts' hooks.
        #[arg(long)]
        no_hooks: bool,
        /// The Kubernetes version to render for (default: the release's, then helm's).
        #[arg(long, value_name = "VERSION")]
        kube_version: Option<String>,
    },
}

/// Which helmfile is read, and how.
#[derive(Debug, Clone, Args)]
pub(super) struct HelmfileArgs {
    /// A state file, or a folder of them, from the repository's root.
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: PathBuf,
    /// The environment of the helmfile.
    #[arg(short, long, value_name = "NAME", env = "HELMFILE_ENVIRONMENT")]
    pub(super) environment: Option<String>,
    /// Only releases with these labels, such as `tier=net,name!=cilium`; may be repeated.
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub(super) selector: Vec<String>,
    /// Include the `needs` of selected releases.
    #[arg(long)]
    pub(super) include_needs: bool,
    /// A value for `.Values`, such as `a.b=1,list[0]=x`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) state_values_set: Vec<String>,
    /// The same, always text.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) state_values_set_string: Vec<String>,
    /// A file of values for `.Values`; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub(super) state_values_file: Vec<PathBuf>,
}

/// Internal: becomes another program that dies with the process that started it.
#[derive(Debug, Clone, Args)]
pub(super) struct ChildArgs {
    pub(super) parent: u32,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 1..)]
    pub(super) command: Vec<std::ffi::OsString>,
}
