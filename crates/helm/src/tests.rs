//! The real helm against a real API server.

mod adoption;
mod comparison;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::storage::{DesiredRelease, Recovery, ReleaseState, Status, StoredRelease, newest, recovery, release_state};
use super::*;
use helmfile::{Chart, FetchOptions, InstallFlags, OnFailure, Patch, PatchTarget, Release, ReleaseId, Wait};
use process::{Command, Daemon, SecretFile};
use test_support::{Condition, Deadline, wait_until_async};
use tools::{Options, Tool, Toolbox};
use yaml::{Origin, Position};

/// etcd and kube-apiserver without controllers, so Jobs never complete.
struct Cluster {
    daemons: [Daemon; 2],
    folder: tempfile::TempDir,
    kubeconfig: SecretFile,
    kubectl: PathBuf,
    helm: Helm,
}

async fn tool(tool: Tool) -> PathBuf {
    Toolbox::new(Options::from_environment(None)).provide(tool, &|_| ()).await.unwrap().path
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

async fn helm() -> Helm {
    let found = Toolbox::new(Options::from_environment(None)).provide(Tool::Helm, &|_| ()).await.unwrap();
    Helm { program: found.path, version: found.version }
}

fn kubeconfig(address: &str) -> SecretFile {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster":
            {"server": format!("https://{address}"), "insecure-skip-tls-verify": true}}],
        "users": [{"name": "test", "user": {"token": "test"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    SecretFile::new(&config.to_string().into()).unwrap()
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (etcd, peer, api) =
            (format!("http://{}", free_address()), format!("http://{}", free_address()), free_address());
        let etcd_daemon = Command::new(tool(Tool::Etcd).await)
            .args(["--unsafe-no-fsync", "--data-dir"])
            .arg(at("etcd"))
            .args(["--listen-client-urls", &etcd, "--advertise-client-urls", &etcd, "--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("default={peer}")])
            .spawn_daemon(&at("etcd.log"))
            .await
            .unwrap();
        std::fs::write(at("tokens"), "test,test,test,system:masters\n").unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(at("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(at("public.pem"), key.public_key_pem()).unwrap();
        let (host, port) = api.split_once(':').unwrap();
        let file = |flag: &str, name: &str| format!("--{flag}={}", at(name).display());
        let api_daemon = Command::new(tool(Tool::KubeApiserver).await)
            .args([format!("--etcd-servers={etcd}"), format!("--bind-address={host}"), format!("--secure-port={port}")])
            .args([file("cert-dir", "certificates"), file("token-auth-file", "tokens")])
            .args([file("service-account-key-file", "public.pem"), file("service-account-signing-key-file", "key.pem")])
            .args(["--service-account-issuer=https://test", "--authorization-mode=RBAC"])
            .args(["--advertise-address=10.0.0.1", "--service-cluster-ip-range=10.43.0.0/16"])
            .args(["--disable-admission-plugins=ServiceAccount"])
            .spawn_daemon(&at("apiserver.log"))
            .await
            .unwrap();
        let mut cluster = Self {
            daemons: [etcd_daemon, api_daemon],
            kubeconfig: kubeconfig(&api),
            kubectl: tool(Tool::Kubectl).await,
            helm: helm().await,
            folder,
        };
        wait_until_async(Deadline::after(Duration::from_mins(2)), async || {
            for daemon in &mut cluster.daemons {
                assert_eq!(daemon.ended(), None);
            }
            match cluster.try_kubectl(&["get", "--raw", "/readyz"]).await {
                Ok(_) => Condition::Met(()),
                Err(error) => Condition::Unmet(error.to_string()),
            }
        })
        .await;
        cluster
    }

    async fn try_kubectl(&self, arguments: &[&str]) -> Result<String, process::Error> {
        let command = Command::new(&self.kubectl).args(arguments).args(["--kubeconfig", &self.kubeconfig.path()]);
        let output = command.deadline(Duration::from_mins(1)).run().await?;
        Ok(String::from_utf8(output.stdout).unwrap())
    }

    async fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).await.unwrap()
    }

    async fn newest(&self) -> Option<StoredRelease> {
        let list = self.kubectl(&["get", "secrets", "-n", "shop", "-l", "owner=helm,name=app", "-o", "json"]).await;
        let list: Value = serde_json::from_str(&list).unwrap();
        let releases = list["items"].as_array().unwrap().iter();
        newest(
            releases
                .map(|item| StoredRelease::decode(item["data"]["release"].as_str().unwrap().as_bytes()).unwrap())
                .collect(),
        )
    }

    async fn upgrade(&self, release: &Release, method: ApplyMethod) -> Result<(), HelmError> {
        self.upgrade_as(release, &ChartVersion::Packaged, method).await
    }

    /// Packs a chart.
    async fn package(&self, chart: &Path) -> PathBuf {
        let to = self.folder.path().join("packages");
        let command = Command::new(&self.helm.program).arg("package").arg(chart).arg("--destination").arg(&to);
        command.deadline(Duration::from_mins(1)).run().await.unwrap();
        std::fs::read_dir(&to).unwrap().next().unwrap().unwrap().path()
    }

    async fn upgrade_as(
        &self,
        release: &Release,
        version: &ChartVersion,
        method: ApplyMethod,
    ) -> Result<(), HelmError> {
        let ready = self.charts().prepare(release, version, &TemplateOptions::default()).await?;
        self.helm.upgrade(release, &ready.chart, &self.kubeconfig.path(), &UpgradeOptions::new(method), |_, _| ()).await
    }

    fn charts(&self) -> Charts {
        Charts {
            helm: self.helm.clone(),
            cache: self.folder.path().join("cache"),
            mirrors: Mirrors::default(),
            bundle: None,
        }
    }
}

/// A chart of a ConfigMap and a hook that never completes without a controller.
fn chart(folder: &Path) -> PathBuf {
    let chart = folder.join("app");
    std::fs::create_dir_all(chart.join("templates")).unwrap();
    std::fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: app\nversion: 1.2.3\n").unwrap();
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: app\ndata:\n  color: {{ .Values.color | quote }}\n";
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: never\n  annotations:\n    helm.sh/hook: pre-install,pre-upgrade\n\
        spec:\n  template:\n    spec:\n      restartPolicy: Never\n      containers: [{name: x, image: x}]\n";
    std::fs::write(chart.join("templates/map.yaml"), map).unwrap();
    std::fs::write(chart.join("templates/job.yaml"), job).unwrap();
    chart
}

fn release(chart: PathBuf, values: Value) -> Release {
    Release {
        id: ReleaseId { namespace: "shop".into(), name: "app".into() },
        chart: Chart::Local(chart),
        fetch: FetchOptions::default(),
        values,
        written_values: Value::Null,
        needs: vec![],
        after: vec![],
        hooks: vec![],
        kube_version: None,
        api_versions: vec![],
        patches: vec![],
        file: PathBuf::new(),
        flags: InstallFlags {
            wait: Wait::WorkloadsAndJobs,
            timeout: Duration::from_mins(5),
            create_namespace: true,
            force_conflicts: false,
            on_failure: OnFailure::RollBack,
            args: vec![],
        },
        at: Origin::new("test").location(Position::default()),
    }
}

#[tokio::test]
async fn a_killed_installation_is_recovered_without_losing_objects() {
    let cluster = Cluster::start().await;
    let chart = chart(cluster.folder.path());
    let mut red = release(chart.clone(), json!({"color": "red", "unset": null, "port": 7445}));

    let pending = "secret/sh.helm.release.v1.app.v1";
    tokio::select! {
        done = cluster.upgrade(&red, ApplyMethod::ClientSide) => panic!("the hook cannot complete: {done:?}"),
        () = async {
            // Helm also creates the namespace, so it may not exist yet.
            while cluster.try_kubectl(&["wait", "--for=create", "-n", "shop", pending]).await.is_err() {}
        } => {}
    }
    let stored = cluster.newest().await.unwrap();
    assert_eq!((stored.revision, stored.status), (1, Status::PendingInstall));
    let error = cluster.upgrade(&red, ApplyMethod::ClientSide).await.unwrap_err();
    assert_eq!(error.kind, HelmErrorKind::Pending, "{error}");

    let Recovery::DeleteRecord { namespace, secret, .. } = recovery(Some(&stored)) else { panic!("{stored:?}") };
    cluster.kubectl(&["delete", "secret", "-n", &namespace, &secret]).await;
    red.flags.args = vec!["--no-hooks".into(), "--wait".into(), "--kube-context".into(), "nowhere".into()];
    cluster.upgrade(&red, ApplyMethod::ClientSide).await.unwrap();
    let stored = cluster.newest().await.unwrap();
    assert_eq!(stored.config, red.values);
    assert_eq!(stored.apply_method.as_deref(), Some("csa"));
    let wanted = |values| DesiredRelease { chart_name: "app", chart_version: "1.2.3", values };
    assert_eq!(release_state(Some(&stored), &wanted(&red.values)), ReleaseState::Deployed);
    assert!(stored.manifest.contains("color: \"red\""), "{}", stored.manifest);

    let blue = Release { values: json!({"color": "blue"}), ..red };
    assert!(matches!(release_state(Some(&stored), &wanted(&blue.values)), ReleaseState::Outdated(_)));
    cluster.upgrade(&blue, ApplyMethod::ServerSide).await.unwrap();
    let stored = cluster.newest().await.unwrap();
    assert_eq!((stored.revision, stored.apply_method.as_deref()), (2, Some("ssa")));
    let color = cluster.kubectl(&["get", "configmap", "app", "-n", "shop", "-o", "jsonpath={.data.color}"]).await;
    assert_eq!(color, "blue");

    let patch = json!([{"op": "replace", "path": "/data/color", "value": "navy"}]);
    let target = PatchTarget { kind: "ConfigMap".into(), ..PatchTarget::default() };
    let patches = vec![Patch::Json { target, operations: patch, at: blue.at.clone() }];
    let navy = Release { patches, ..blue.clone() };
    cluster.upgrade(&navy, ApplyMethod::ServerSide).await.unwrap();
    let stored = cluster.newest().await.unwrap();
    assert_eq!(release_state(Some(&stored), &wanted(&navy.values)), ReleaseState::Deployed);
    let color = cluster.kubectl(&["get", "configmap", "app", "-n", "shop", "-o", "jsonpath={.data.color}"]).await;
    assert_eq!(color, "navy");

    cluster.helm.uninstall(&blue, &cluster.kubeconfig.path()).await.unwrap();
    assert_eq!(cluster.newest().await, None);
}

#[tokio::test]
async fn an_api_that_does_not_respond_is_unreachable_and_retryable() {
    let folder = tempfile::tempdir().unwrap();
    let charts =
        Charts { helm: helm().await, cache: folder.path().join("cache"), mirrors: Mirrors::default(), bundle: None };
    let release = release(chart(folder.path()), json!({}));
    let chart = charts.pull(&release.chart).await.unwrap();
    let nowhere = kubeconfig(&free_address());
    let options = UpgradeOptions::new(ApplyMethod::ClientSide);
    let error = charts.helm.upgrade(&release, &chart, &nowhere.path(), &options, |_, _| ()).await.unwrap_err();
    assert_eq!((error.kind, error.is_retryable()), (HelmErrorKind::ApiUnavailable, true), "{error}");
    assert_eq!(notices(&release).len(), 1);
}

#[tokio::test]
async fn images_get_the_digest_of_their_registry() {
    let folder = tempfile::tempdir().unwrap();
    let (crane, address) = (tool(Tool::Crane).await, free_address());
    let registry = Command::new(&crane).args(["registry", "serve", "--address", &address]);
    let mut registry = registry.spawn_daemon(&folder.path().join("registry.log")).await.unwrap();
    let image = format!("{address}/acme/app:1");
    let layer = folder.path().join("layer.tar");
    tar::Builder::new(std::fs::File::create(&layer).unwrap()).finish().unwrap();
    let push = || {
        let command = Command::new(&crane).args(["append", "--oci-empty-base", "--new_layer"]).arg(&layer);
        command.args(["--new_tag", &image]).deadline(Duration::from_secs(30)).run()
    };
    while push().await.is_err() {
        assert_eq!(registry.ended(), None);
    }
    let unreachable = format!("{}/acme/app:1", free_address());
    let known = format!("{unreachable}@sha256:{}", "0".repeat(64));
    let mut contents = bundle::BundleContents::default();
    contents.images = [image.clone(), unreachable.clone(), known.clone()].into();
    contents.pin(&crane).await;
    assert_eq!(contents.images.len(), 3);
    assert!(contents.images.contains(&unreachable) && contents.images.contains(&known), "{:?}", contents.images);
    let pinned = contents.images.iter().find(|found| found.starts_with(&format!("{image}@sha256:")));
    assert_eq!(pinned.map(String::len), Some(image.len() + "@sha256:".len() + 64), "{:?}", contents.images);
}

#[test]
fn the_apply_method_is_the_one_of_the_helm_inside_flux() {
    for (version, method) in [
        ("2.7.5", ApplyMethod::ClientSide),
        ("v2.7.x", ApplyMethod::ClientSide),
        ("2.8.0", ApplyMethod::ServerSide),
        ("3.0", ApplyMethod::ServerSide),
        ("2.x", ApplyMethod::ServerSide),
    ] {
        assert_eq!(ApplyMethod::from_flux_version(version), method, "{version}");
    }
}
