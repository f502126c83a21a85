//! The chart that a HelmRelease names, through its source.

use std::path::Path;

use super::counterpart::ChartOrigin;
use super::{FluxChart, FluxObjects, Object, UnknownChart};
use helmfile::Chart;

impl FluxObjects {
    /// The chart of a HelmRelease, or what is missing and where.
    pub(super) fn chart_of(&self, release: &Object) -> Result<FluxChart, UnknownChart> {
        let at = |keys: &[&str]| release.location(keys);
        let namespace = release.text(&["spec", "chartRef", "namespace"]).or(release.namespace.as_deref());
        if let Some(name) = release.text(&["spec", "chartRef", "name"]) {
            let kind = release.text(&["spec", "chartRef", "kind"]).unwrap_or_default();
            let source = self.find(kind, name, namespace, &release.path);
            let missing = || {
                UnknownChart::new(
                    at(&["spec", "chartRef", "name"]),
                    format!("{kind} `{name}` is not in the repository"),
                )
            };
            let source = source.ok_or_else(missing)?;
            return match kind {
                "OCIRepository" => Ok(oci(source)),
                _ => self.chart_spec(source, &["spec"]),
            };
        }
        self.chart_spec(release, &["spec", "chart", "spec"])
    }

    /// A chart by name, version and source: of a HelmRelease, or of a HelmChart.
    fn chart_spec(&self, object: &Object, keys: &[&str]) -> Result<FluxChart, UnknownChart> {
        let below = |more: &[&'static str]| [keys, more].concat();
        let text = |more: &[&'static str]| object.text(&below(more));
        let place = |more: &[&'static str]| object.location(&below(more));
        let name = text(&["chart"]).ok_or_else(|| UnknownChart::new(place(&[]), "`chart` is missing"))?;
        let version = text(&["version"]).filter(|version| *version != "*").map(str::to_owned);
        let at = place(if version.is_some() { &["version"] } else { &["chart"] });
        let kind = text(&["sourceRef", "kind"]).unwrap_or_default();
        if kind != "HelmRepository" {
            let local = self.root.join(name.trim_start_matches("./"));
            let foreign =
                || UnknownChart::new(place(&["sourceRef"]), format!("charts from a {kind} are not supported"));
            return is_chart(&local)
                .then_some(FluxChart { chart: Chart::Local(local), at, source: ChartOrigin::Other })
                .ok_or_else(foreign);
        }
        let repository = text(&["sourceRef", "name"]).unwrap_or_default();
        let namespace = text(&["sourceRef", "namespace"]).or(object.namespace.as_deref());
        let missing = || {
            let message = format!("HelmRepository `{repository}` is not in the repository");
            UnknownChart::new(place(&["sourceRef", "name"]), message)
        };
        let source = self.find(kind, repository, namespace, &object.path).ok_or_else(missing)?;
        let url = source.text(&["spec", "url"]).unwrap_or_default().trim_end_matches('/');
        let chart = match url.strip_prefix("oci://") {
            Some(host) => Chart::Oci { reference: format!("{host}/{name}"), version },
            None => Chart::Repository { url: url.to_owned(), name: name.to_owned(), version },
        };
        Ok(FluxChart { chart, at, source: ChartOrigin::Other })
    }
}

fn is_chart(folder: &Path) -> bool {
    folder.join("Chart.yaml").is_file()
}

/// Flux uses the first of `digest`, `semver` and `tag` that is set.
fn oci(source: &Object) -> FluxChart {
    let url = source.text(&["spec", "url"]).unwrap_or_default();
    let reference = url.trim_start_matches("oci://").trim_end_matches('/');
    let version = ["semver", "tag"].into_iter().find(|key| source.text(&["spec", "ref", key]).is_some());
    let text = version.and_then(|key| source.text(&["spec", "ref", key])).map(str::to_owned);
    let digest = source.text(&["spec", "ref", "digest"]);
    let at = source.location(&["spec", "ref", if digest.is_some() { "digest" } else { version.unwrap_or("tag") }]);
    let reference = digest.map_or_else(|| reference.to_owned(), |digest| format!("{reference}@{digest}"));
    FluxChart { chart: Chart::Oci { reference, version: text }, at, source: ChartOrigin::OciRepository }
}
