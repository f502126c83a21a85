//! The known programs, their versions, and where they are downloaded or built from.

use semver::Version;

/// A program that a run or a rehearsal uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tool {
    Helm,
    Sops,
    Age,
    AgeKeygen,
    Op,
    Kubectl,
    KubeApiserver,
    KubeControllerManager,
    KubeScheduler,
    Etcd,
    Etcdctl,
    Etcdutl,
    Crane,
    /// The Helm inside Flux 2.7's helm-controller; only the tests of the hand-over to Flux use it.
    Helm3,
    /// Of Flux 2.7.5; for rehearsals with `--flux real`.
    KustomizeController,
}

/// A Go module that builds one or more tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Package {
    /// The folder below `modules/`.
    pub(super) module: &'static str,
    pub(super) path: &'static str,
    /// Linker flags that set the version that the program prints.
    pub(super) flags: &'static str,
}

const KUBERNETES_FLAGS: &str = "-X k8s.io/component-base/version.gitVersion=v1.35.4 \
    -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=35 \
    -X k8s.io/client-go/pkg/version.gitVersion=v1.35.4";

impl Tool {
    /// Every tool that a rehearsal starts.
    pub const LAB: [Self; 9] = [
        Self::Etcd,
        Self::Etcdctl,
        Self::Etcdutl,
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::KubeScheduler,
        Self::Kubectl,
        Self::Helm,
        Self::Crane,
    ];

    pub const ALL: [Self; 14] = [
        Self::Helm,
        Self::Sops,
        Self::Age,
        Self::AgeKeygen,
        Self::Op,
        Self::Kubectl,
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::KubeScheduler,
        Self::Etcd,
        Self::Etcdctl,
        Self::Etcdutl,
        Self::Crane,
        Self::KustomizeController,
    ];

    /// The name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Helm => "helm",
            Self::Sops => "sops",
            Self::Age => "age",
            Self::AgeKeygen => "age-keygen",
            Self::Op => "op",
            Self::Kubectl => "kubectl",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Etcd => "etcd",
            Self::Etcdctl => "etcdctl",
            Self::Etcdutl => "etcdutl",
            Self::Crane => "crane",
            Self::Helm3 => "helm3",
            Self::KustomizeController => "kustomize-controller",
        }
    }

    /// The version that is downloaded or built; none where neither is possible.
    pub fn pinned(self) -> Option<Version> {
        let (major, minor, patch) = match self {
            Self::Helm => (4, 1, 4),
            Self::Helm3 => (3, 19, 5),
            Self::Sops => (3, 13, 3),
            Self::Age | Self::AgeKeygen => (1, 3, 2),
            Self::Kubectl | Self::KubeApiserver | Self::KubeControllerManager | Self::KubeScheduler => (1, 35, 4),
            Self::Etcd | Self::Etcdctl | Self::Etcdutl => (3, 6, 8),
            Self::Crane => (0, 22, 1),
            Self::KustomizeController => (1, 7, 3),
            Self::Op => return None,
        };
        Some(Version::new(major, minor, patch))
    }

    /// The oldest version that works.
    pub fn oldest(self) -> Version {
        match self {
            // Helm 3.18 is the first that reads values for OCI charts from standard input as 4 does.
            Self::Helm => Version::new(3, 18, 0),
            Self::Helm3 => Version::new(3, 19, 0),
            Self::Sops => Version::new(3, 8, 0),
            // `op inject` reads standard input since 2.0.
            Self::Op => Version::new(2, 0, 0),
            Self::Age | Self::AgeKeygen => Version::new(1, 0, 0),
            Self::Crane => Version::new(0, 19, 0),
            Self::KustomizeController => Version::new(1, 7, 0),
            Self::Etcd | Self::Etcdctl | Self::Etcdutl => Version::new(3, 6, 0),
            Self::Kubectl | Self::KubeApiserver | Self::KubeControllerManager | Self::KubeScheduler => {
                Version::new(1, 35, 0)
            }
        }
    }

    /// Whether the program can print its version. kustomize-controller 1.7.3 has no argument for it.
    pub(super) fn prints_version(self) -> bool {
        self != Self::KustomizeController
    }

    /// The arguments that make the program print its version.
    pub(super) fn version_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Helm | Self::Helm3 => &["version", "--short"],
            Self::Kubectl => &["version", "--client"],
            Self::Sops => &["--version", "--disable-version-check"],
            Self::Etcdctl | Self::Etcdutl | Self::Crane => &["version"],
            _ => &["--version"],
        }
    }

    /// How `go` builds it; nothing for programs whose source is not public.
    pub(super) fn package(self) -> Option<Package> {
        let (module, path, flags) = match self {
            Self::Helm => ("helm", "helm.sh/helm/v4/cmd/helm", "-X helm.sh/helm/v4/internal/version.version=v4.1.4"),
            Self::Helm3 => ("helm3", "helm.sh/helm/v3/cmd/helm", "-X helm.sh/helm/v3/internal/version.version=v3.19.5"),
            Self::Sops => ("sops", "github.com/getsops/sops/v3/cmd/sops", ""),
            Self::Age => ("age", "filippo.io/age/cmd/age", "-X main.Version=v1.3.2"),
            Self::AgeKeygen => ("age", "filippo.io/age/cmd/age-keygen", "-X main.Version=v1.3.2"),
            Self::Kubectl => ("kubernetes", "k8s.io/kubernetes/cmd/kubectl", KUBERNETES_FLAGS),
            Self::KubeApiserver => ("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", KUBERNETES_FLAGS),
            Self::KubeControllerManager => {
                ("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", KUBERNETES_FLAGS)
            }
            Self::KubeScheduler => ("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", KUBERNETES_FLAGS),
            Self::Etcd => ("etcd", "go.etcd.io/etcd/server/v3", ""),
            Self::Etcdctl => ("etcd", "go.etcd.io/etcd/etcdctl/v3", ""),
            Self::Etcdutl => ("etcd", "go.etcd.io/etcd/etcdutl/v3", ""),
            Self::Crane => (
                "crane",
                "github.com/google/go-containerregistry/cmd/crane",
                "-X github.com/google/go-containerregistry/cmd/crane/cmd.Version=v0.22.1",
            ),
            Self::KustomizeController => ("kustomize-controller", "github.com/fluxcd/kustomize-controller", ""),
            Self::Op => return None,
        };
        Some(Package { module, path, flags })
    }

    /// The official release and the file that holds its SHA-256, for programs that are released as plain binaries.
    pub(super) fn release(self) -> Option<(String, String)> {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            _ => return None,
        };
        let version = self.pinned()?;
        let url = match self {
            Self::Kubectl | Self::KubeApiserver | Self::KubeControllerManager | Self::KubeScheduler => {
                if std::env::consts::OS != "linux" && self != Self::Kubectl {
                    return None;
                }
                let os = if std::env::consts::OS == "macos" { "darwin" } else { "linux" };
                format!("https://dl.k8s.io/release/v{version}/bin/{os}/{arch}/{}", self.name())
            }
            _ => return None,
        };
        let sum = format!("{url}.sha256");
        Some((url, sum))
    }
}
