//! Files that SOPS encrypted, with placeholders for what is encrypted: a rehearsal with placeholder secrets has no key.
//!
//! kustomize-controller decrypts only what has SOPS's metadata, and applies the rest as it is.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use yaml::Origin;

use crate::yaml_text::to_yaml;

const PLACEHOLDER: &str = "placeholder";
/// Where SOPS keeps its metadata.
const METADATA: &str = "sops";

/// The formats that SOPS distinguishes, by the file's extension as kustomize-controller does (SOPS 3.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Yaml,
    Json,
    Dotenv,
    Ini,
    Binary,
}

impl Format {
    fn from_path(path: &Path) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        match name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("yaml" | "yml") => Self::Yaml,
            Some("json") => Self::Json,
            Some("env") => Self::Dotenv,
            Some("ini") => Self::Ini,
            _ => Self::Binary,
        }
    }
}

/// The text without encryption; nothing when the file is not encrypted.
pub(super) fn with_placeholders(path: &Path, content: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(content).ok()?;
    if !text.contains("ENC[AES256_GCM,") || !text.contains(METADATA) {
        return None;
    }
    match Format::from_path(path) {
        Format::Yaml => documents(text),
        Format::Json => {
            let plain = plain(serde_json::from_str(text).ok()?)?;
            serde_json::to_string_pretty(&plain).ok()
        }
        Format::Dotenv => text.contains("\nsops_").then(|| without_metadata(text, |line| line.starts_with("sops_"))),
        Format::Ini => {
            let section = text.find("\n[sops]")?;
            Some(without_metadata(text.get(..section)?, |_| false))
        }
        // SOPS wraps it into a JSON object.
        Format::Binary => {
            let wrapped: Value = serde_json::from_str(text).ok()?;
            wrapped.get(METADATA)?;
            Some(PLACEHOLDER.to_owned())
        }
    }
}

/// The YAML documents, if one of them is encrypted.
fn documents(text: &str) -> Option<String> {
    let found = yaml::parse(&Origin::new("a file of the working tree"), text).ok()?;
    let found: Vec<Value> = found.iter().map(yaml::Node::to_json).collect();
    found.iter().any(is_encrypted).then(|| {
        let plain = found.into_iter().map(|document| match plain(document.clone()) {
            Some(plain) => to_yaml(&plain),
            None => to_yaml(&document),
        });
        plain.collect::<Vec<String>>().join("\n---\n")
    })
}

fn is_encrypted(document: &Value) -> bool {
    document.get(METADATA).is_some_and(|metadata| metadata.get("mac").is_some())
}

/// The document without metadata and with placeholders; nothing if it is not encrypted.
fn plain(mut document: Value) -> Option<Value> {
    if !is_encrypted(&document) {
        return None;
    }
    let is_secret = document["kind"] == "Secret";
    if let Some(object) = document.as_object_mut() {
        object.remove(METADATA);
        for (key, value) in object {
            replace(value, if is_secret && key == "data" { Encoding::Base64 } else { Encoding::Plain });
        }
    }
    Some(document)
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Plain,
    /// As in the `data` of a Secret.
    Base64,
}

fn replace(value: &mut Value, encoding: Encoding) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|value| replace(value, encoding)),
        Value::Array(items) => items.iter_mut().for_each(|value| replace(value, encoding)),
        Value::String(text) => {
            if let Some(kind) = encrypted_kind(text) {
                *value = placeholder(kind, encoding);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The type that SOPS recorded of an encrypted value.
fn encrypted_kind(text: &str) -> Option<&str> {
    text.strip_prefix("ENC[AES256_GCM,")?.strip_suffix(']')?.rsplit_once("type:").map(|(_, kind)| kind)
}

fn placeholder(kind: &str, encoding: Encoding) -> Value {
    match (kind, encoding) {
        ("int", _) => json!(0),
        ("float", _) => json!(0.5),
        ("bool", _) => json!(false),
        (_, Encoding::Base64) => json!(STANDARD.encode(PLACEHOLDER)),
        (_, Encoding::Plain) => json!(PLACEHOLDER),
    }
}

/// The lines that are not metadata, with a placeholder for each encrypted value.
fn without_metadata(text: &str, is_metadata: impl Fn(&str) -> bool) -> String {
    let lines = text.lines().filter(|line| !is_metadata(line));
    let plain = lines.map(|line| match line.find("ENC[AES256_GCM,") {
        Some(start) => format!("{}{PLACEHOLDER}", &line[..start]),
        None => line.to_owned(),
    });
    plain.collect::<Vec<String>>().join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(kind: &str) -> String {
        format!("ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:{kind}]")
    }

    fn replaced(name: &str, text: &str) -> Option<String> {
        with_placeholders(Path::new(name), text.as_bytes())
    }

    #[test]
    fn each_value_gets_a_placeholder_of_its_type_and_the_metadata_go() {
        let text = format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\ndata:\n  b: {0}\nstringData:\n  c: {0}\n  d: {1}\n  e: {2}\n  f: plain\nsops:\n  mac: {0}\n---\nkind: ConfigMap\n",
            sealed("str"),
            sealed("int"),
            sealed("bool")
        );
        insta::assert_snapshot!(replaced("clusters/a.sops.yaml", &text).unwrap(), @"
        apiVersion: v1
        kind: Secret
        metadata:
          name: a
        data:
          b: cGxhY2Vob2xkZXI=
        stringData:
          c: placeholder
          d: 0
          e: false
          f: plain

        ---
        kind: ConfigMap
        ");
    }

    #[test]
    fn every_format_of_sops_is_read() {
        let sealed = sealed("str");
        let json = replaced("a.json", &json!({"a": sealed, "sops": {"mac": sealed}}).to_string()).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), json!({"a": "placeholder"}));
        let env = replaced("a.sops.env", &format!("A={sealed}\nB=b\nsops_mac={sealed}\nsops_version=3.13.0\n"));
        assert_eq!(env.unwrap(), "A=placeholder\nB=b\n");
        let ini = replaced("a.ini", &format!("[a]\nb = {sealed}\n[sops]\nmac = {sealed}\n"));
        assert_eq!(ini.unwrap(), "[a]\nb = placeholder\n");
        let binary = replaced("a.key", &json!({"data": sealed, "sops": {"mac": sealed}}).to_string());
        assert_eq!(binary.unwrap(), "placeholder");
    }

    #[test]
    fn a_file_that_only_mentions_encryption_stays() {
        assert_eq!(replaced("a.yaml", &format!("sops: the tool\nexample: {}\n", sealed("str"))), None);
        assert_eq!(replaced("a.yaml", "a: b\n"), None);
        assert_eq!(replaced("README.md", &format!("sops: {}", sealed("str"))), None);
    }
}
