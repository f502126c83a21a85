mod connect;
mod sealed;
mod sources;

use std::path::Path;

use error_report::ErrorReport;
use secrecy::ExposeSecret;

use super::*;
use tools::{Options, Tool, Toolbox};

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
async fn a_file_without_its_key_is_reported_with_its_path() {
    let root = &Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join("talos/infra/talsecret.sops.yaml");
    let error = sops::decrypt(&alone(sops().await), &path).await.unwrap_err().to_string();
    assert!(error.contains("talsecret.sops.yaml cannot be decrypted"), "{error}");
}

#[tokio::test]
async fn a_file_is_opened_with_its_key() {
    let root = &Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let wrapper = tempfile::tempdir().unwrap();
    let script = wrapper.path().join("sops");
    let key = root.join("tests/fixtures/age.key");
    let real = sops().await;
    std::fs::write(&script, format!("#!/bin/sh\nSOPS_AGE_KEY_FILE={} exec {} \"$@\"\n", key.display(), real.display()))
        .unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let text = sops::decrypt(&alone(script), &root.join("talos/infra/talsecret.sops.yaml")).await.unwrap();
    assert!(text.expose_secret().contains("bootstraptoken"));
}

#[test]
fn a_manifests_secrets_are_learnt_plain_and_encoded() {
    let redactor = Redactor::default();
    redactor.learn_manifest(&serde_json::json!({"kind": "List", "items": [
        {"kind": "Secret", "stringData": {"a": "plain-secret"}, "data": {"b": "ZW5jb2RlZC1zZWNyZXQ=", "c": "/////////w=="}},
        {"kind": "ConfigMap", "data": {"a": "no-secret"}},
    ]}));
    let text = redactor.redact("plain-secret encoded-secret ZW5jb2RlZC1zZWNyZXQ= /////////w== no-secret");
    assert_eq!(text, "****** ****** ****** ****** no-secret");
}

/// The program with the keys of its environment only.
fn alone(program: std::path::PathBuf) -> sops::Sops {
    sops::Sops { program, key_file: None }
}

/// A wrapper of the `op` stand-in with an environment of its own.
fn op(folder: &Path, environment: &str) -> std::path::PathBuf {
    let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/op");
    let script = folder.join("op");
    std::fs::write(&script, format!("#!/bin/sh\n{environment} exec {} \"$@\"\n", stand_in.display())).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    script
}

async fn inject(environment: &str, template: &str) -> Result<String, Error> {
    let folder = tempfile::tempdir().unwrap();
    let filled = op::inject(&op(folder.path(), environment), None, template).await;
    filled.map(|secret| secret.expose_secret().to_owned())
}

const SPELLINGS: &str = "\
kind: Secret
stringData:
  bare: op://k8s-ops/cloudflare/api token
  quoted: 'op://k8s-ops/cloudflare/api token'
  braces: \"{{ op://k8s-ops/cloudflare/api token }}\"
  variable: op://$VAULT/app/password # of the vault
  block: |-
    key = op://k8s-ops/r2-infra/access key
    secret = op://k8s-ops/r2-infra/secret key
  two: op://k8s-ops/r2-a/access key,op://k8s-ops/r2-b/secret key.
  shop: shop://not/a/reference
data:
  encoded: op://k8s-ops/encoded/value
  age.agekey: op://k8s-ops/sops-age/private key
";

#[test]
fn every_spelling_of_a_reference_is_found_with_its_place() {
    let found: Vec<String> = op::references(SPELLINGS)
        .into_iter()
        .map(|reference| format!("{}:{} {}", reference.line, reference.column, reference.text))
        .collect();
    insta::assert_snapshot!(found.join("\n"), @"
    3:9 op://k8s-ops/cloudflare/api token
    4:12 op://k8s-ops/cloudflare/api token
    5:12 op://k8s-ops/cloudflare/api token
    6:13 op://$VAULT/app/password
    8:11 op://k8s-ops/r2-infra/access key
    9:14 op://k8s-ops/r2-infra/secret key
    10:8 op://k8s-ops/r2-a/access key
    10:37 op://k8s-ops/r2-b/secret key
    13:12 op://k8s-ops/encoded/value
    14:15 op://k8s-ops/sops-age/private key
    ");
    let variable = op::references("{{ op://${VAULT:-dev}/a b/c?attribute=otp }}");
    assert_eq!(variable[0].text, "op://${VAULT:-dev}/a b/c?attribute=otp");
    assert_eq!(op::references("no op:// here"), []);
}

#[test]
fn placeholders_have_the_shape_of_what_they_stand_for() {
    insta::assert_snapshot!(placeholders(SPELLINGS, &Adapters::default()), @r#"
    kind: Secret
    stringData:
      bare: placeholder
      quoted: 'placeholder'
      braces: "placeholder"
      variable: placeholder # of the vault
      block: |-
        key = placeholder
        secret = placeholder
      two: placeholder,placeholder.
      shop: shop://not/a/reference
    data:
      encoded: cGxhY2Vob2xkZXI=
      age.agekey: QUdFLVNFQ1JFVC1LRVktMVBMQUNFSFhMREVSUExBQ0VIWExERVJQTEFDRUhYTERFUlBMQUNFSFhMREVSUExBQ0VIWFFRNVZaUDY=
    "#);
    // The value of the secret contains its indentation.
    let block = "kind: Secret\nstringData:\n  key: |-\nop://v/i/f\n  other: |-\n    op://v/i/f\n";
    let filled = "kind: Secret\nstringData:\n  key: |-\n    placeholder\n  other: |-\n    placeholder\n";
    assert_eq!(placeholders(block, &Adapters::default()), filled);
    let template = "kind: Secret\nstringData:\n  1password-credentials.json: op://v/i/credentials\n";
    assert!(placeholders(template, &Adapters::default()).ends_with("credentials.json: '{}'\n"));
    assert!(
        placeholders("kind: ConfigMap\ndata:\n  a: op://v/i/f\n", &Adapters::default()).ends_with("a: placeholder\n")
    );
}

#[tokio::test]
async fn one_op_fills_in_every_reference() {
    let filled = inject("VAULT=infra", SPELLINGS).await.unwrap();
    assert!(!filled.replace("shop://", "").contains("op://"), "{filled}");
    assert!(filled.contains("variable: stand-in-of-infra # of the vault\n"), "{filled}");
    assert!(filled.contains("braces: \"stand-in-cloudflare-token\"\n"), "{filled}");
    assert!(
        filled.ends_with("age.agekey: AGE-SECRET-KEY-1STANDINSTANDINSTANDINSTANDINSTANDINSTANDINSTANDINSTANDINSQ\n"),
        "{filled}"
    );
    assert_eq!(inject("exit 1;", "nothing: to do\n").await.unwrap(), "nothing: to do\n");
}

#[tokio::test]
async fn an_unresolved_reference_is_named_with_its_position() {
    let template = "a: op://k8s-ops/cloudflare/api token\nb: \"op://k8s-ops/vanished/key\"\n";
    let error = inject("", template).await.unwrap_err();
    assert!(!error.is_retryable());
    insta::assert_snapshot!(ErrorReport::new(&error), @r#"cannot resolve op://k8s-ops/vanished/key (line 2, column 5): could not resolve secret reference: "vanished" isn't an item in the "k8s-ops" vault. Specify the item with its UUID, name, or domain."#);
}

#[tokio::test]
async fn a_vault_of_another_account_is_reported_with_the_setting_to_declare() {
    let error = inject("", "a: op://work-ops/registry/password\n").await.unwrap_err();
    insta::assert_snapshot!(format!("{}\n{}", ErrorReport::new(&error), error.next()), @r#"
    cannot resolve op://work-ops/registry/password (line 1, column 4): could not resolve secret reference: "work-ops" isn't a vault in this account. Specify the vault with its ID or name.
    correct the reference, or declare the account of the vault in k8s-bootstrap.yaml: secrets: {accounts: {work-ops: <account>}}
    "#);
    let error = inject("", "a: op://k8s-ops/twice/key\n").await.unwrap_err();
    insta::assert_snapshot!(ErrorReport::new(&error), @r#"cannot resolve op://k8s-ops/twice/key (line 1, column 4): More than one item matches "twice". Try again and specify the item by its ID: * for the item "twice" in vault k8s-ops: qwzl5cs7ycznxjn7sw5nzl5cea * for the item "twice" in vault k8s-ops: xt4r7dgnpk2bvblo3bkvnaw3vu"#);
    let error = inject("OP_ACCOUNT=unknown.1password.com", SPELLINGS).await.unwrap_err();
    insta::assert_snapshot!(format!("{}\n{}", ErrorReport::new(&error), error.next()), @r#"
    op is not signed in: found no accounts for filter "unknown.1password.com"
    `op account list` shows the accounts that op knows; `op account add` adds one
    "#);
}

#[tokio::test]
async fn a_missing_session_names_the_next_command_and_a_rate_limit_is_retryable() {
    let error = inject("OP_SERVICE_ACCOUNT_TOKEN=expired", SPELLINGS).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unauthenticated, false));
    assert!(error.next().contains("op signin"));
    insta::assert_snapshot!(error, @"op is not signed in: You are not currently signed in. Please run `op signin --help` for instructions");
    let error = inject("OP_SERVICE_ACCOUNT_TOKEN=limited", SPELLINGS).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::RateLimited, true));
}

#[test]
fn an_encrypted_file_is_rehearsed_with_placeholders_and_without_sops() {
    let text = "\
kind: Secret
metadata:
    name: github
stringData:
    identity: ENC[AES256_GCM,data:abc=,iv:def=,tag:ghi==,type:str]
    port: ENC[AES256_GCM,data:abc=,iv:def=,tag:ghi==,type:int]
    on: ENC[AES256_GCM,data:abc=,iv:def=,tag:ghi==,type:bool]
data:
    known_hosts: ENC[AES256_GCM,data:abc=,iv:def=,tag:ghi==,type:str]
sops:
    age:
        - recipient: age1x
    mac: ENC[AES256_GCM,data:abc=,iv:def=,tag:ghi==,type:str]
---
kind: ConfigMap
";
    insta::assert_snapshot!(sops::placeholders(text), @"
    kind: Secret
    metadata:
        name: github
    stringData:
        identity: placeholder
        port: 0
        on: false
    data:
        known_hosts: cGxhY2Vob2xkZXI=
    ---
    kind: ConfigMap
    ");
}
