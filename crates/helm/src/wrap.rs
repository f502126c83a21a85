//! Packs rendered manifests as a chart.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::PulledChart;

/// The path of the manifests, outside of `templates`, so that Helm does not render them again.
const MANIFESTS: &str = "files/manifests.yaml";
const TEMPLATE: &str = "{{ .Files.Get \"files/manifests.yaml\" }}\n";

/// Packs `objects`, and `crds` for the chart's `crds/` folder, as a chart of the same name and version.
///
/// # Errors
///
/// A failed write, which does not happen in memory.
pub(crate) fn wrap(chart: &PulledChart, objects: &[Value], crds: &[Value]) -> io::Result<Vec<u8>> {
    let metadata = json!({"apiVersion": "v2", "name": chart.name, "version": chart.version});
    let mut package = Package::new(&chart.name);
    package.file("Chart.yaml", &metadata.to_string())?;
    package.file("templates/manifests.yaml", TEMPLATE)?;
    package.file(MANIFESTS, &documents(objects))?;
    if !crds.is_empty() {
        package.file("crds/crds.yaml", &documents(crds))?;
    }
    package.finish()
}

/// JSON is YAML.
fn documents(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("---\n{object}\n")).collect()
}

struct Package {
    name: String,
    archive: tar::Builder<GzEncoder<Vec<u8>>>,
}

impl Package {
    fn new(name: &str) -> Self {
        let archive = tar::Builder::new(GzEncoder::new(vec![], Compression::fast()));
        Self { name: name.to_owned(), archive }
    }

    fn file(&mut self, path: &str, text: &str) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        self.archive.append_data(&mut header, format!("{}/{path}", self.name), text.as_bytes())
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        let mut encoder = self.archive.into_inner()?;
        encoder.flush()?;
        encoder.finish()
    }
}

#[cfg(test)]
mod tests {
    use helmfile::{Chart, Release, ReleaseId};
    use serde_json::json;
    use tools::{Options, Tool, Toolbox};
    use yaml::{Origin, Position};

    use super::*;
    use crate::{Helm, TemplateOptions};

    #[tokio::test]
    async fn helm_renders_a_wrapped_chart_as_it_is_and_looks_at_no_template_in_it() {
        let found = Toolbox::new(Options::from_environment(None)).provide(Tool::Helm, &|_| ()).await.unwrap();
        let helm = Helm { program: found.path, version: found.version };
        let rule = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rule"}, "data": {"text": "{{ $labels.pod }}"}});
        let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "x"}});
        let chart = PulledChart::absent("app", "1.2.3");
        let package = wrap(&chart, std::slice::from_ref(&rule), std::slice::from_ref(&crd)).unwrap();
        let file = process::SecretFile::of_bytes(&package).unwrap();
        let wrapped = PulledChart { path: file.path().into(), ..chart };
        let id = ReleaseId { namespace: "lab".into(), name: "app".into() };
        let release = Release::new(
            id,
            Chart::Local(wrapped.path.clone()),
            Origin::new("helmfile.yaml").location(Position { line: 3, column: 5 }),
        );
        let render = async |include_crds: bool| {
            let options = TemplateOptions { include_crds, hooks: true, ..TemplateOptions::default() };
            helm.template(&release, &wrapped, &options).await.unwrap()
        };
        assert_eq!(render(false).await, *std::slice::from_ref(&rule));
        assert_eq!(render(true).await, [crd, rule]);
    }
}
