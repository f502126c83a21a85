//! The lab's chart registry, filled by the real `crane` and `helm` and read by the run's own helm adapter with the real
//! charts' values.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use helm::bundle;
use helm::bundle::BundleContents;
use helm::{ChartBundle, ChartVersion, Charts, Helm, HelmErrorKind, Mirrors, PulledChart, TemplateOptions, manifest};
use helmfile::{Chart, FetchOptions, InstallFlags, OnFailure, Release, ReleaseId, Wait};
use lab::{ChartRegistry, ChartsFrom, FluxRelease, ReleaseSpec};
use process::Command;
use serde_json::Value;
use test_support::LoopbackNetwork;
use tools::{Options, Tool, Toolbox};
use yaml::Origin;

/// A registry of our own with the charts of both helmfiles, and what to pull them with.
struct TestRegistry {
    registry: ChartRegistry,
    charts: Charts,
    folder: tempfile::TempDir,
    network: LoopbackNetwork,
}

impl TestRegistry {
    async fn with(releases: &[ReleaseSpec]) -> Self {
        let toolbox = Toolbox::new(Options::from_environment(None));
        let crane = toolbox.provide(Tool::Crane, &|_| ()).await.unwrap().path;
        let helm = toolbox.provide(Tool::Helm, &|_| ()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let network = LoopbackNetwork::allocate();
        let address = SocketAddr::new(network.dialled(1).into(), 5000);
        let place = folder.path().join("registry");
        let registry =
            ChartRegistry::start(&crane, &helm.path, address, &place, releases, ChartsFrom::StandIns).await.unwrap();
        let mirrors = Mirrors([("*".to_owned(), address.to_string())].into());
        let helm = Helm { program: helm.path, version: helm.version };
        let charts = Charts { helm, cache: folder.path().join("cache"), mirrors, bundle: None };
        Self { registry, charts, folder, network }
    }

    async fn template(&self, release: &Release, hooks: bool) -> Vec<Value> {
        let chart = self.charts.pull(&release.chart).await.unwrap();
        let options = TemplateOptions {
            kube_version: Some("v1.35.0".to_owned()),
            include_crds: true,
            hooks,
            api_versions: vec![],
        };
        self.charts.helm.template(release, &chart, &options).await.unwrap()
    }
}

fn spec(chart: &str, version: Option<&str>) -> ReleaseSpec {
    ReleaseSpec {
        namespace: "ns".into(),
        name: chart.rsplit('/').next().unwrap().into(),
        chart: chart.into(),
        version: version.map(Into::into),
        needs: vec![],
        flux: FluxRelease::NotAdopted,
    }
}

fn release(namespace: &str, name: &str, chart: &str, version: &str, values: Value) -> Release {
    Release {
        id: ReleaseId { namespace: namespace.into(), name: name.into() },
        chart: Chart::Oci { reference: chart.into(), version: Some(version.into()) },
        fetch: FetchOptions::default(),
        values,
        written_values: Value::Null,
        needs: vec![],
        after: vec![],
        hooks: vec![],
        kube_version: None,
        api_versions: vec![],
        patches: vec![],
        file: std::path::PathBuf::new(),
        flags: InstallFlags {
            wait: Wait::Nothing,
            timeout: Duration::from_mins(5),
            create_namespace: true,
            force_conflicts: false,
            on_failure: OnFailure::Keep,
            args: vec![],
        },
        at: Origin::new("test").location(yaml::Position::default()),
    }
}

/// The releases of a state file of the reference inputs, with the values of the cluster's HelmReleases.
fn reference(cluster: &str, file: &str) -> Vec<Release> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let parse = |text: &str| manifest::parse(text).unwrap().remove(0);
    let variables = parse(&read(&format!("clusters/{cluster}/flux/cluster-vars.yaml")));
    let state = parse(&read(&format!("bootstrap/{cluster}/helmfile.d/{file}")));
    let releases = state["releases"].as_array().unwrap().iter();
    let text = |release: &Value, key: &str| release[key].as_str().unwrap().to_owned();
    releases
        .map(|entry| {
            let name = text(entry, "name");
            let path = root.join(format!("infrastructure/base/{name}/helmrelease.yaml"));
            let values = match std::fs::read_to_string(path) {
                Ok(mut helm_release) if file == "01-apps.yaml" => {
                    for (variable, value) in variables["data"].as_object().unwrap() {
                        helm_release = helm_release.replace(&format!("${{{variable}}}"), value.as_str().unwrap());
                    }
                    assert!(!helm_release.contains("${"), "{helm_release}");
                    parse(&helm_release)["spec"]["values"].clone()
                }
                _ => entry["values"][0].as_object().cloned().unwrap_or_default().into(),
            };
            let chart = text(entry, "chart").trim_start_matches("oci://").to_owned();
            release(&text(entry, "namespace"), &name, &chart, &text(entry, "version"), values)
        })
        .collect()
}

fn specs(releases: &[Release]) -> Vec<ReleaseSpec> {
    let spec = |release: &Release| match &release.chart {
        Chart::Oci { reference, version } => spec(reference, version.as_deref()),
        other => panic!("{other:?}"),
    };
    releases.iter().map(spec).collect()
}

fn names(objects: &[Value], kind: &str) -> Vec<String> {
    let of_kind = objects.iter().filter(|object| object["kind"] == kind);
    let mut names: Vec<_> = of_kind.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn every_chart_of_the_reference_inputs_renders_with_their_values() {
    let mut charts = reference("infra", "00-crds.yaml");
    charts.append(&mut reference("infra", "01-apps.yaml"));
    let served = TestRegistry::with(&specs(&charts)).await;
    assert_eq!(served.registry.stand_ins().len(), 11);
    assert!(
        served.registry.stand_ins().iter().all(|name| name.ends_with(" (stand-in)")),
        "{:?}",
        served.registry.stand_ins()
    );

    let mut crds = Vec::new();
    for release in reference("infra", "00-crds.yaml") {
        crds.extend(manifest::crds(served.template(&release, false).await));
    }
    let crds = names(&crds, "CustomResourceDefinition");
    for name in [
        "externalsecrets.external-secrets.io",
        "gateways.gateway.networking.k8s.io",
        "tcproutes.gateway.networking.k8s.io",
        "servicemonitors.monitoring.coreos.com",
        "dnsendpoints.externaldns.k8s.io",
        "vmagents.operator.victoriametrics.com",
        "envoyproxies.gateway.envoyproxy.io",
    ] {
        assert!(crds.iter().any(|found| found == name), "{name} is not in {crds:?}");
    }
    for cluster in ["infra", "apps"] {
        let mut objects = Vec::new();
        for release in reference(cluster, "01-apps.yaml") {
            objects.extend(served.template(&release, true).await);
        }
        assert_cluster(cluster, &objects);
    }
    served.registry.shut_down().await;
}

fn assert_cluster(cluster: &str, objects: &[Value]) {
    let find = |kind: &str, name: &str| {
        let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name}"))
    };
    assert_eq!(names(objects, "DaemonSet"), ["cilium", "cilium-envoy", "spegel"]);
    assert_eq!(
        names(objects, "Deployment"),
        [
            "cert-manager",
            "cert-manager-cainjector",
            "cert-manager-webhook",
            "cilium-operator",
            "coredns",
            "flux-operator"
        ]
    );
    assert!(names(objects, "CustomResourceDefinition").iter().all(|name| !name.ends_with("cilium.io")));
    let infra = cluster == "infra";
    let config = &find("ConfigMap", "cilium-config")["data"];
    assert_eq!(config["cluster-name"], cluster);
    assert_eq!(config["cluster-id"], if infra { "1" } else { "2" });
    assert_eq!(find("Service", "kube-dns")["spec"]["clusterIP"], if infra { "10.43.0.10" } else { "10.45.0.10" });
    let sync = &find("FluxInstance", "flux")["spec"]["sync"];
    assert_eq!(sync["ref"], if infra { "refs/heads/main" } else { "refs/heads/release" });
    assert_eq!(sync["path"], format!("clusters/{cluster}/flux"));
    assert_eq!(find("ValidatingWebhookConfiguration", "cert-manager-webhook")["webhooks"][0]["failurePolicy"], "Fail");
    assert_eq!(find("Job", "cert-manager-startupapicheck")["metadata"]["annotations"]["helm.sh/hook"], "post-install");
    let images = manifest::images(objects);
    for image in [
        "quay.io/cilium/cilium:v1.18.5",
        "quay.io/cilium/operator-generic:v1.18.5",
        "quay.io/jetstack/cert-manager-webhook:v1.19.2",
        "coredns/coredns:1.13.1",
        "ghcr.io/spegel-org/spegel:v0.6.0",
        "ghcr.io/controlplaneio-fluxcd/flux-operator:v0.38.1",
    ] {
        assert!(images.contains(image), "{image} is not in {images:?}");
    }
}

#[tokio::test]
async fn an_unknown_chart_is_replaced_by_a_generic_one_and_named() {
    let chart = "ghcr.io/acme/charts/gizmo";
    let served = TestRegistry::with(&[spec(chart, Some("v2.3.4+build.1")), spec("charts.acme.io/newest", None)]).await;
    assert_eq!(served.registry.stand_ins(), ["gizmo v2.3.4+build.1 (generic stand-in)", "newest (generic stand-in)"]);
    let objects = served.template(&release("ns", "mine", chart, "v2.3.4+build.1", Value::Null), true).await;
    assert_eq!(names(&objects, "Deployment"), ["mine"]);
    assert_eq!(names(&objects, "Service"), ["mine"]);
    let newest = Chart::Repository { url: "https://charts.acme.io".into(), name: "newest".into(), version: None };
    assert_eq!(served.charts.pull(&newest).await.unwrap().version, "1.0.0", "a repository is asked for in the mirror");
    served.registry.shut_down().await;
}

async fn kind_of(charts: &Charts, reference: &str, version: &str) -> HelmErrorKind {
    let chart = Chart::Oci { reference: reference.into(), version: Some(version.into()) };
    charts.pull(&chart).await.unwrap_err().kind
}

#[tokio::test]
async fn a_pulled_chart_is_cached_and_errors_are_distinguished() {
    let TestRegistry { registry, charts, folder, network: _network } =
        TestRegistry::with(&[spec("quay.io/acme/app", Some("1.0.0"))]).await;
    let app = Chart::Oci { reference: "quay.io/acme/app".into(), version: Some("1.0.0".into()) };
    let PulledChart { path, digest, name, version, manifest } = charts.pull(&app).await.unwrap();
    assert_eq!((name.as_str(), version.as_str()), ("app", "1.0.0"));
    assert_eq!(kind_of(&charts, "quay.io/acme/app", "9.9.9").await, HelmErrorKind::NotFound);
    assert_eq!(kind_of(&charts, "quay.io/acme/nothing", "1.0.0").await, HelmErrorKind::NotFound);

    std::fs::write(&path, "damaged").unwrap();
    assert_eq!(charts.pull(&app).await.unwrap().digest, digest, "a damaged package is pulled again");
    let note = path.with_file_name("chart.json");
    let other = std::fs::read_to_string(&note).unwrap().replace(&digest, &"0".repeat(64));
    std::fs::write(&note, other).unwrap();
    let error = charts.pull(&app).await.unwrap_err();
    assert_eq!(error.kind, HelmErrorKind::Changed, "{error}");
    assert!(error.cause.to_string().contains(&digest), "{error}");
    std::fs::remove_file(note).unwrap();
    charts.pull(&app).await.unwrap();

    let crane = Toolbox::new(Options::from_environment(None)).provide(Tool::Crane, &|_| ()).await.unwrap().path;
    let reference = format!("{}/quay.io/acme/app:1.0.0", charts.mirrors.0["*"]);
    let of_registry = Command::new(&crane).args(["digest", "--insecure", &reference]).run().await.unwrap();
    let manifest = manifest.unwrap();
    assert_eq!(manifest.to_string(), String::from_utf8(of_registry.stdout).unwrap().trim());

    registry.shut_down().await;
    let kept = charts.pull(&app).await.unwrap();
    assert_eq!(kept.digest, digest, "no registry is needed for what was pulled");
    assert_eq!(kept.manifest.as_ref(), Some(&manifest));
    let named = Release { chart: app.clone(), ..release("ns", "app", "", "", Value::Null) };
    let version = ChartVersion::WithDigest(manifest.clone());
    let prepared = charts.prepare(&named, &version, &TemplateOptions::default()).await.unwrap();
    assert_eq!(prepared.chart.version, format!("1.0.0+{}", &manifest.to_string()["sha256:".len()..][..12]));
    let labels = charts.helm.template(&named, &prepared.chart, &TemplateOptions::default()).await.unwrap();
    let labels: Vec<&str> =
        labels.iter().filter_map(|object| object["metadata"]["labels"]["helm.sh/chart"].as_str()).collect();
    assert!(
        !labels.is_empty()
            && labels.iter().all(|label| *label == format!("app-{}", prepared.chart.version.replace('+', "_"))),
        "{labels:?}"
    );
    assert_eq!(kind_of(&charts, "quay.io/acme/app", "2.0.0").await, HelmErrorKind::Unreachable);
    drop(folder);
}

#[tokio::test]
async fn a_chart_that_refuses_its_values_says_so_in_helms_words() {
    let served = TestRegistry::with(&[spec("quay.io/cilium/charts/cilium", Some("1.18.5"))]).await;
    let values = serde_json::json!({"operator": "text instead of a mapping"});
    let release = release("kube-system", "cilium", "quay.io/cilium/charts/cilium", "1.18.5", values);
    let chart = served.charts.pull(&release.chart).await.unwrap();
    let error = served.charts.helm.template(&release, &chart, &TemplateOptions::default()).await.unwrap_err();
    assert_eq!((error.kind, error.subject.as_str()), (HelmErrorKind::Chart, "kube-system/cilium"), "{error}");
    assert!(error.cause.to_string().contains("replicas"), "{error}");
    served.registry.shut_down().await;
}

#[tokio::test]
async fn a_bundle_serves_every_chart_when_no_registry_answers() {
    let mut releases = reference("infra", "00-crds.yaml");
    releases.append(&mut reference("infra", "01-apps.yaml"));
    let newest = Chart::Repository { url: "https://charts.acme.io/".into(), name: "newest".into(), version: None };
    releases.push(Release { chart: newest, ..release("ns", "mine", "", "", Value::Null) });
    let served = specs(&releases[..11]).into_iter().chain([spec("charts.acme.io/newest", None)]);
    let TestRegistry { registry, charts, folder, network } = TestRegistry::with(&served.collect::<Vec<_>>()).await;
    let options = TemplateOptions { kube_version: Some("v1.35.0".into()), hooks: true, ..TemplateOptions::default() };
    let contents = BundleContents::gather(&charts, &releases, &options).await.unwrap();
    assert_eq!(contents.charts(), 12);
    assert!(contents.images.contains("quay.io/cilium/cilium:v1.18.5"), "{:?}", contents.images);
    let path = folder.path().join("infra.oci.tar");
    bundle::write(&contents, &mut std::fs::File::create(&path).unwrap()).unwrap();

    // What other tools of registries make of it: a layout that can be copied on, and pulled from by helm.
    let layout = folder.path().join("layout");
    tar::Archive::new(std::fs::File::open(&path).unwrap()).unpack(&layout).unwrap();
    let crane = Toolbox::new(Options::from_environment(None)).provide(Tool::Crane, &|_| ()).await.unwrap().path;
    let copied = format!("{}:5000/copied/all:1", network.dialled(1));
    let layout = layout.display().to_string();
    Command::new(&crane).args(["push", "--index", "--insecure", &layout, &copied]).run().await.unwrap();

    let mut direct = Vec::new();
    for release in &releases {
        let PulledChart { digest, manifest, .. } = charts.pull(&release.chart).await.unwrap();
        direct.push((digest, manifest));
    }
    registry.shut_down().await;
    let open = Some(Arc::new(ChartBundle::open(&path).unwrap()));
    let offline =
        Charts { cache: folder.path().join("other"), mirrors: Mirrors::default(), bundle: open, ..charts.clone() };
    for (release, expected) in releases.iter().zip(direct) {
        let PulledChart { digest, manifest, .. } = offline.pull(&release.chart).await.unwrap();
        assert_eq!((digest, manifest), expected, "{}", release.chart);
    }
    assert_eq!(kind_of(&offline, "quay.io/acme/app", "1.0.0").await, HelmErrorKind::NotFound);

    let mut bytes = std::fs::read(&path).unwrap();
    // Within the first blob, behind its header of 512 bytes.
    bytes[600] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = ChartBundle::open(&path).unwrap_err().to_string();
    assert!(error.contains("is damaged"), "{error}");
    std::fs::write(&path, []).unwrap();
    let error = ChartBundle::open(&path).unwrap_err().to_string();
    assert!(error.contains("not a bundle: it has no index.json"), "{error}");
}
