//! From options to the context that the steps of a run share.

use std::net::IpAddr;
use std::sync::Arc;

use helmfile::Chart;
use kubernetes::ExpiredLease;
use net::DownloadSource;
use repository::Cluster;
use talos_config::Role;
use yaml::Diagnostics;

use super::access::{dialer, find_node};
use super::charts::{charts, kubectl};
use super::secret_sources::manifest_secrets;
use super::workspace::create_private_folder;
use super::{OpsError, RunOptions, SecretsMode, Target, Workspace, input_warnings, open_bundle, read_cluster};
use crate::steps::{Choices, ContextParts, RunContext, WithoutLease, hooks};

/// Whether an operation writes to the cluster and to the state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effects {
    ReadOnly,
    Write,
}

/// Reads the cluster and prepares what the steps share. With [`Effects::ReadOnly`] the state folder is not created.
///
/// # Errors
///
/// Mistakes in the files, secrets that cannot be opened, a missing helm.
pub async fn run_context(
    workspace: &Workspace,
    options: &RunOptions,
    effects: Effects,
) -> Result<Arc<RunContext>, OpsError> {
    let target = &options.target;
    if effects == Effects::Write && !target.is_lab() && options.secrets == SecretsMode::Placeholder {
        return Err(OpsError::PlaceholdersForRun);
    }
    let mut cluster = read_cluster(workspace, &options.cluster, options.secrets).await?;
    match (&cluster.bootstrap.missing, effects) {
        (Some(missing), Effects::Write) => return Err(Diagnostics::from(missing.clone()).into()),
        (Some(missing), Effects::ReadOnly) => workspace.note(&format!("warning: {missing}")),
        (None, _) => {}
    }
    if target.is_lab() {
        remove_digests(&mut cluster);
    }
    let secret_variables = discover::secret_values(&cluster.recipe_environment);
    secret_variables.for_each(|value| workspace.redactor.learn(&value.to_owned().into()));
    input_warnings(&cluster).for_each(|warning| workspace.note(&format!("warning: {warning}")));
    let forced = options.force_bootstrap_node.as_ref().map(|name| control_plane(&cluster, name)).transpose()?;
    let pins = options.pins.iter().map(|(name, print)| Ok((find_node(&cluster, name)?.address, print.clone())));
    let pins = pins.collect::<Result<_, OpsError>>()?;
    let folder = workspace.run_folder(&options.cluster, target)?;
    if effects == Effects::Write {
        create_private_folder(&folder)?;
    }
    let bundle = open_bundle(workspace, &cluster, target, options.secrets).await?;
    let context = RunContext::new(ContextParts {
        found: hooks::check(&cluster),
        charts: charts(workspace, &cluster, target, options.bundle.as_deref())?,
        downloads: match target {
            Target::Cluster => DownloadSource::Internet,
            Target::Lab(lab) => DownloadSource::Folder(lab.web.clone()),
        },
        secrets: manifest_secrets(workspace, &cluster, options.secrets).await,
        kubectl: kubectl(workspace, &cluster).await,
        redactor: workspace.redactor.clone(),
        choices: Choices {
            resumed: options.resume,
            forced,
            hook_answers: options.hook_answers.iter().cloned().collect(),
            pins,
            rollout: options.rollout,
            without_lease: match options.expired_lease {
                ExpiredLease::Respect => WithoutLease::Waits,
                ExpiredLease::TakeOver => WithoutLease::GoesOn,
            },
        },
        dialer: dialer(target),
        cluster,
        bundle,
        folder,
    })?;
    for warning in context.unused_patches().iter() {
        workspace.note(&format!("warning: {warning}"));
    }
    Ok(Arc::new(context))
}

fn control_plane(cluster: &Cluster, name: &str) -> Result<IpAddr, OpsError> {
    let node = find_node(cluster, name)?;
    if node.role == Role::ControlPlane {
        return Ok(node.address);
    }
    Err(OpsError::NotControlPlane { name: name.to_owned(), cluster: cluster.name.clone() })
}

/// Removes the digests from chart references: a lab's stand-ins have others.
fn remove_digests(cluster: &mut Cluster) {
    let bootstrap = &mut cluster.bootstrap;
    for release in bootstrap.crds.releases.iter_mut().chain(&mut bootstrap.releases.releases) {
        if let Chart::Oci { reference, .. } = &mut release.chart {
            let bare = reference.split('@').next().unwrap_or(reference).len();
            reference.truncate(bare);
        }
    }
}
