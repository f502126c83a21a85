//! How the operator removes a release.

use std::path::Path;

use helmfile::ReleaseId;

/// The command that removes a release.
pub(crate) fn removal_command(release: &ReleaseId, kubeconfig: &Path) -> String {
    format!("helm uninstall {} --namespace {} --kubeconfig {}", release.name, release.namespace, kubeconfig.display())
}

#[test]
fn the_command_names_release_namespace_and_kubeconfig() {
    let release = ReleaseId { namespace: "lab".to_owned(), name: "left".to_owned() };
    let command = removal_command(&release, Path::new("/state/kubeconfig"));
    assert_eq!(command, "helm uninstall left --namespace lab --kubeconfig /state/kubeconfig");
}
