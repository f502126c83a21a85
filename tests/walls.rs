//! The structure: which crate may use which, and public type names that are unique.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;

/// The crates that each crate uses at most, beside its tests. A new arrow is a decision: docs/adr/0011-workspace.md.
const ALLOWED: [(&str, &[&str]); 25] = [
    ("yaml", &[]),
    ("process", &[]),
    ("error-report", &[]),
    ("kill-points", &[]),
    ("retry", &[]),
    ("net", &["retry"]),
    ("version-range", &[]),
    ("talos-proto", &[]),
    ("tools", &["error-report", "net", "process", "retry"]),
    ("talos-schema", &["yaml"]),
    ("template", &["error-report", "version-range", "yaml"]),
    ("discover", &["template", "yaml"]),
    ("secret-references", &[]),
    ("secrets", &["net", "process", "retry", "secret-references", "yaml"]),
    ("talos-config", &["discover", "talos-schema", "template", "yaml"]),
    ("talos-client", &["error-report", "kill-points", "net", "retry", "talos-proto", "talos-schema", "yaml"]),
    ("kubernetes", &["error-report", "kill-points", "net", "retry"]),
    ("helmfile", &["template", "yaml"]),
    ("helm", &["error-report", "helmfile", "kill-points", "process", "retry", "tools", "yaml"]),
    ("engine", &["error-report", "kill-points", "retry", "yaml"]),
    // Phases are read with the rest of a repository.
    (
        "repository",
        &["discover", "engine", "helmfile", "secret-references", "talos-config", "template", "version-range", "yaml"],
    ),
    // Of a config the lab takes the schema's verdict, and nothing else.
    ("lab", &["error-report", "net", "process", "talos-proto", "talos-schema", "tools", "yaml"]),
    (
        "bootstrap",
        &[
            "discover",
            "engine",
            "error-report",
            "helm",
            "helmfile",
            "kill-points",
            "kubernetes",
            "net",
            "process",
            "repository",
            "retry",
            "secrets",
            "talos-client",
            "talos-config",
            "talos-schema",
            "template",
            "tools",
            "yaml",
        ],
    ),
    ("k8s-bootstrap", &["*"]),
    ("test-support", &[]),
];

/// Public type names that occur in more than one crate, and why.
const HOMONYMS: [(&str, &str); 5] = [
    ("Command", "engine: what the machine orders; process: a child process, as in std"),
    ("Credentials", "helmfile: of a registry; process: what a child inherits"),
    ("Difference", "kubernetes: of a field; repository: between bootstrap and Flux"),
    ("Entry", "engine: of the journal; yaml: of a mapping"),
    ("Error", "process, secrets and tools each have one, used with the crate's name"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The crates that each crate of the workspace depends on.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = test_support::with_downloads(test_support::child(env!("CARGO")))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let names: BTreeSet<String> = packages.iter().map(|package| text(&package["name"])).collect();
    let uses = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        let normal = all.filter(|dependency| dependency["kind"].is_null());
        normal.map(|dependency| text(&dependency["name"])).filter(|name| names.contains(name)).collect()
    };
    packages.iter().map(|package| (text(&package["name"]), uses(package))).collect()
}

#[test]
fn every_crate_uses_only_those_below_it() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into();
    for (name, uses) in dependencies() {
        let Some(allowed) = allowed.get(name.as_str()) else { panic!("{name} is not in the table of this test") };
        let is_allowed = |used: &&String| allowed.contains(&"*") || allowed.contains(&used.as_str());
        let wrong: Vec<&String> = uses.iter().filter(|used| !is_allowed(used)).collect();
        assert!(wrong.is_empty(), "{name} may not use {wrong:?}");
    }
}

#[test]
fn readers_of_files_reach_no_client_and_the_lab_reaches_no_reader() {
    let dependencies = dependencies();
    let reached = |name: &str| {
        let (mut found, mut open) = (BTreeSet::new(), vec![name.to_owned()]);
        while let Some(next) = open.pop() {
            for used in &dependencies[&next] {
                if found.insert(used.clone()) {
                    open.push(used.clone());
                }
            }
        }
        found
    };
    for reader in ["talos-schema", "talos-config", "helmfile", "template", "discover", "repository"] {
        let reached = reached(reader);
        assert!(!["net", "process", "tools"].iter().any(|low| reached.contains(*low)), "{reader} reaches {reached:?}");
    }
    let clients = ["talos-client", "kubernetes", "helm", "talos-config", "repository", "engine", "bootstrap"];
    let lab = reached("lab");
    assert!(!clients.iter().any(|client| lab.contains(*client)), "the lab reaches {lab:?}");
}

#[test]
fn a_public_type_name_means_one_thing() {
    let declared = Regex::new(r"(?m)^\s*pub (?:struct|enum|trait|type) ([A-Z]\w+)").unwrap();
    let mut crates: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for folder in std::fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap()) {
        for file in sources(&folder.path().join("src")) {
            let text = std::fs::read_to_string(&file).unwrap();
            for found in declared.captures_iter(&text) {
                crates.entry(found[1].to_owned()).or_default().insert(folder.file_name().into_string().unwrap());
            }
        }
    }
    let known: BTreeMap<&str, &str> = HOMONYMS.into();
    let new: Vec<_> =
        crates.iter().filter(|(name, crates)| crates.len() > 1 && !known.contains_key(name.as_str())).collect();
    assert!(new.is_empty(), "public types of one name in several crates: {new:?}");
}

/// The Rust files below a folder, tests left out.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_test = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == "tests");
    let (folders, files): (Vec<_>, Vec<_>) = entries.filter(|path| !is_test(path)).partition(|path| path.is_dir());
    let mut found: Vec<PathBuf> =
        files.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "rs")).collect();
    found.extend(folders.iter().flat_map(|folder| sources(folder)));
    found
}

/// One place prints an error with its causes; a text that contains its cause is printed twice.
#[test]
fn no_error_contains_the_text_of_its_cause() {
    let variant = Regex::new(r"(?s)#\[error\(([^]]*)\)\]\s*(?:pub struct )?\w+\s*([({][^}]*?[)}])").unwrap();
    let mut found = Vec::new();
    for path in sources(&root().join("crates")).into_iter().chain(sources(&root().join("src"))) {
        let text = std::fs::read_to_string(&path).unwrap();
        for variant in variant.captures_iter(&text) {
            let (message, fields) = (&variant[1], &variant[2]);
            let is_first = fields.starts_with("(#[source]") || fields.starts_with("(#[from]");
            if message.contains("{source}") || (message.contains("{0}") && is_first) {
                found.push(format!("{}: {message}", path.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(found.is_empty(), "leave the cause out; ErrorReport prints it: {found:#?}");
}

/// `fn f(flag: bool)` hides at the call what `true` means; an enum says it. Conversions from a flag are the exception.
#[test]
fn functions_have_no_bool_parameters() {
    let signature = Regex::new(r"fn (\w+)(?:<[^>]*>)?\(([^)]*)\)").unwrap();
    let parameter = Regex::new(r"\w+: bool\b").unwrap();
    let mut found = Vec::new();
    for path in sources(&root().join("crates")).into_iter().chain(sources(&root().join("src"))) {
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        for signature in signature.captures_iter(text) {
            if &signature[1] != "from" && parameter.is_match(&signature[2]) {
                found.push(format!("{}: {}", path.strip_prefix(root()).unwrap().display(), &signature[1]));
            }
        }
    }
    assert!(found.is_empty(), "write an enum with two names: {found:#?}");
}

/// A call such as `x.at(y)` or `X::of(y)` does not say what happens; docs/style.md lists these names.
#[test]
fn public_functions_have_names_that_say_what_they_do() {
    let declared = Regex::new(r"pub (?:const )?(?:async )?fn (of|text|at|own|first|data|twice)\b").unwrap();
    let mut found = Vec::new();
    for path in sources(&root().join("crates")).into_iter().chain(sources(&root().join("src"))) {
        let text = std::fs::read_to_string(&path).unwrap();
        for name in declared.captures_iter(&text) {
            found.push(format!("{}: {}", path.strip_prefix(root()).unwrap().display(), &name[1]));
        }
    }
    assert!(found.is_empty(), "rename to what it does: {found:#?}");
}
