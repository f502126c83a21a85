//! `talhelper genconfig`: a talconfig with its secrets, patches and files.

use std::path::Path;

use k8s_bootstrap::talos::config::{SecretsBundle, talconfig};
use k8s_bootstrap::yaml::Origin;

use crate::compare::differences;
use crate::{Kind, read};

/// Issue 5.
const FIELDS: &str = "not every field of a talconfig is read yet";

pub(crate) const KIND: Kind = Kind {
    name: "talconfig",
    run,
    not_yet: &[
        ("02-legacy-1.11", FIELDS),
        ("03-defaults", FIELDS),
        ("04-env-anchors", FIELDS),
        ("05-patches-1.11", FIELDS),
        ("06-images", FIELDS),
        ("07-labels-templates", FIELDS),
        ("08-documents", FIELDS),
        ("09-network-1.12", FIELDS),
        ("10-sops", FIELDS),
        ("11-v1.13", FIELDS),
        ("15-unknown-keys", FIELDS),
        ("16-dollar-patch", FIELDS),
        ("19-v1.13-more", FIELDS),
        ("20-machine-file-folded", FIELDS),
        ("21-lost-on-the-way", FIELDS),
    ],
};

fn run(case: &Path) -> Result<(), String> {
    let expects_error = case.join("expected-error.txt").exists();
    let config = match talconfig::read(case, case, &|_| None) {
        Ok(_) if expects_error => return Err("expected an error".to_owned()),
        Err(_) if expects_error => return Ok(()),
        Err(found) => return Err(found.to_string()),
        Ok(config) => config,
    };
    let secrets = case.join("talsecret.yaml");
    let text = std::fs::read_to_string(&secrets).map_err(|error| error.to_string())?;
    let bundle = SecretsBundle::parse(&Origin::of_path(&secrets), &text).map_err(|found| found.to_string())?;
    for node in &config.nodes {
        let ours = config.render(&bundle, node).map_err(|error| error.to_string())?;
        let expected = case.join("expected").join(format!("{}-{}.yaml", config.cluster_name, node.hostname));
        let difference = differences(&ours, &read(&expected));
        if !difference.is_empty() {
            return Err(format!("{}\n{difference}", node.hostname));
        }
    }
    Ok(())
}
