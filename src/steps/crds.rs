//! The CRDs of one chart, before anything uses them.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::objects::{apply_objects, gate_error, observe_objects};
use super::site::{Site, helm_error};
use crate::engine::{Observation, Step, StepContext, StepError};
use crate::helm::helmfile::Release;
use crate::helm::{TemplateOptions, manifest};
use crate::kubernetes;

/// Only the CRDs of the chart are applied, whatever else it renders.
pub(super) struct Crds {
    site: Arc<Site>,
    release: Release,
    objects: OnceCell<Vec<Value>>,
}

impl Crds {
    pub(super) fn new(site: Arc<Site>, release: Release) -> Self {
        Self { site, release, objects: OnceCell::new() }
    }

    async fn objects(&self) -> Result<&[Value], StepError> {
        self.objects
            .get_or_try_init(|| async {
                let failed = |error| helm_error(&error, &self.release);
                let site = self.site.template_options();
                let options = TemplateOptions {
                    kube_version: self.release.kube_version.clone().or(site.kube_version),
                    include_crds: true,
                    hooks: false,
                    api_versions: self.release.api_versions.clone(),
                };
                let ready = self.site.charts.prepare(&self.release, &options).await.map_err(failed)?;
                let rendered = self.site.charts.helm.template(&self.release, &ready.chart, &options).await;
                let mut crds = manifest::crds(rendered.map_err(failed)?);
                if self.is_installed_later() {
                    crds.iter_mut().for_each(|crd| manifest::own(crd, &self.release.id));
                }
                Ok(crds)
            })
            .await
            .map(Vec::as_slice)
    }

    /// Whether the chain installs the same release: Helm then takes only CRDs that are its own already (failure H06).
    fn is_installed_later(&self) -> bool {
        self.site.cluster.bootstrap.releases.releases.iter().any(|release| release.id == self.release.id)
    }
}

#[async_trait]
impl Step for Crds {
    async fn prepare(&self, _cx: &StepContext) -> Result<(), StepError> {
        self.objects().await.map(|_| ())
    }

    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        observe_objects(&self.site, self.objects().await?).await
    }

    async fn apply(&self, cx: &StepContext) -> Result<(), StepError> {
        apply_objects(&self.site, self.objects().await?, cx).await
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        let names: Vec<String> = self
            .objects()
            .await?
            .iter()
            .filter_map(|object| object.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned))
            .collect();
        let client = self.site.kubernetes().await?;
        kubernetes::wait_crds(&client, &names, cx.teller()).await.map_err(|error| gate_error(&error).code("H03"))
    }
}
