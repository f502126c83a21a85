//! The arguments of a run.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use bootstrap::steps::{HookAnswer, Reboots, RolloutOptions};
use clap::Args;
use engine::plan::StepId;
use talos_client::CertificateFingerprint;

use super::SecretsArg;

#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag on the command line; they become options at once")]
pub(in crate::cli) struct RunArgs {
    /// The cluster to bootstrap, by its name in the repository.
    pub(in crate::cli) cluster: Option<String>,
    /// Continue an interrupted or failed run, or adopt a running cluster.
    #[arg(long)]
    pub(in crate::cli) resume: bool,
    /// Run against the lab of this cluster (`k8s-bootstrap lab up`).
    #[arg(long)]
    pub(in crate::cli) lab: bool,
    /// Use the operator's own secrets, or placeholders (the default with --lab).
    #[arg(long, value_name = "real|placeholder")]
    pub(in crate::cli) secrets: Option<SecretsArg>,
    /// Read every chart from this file (`k8s-bootstrap bundle create`) instead of registries.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) bundle: Option<PathBuf>,
    /// Apply a config to this node only when its certificate in maintenance mode has this fingerprint, which its console shows.
    #[arg(long, value_name = "NODE=FINGERPRINT", value_parser = pin)]
    pub(in crate::cli) cert_fingerprint: Vec<(String, CertificateFingerprint)>,
    /// Bootstrap etcd on this control plane although others do not respond; only when those are lost for good.
    #[arg(long, value_name = "NODE")]
    pub(in crate::cli) force_bootstrap_node: Option<String>,
    /// The outcome of a hook that was interrupted and must not run twice: `hook/rook/1=done`, or `=again` to run it.
    #[arg(long, value_name = "STEP=done|again", value_parser = hook_answer, requires = "resume")]
    pub(in crate::cli) hook: Vec<(StepId, HookAnswer)>,
    #[command(flatten)]
    pub(in crate::cli) rollout: RolloutArgs,
    /// Take over the cluster's lease from another run that no longer renews it; a live one is refused. While the Kubernetes API
    /// does not respond, change nodes without the lease. Only when no other run works on the cluster.
    #[arg(long)]
    pub(in crate::cli) take_over: bool,
    /// Merge the cluster into the operator's kubeconfig at the end of the run.
    #[arg(long)]
    pub(in crate::cli) merge_kubeconfig: bool,
}

/// How config changes reach configured nodes.
#[derive(Debug, Clone, Copy, Args)]
pub(in crate::cli) struct RolloutArgs {
    /// Refuse config changes that reboot a node, list them, and change nothing.
    #[arg(long)]
    no_reboot: bool,
    /// Reboot so many workers at once; control planes always one at a time.
    #[arg(long, value_name = "N", default_value = "1")]
    max_unavailable: NonZeroU32,
    /// Give a drain up when no pod has left the node for this long.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    drain_timeout: Duration,
}

impl From<RolloutArgs> for RolloutOptions {
    fn from(args: RolloutArgs) -> Self {
        Self {
            reboots: if args.no_reboot { Reboots::Forbidden } else { Reboots::Allowed },
            max_unavailable: args.max_unavailable,
            drain_timeout: args.drain_timeout,
        }
    }
}

fn pin(text: &str) -> Result<(String, CertificateFingerprint), Box<dyn std::error::Error + Send + Sync>> {
    let (node, fingerprint) = text.split_once('=').ok_or("expected NODE=FINGERPRINT")?;
    Ok((node.to_owned(), fingerprint.parse()?))
}

fn duration(text: &str) -> Result<Duration, Box<dyn std::error::Error + Send + Sync>> {
    let duration: jiff::SignedDuration = text.parse()?;
    Duration::try_from(duration).map_err(|_| "expected a positive duration, such as 90s or 5m".into())
}

fn hook_answer(text: &str) -> Result<(StepId, HookAnswer), Box<dyn std::error::Error + Send + Sync>> {
    match text.split_once('=') {
        Some((step, "done")) => Ok((StepId::new(step), HookAnswer::Done)),
        Some((step, "again")) => Ok((StepId::new(step), HookAnswer::Again)),
        _ => Err("expected STEP=done or STEP=again".into()),
    }
}
