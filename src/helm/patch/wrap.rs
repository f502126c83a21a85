//! A chart out of manifests that are rendered already.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::helm::PulledChart;

/// Where the manifests lie in the chart: not below `templates`, so that what looks like a template in them stays text.
const MANIFESTS: &str = "files/manifests.yaml";
const TEMPLATE: &str = "{{ .Files.Get \"files/manifests.yaml\" }}\n";

/// Packs `objects`, and `crds` that Helm only ever creates, as a chart of the same name and version.
///
/// # Errors
///
/// When the package cannot be written; in memory, that does not happen.
pub(in crate::helm) fn wrap(chart: &PulledChart, objects: &[Value], crds: &[Value]) -> io::Result<Vec<u8>> {
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
