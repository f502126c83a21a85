//! Stand-ins for files of custom resource definitions on the web: those of the chart of the same project.

use std::path::Path;

use futures::future::try_join_all;

use super::{ChartsFrom, Kitchen, LOCAL, known};
use process::Command;
use yaml::Origin;

/// Writes each file below `web` under its host and path; `folder` is for the work.
///
/// # Errors
///
/// A stand-in that cannot be rendered, a folder that cannot be written.
pub(crate) async fn make(helm: &Path, folder: &Path, web: &Path, urls: &[String]) -> Result<(), String> {
    let kitchen = Kitchen { helm: helm.to_owned(), folder: folder.join("files"), charts: ChartsFrom::StandIns };
    try_join_all(urls.iter().enumerate().map(|(number, url)| {
        let kitchen = &kitchen;
        async move {
            let place = url.split_once("://").map_or(url.as_str(), |(_, place)| place);
            let path = web.join(place);
            let text = kitchen.definitions(project(place), &folder.join(format!("file-{number}"))).await?;
            let failed = |error: std::io::Error| format!("{}: {error}", path.display());
            std::fs::create_dir_all(path.parent().unwrap_or(web)).map_err(failed)?;
            std::fs::write(&path, text).map_err(failed)
        }
    }))
    .await
    .map(drop)
}

/// The project in `HOST/OWNER/PROJECT/…`.
fn project(place: &str) -> &str {
    place.split('/').nth(2).unwrap_or(place)
}

impl Kitchen {
    /// The custom resource definitions that the stand-in for a chart of this name has.
    async fn definitions(&self, name: &str, folder: &Path) -> Result<String, String> {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let package = self.stand_in(known(name), name, None, folder).await?;
        let command = Command::new(&self.helm).args(["template", "stand-in"]).arg(&package).args([
            "--include-crds",
            "--set",
            "crds.enabled=true,crds.gatewayAPI.enabled=true",
        ]);
        let output = self.run(command, LOCAL).await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let documents = yaml::parse(&Origin::new(name), &text).map_err(|finding| finding.to_string())?;
        let documents = documents.iter().map(yaml::Node::to_json);
        let mut definitions: Vec<_> =
            documents.filter(|document| document["kind"] == "CustomResourceDefinition").collect();
        if definitions.is_empty() {
            definitions.push(some_definition(name));
        }
        let texts: Result<Vec<String>, _> = definitions.iter().map(yaml::to_string).collect();
        texts.map(|texts| texts.join("---\n")).map_err(|error| error.to_string())
    }
}

/// A definition of no real kind, where nobody here knows what the project has.
fn some_definition(project: &str) -> serde_json::Value {
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
