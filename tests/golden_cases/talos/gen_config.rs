//! `gen config`: arguments to the configs of a control plane and a worker and a talosconfig.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use x509_parser::prelude::FromDer;

use super::compare::differences;
use super::{Kind, ended, read};
use crate::program::program;

pub(crate) const KIND: Kind = Kind { name: "gen-config", run, not_yet: &[] };

fn run(case: &Path) -> Result<(), String> {
    let arguments = read(&case.join("args.yaml")).0.remove(0);
    let text = |key: &str| arguments[key].as_str().map(str::to_owned);
    let out = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["-C".as_ref(), case.as_os_str()]).args(["machineconfig", "gen"]);
    command.args([text("clusterName").unwrap(), text("endpoint").unwrap()]);
    if let Some(secrets) = text("secrets") {
        command.arg("--with-secrets").arg(case.join("../../secrets").join(secrets).canonicalize().unwrap());
    }
    for (flag, key) in [("--talos-version", "talosVersion"), ("--kubernetes-version", "kubernetesVersion")] {
        if let Some(version) = text(key) {
            command.arg(flag).arg(version);
        }
    }
    for flag in arguments["flags"].as_array().into_iter().flatten() {
        command.arg(flag.as_str().unwrap());
    }
    command.arg("--out").arg(out.path());
    let outcome = ended(command);
    if case.join("expected-error.txt").exists() {
        return if outcome.is_err() { Ok(()) } else { Err("expected an error".to_owned()) };
    }
    outcome?;
    for file in ["controlplane.yaml", "worker.yaml"] {
        let difference = differences(&read(&out.path().join(file)), &read(&case.join(file)));
        if !difference.is_empty() {
            return Err(format!("{file}\n{difference}"));
        }
    }
    let talosconfig = |folder: &Path| about(&read(&folder.join("talosconfig")).0[0]);
    let (ours, theirs) = (talosconfig(out.path()), talosconfig(case));
    if ours == theirs { Ok(()) } else { Err(format!("talosconfig: {ours:?} instead of {theirs:?}")) }
}

/// What two talosconfigs have in common although each has a certificate of its own.
fn about(talosconfig: &Value) -> Vec<String> {
    let name = talosconfig["context"].as_str().unwrap();
    let context = &talosconfig["contexts"][name];
    let pem = STANDARD.decode(context["crt"].as_str().unwrap()).unwrap();
    let der = pem::parse(pem).unwrap().into_contents();
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(&der).unwrap();
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    let validity = certificate.validity();
    let hours = (validity.not_after.timestamp() - validity.not_before.timestamp()) / 3600;
    let key = STANDARD.decode(context["key"].as_str().unwrap()).unwrap();
    vec![
        name.to_owned(),
        context["endpoints"].to_string(),
        context["nodes"].to_string(),
        context["ca"].to_string(),
        certificate.subject().to_string(),
        certificate.issuer().to_string(),
        format!("{:?}", (usage.client_auth, usage.server_auth, usage.any, &usage.other)),
        // Ours begins an hour early, for nodes whose clocks are slow.
        format!("a year: {}", (8760..=8761).contains(&hours)),
        pem::parse(key).unwrap().tag().to_owned(),
    ]
}
