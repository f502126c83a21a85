//! What helm-controller does with a release of ours, played by the Helm inside of it (failures H06, F05).

use super::*;

/// As helm-controller 1.4 has it: a label of its own on every object.
const ORIGIN: &str = "#!/bin/sh\nexec sed 's|^  labels:$|&\\n    helm.toolkit.fluxcd.io/name: app\\n    \
                      helm.toolkit.fluxcd.io/namespace: shop|'\n";

const WORKLOADS: &str = "{{- range list \"Deployment\" \"DaemonSet\" }}
---
apiVersion: apps/v1
kind: {{ . }}
metadata:
  name: app
  labels:
    app: app
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata:
      labels:
        app: app
        helm.sh/chart: {{ $.Chart.Name }}-{{ $.Chart.Version | replace \"+\" \"_\" }}
      annotations:
        checksum/config: {{ printf \"%s-%s\" $.Chart.Name $.Chart.Version | sha256sum }}
    spec:
      containers:
        - name: app
          image: example.org/app:{{ $.Chart.Version }}
          env: [{name: COLOR, value: {{ $.Values.color | quote }}}, {name: EMPTY, value: \"\"}]
          ports: [{containerPort: 80}]
          resources: {{ toYaml $.Values.resources | nindent 12 }}
{{- end }}
---
apiVersion: v1
kind: Service
metadata:
  name: app
  labels:
    app: app
spec:
  selector: {app: app}
  ports: [{port: 80}]
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: app
  labels:
    app: app
data: {color: {{ .Values.color | quote }}}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: hook
  labels:
    app: app
  annotations: {helm.sh/hook: \"pre-install,post-upgrade\"}
";

const DEFINITION: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {kind: Thing, plural: things}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
";

fn workloads(folder: &Path) -> PathBuf {
    let chart = folder.join("app");
    std::fs::create_dir_all(chart.join("templates")).unwrap();
    std::fs::create_dir_all(chart.join("crds")).unwrap();
    std::fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: app\nversion: 1.2.3\n").unwrap();
    std::fs::write(chart.join("values.yaml"), "color: grey\nresources: {limits: {memory: 1Gi}, requests: {cpu: 1}}\n")
        .unwrap();
    std::fs::write(chart.join("templates/all.yaml"), WORKLOADS).unwrap();
    std::fs::write(chart.join("crds/things.yaml"), DEFINITION).unwrap();
    chart
}

/// The adopting upgrade, with the options of helm-controller 1.4 for a HelmRelease that says nothing of its own.
async fn adopt(cluster: &Cluster, release: &Release, chart: &Path) {
    let folder = cluster.folder.path();
    std::fs::write(folder.join("origin"), ORIGIN).unwrap();
    std::fs::set_permissions(folder.join("origin"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    Command::new(tool(Tool::Helm3).await)
        .args(["upgrade", "app", &chart.display().to_string(), "--namespace", "shop", "--values", "-"])
        .args(["--reset-values", "--history-max", "5", "--take-ownership", "--timeout", "5m", "--devel"])
        .args(["--post-renderer", &folder.join("origin").display().to_string()])
        .args(["--kubeconfig", &cluster.kubeconfig.path()])
        .stdin(release.values.to_string().into())
        .deadline(Duration::from_mins(2))
        .run()
        .await
        .unwrap();
}

/// The objects of a record, without the label that helm-controller adds.
fn objects(stored: &StoredRelease) -> Vec<Value> {
    let mut objects = manifest::parse(&stored.manifest).unwrap();
    for object in &mut objects {
        let labels = object["metadata"]["labels"].as_object_mut().unwrap();
        labels.retain(|name, _| !name.starts_with("helm.toolkit.fluxcd.io/"));
    }
    objects.sort_by_key(|object| object["kind"].to_string());
    objects
}

/// Each workload with what the API server counts up when its spec changes, which is what starts pods anew.
async fn generations(cluster: &Cluster) -> String {
    let columns = "jsonpath={range .items[*]}{.kind} {.metadata.uid} {.metadata.generation}{\"\\n\"}{end}";
    cluster.kubectl(&["get", "deployments,daemonsets,services", "-n", "shop", "-o", columns]).await
}

#[tokio::test]
async fn flux_adopts_a_release_with_one_revision_that_changes_nothing() {
    let values = json!({"color": "red", "unset": null, "resources": {"limits": {"memory": "2Gi"}, "requests": null}});
    let cluster = Cluster::start().await;
    let chart = workloads(cluster.folder.path());
    let ours = release(chart.clone(), values);
    cluster.upgrade(&ours, ApplyMethod::from_flux_version("2.7.5")).await.unwrap();
    let first = cluster.newest().await.unwrap();
    let before = generations(&cluster).await;
    assert_eq!(before.lines().count(), 3, "{before}");
    for revision in [2, 3] {
        adopt(&cluster, &ours, &chart).await;
        let adopted = cluster.newest().await.unwrap();
        assert_eq!((adopted.revision, adopted.status), (revision, Status::Deployed));
        assert_eq!(objects(&adopted), objects(&first));
        assert!(adopted.manifest.contains("helm.toolkit.fluxcd.io/name: app"));
        assert_eq!(adopted.config, first.config);
        assert_eq!(generations(&cluster).await, before);
    }
    // And what Flux has adopted, a later run of ours finds as it is to be.
    let wanted = DesiredRelease { chart_name: "app", chart_version: "1.2.3", values: &ours.values };
    assert_eq!(release_state(cluster.newest().await.as_ref(), &wanted), ReleaseState::Deployed);
}

/// helm-controller renders the chart of an OCIRepository under a version with its digest; labels and checksums in pod
/// templates follow it.
#[tokio::test]
async fn flux_restarts_no_pod_of_a_release_that_was_installed_under_the_version_with_its_digest() {
    let cluster = Cluster::start().await;
    let folder = cluster.folder.path();
    let chart = workloads(folder);
    let package = cluster.package(&chart).await;
    let theirs = workloads(&folder.join("theirs"));
    let metadata = std::fs::read_to_string(theirs.join("Chart.yaml")).unwrap();
    std::fs::write(theirs.join("Chart.yaml"), metadata.replace("1.2.3", "1.2.3+3630e56de420")).unwrap();
    let ours = release(package, json!({"color": "red"}));
    let digest = ManifestDigest::try_from(format!("sha256:3630e56de420{}", "0".repeat(52))).unwrap();
    cluster.upgrade_as(&ours, &ChartVersion::WithDigest(digest), ApplyMethod::ClientSide).await.unwrap();
    let before = generations(&cluster).await;
    adopt(&cluster, &ours, &theirs).await;
    assert_eq!(generations(&cluster).await, before);

    cluster.upgrade(&ours, ApplyMethod::ClientSide).await.unwrap();
    let before = generations(&cluster).await;
    adopt(&cluster, &ours, &theirs).await;
    assert_ne!(generations(&cluster).await, before, "the chart's version is in its pod templates");
}
