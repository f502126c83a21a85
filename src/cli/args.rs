//! The command line as types.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use bootstrap::steps::Verdict;
use engine::plan::StepId;
use talos_client::CertificateFingerprint;

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

#[derive(Debug, Clone, Args)]
pub(super) struct RunArgs {
    /// The cluster to bootstrap, by its name in the repository.
    pub(super) cluster: Option<String>,
    /// Go on where an interrupted or failed run stopped, or adopt what is there.
    #[arg(long)]
    pub(super) resume: bool,
    /// Run against the lab of this cluster (`k8s-bootstrap lab up`).
    #[arg(long)]
    pub(super) lab: bool,
    /// Use the operator's own secrets, or placeholders (the default with --lab).
    #[arg(long, value_name = "WHICH")]
    pub(super) secrets: Option<SecretsArg>,
    /// Take every chart from this file (`k8s-bootstrap bundle create`), and ask no registry.
    #[arg(long, value_name = "FILE")]
    pub(super) bundle: Option<PathBuf>,
    /// Give a config to this node only when it shows this key in maintenance mode: `cp-1=<fingerprint on its console>`.
    #[arg(long, value_name = "NODE=FINGERPRINT", value_parser = pin)]
    pub(super) cert_fingerprint: Vec<(String, CertificateFingerprint)>,
    /// Start etcd on this control plane although others do not answer: those are gone for good and hold no etcd.
    #[arg(long, value_name = "NODE")]
    pub(super) force_bootstrap_node: Option<String>,
    /// What came of a hook that must not run twice: `hook/rook/1=done`, or `=again`.
    #[arg(long, value_name = "STEP=done|again", value_parser = verdict, requires = "resume")]
    pub(super) hook: Vec<(StepId, Verdict)>,
    /// Add the cluster to the operator's own kubeconfig when the run is complete.
    #[arg(long)]
    pub(super) merge_kubeconfig: bool,
}

fn pin(text: &str) -> Result<(String, CertificateFingerprint), Box<dyn std::error::Error + Send + Sync>> {
    let (node, fingerprint) = text.split_once('=').ok_or("write NODE=FINGERPRINT")?;
    Ok((node.to_owned(), fingerprint.parse()?))
}

fn verdict(text: &str) -> Result<(StepId, Verdict), String> {
    let verdict = match text.split_once('=') {
        Some((step, "done")) => Some((step, Verdict::Done)),
        Some((step, "again")) => Some((step, Verdict::Again)),
        _ => None,
    };
    let (step, verdict) = verdict.ok_or("write STEP=done or STEP=again")?;
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
    /// Ask the world how each step stands: exit code 0 when all hold, 5 when a run would find something to do.
    #[arg(long)]
    pub(super) detailed_exitcode: bool,
    /// Render each release as the bootstrap installs it and as Flux will, and print the difference.
    #[arg(long)]
    pub(super) drift: bool,
    /// Ask the lab of this cluster.
    #[arg(long)]
    pub(super) lab: bool,
    /// Take every chart from this file (`k8s-bootstrap bundle create`), and ask no registry.
    #[arg(long, value_name = "FILE")]
    pub(super) bundle: Option<PathBuf>,
    /// Plan with the operator's own secrets (the default), or open none: placeholders stand for them, and the fingerprints
    /// of what holds secrets are not those of a run.
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
    /// Write a snapshot, its digest checked. It holds every secret of the cluster.
    Snapshot {
        #[command(flatten)]
        of: EtcdOf,
        /// The file, for its owner's eyes only.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Print each control plane's member: its role, version, size and alarms.
    Status {
        #[command(flatten)]
        of: EtcdOf,
    },
    /// Take all alarms back, such as after the database was made smaller.
    Disarm {
        #[command(flatten)]
        of: EtcdOf,
    },
}

#[derive(Debug, Clone, Args)]
pub(super) struct StatusArgs {
    /// The cluster, by its name in the repository.
    pub(super) cluster: String,
    /// Ask the lab of this cluster.
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
    /// Print secret values too, after asking.
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

/// What a rehearsal's world is made of.
#[derive(Debug, Clone, Args)]
pub(super) struct WorldArgs {
    /// A built-in scenario by name (`default`, `fast`) or a scenario file.
    #[arg(long, value_name = "NAME|FILE", default_value = "default")]
    pub(super) scenario: String,
    /// Leave the lab's folder behind, for kubectl and talosctl.
    #[arg(long)]
    pub(super) keep: bool,
    /// Serve stand-ins written for the lab, or pull the original charts first.
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
    pub(super) world: WorldArgs,
    /// Use the operator's own secrets, or placeholders.
    #[arg(long, value_name = "WHICH", default_value = "placeholder")]
    pub(super) secrets: SecretsArg,
    /// Not for people: this process was started in a network namespace of its own.
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
        world: WorldArgs,
    },
    /// End the lab of a cluster, and every process in it.
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
    /// Print where each program was found, and in which version.
    List,
    /// Provide every program that a rehearsal needs: find, else download, else build it.
    Install,
}

#[derive(Debug, Clone, Args)]
pub(super) struct SecretsArgs {
    #[command(subcommand)]
    pub(super) command: SecretsCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum SecretsCommand {
    /// Print a fresh secrets bundle, to be encrypted with SOPS at once: `… secrets gen | sops encrypt …`.
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
    /// Print every release, also those that are switched off (as `helmfile list`).
    List(HelmfileArgs),
    /// Print each state file as it was read: `.Values`, and the releases with their fields rendered (as `helmfile build`).
    Build(HelmfileArgs),
    /// Print the values that Helm is given for each release (as `helmfile write-values`, and what is `set`).
    Values(HelmfileArgs),
    /// Print the manifests of each release, patches applied (as `helmfile template`).
    Template {
        #[command(flatten)]
        helmfile: HelmfileArgs,
        /// Render what lies in the charts' `crds` folders too.
        #[arg(long)]
        include_crds: bool,
        /// Leave the charts' hooks out.
        #[arg(long)]
        no_hooks: bool,
        /// The Kubernetes version to render for; else the release's own, else helm's.
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
    /// What a selected release needs as well.
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

/// Not for people: becomes another program that dies with the process that started it.
#[derive(Debug, Clone, Args)]
pub(super) struct ChildArgs {
    pub(super) parent: u32,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 1..)]
    pub(super) command: Vec<std::ffi::OsString>,
}
