//! The Pod Security labels of the repository's namespaces. They must be set before the first pod, so before Flux.
//!
//! Source: Kubernetes 1.35, "Pod Security Admission"; Talos enforces `baseline` in namespaces without labels.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use yaml::{Node, Origin};

pub(super) const LABELS: &str = "pod-security.kubernetes.io/";

/// The labels of one namespace.
#[derive(Debug, Clone)]
pub(super) struct Security {
    pub(super) namespace: String,
    pub(super) path: PathBuf,
    pub(super) labels: BTreeMap<String, String>,
}

impl Security {
    /// Reads the labels that a file sets, in manifests and in patches of kustomizations.
    pub(super) fn from_documents(path: &Path, documents: &[Node]) -> Vec<Self> {
        documents.iter().flat_map(|document| Self::of_document(path, document)).collect()
    }

    fn of_document(path: &Path, document: &Node) -> Vec<Self> {
        if text(document, &["kind"]) == Some("Namespace") {
            return Self::new(path, text(document, &["metadata", "name"]), document).into_iter().collect();
        }
        let given = text(document, &["namespace"]);
        let patches = document.find(&["patches"]).and_then(Node::as_sequence).unwrap_or_default();
        let patches = patches.iter().filter_map(|patch| text(patch, &["patch"]));
        let patches = patches.filter_map(|patch| yaml::parse_one(&Origin::new("patch"), patch).ok());
        let of_namespaces = patches.filter(|patch| text(patch, &["kind"]) == Some("Namespace"));
        // The name in a patch may be anything; the kustomization sets the namespace.
        let named = |patch: &Node| given.or(text(patch, &["metadata", "name"])).map(str::to_owned);
        of_namespaces.filter_map(|patch| Self::new(path, named(&patch).as_deref(), &patch)).collect()
    }

    fn new(path: &Path, namespace: Option<&str>, document: &Node) -> Option<Self> {
        let labels = document.find(&["metadata", "labels"])?.as_mapping()?;
        let labels = labels.iter().filter(|entry| entry.key.starts_with(LABELS));
        let labels: BTreeMap<String, String> = labels
            .filter_map(|entry| Some((entry.key.clone(), entry.value.as_str()?.to_owned())))
            .filter(|(_, value)| !value.contains('$'))
            .collect();
        let namespace = namespace?.to_owned();
        (!labels.is_empty()).then(|| Self { namespace, path: path.to_owned(), labels })
    }
}

fn text<'n>(node: &'n Node, keys: &[&str]) -> Option<&'n str> {
    node.find(keys).and_then(Node::as_str)
}
