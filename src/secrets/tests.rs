use std::path::Path;

use secrecy::ExposeSecret;

use super::*;
use crate::tools::{Options, Tool, Toolbox};

#[test]
fn a_value_is_hidden_plain_encoded_and_line_by_line() {
    let redactor = Redactor::default();
    redactor.learn(&"-----BEGIN KEY-----\nhunter2hunter2\n-----END KEY-----".into());
    assert_eq!(redactor.redact("the key is hunter2hunter2."), "the key is ******.");
    redactor.learn(&"t0psecret".into());
    assert_eq!(redactor.redact("dDBwc2VjcmV0 and t0psecret"), "****** and ******");
    assert_eq!(redactor.redact("-----BEGIN KEY-----"), "-----BEGIN KEY-----");
}

async fn sops() -> std::path::PathBuf {
    Toolbox::new(Options::from_environment(None)).provide(Tool::Sops, &|_| {}).await.unwrap().path
}

#[tokio::test]
async fn a_file_whose_key_is_absent_is_told_by_its_path() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("talos/infra/talsecret.sops.yaml");
    let error = sops::decrypt(&sops().await, &path).await.unwrap_err().to_string();
    assert!(error.contains("talsecret.sops.yaml cannot be decrypted"), "{error}");
}

#[tokio::test]
async fn a_file_is_opened_with_its_key() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wrapper = tempfile::tempdir().unwrap();
    let script = wrapper.path().join("sops");
    let key = root.join("tests/fixtures/age.key");
    let real = sops().await;
    std::fs::write(&script, format!("#!/bin/sh\nSOPS_AGE_KEY_FILE={} exec {} \"$@\"\n", key.display(), real.display()))
        .unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let text = sops::decrypt(&script, &root.join("talos/infra/talsecret.sops.yaml")).await.unwrap();
    assert!(text.expose_secret().contains("bootstraptoken"));
}
