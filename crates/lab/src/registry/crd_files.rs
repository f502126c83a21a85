//! Stand-ins for CRD files that a repository refers to by URL: the CRDs of the stand-in for the project's chart.

use std::path::Path;

use futures::future::try_join_all;
use process::Command;
use yaml::Origin;

use super::{ChartPackager, ChartsFrom, LOCAL_TIMEOUT, RegistryError, builtin_chart};
use crate::yaml_text::to_yaml;

/// Writes a file for each URL below `web`, under its host and path. `folder` is for temporary files.
///
/// # Errors
///
/// A stand-in cannot be rendered, or a folder cannot be written to.
pub(crate) async fn write_all(helm: &Path, folder: &Path, web: &Path, urls: &[String]) -> Result<(), RegistryError> {
    let packager = ChartPackager { helm: helm.to_owned(), folder: folder.join("files"), charts: ChartsFrom::StandIns };
    try_join_all(urls.iter().enumerate().map(|(number, url)| {
        let packager = &packager;
        async move {
            let location = url.split_once("://").map_or(url.as_str(), |(_, location)| location);
            let path = web.join(location);
            let text = packager.render_crds(project(location), &folder.join(format!("file-{number}"))).await?;
            let parent = path.parent().unwrap_or(web);
            std::fs::create_dir_all(parent).map_err(RegistryError::write(parent))?;
            std::fs::write(&path, text).map_err(RegistryError::write(&path))
        }
    }))
    .await
    .map(drop)
}

/// The project in `HOST/OWNER/PROJECT/…`.
fn project(location: &str) -> &str {
    location.split('/').nth(2).unwrap_or(location)
}

impl ChartPackager {
    /// The CRDs of the stand-in for the chart of this name.
    async fn render_crds(&self, name: &str, folder: &Path) -> Result<String, RegistryError> {
        let project = || name.to_owned();
        std::fs::create_dir_all(folder).map_err(RegistryError::write(folder))?;
        let package = self.package_stand_in(builtin_chart(name), name, None, folder).await?;
        let command = Command::new(&self.helm).args(["template", "stand-in"]).arg(&package).args([
            "--include-crds",
            "--set",
            "crds.enabled=true,crds.gatewayAPI.enabled=true",
        ]);
        let output = self
            .run(command, LOCAL_TIMEOUT)
            .await
            .map_err(|source| RegistryError::Render { project: project(), source })?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let documents = yaml::parse(&Origin::new(name), &text)
            .map_err(|diagnostic| RegistryError::Yaml { project: project(), diagnostic })?;
        let documents = documents.iter().map(yaml::Node::to_json);
        let mut definitions: Vec<_> =
            documents.filter(|document| document["kind"] == "CustomResourceDefinition").collect();
        if definitions.is_empty() {
            definitions.push(placeholder_crd(name));
        }
        Ok(definitions.iter().map(to_yaml).collect::<Vec<_>>().join("---\n"))
    }
}

/// A CRD for a project without a built-in stand-in.
fn placeholder_crd(project: &str) -> serde_json::Value {
    let group = format!("{project}.stand-in");
    serde_json::json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("standins.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"kind": "StandIn", "plural": "standins"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }}}],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_is_the_third_part_of_an_address() {
        assert_eq!(project("github.com/kubernetes-sigs/gateway-api/releases/download/v1/x.yaml"), "gateway-api");
        assert_eq!(project("example.org"), "example.org");
    }
}
