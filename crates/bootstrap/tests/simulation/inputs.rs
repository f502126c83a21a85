//! The inputs of the simulated cluster, and the plan that the program makes of them.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bootstrap::ops::{Effects, RunOptions, SecretsMode, Target, Workspace, run_context};
use bootstrap::steps;
use engine::plan::Plan;
use secrets::Redactor;
use talos_config::{InventoryNode, Role};

/// Three control planes and three workers.
const TALCONFIG: &str = "\
clusterName: sim
talosVersion: v1.12.0
kubernetesVersion: v1.35.0
endpoint: https://10.0.0.10:6443
nodes:
  - {hostname: cp-1, ipAddress: 10.0.0.1, controlPlane: true, installDisk: /dev/sda}
  - {hostname: cp-2, ipAddress: 10.0.0.2, controlPlane: true, installDisk: /dev/sda}
  - {hostname: cp-3, ipAddress: 10.0.0.3, controlPlane: true, installDisk: /dev/sda}
  - {hostname: worker-1, ipAddress: 10.0.0.4, controlPlane: false, installDisk: /dev/sda}
  - {hostname: worker-2, ipAddress: 10.0.0.5, controlPlane: false, installDisk: /dev/sda}
  - {hostname: worker-3, ipAddress: 10.0.0.6, controlPlane: false, installDisk: /dev/sda}
";

/// A chain of three releases, and a hook that must not run twice.
const HELMFILE: &str = "\
releases:
  - name: cilium
    namespace: kube-system
    chart: oci://registry.example.org/cilium
    version: 1.0.0
  - name: database
    namespace: apps
    chart: oci://registry.example.org/database
    version: 1.0.0
    needs: [kube-system/cilium]
    hooks:
      - {events: [postsync], command: sh, args: [seed.sh]}
  - name: web
    namespace: apps
    chart: oci://registry.example.org/web
    version: 1.0.0
    needs: [apps/database]
";

const SETTINGS: &str = "clusters: {sim: {hooks: [{command: sh, idempotent: false}]}}\n";

/// A release, and what has to be installed first. The simulated cluster judges by this, not by the plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeclaredRelease {
    pub(crate) name: &'static str,
    pub(crate) namespace: &'static str,
    pub(crate) needs: Option<&'static str>,
}

pub(crate) const RELEASES: [DeclaredRelease; 3] = [
    DeclaredRelease { name: "cilium", namespace: "kube-system", needs: None },
    DeclaredRelease { name: "database", namespace: "apps", needs: Some("cilium") },
    DeclaredRelease { name: "web", namespace: "apps", needs: Some("database") },
];

/// The release whose hook must not run twice.
pub(crate) const HOOKED: &str = "database";

/// What the program makes of the inputs.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) plan: Plan,
    pub(crate) nodes: Vec<InventoryNode>,
}

impl Declared {
    pub(crate) fn control_planes(&self) -> Vec<&InventoryNode> {
        self.nodes.iter().filter(|node| node.role == Role::ControlPlane).collect()
    }
}

/// The plan of the simulated cluster, read once: every seed carries out the same.
pub(crate) fn declared() -> &'static Declared {
    static DECLARED: OnceLock<Declared> = OnceLock::new();
    DECLARED.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(read())
    })
}

async fn read() -> Declared {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in [
        ("talos/sim/talconfig.yaml", TALCONFIG),
        ("bootstrap/sim/helmfile.d/01-apps.yaml", HELMFILE),
        ("k8s-bootstrap.yaml", SETTINGS),
    ] {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let cache = folder.path().join("cache").display().to_string();
    let workspace = Workspace {
        directory: folder.path().to_owned(),
        state_dir: Some(folder.path().join("state")),
        tools_dir: None,
        variables: BTreeMap::from([("XDG_CACHE_HOME".to_owned(), cache)]),
        redactor: Redactor::default(),
        operator: None,
        notes: Arc::new(|_| {}),
    };
    let options = RunOptions { secrets: SecretsMode::Placeholder, ..RunOptions::new("sim", Target::Cluster) };
    let context = run_context(&workspace, &options, Effects::ReadOnly).await.unwrap();
    let (plan, _) = steps::plan(&context).unwrap();
    Declared { plan, nodes: context.cluster.inventory.nodes.clone() }
}
