//! `gen secrets`: bundles that are read and written back.

use std::path::Path;

use secrecy::ExposeSecret;
use talos_config::SecretsBundle;
use yaml::Origin;

use super::{Kind, read};

pub(crate) const KIND: Kind = Kind { name: "secrets", run, not_yet: &[] };

fn run(case: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(case).unwrap();
    let bundle = SecretsBundle::parse(&Origin::of_path(case), &text).map_err(|found| found.to_string())?;
    let folder = tempfile::tempdir().unwrap();
    let written = folder.path().join("secrets.yaml");
    std::fs::write(&written, bundle.to_yaml().expose_secret()).unwrap();
    if read(&written) == read(case) { Ok(()) } else { Err("the bundle is another after a round trip".to_owned()) }
}
