//! SOPS with the real `sops` and `age-keygen`: every format, and every way to a key.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use secrecy::ExposeSecret;

use super::{alone, sops as program};
use crate::sops;
use test_support::child;
use tools::{Options, Tool, Toolbox};

const MANIFEST: &str = "apiVersion: v1\nkind: Secret\nmetadata:\n    name: a\nstringData:\n    key: the-value\n";
const JSON: &str =
    "{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"stringData\": {\"key\": \"the-value\", \"port\": \"1\"}}\n";

fn key() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/age.key")
}

fn line_of_key(start: &str) -> String {
    let text = std::fs::read_to_string(key()).unwrap();
    let line = text.lines().find(|line| line.contains(start)).unwrap();
    line[line.find(start).unwrap()..].trim().to_owned()
}

/// Seals a text in a file of this name.
fn seal(sops: &Path, folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    let recipient = line_of_key("age1");
    let mut command = child(sops);
    command.args(["--disable-version-check", "encrypt", "--in-place", "--age", &recipient]).arg(&path);
    // A configuration file above must not decide.
    let output = command.current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!std::fs::read_to_string(&path).unwrap().contains("the-value"));
    path
}

/// `sops` in an environment of its own: without keys from outside the test.
fn within(sops: &Path, folder: &Path, environment: &str) -> PathBuf {
    let script = folder.join("sops");
    let own = "unset SOPS_AGE_KEY SOPS_AGE_KEY_FILE SOPS_AGE_KEY_CMD XDG_CONFIG_HOME; export HOME=/nonexistent";
    std::fs::write(&script, format!("#!/bin/sh\n{own}\n{environment}\nexec {} \"$@\"\n", sops.display())).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    script
}

#[tokio::test]
async fn every_format_is_opened_by_the_name_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let sops = program().await;
    let with_key = within(&sops, folder.path(), &format!("export SOPS_AGE_KEY_FILE={}", key().display()));
    for (name, text) in
        [("a.sops.yaml", MANIFEST), ("a.sops.env", "KEY=the-value\n"), ("a.sops.key", "the-value\nwhole\n")]
    {
        let sealed = seal(&sops, folder.path(), name, text);
        let opened = sops::decrypt(&alone(with_key.clone()), &sealed).await.unwrap();
        assert_eq!(opened.expose_secret(), text, "{name}");
    }
    let sealed = seal(&sops, folder.path(), "a.sops.json", JSON);
    let opened = sops::decrypt(&alone(with_key.clone()), &sealed).await.unwrap();
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(read(opened.expose_secret()), read(JSON));
    // It is indented by tabs, and manifests are read as YAML.
    let document = yaml::parse_one(&yaml::Origin::new("a"), opened.expose_secret()).unwrap();
    assert_eq!(document.to_json(), read(JSON));
    let sealed = std::fs::read_to_string(sealed).unwrap();
    // What is never sealed where Flux reads it.
    let mut sealed = read(&sealed);
    sealed["kind"] = "Secret".into();
    sealed["data"] = serde_json::json!({"a": sealed["stringData"]["key"]});
    assert_eq!(
        read(&sops::placeholders(&sealed.to_string())),
        serde_json::json!({
            "apiVersion": "placeholder", "kind": "Secret", "data": {"a": "cGxhY2Vob2xkZXI="},
            "stringData": {"key": "placeholder", "port": "placeholder"},
        })
    );
}

#[tokio::test]
async fn the_key_is_found_in_every_place_that_sops_knows() {
    let folder = tempfile::tempdir().unwrap();
    let sops = program().await;
    let sealed = seal(&sops, folder.path(), "a.sops.yaml", MANIFEST);
    let home = folder.path().join("home");
    std::fs::create_dir_all(home.join(".config/sops/age")).unwrap();
    std::fs::copy(key(), home.join(".config/sops/age/keys.txt")).unwrap();
    for environment in [
        format!("export SOPS_AGE_KEY={}", line_of_key("AGE-SECRET-KEY-")),
        format!("export SOPS_AGE_KEY_FILE={}", key().display()),
        format!("export SOPS_AGE_KEY_CMD='cat {}'", key().display()),
        format!("export HOME={}", home.display()),
        format!("export XDG_CONFIG_HOME={}", home.join(".config").display()),
    ] {
        let opened = sops::decrypt(&alone(within(&sops, folder.path(), &environment)), &sealed).await;
        assert_eq!(opened.unwrap().expose_secret(), MANIFEST, "{environment}");
    }
    let error = sops::decrypt(&alone(within(&sops, folder.path(), "")), &sealed).await.unwrap_err().to_string();
    assert!(error.contains("a.sops.yaml cannot be decrypted: "), "{error}");
}

#[tokio::test]
async fn a_key_is_tried_alone_and_never_lies_on_a_disk() {
    let folder = tempfile::tempdir().unwrap();
    let sops = program().await;
    let sealed = seal(&sops, folder.path(), "a.sops.yaml", MANIFEST);
    sops::opens(&sops, &sealed, &line_of_key("AGE-SECRET-KEY-").into()).await.unwrap();
    let keygen = Toolbox::new(Options::from_environment(None)).provide(Tool::AgeKeygen, &|_| {}).await.unwrap();
    let other = child(keygen.path).stderr(Stdio::null()).output().unwrap();
    let other = String::from_utf8(other.stdout).unwrap();
    // The operator's own key would open it, and Flux will not have that.
    let with_own = folder.path().join("with-own");
    let script = format!(
        "#!/bin/sh\ncase \"$SOPS_AGE_KEY_FILE\" in /proc/*) ;; *) exit 9 ;; esac\nexec {} \"$@\"\n",
        sops.display()
    );
    std::fs::write(&with_own, script).unwrap();
    std::fs::set_permissions(&with_own, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let error = sops::opens(&with_own, &sealed, &other.as_str().into()).await.unwrap_err().to_string();
    assert!(error.contains("a.sops.yaml cannot be decrypted: ") && !error.contains("AGE-SECRET-KEY-"), "{error}");
    assert!(sops::opens(&sops, &sealed, &"no key at all".into()).await.is_err());
}
