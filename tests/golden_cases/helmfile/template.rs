//! Manifests, rendered by the real helm.

use std::path::Path;
use std::sync::OnceLock;

use helm::{Charts, Helm, Mirrors, TemplateOptions, manifest};
use helmfile::{Chart, Helmfile, Release};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tools::{Options, Tool, Toolbox};

use super::case::{Case, Run};
use super::compare::differ;

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

/// The charts of cases are folders, so nothing is kept.
fn charts() -> &'static Charts {
    static CHARTS: OnceLock<Charts> = OnceLock::new();
    CHARTS.get_or_init(|| {
        let toolbox = Toolbox::new(Options::from_environment(None));
        let found = runtime().block_on(toolbox.provide(Tool::Helm, &|_| ())).unwrap();
        let helm = Helm { program: found.path, version: found.version };
        Charts { helm, cache: std::env::temp_dir(), mirrors: Mirrors::default(), bundle: None }
    })
}

pub(crate) fn compare(case: &Case, run: &Run, ours: &Helmfile, result: &Path) -> Result<(), String> {
    if case.standins {
        return Ok(());
    }
    let theirs = manifest::parse(&std::fs::read_to_string(result).unwrap()).unwrap();
    let mut rendered = vec![];
    for release in &ours.releases {
        rendered.extend(render(run, release)?);
    }
    differ("manifests", &sorted(rendered), &sorted(theirs))
}

fn render(run: &Run, release: &Release) -> Result<Vec<Value>, String> {
    assert!(matches!(release.chart, Chart::Local(_)), "{} has no chart here", release.id);
    let given = |flag: &str| {
        let own = release.flags.args.iter().chain(&run.helm_args);
        own.into_iter().any(|argument| argument == flag)
    };
    let options = TemplateOptions {
        kube_version: run.kube_version.clone().or_else(|| release.kube_version.clone()),
        include_crds: given("--include-crds"),
        hooks: !given("--no-hooks"),
        api_versions: release.api_versions.clone(),
    };
    let charts = charts();
    runtime().block_on(async {
        let ready = charts
            .prepare(release, &helm::ChartVersion::Packaged, &options)
            .await
            .map_err(|error| error.to_string())?;
        charts.helm.template(release, &ready.chart, &options).await.map_err(|error| error.to_string())
    })
}

/// Documents by kind, namespace and name.
fn sorted(mut documents: Vec<Value>) -> Value {
    documents.sort_by_key(|document| {
        let metadata = &document["metadata"];
        json!([document["kind"], metadata["namespace"], metadata["name"]]).to_string()
    });
    Value::from(documents)
}
