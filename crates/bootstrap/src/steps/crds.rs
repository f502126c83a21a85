//! The CRDs of one chart, or of the files that recipes apply, before anything uses them.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::api_errors::{api_error, gate_error, progress};
use super::context::RunContext;
use super::errors::helm_error;
use super::objects::{apply_objects, observe_objects};
use discover::CrdUrl;
use engine::{Action, Code, Effect, Observation, StepContext, StepError};
use helm::{ChartVersion, PulledChart, TemplateOptions, manifest};
use helmfile::Release;
use kubernetes::ObjectRef;
use yaml::Origin;

/// Where CRDs come from.
pub(super) enum Source {
    Chart(Box<Release>),
    Files(Vec<CrdUrl>),
}

/// Only the CRDs are applied, whatever else a chart renders or a file contains.
pub(super) struct Crds {
    context: Arc<RunContext>,
    source: Source,
    objects: OnceCell<Vec<Value>>,
}

/// The definitions that a chart has, in `crds/` or among its templates.
pub(super) async fn of_chart(context: &RunContext, release: &Release) -> Result<Vec<Value>, StepError> {
    let failed = |error| helm_error(&error, release);
    let options = context.template_options();
    let options = TemplateOptions {
        kube_version: release.kube_version.clone().or(options.kube_version),
        include_crds: true,
        hooks: false,
        api_versions: release.api_versions.clone(),
    };
    let charts = context.charts().await?;
    let ready = charts.prepare(release, &ChartVersion::Packaged, &options).await.map_err(failed)?;
    let rendered = charts.helm.template(release, &ready.chart, &options).await;
    Ok(manifest::crds(rendered.map_err(failed)?))
}

/// Creates the definitions that Helm would create with a release, if the cluster lacks them, and waits until their kinds are
/// served. Helm itself renders as soon as they are established (Helm 4.1 `installCRDs`): a template that asks for their kinds
/// may then render nothing, and the release stays without it.
pub(super) async fn create_own(
    context: &Arc<RunContext>,
    release: &Release,
    chart: &PulledChart,
    cx: &StepContext,
) -> Result<(), StepError> {
    if release.flags.args.iter().any(|argument| argument == "--skip-crds") {
        return Ok(());
    }
    let crds = context.charts().await?.helm.chart_crds(release, chart).await;
    let crds = manifest::crds(crds.map_err(|error| helm_error(&error, release))?);
    let client = context.kubernetes().await?;
    let mut missing = Vec::new();
    for crd in &crds {
        let Ok(object) = ObjectRef::from_manifest(crd) else { continue };
        if kubernetes::get(&client, &object).await.map_err(|error| api_error(&error))?.is_none() {
            missing.push(crd.clone());
        }
    }
    apply_objects(context, &missing, cx).await?;
    wait_served(context, &crds, cx).await
}

/// Waits until the kinds of these definitions are served.
async fn wait_served(context: &RunContext, crds: &[Value], cx: &StepContext) -> Result<(), StepError> {
    let name = |crd: &Value| crd.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned);
    let names: Vec<String> = crds.iter().filter_map(name).collect();
    let client = context.kubernetes().await?;
    kubernetes::wait_crds(&client, &names, &progress(cx)).await.map_err(|error| gate_error(&error).code(Code::H03))
}

/// The definitions in a file from the web.
async fn of_file(context: &RunContext, file: &CrdUrl) -> Result<Vec<Value>, StepError> {
    let failed = || {
        StepError::invalid_input("a file of custom resource definitions cannot be downloaded")
            .with_place(file.at.to_string())
    };
    let text =
        context.downloads.fetch_text(&file.url).await.map_err(|error| failed().caused_by(&error).code(Code::H10))?;
    let documents = yaml::parse(&Origin::new(&file.url), &text);
    let documents = documents.map_err(|error| failed().caused_by(&error).code(Code::H10))?;
    let crds = manifest::crds(documents.iter().map(yaml::Node::to_json).collect());
    if crds.is_empty() {
        return Err(failed().because(format!("{} contains no definition", file.url)).code(Code::H10));
    }
    Ok(crds)
}

impl Crds {
    pub(super) fn new(context: Arc<RunContext>, source: Source) -> Self {
        Self { context, source, objects: OnceCell::new() }
    }

    async fn objects(&self) -> Result<&[Value], StepError> {
        self.objects
            .get_or_try_init(|| async {
                let crds = match &self.source {
                    Source::Chart(release) => {
                        let mut crds = of_chart(&self.context, release).await?;
                        if self.is_installed_later(release) {
                            crds.iter_mut().for_each(|crd| manifest::add_ownership(crd, &release.id));
                        }
                        crds
                    }
                    Source::Files(files) => {
                        try_join_all(files.iter().map(|file| of_file(&self.context, file))).await?.concat()
                    }
                };
                self.context.kinds.define(&crds);
                Ok(crds)
            })
            .await
            .map(Vec::as_slice)
    }

    /// Whether the chain installs the same release: Helm then accepts only CRDs that are labelled as its own (H06).
    fn is_installed_later(&self, chart: &Release) -> bool {
        self.context.cluster.bootstrap.releases.releases.iter().any(|release| release.id == chart.id)
    }
}

#[async_trait]
impl Action for Crds {
    async fn prepare(&self, _cx: &StepContext) -> Result<(), StepError> {
        self.objects().await.map(|_| ())
    }

    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        observe_objects(&self.context, self.objects().await?).await
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        apply_objects(&self.context, self.objects().await?, cx).await
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        wait_served(&self.context, self.objects().await?, cx).await
    }
}
