//! The releases of a helmfile: what it declares, and what the charts render.

use std::path::PathBuf;

use helm::{ChartVersion, TemplateOptions};
use helmfile::{Helmfile, HelmfileOptions, ReadDepth, Selector, SelectorError, StateValue, StateValueError};
use serde_json::Value;

use super::{OpsError, Workspace, repository_charts};
use crate::template_programs;

/// Which releases of which helmfile.
#[derive(Debug, Clone, Default)]
pub struct ReleaseQuery {
    /// A state file, or a folder of them, from the repository's root.
    pub file: PathBuf,
    /// The environment of the helmfile.
    pub environment: Option<String>,
    /// Label selectors such as `tier=net,name!=cilium`; empty selects all.
    pub selectors: Vec<String>,
    /// What a selected release needs is selected too.
    pub include_needs: bool,
    /// Values for `.Values`, such as `a.b=1`.
    pub state_values: Vec<String>,
    /// The same, always text.
    pub state_texts: Vec<String>,
    /// Files of values for `.Values`.
    pub state_values_files: Vec<PathBuf>,
}

impl ReleaseQuery {
    fn options(&self, depth: ReadDepth) -> Result<HelmfileOptions, OpsError> {
        let selectors = self.selectors.iter().map(|selector| selector.parse::<Selector>());
        let texts = self.state_texts.iter().map(|set| StateValue::parse_text(set));
        let sets = texts.chain(self.state_values.iter().map(|set| StateValue::parse(set)));
        Ok(HelmfileOptions {
            environment: self.environment.clone(),
            selectors: selectors.collect::<Result<_, SelectorError>>()?,
            state_values: sets.collect::<Result<Vec<_>, StateValueError>>()?.concat(),
            state_values_files: self.state_values_files.clone(),
            include_needs: self.include_needs,
            programs: Some(template_programs()),
            depth,
        })
    }
}

/// Reads the selected releases, without helm.
///
/// # Errors
///
/// Mistakes in the files or in the query; [`OpsError::NoReleases`] if nothing is selected.
pub fn releases(workspace: &Workspace, query: &ReleaseQuery, depth: ReadDepth) -> Result<Helmfile, OpsError> {
    let root = workspace.repository()?;
    let path = root.join(&query.file);
    let helmfile = helmfile::read(&root, &path, &workspace.variables, &query.options(depth)?)?;
    for notice in &helmfile.notices {
        workspace.note(&format!("notice: {notice}"));
    }
    if helmfile.files.iter().all(|file| file.releases.is_empty()) {
        return Err(OpsError::NoReleases { file: query.file.clone() });
    }
    Ok(helmfile)
}

/// Renders the manifests of the selected releases with helm.
///
/// # Errors
///
/// As [`releases`]; helm is missing; a chart that cannot be pulled or rendered.
pub async fn release_manifests(
    workspace: &Workspace,
    query: &ReleaseQuery,
    options: &TemplateOptions,
) -> Result<Vec<Value>, OpsError> {
    let helmfile = releases(workspace, query, ReadDepth::Everything)?;
    helmfile::check_needs(&[&helmfile])?;
    let charts = repository_charts(workspace, &workspace.repository()?)?;
    let charts = charts.get().await.map_err(|error| OpsError::charts(error, "CLUSTER"))?;
    let mut all = vec![];
    for release in &helmfile.releases {
        let given = |flag: &str| release.flags.args.iter().any(|argument| argument == flag);
        let options = TemplateOptions {
            kube_version: options.kube_version.clone().or_else(|| release.kube_version.clone()),
            include_crds: options.include_crds || given("--include-crds"),
            hooks: options.hooks && !given("--no-hooks"),
            api_versions: release.api_versions.clone(),
        };
        let ready = charts.prepare(release, &ChartVersion::Packaged, &options).await?;
        all.extend(charts.helm.template(release, &ready.chart, &options).await?);
    }
    Ok(all)
}
