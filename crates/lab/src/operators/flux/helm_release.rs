//! A HelmRelease as helm-controller reads it (helm-controller 1.4.5).

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::helm::{ChartNaming, Rollout};
use crate::spec::{ReleaseKey, ReleaseSpec};

/// The longest name of a Helm release.
const LONGEST_NAME: usize = 53;

/// An object of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ObjectName {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The parts of a HelmRelease that the lab acts on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HelmRelease {
    pub(super) object: ObjectName,
    pub(super) generation: i64,
    pub(super) state: ReleaseState,
    pub(super) depends_on: Vec<ObjectName>,
    /// The release that it owns, by the namespace of its objects.
    pub(super) release: ReleaseKey,
    /// Where Helm's record is.
    pub(super) storage_namespace: String,
    pub(super) chart: ChartReference,
    pub(super) values_from: Vec<Value>,
    /// Those in the object itself; they win.
    pub(super) values: Value,
    /// How many there are.
    pub(super) post_renderers: usize,
    pub(super) rollout: Rollout,
}

/// What helm-controller makes of a HelmRelease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReleaseState {
    Suspended,
    /// It was reconciled in this generation.
    Ready,
    Pending,
}

/// Where a HelmRelease has its chart from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChartReference {
    /// `spec.chartRef`: the kind and name of the source.
    Source { kind: String, source: ObjectName },
    /// `spec.chart`: a chart of a source.
    Template { chart: String, version: Option<String>, kind: String, source: ObjectName },
}

impl ChartReference {
    pub(super) fn kind(&self) -> &str {
        match self {
            Self::Source { kind, .. } | Self::Template { kind, .. } => kind,
        }
    }

    pub(super) fn source(&self) -> &ObjectName {
        match self {
            Self::Source { source, .. } | Self::Template { source, .. } => source,
        }
    }
}

impl HelmRelease {
    pub(super) fn from_object(object: &DynamicObject) -> Self {
        let name = ObjectName { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
        let spec = object.data.get("spec").cloned().unwrap_or_default();
        let text = |field: &str| spec[field].as_str().filter(|text| !text.is_empty());
        let listed = |field: &str| spec[field].as_array().cloned().unwrap_or_default();
        let namespace = text("targetNamespace").unwrap_or(&name.namespace).to_owned();
        let depends_on = listed("dependsOn");
        let generation = object.metadata.generation.unwrap_or_default();
        Self {
            generation,
            state: state(object, generation),
            depends_on: depends_on.iter().map(|other| referenced(other, &name.namespace)).collect(),
            release: ReleaseKey { namespace, name: release_name(&spec, &name) },
            storage_namespace: text("storageNamespace").unwrap_or(&name.namespace).to_owned(),
            chart: chart(&spec, &name.namespace),
            values_from: listed("valuesFrom"),
            values: spec.get("values").cloned().unwrap_or_else(|| json!({})),
            post_renderers: listed("postRenderers").len(),
            rollout: if spec["upgrade"]["disableWait"] == true { Rollout::NotAwaited } else { Rollout::Awaited },
            object: name,
        }
    }
}

/// `releaseName`, else `<targetNamespace>-<name>`, else the name; shortened to what Helm accepts.
fn release_name(spec: &Value, object: &ObjectName) -> String {
    let text = |field: &str| spec[field].as_str().filter(|text| !text.is_empty());
    let name = match (text("releaseName"), text("targetNamespace")) {
        (Some(name), _) => name.to_owned(),
        (None, Some(namespace)) => format!("{namespace}-{}", object.name),
        (None, None) => object.name.clone(),
    };
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let digest: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let (start, end): (String, String) = (name.chars().take(40).collect(), digest.chars().take(12).collect());
    format!("{start}-{end}")
}

fn state(object: &DynamicObject, generation: i64) -> ReleaseState {
    if object.data.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
        return ReleaseState::Suspended;
    }
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    let is_ready = |condition: &Value| {
        condition["type"] == "Ready" && condition["status"] == "True" && condition["observedGeneration"] == generation
    };
    let ready = conditions.into_iter().flatten().any(is_ready);
    if ready { ReleaseState::Ready } else { ReleaseState::Pending }
}

fn referenced(reference: &Value, namespace: &str) -> ObjectName {
    let text = |field: &str| reference[field].as_str().filter(|text| !text.is_empty());
    ObjectName {
        namespace: text("namespace").unwrap_or(namespace).to_owned(),
        name: text("name").unwrap_or_default().to_owned(),
    }
}

fn chart(spec: &Value, namespace: &str) -> ChartReference {
    let kind = |reference: &Value, default: &str| reference["kind"].as_str().unwrap_or(default).to_owned();
    if let Some(reference) = spec.get("chartRef") {
        return ChartReference::Source {
            kind: kind(reference, "OCIRepository"),
            source: referenced(reference, namespace),
        };
    }
    let template = &spec["chart"]["spec"];
    ChartReference::Template {
        chart: template["chart"].as_str().unwrap_or_default().to_owned(),
        version: template["version"].as_str().map(str::to_owned),
        kind: kind(&template["sourceRef"], "HelmRepository"),
        source: referenced(&template["sourceRef"], namespace),
    }
}

/// A chart that a HelmRelease wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WantedChart {
    /// As `HOST/PATH/NAME`.
    pub(super) chart: String,
    /// Absent for a range or a digest.
    pub(super) version: Option<String>,
    pub(super) naming: ChartNaming,
}

impl WantedChart {
    /// The chart by the `spec` of its source; nothing for sources whose content is not known here.
    pub(super) fn from_source(reference: &ChartReference, spec: &Value) -> Option<Self> {
        let url = spec["url"].as_str()?;
        let place = url.split_once("://").map_or(url, |(_, place)| place).trim_end_matches('/');
        match reference {
            ChartReference::Source { kind, .. } if kind == "OCIRepository" => Some(Self {
                chart: place.to_owned(),
                version: spec["ref"]["tag"].as_str().map(str::to_owned),
                naming: ChartNaming::WithDigest,
            }),
            ChartReference::Template { chart, version, kind, .. } if kind == "HelmRepository" => {
                Some(Self { chart: format!("{place}/{chart}"), version: version.clone(), naming: ChartNaming::Plain })
            }
            _ => None,
        }
    }

    /// The chart as the lab serves it for a release of the run, by preference in the wanted version.
    pub(super) fn served<'r>(&self, releases: &'r [ReleaseSpec]) -> Option<&'r ReleaseSpec> {
        let mut same = releases.iter().filter(|release| release.chart == self.chart).peekable();
        let any = same.peek().copied();
        same.find(|release| self.version.is_some() && release.version == self.version).or(any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::FluxRelease;

    fn release(spec: &Value) -> HelmRelease {
        let object = json!({
            "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
            "metadata": {"name": "coredns", "namespace": "flux-system", "generation": 2}, "spec": spec,
        });
        HelmRelease::from_object(&serde_json::from_value(object).unwrap())
    }

    fn name(namespace: &str, name: &str) -> ObjectName {
        ObjectName { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn the_owned_release_follows_the_rules_of_helm_controller() {
        let owned = |spec: Value| {
            let release = release(&spec);
            format!("{} in {}", release.release, release.storage_namespace)
        };
        assert_eq!(owned(json!({})), "flux-system/coredns in flux-system");
        let target = "kube-system";
        assert_eq!(owned(json!({"targetNamespace": target})), "kube-system/kube-system-coredns in flux-system");
        assert_eq!(
            owned(json!({"targetNamespace": target, "releaseName": "coredns", "storageNamespace": target})),
            "kube-system/coredns in kube-system"
        );
        let long = release(&json!({"releaseName": "a".repeat(54)})).release.name;
        assert_eq!(long.len(), 53);
        assert!(long.starts_with(&format!("{}-", "a".repeat(40))), "{long}");
    }

    #[test]
    fn charts_come_from_references_and_templates() {
        let reference = release(&json!({"chartRef": {"kind": "OCIRepository", "name": "dns", "namespace": "other"}}));
        assert_eq!(reference.chart.source(), &name("other", "dns"));
        let spec = json!({"url": "oci://ghcr.io/coredns/charts/coredns", "ref": {"tag": "1.45.0"}});
        let wanted = WantedChart::from_source(&reference.chart, &spec).unwrap();
        assert_eq!(
            (wanted.chart.as_str(), wanted.version.as_deref(), wanted.naming),
            ("ghcr.io/coredns/charts/coredns", Some("1.45.0"), ChartNaming::WithDigest)
        );
        let template = release(&json!({"chart": {"spec": {
            "chart": "coredns", "version": "1.45.0", "sourceRef": {"kind": "HelmRepository", "name": "coredns"},
        }}}));
        assert_eq!(template.chart.source(), &name("flux-system", "coredns"));
        let wanted = WantedChart::from_source(&template.chart, &json!({"url": "https://coredns.github.io/helm/"}));
        let wanted = wanted.unwrap();
        assert_eq!((wanted.chart.as_str(), wanted.naming), ("coredns.github.io/helm/coredns", ChartNaming::Plain));
        let git = release(&json!({"chart": {"spec": {"chart": "./c", "sourceRef": {"kind": "GitRepository"}}}}));
        assert_eq!(WantedChart::from_source(&git.chart, &json!({"url": "https://example.org/a"})), None);
    }

    #[test]
    fn the_served_chart_is_the_one_of_the_wanted_version_or_any() {
        let served = |version: &str| ReleaseSpec {
            namespace: "kube-system".to_owned(),
            name: "coredns".to_owned(),
            chart: "a/coredns".to_owned(),
            version: Some(version.to_owned()),
            needs: vec![],
            flux: FluxRelease::NotAdopted,
        };
        let releases = [served("1.0.0"), served("2.0.0")];
        let found = |chart: &str, version: Option<&str>| {
            let version = version.map(str::to_owned);
            let wanted = WantedChart { chart: chart.to_owned(), version, naming: ChartNaming::Plain };
            wanted.served(&releases).and_then(|release| release.version.clone())
        };
        assert_eq!(found("a/coredns", Some("2.0.0")).unwrap(), "2.0.0");
        assert_eq!(found("a/coredns", Some("3.0.0")).unwrap(), "1.0.0");
        assert_eq!(found("a/coredns", None).unwrap(), "1.0.0");
        assert_eq!(found("b/coredns", Some("2.0.0")), None);
    }

    #[test]
    fn only_a_condition_of_the_current_generation_counts() {
        let mut object: DynamicObject = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "b", "generation": 2}, "spec": {},
            "status": {"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 1}]},
        }))
        .unwrap();
        assert_eq!(HelmRelease::from_object(&object).state, ReleaseState::Pending);
        object.data["status"]["conditions"][0]["observedGeneration"] = json!(2);
        assert_eq!(HelmRelease::from_object(&object).state, ReleaseState::Ready);
        object.data["spec"]["suspend"] = json!(true);
        assert_eq!(HelmRelease::from_object(&object).state, ReleaseState::Suspended);
    }
}
