//! The arguments of a run.

use std::path::PathBuf;

use bootstrap::steps::Verdict;
use clap::Args;
use engine::plan::StepId;
use talos_client::CertificateFingerprint;

use super::SecretsArg;

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct RunArgs {
    /// The cluster to bootstrap, by its name in the repository.
    pub(in crate::cli) cluster: Option<String>,
    /// Go on where an interrupted or failed run stopped, or adopt what is there.
    #[arg(long)]
    pub(in crate::cli) resume: bool,
    /// Run against the lab of this cluster (`k8s-bootstrap lab up`).
    #[arg(long)]
    pub(in crate::cli) lab: bool,
    /// Use the operator's own secrets, or placeholders (the default with --lab).
    #[arg(long, value_name = "WHICH")]
    pub(in crate::cli) secrets: Option<SecretsArg>,
    /// Take every chart from this file (`k8s-bootstrap bundle create`), and ask no registry.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) bundle: Option<PathBuf>,
    /// Give a config to this node only when it shows this key in maintenance mode: `cp-1=<fingerprint on its console>`.
    #[arg(long, value_name = "NODE=FINGERPRINT", value_parser = pin)]
    pub(in crate::cli) cert_fingerprint: Vec<(String, CertificateFingerprint)>,
    /// Start etcd on this control plane although others do not answer: those are gone for good and hold no etcd.
    #[arg(long, value_name = "NODE")]
    pub(in crate::cli) force_bootstrap_node: Option<String>,
    /// What came of a hook that must not run twice: `hook/rook/1=done`, or `=again`.
    #[arg(long, value_name = "STEP=done|again", value_parser = verdict, requires = "resume")]
    pub(in crate::cli) hook: Vec<(StepId, Verdict)>,
    /// Add the cluster to the operator's own kubeconfig when the run is complete.
    #[arg(long)]
    pub(in crate::cli) merge_kubeconfig: bool,
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
