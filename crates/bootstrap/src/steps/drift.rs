//! What Flux will change on a finished cluster: each release rendered as the bootstrap installs it and as Flux will.

use futures::StreamExt;
use serde_json::Value;

use super::context::RunContext;
use engine::StepError;
use helm::{ChartVersion, Charts, HelmError, TemplateOptions};
use helmfile::{Chart, FetchOptions, Release, ReleaseId};
use repository::{Counterpart, UnknownChart, drift};

/// Rendering keeps a processor busy; more at once only wait for each other.
const LANES: usize = 2;
/// Replaces values that are secret, or new at each rendering.
const HIDDEN: &str = "(hidden)";

/// Why the manifests of a release cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error(transparent)]
    Helm(#[from] HelmError),
    #[error(transparent)]
    Chart(#[from] UnknownChart),
    #[error(transparent)]
    Version(#[from] StepError),
}

/// A release in both renderings.
#[derive(Debug)]
pub struct Compared {
    pub release: ReleaseId,
    /// A unified diff from the bootstrap's manifests to Flux's, empty when they are the same.
    pub diff: Result<String, CompareError>,
    /// What of the HelmRelease is not in its rendering.
    pub without: Vec<String>,
}

/// Renders every release that Flux will take over, both ways.
pub async fn compare(context: &RunContext, charts: &Charts) -> Vec<Compared> {
    let releases = &context.cluster.bootstrap.releases.releases;
    let both = releases.iter().filter_map(|release| Some((release, context.cluster.flux.counterpart(release)?)));
    let compare = |(release, flux): (_, Counterpart)| async move {
        let diff = difference(context, charts, release, &flux).await;
        Compared { release: release.id.clone(), diff, without: flux.patches.unsupported }
    };
    futures::stream::iter(both).map(compare).buffered(LANES).collect().await
}

async fn difference(
    context: &RunContext,
    charts: &Charts,
    release: &Release,
    flux: &Counterpart,
) -> Result<String, CompareError> {
    let theirs = match &flux.chart {
        Ok(source) => Release {
            fetch: fetch_options(release, &source.chart),
            chart: source.chart.clone(),
            values: drift::filled(flux, &release.values),
            patches: flux.patches.patches.clone(),
            ..release.clone()
        },
        Err(unknown) => return Err(unknown.clone().into()),
    };
    let version = context.chart_version(release).await?;
    let before = rendered(context, charts, release, &version).await?;
    let after = rendered(context, charts, &theirs, &version).await?;
    let text = if before == after {
        String::new()
    } else {
        let diff = similar::TextDiff::from_lines(&before, &after);
        let names = [format!("{} (bootstrap)", release.id), format!("{} (Flux)", release.id)];
        diff.unified_diff().context_radius(3).header(&names[0], &names[1]).to_string()
    };
    Ok(text)
}

/// How Flux's chart is fetched: a login for our registry is not sent to another.
pub(super) fn fetch_options(release: &Release, theirs: &Chart) -> FetchOptions {
    if is_same_place(&release.chart, theirs) { release.fetch.clone() } else { FetchOptions::default() }
}

/// Whether a login for one is meant for the other.
fn is_same_place(ours: &Chart, theirs: &Chart) -> bool {
    match (ours, theirs) {
        (Chart::Oci { reference: ours, .. }, Chart::Oci { reference: theirs, .. }) => {
            ours.split('/').next() == theirs.split('/').next()
        }
        (Chart::Repository { url: ours, .. }, Chart::Repository { url: theirs, .. }) => ours == theirs,
        _ => false,
    }
}

async fn rendered(
    context: &RunContext,
    charts: &Charts,
    release: &Release,
    version: &ChartVersion,
) -> Result<String, HelmError> {
    let options = TemplateOptions { include_crds: true, hooks: true, ..context.template_options() };
    let ready = charts.prepare(release, version, &options).await?;
    let objects = charts.helm.template(release, &ready.chart, &options).await?;
    Ok(comparable(objects))
}

/// Manifests in one order, without values of Secrets and certificates that charts make up anew.
fn comparable(mut objects: Vec<Value>) -> String {
    let text = |object: &Value, path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let paths = ["/kind", "/metadata/namespace", "/metadata/name", "/apiVersion"];
    objects.sort_by_cached_key(|object| paths.map(|path| text(object, path)));
    for object in &mut objects {
        if object["kind"] == "Secret" {
            for field in ["data", "stringData"] {
                object.get_mut(field).into_iter().for_each(hide);
            }
        }
        hide_bundles(object);
        object.sort_all_objects();
    }
    let texts: Vec<String> = objects.iter().map(|object| yaml::to_string(object).unwrap_or_default()).collect();
    texts.join("---\n")
}

fn hide(values: &mut Value) {
    for value in values.as_object_mut().into_iter().flat_map(|map| map.values_mut()) {
        *value = HIDDEN.into();
    }
}

fn hide_bundles(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if key == "caBundle" { *value = HIDDEN.into() } else { hide_bundles(value) }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_bundles),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn order_and_secrets_make_no_difference() {
        let secret = |value: &str| json!({"kind": "Secret", "metadata": {"name": "a"}, "data": {"key": value}});
        let hook = |bundle: &str| json!({"webhooks": [{"clientConfig": {"caBundle": bundle}}], "kind": "Hook"});
        let before = comparable(vec![hook("one"), secret("eA==")]);
        assert_eq!(before, comparable(vec![secret("eQ=="), hook("two")]));
        assert!(before.contains("key: (hidden)"), "{before}");
        assert_ne!(before, comparable(vec![secret("eQ=="), hook("two"), json!({"kind": "Pod"})]));
    }

    #[test]
    fn a_login_goes_to_its_own_registry_alone() {
        let oci = |reference: &str| Chart::Oci { reference: reference.to_owned(), version: None };
        assert!(is_same_place(&oci("a.example/x"), &oci("a.example/y")));
        assert!(!is_same_place(&oci("a.example/x"), &oci("b.example/x")));
    }
}
