//! Helm and the charts of a cluster, opened when they are first needed: a plan of machine configs works without helm.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use helm::{BundleError, ChartBundle, Charts, Helm, Mirrors};
use tokio::sync::OnceCell;
use tools::{Tool, Toolbox};

/// Why charts cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChartsError {
    #[error(transparent)]
    Helm(#[from] tools::Error),
    #[error("cannot use the chart bundle {}", .path.display())]
    Bundle { path: PathBuf, source: BundleError },
}

/// How helm is obtained.
#[derive(Clone)]
pub enum HelmSupply {
    /// It has to be installed.
    Installed,
    /// It is downloaded or built when it is not installed; progress goes to the function.
    Provided(Arc<dyn Fn(&str) + Send + Sync>),
}

/// The charts of a cluster, not opened yet.
pub struct LazyCharts {
    pub toolbox: Toolbox,
    pub helm: HelmSupply,
    pub cache: PathBuf,
    /// Registry hosts to the registries that are used instead.
    pub mirrors: BTreeMap<String, String>,
    /// A chart bundle that replaces the registries.
    pub bundle: Option<PathBuf>,
    pub opened: OnceCell<Charts>,
}

impl std::fmt::Debug for HelmSupply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Installed => "Installed",
            Self::Provided(_) => "Provided",
        })
    }
}

impl std::fmt::Debug for LazyCharts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LazyCharts").field("cache", &self.cache).field("bundle", &self.bundle).finish_non_exhaustive()
    }
}

impl LazyCharts {
    /// Finds helm and opens the bundle, the first time.
    ///
    /// # Errors
    ///
    /// Helm is missing or too old; the chart bundle cannot be used.
    pub async fn get(&self) -> Result<&Charts, ChartsError> {
        self.opened.get_or_try_init(|| self.open()).await
    }

    async fn open(&self) -> Result<Charts, ChartsError> {
        let bundle = self.bundle.as_ref().map(|path| {
            let failed = |source| ChartsError::Bundle { path: path.clone(), source };
            ChartBundle::open(path).map(Arc::new).map_err(failed)
        });
        let found = match &self.helm {
            HelmSupply::Installed => self.toolbox.find(Tool::Helm).await?,
            HelmSupply::Provided(progress) => self.toolbox.provide(Tool::Helm, progress.as_ref()).await?,
        };
        Ok(Charts {
            helm: Helm { program: found.path, version: found.version },
            cache: self.cache.clone(),
            mirrors: Mirrors(self.mirrors.clone()),
            bundle: bundle.transpose()?,
        })
    }
}
