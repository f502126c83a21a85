//! The error catalogue: every code, its page in `docs/errors`, and what to do by default.
//!
//! A new code is one line in the table below, a page, and a line in `docs/errors/README.md`. Without the page this file
//! does not compile; the tests beside it check the rest.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($code:ident: $next:literal,)*) => {
        /// A code of the error catalogue. Codes are stable: scripts and runbooks rely on them.
        ///
        /// The letter names the area: T is Talos and etcd, K the Kubernetes API and nodes, H Helm, CRDs and webhooks,
        /// F the hand-over to Flux, O the operator's workstation and secrets, I the inputs, P what has to be there before a
        /// command can start, X the program itself.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Code {
            $($code,)*
        }

        impl Code {
            /// Every code, in the order of the catalogue.
            pub const ALL: &[Self] = &[$(Self::$code),*];

            /// The code as it is printed, such as `T04`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => stringify!($code),)*
                }
            }

            /// The whole page of the catalogue, in Markdown.
            pub fn page(self) -> &'static str {
                match self {
                    $(Self::$code => include_str!(concat!(
                        env!("CARGO_MANIFEST_DIR"), "/../../docs/errors/", stringify!($code), ".md"
                    )),)*
                }
            }

            /// What to do next where the error itself names nothing better.
            pub fn next(self) -> &'static str {
                match self {
                    $(Self::$code => $next,)*
                }
            }
        }
    };
}

codes! {
    T01: "run again with --resume; the control planes are observed before the call is repeated",
    T02: "run again with --resume; the bootstrap is repeated on the same node",
    T03: "compare `talosctl etcd members` of every control plane before anything else is done",
    T04: "check the address and the secrets bundle; to take the node over, reset it with its own talosconfig first",
    T05: "check the boot order and the install disk on the machine's console, then run again with --resume",
    T06: "check `talosctl -n <node> services` and `talosctl -n <node> get machinestatus`, then run again with --resume",
    T07: "check `talosctl -n <node> get unattendedinstallstatus`, then run again with --resume",
    T08: "check `talosctl -n <node> get timestatus` and the time servers of the config, then run again with --resume",
    T09: "give the machine its address back (a DHCP reservation), or correct the node's address in the inventory",
    T10: "change the install disk or its selector in the node's config",
    T11: "check the machine's console or `k8s-bootstrap node dmesg`, then run again with --resume",
    T12: "check `talosctl -n <control planes> etcd status` and the network between them, then run again with --resume",
    T13: "check `talosctl etcd status` and `talosctl etcd members`, then run again with --resume",
    T14: "check `talosctl -n <node> get etcdspec` and `cluster.etcd.advertisedSubnets`, then run again with --resume",
    T15: "check the clock of this machine and the dates of the authorities in the secrets bundle",
    T17: "correct the config; `k8s-bootstrap render --explain` shows which line set each field",
    T21: "check the nodes that the error names, then run again with --resume",
    T22: "put the control plane back into the inventory, or remove its member with `talosctl etcd remove-member`",
    T23: "compare `talosctl etcd members` with the inventory, and remove the member if it is not yours",
    T24: "make room for the pod or correct its PodDisruptionBudget, then run again with --resume",
    T25: "check the node with `k8s-bootstrap node services` and `k8s-bootstrap node dmesg`",
    T26: "compare with the fingerprint on the machine's console; a machine creates a new key at each boot",
    T27: "check `k8s-bootstrap node logs kubelet`, the kubelet's image and the registry, then run again with --resume",
    T28: "check `talosctl -n <node> get staticpodstatus -o yaml` and `talosctl -n <node> logs -k kube-system/<pod>:<container>`",
    K01: "check `talosctl -n <control plane> service etcd` and `talosctl -n <control plane> containers -k`, then run again with --resume",
    K02: "check `kubectl get nodes` and `kubectl -n kube-system get pods -o wide`, then run again with --resume",
    K03: "check `talosctl -n <node> service kubelet` on the missing node, then run again with --resume",
    K04: "approve them with `kubectl certificate approve`, or install kubelet-serving-cert-approver",
    K05: "check `kubectl get nodes` and the requests, selectors and replicas of the pod, then run again with --resume",
    K06: "enable KubePrism on that port in every node's config, or set k8sServiceHost and k8sServicePort to the endpoint",
    K07: "check `talosctl -n <control plane> containers -k` and `etcd status`, then run again with --resume",
    K09: "label the namespace in the repository with the Pod Security level that its pods need, then run again with --resume",
    K10: "check the network plugin's MTU and routing mode with `cilium connectivity test`, then run again with --resume",
    K11: "check `kubectl -n kube-system logs -l k8s-app=kube-dns` and the name servers of the nodes, then run again with --resume",
    K12: "correct the object that the message names, then run again with --resume",
    H01: "make sure that no other helm installs this release, then run again with --resume",
    H02: "add --server-side to the hook's arguments in the helmfile, then run again with --resume",
    H03: "add the chart that has the definitions to the CRD helmfile (00-crds.yaml), then run again with --resume",
    H04: "check the Service and the caBundle of the conversion webhook, then run again with --resume",
    H05: "check the pods, the endpoints and the caBundle of the admission webhook, then run again with --resume",
    H06: "check who owns the field with `kubectl get --show-managed-fields -o yaml`, then run again with --resume",
    H07: "check whether the values switch off the feature that the CRD belongs to, then run again with --resume",
    H10: "check that the address is right and reachable from here, then run again with --resume",
    H11: "compare the digests of the two packages; the page says how to accept the new one",
    H12: "fix the cause in the hook's output, then run again with --resume; it will be run again",
    H13: "check the image's name and the registry, then run again with --resume",
    H14: "make helmfile and HelmRelease say the same; `k8s-bootstrap plan <cluster> --drift` shows the manifests",
    H15: "check `kubectl get events -A` and the logs of the pods that are not ready, then run again with --resume",
    H16: "correct the values that helm's message names; `k8s-bootstrap releases template` renders them",
    F01: "change the release through Git: commit, push, `flux reconcile kustomization flux-system --with-source`",
    F02: "check `kubectl -n flux-system get gitrepositories` and the deploy key, then run again with --resume",
    F03: "compare the key's recipient (`age-keygen -y`) with those in .sops.yaml, and correct the Secret's manifest",
    F04: "check `flux get all -A --status-selector ready=false`",
    F05: "check `flux get helmreleases -A`, then run again with --resume",
    F07: "check `kubectl -n flux-system get kustomizations`, then run again with --resume",
    F08: "check `kubectl -n flux-system get fluxinstances,pods`, then run again with --resume",
    F09: "make the HelmRelease own the release of the helmfile: releaseName, targetNamespace, storageNamespace",
    O01: "sign in (`eval $(op signin)`, or OP_SERVICE_ACCOUNT_TOKEN), then run again with --resume",
    O02: "wait for the end of the rate limit (`op service-account ratelimit`), then run again with --resume",
    O03: "make the key available to sops, such as SOPS_AGE_KEY_FILE=~/.config/sops/age/keys.txt, then run again with --resume",
    O04: "wait for the other run to end, or stop it",
    O05: "free space in the state directory, then run again with --resume",
    O06: "nothing; when a step failed, run again with --resume",
    O07: "run again with --resume",
    O10: "put an intact copy of the journal back, or move it away and run with --resume; hooks that are commands run again",
    O11: "run again: the run compares the clusters and begins a new record",
    O12: "compare `date -u` here with `k8s-bootstrap node time`, set the clock, then run again with --resume",
    O14: "check the program or server that provides the secrets, then run again",
    O15: "correct the reference, or create the item that it names",
    I01: "correct the files, then run the command again",
    I02: "`k8s-bootstrap <command> --help` lists the arguments",
    I03: "check the path and its permissions, then run the command again",
    P01: "`k8s-bootstrap tools list` shows what is found; --tools-dir names a folder that is searched first",
    P02: "free space there or correct its permissions, or set another folder with --state-dir",
    P03: "continue the run with --resume",
    P04: "`k8s-bootstrap lab up <cluster>` starts a lab, `k8s-bootstrap lab down <cluster>` stops it",
    P05: "run the command by hand in the repository's root",
    X01: "run the command again; if it fails in the same way, report it with the message",
}

impl Code {
    /// The title of the page, such as "the node belongs to another cluster".
    pub fn title(self) -> &'static str {
        let heading = self.page().lines().next().unwrap_or_default();
        heading.split_once(": ").map_or(heading, |(_, title)| title)
    }

    /// Where the page is, from the root of the repository.
    pub fn path(self) -> String {
        format!("docs/errors/{self}.md")
    }
}

/// A text that is not a code of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown code `{0}`; the codes are {codes}", codes = Code::list())]
pub struct UnknownCode(String);

impl std::str::FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.iter().find(|code| code.as_str().eq_ignore_ascii_case(text));
        known.copied().ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

impl Code {
    fn list() -> String {
        Self::ALL.iter().map(|code| code.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::Code;

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    /// The program's own source files, without those that hold only tests.
    fn sources(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !["tests", "benches", "target"].contains(&name.as_str()) {
                found.extend(sources(&path));
            } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests.rs" {
                found.push(path);
            }
        }
        found
    }

    /// A file without the tests at its end.
    fn program(path: &Path) -> String {
        let text = std::fs::read_to_string(path).unwrap();
        text.split("#[cfg(test)]").next().unwrap_or_default().to_owned()
    }

    #[test]
    fn every_code_has_its_own_page_and_every_page_a_code() {
        let pages: BTreeSet<String> = std::fs::read_dir(root().join("docs/errors"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .filter(|name| name != "README")
            .collect();
        let codes: BTreeSet<String> = Code::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(pages, codes);
        for code in Code::ALL {
            assert!(code.page().starts_with(&format!("# {code}: {}\n", code.title())), "{code} has another title");
            assert!(!code.title().is_empty() && !code.next().is_empty(), "{code}");
            assert_eq!(std::fs::read_to_string(root().join(code.path())).unwrap(), code.page());
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!(!code.page().contains("code is not printed"), "{code} is printed, its page says otherwise");
        }
    }

    #[test]
    fn the_list_of_codes_names_each_by_its_title() {
        let list = std::fs::read_to_string(root().join("docs/errors/README.md")).unwrap();
        for code in Code::ALL {
            let line = format!("| [{code}]({code}.md) | {} |", code.title());
            assert!(list.contains(&line), "docs/errors/README.md lacks: {line}");
        }
    }

    #[test]
    fn every_code_is_raised_somewhere() {
        let folders = [root().join("src"), root().join("crates")];
        let files: Vec<PathBuf> = folders.iter().flat_map(|folder| sources(folder)).collect();
        let source: String =
            files.iter().filter(|path| !path.ends_with("engine/src/code.rs")).map(|path| program(path)).collect();
        assert!(files.len() > 200, "only {} source files were found", files.len());
        for code in Code::ALL {
            assert!(source.contains(&format!("Code::{code}")), "no source raises {code}");
        }
    }
}
