//! Secrets stay in memory: known values are searched for in everything that a run prints, writes or hands to a child.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{TestEnvironment, parent_of};
use serde_json::Value;

/// What the stand-in for `op` knows, and the token that lets it.
const FROM_OP: [&str; 6] = [
    "stand-in-connect-token",
    "stand-in-cloudflare-token",
    "stand-in-access-key",
    "stand-in-secret-key",
    "AGE-SECRET-KEY-1STANDIN",
    "stand-in-device",
];
const TOKEN: &str = "ops_canary_of_the_service_account";
/// What the stand-in for `bws` knows, and the token that lets it.
const FROM_BWS: &str = "stand-in-tunnel-secret";
const BWS_TOKEN: &str = "0.canary_of_the_access_token";
/// Files that the operator asks for, with secrets in them.
const ASKED_FOR: [&str; 2] = ["kubeconfig", "talosconfig"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// What a search looks for, by a name that may be printed.
struct Canaries(BTreeMap<String, String>);

impl Canaries {
    fn new(environment: &TestEnvironment) -> Self {
        let mut canaries: BTreeMap<String, String> =
            FROM_OP.iter().map(|value| ((*value).to_owned(), (*value).to_owned())).collect();
        canaries.insert("OP_SERVICE_ACCOUNT_TOKEN".to_owned(), TOKEN.to_owned());
        canaries.insert("BWS_ACCESS_TOKEN".to_owned(), BWS_TOKEN.to_owned());
        canaries.insert(FROM_BWS.to_owned(), FROM_BWS.to_owned());
        canaries.insert("SOPS_AGE_KEY".to_owned(), age_key());
        for file in ["talos/infra/talsecret.sops.yaml", "bootstrap/infra/github-deploy-key.sops.yaml"] {
            let output = test_support::child(common::tool("sops"))
                .args(["decrypt", "--output-type", "json"])
                .arg(environment.repository.join(file))
                .env("SOPS_AGE_KEY", age_key())
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            collect(file, &serde_json::from_slice(&output.stdout).unwrap(), &mut canaries);
        }
        assert!(canaries.len() >= 20, "{:?}", canaries.keys());
        Self(canaries)
    }

    /// The names of those that `bytes` hold.
    fn within(&self, bytes: &[u8]) -> Vec<&str> {
        let text = String::from_utf8_lossy(bytes);
        self.0.iter().filter(|(_, value)| text.contains(value.as_str())).map(|(name, _)| name.as_str()).collect()
    }
}

fn age_key() -> String {
    let text = std::fs::read_to_string(fixture("age.key")).unwrap();
    text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).unwrap().to_owned()
}

/// Every text that is long enough to be no word; of a longer one, a line from its middle.
fn collect(name: &str, value: &Value, canaries: &mut BTreeMap<String, String>) {
    match value {
        Value::String(text) => {
            let public = ["crt", "id", "clusterID", "known_hosts", "identity.pub", "name", "namespace", "kind", "type"];
            let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("-----")).collect();
            let line = lines.get(lines.len() / 2).copied().unwrap_or_default();
            if line.len() >= 16 && !public.iter().any(|key| name.ends_with(&format!(".{key}"))) {
                canaries.insert(name.to_owned(), line.to_owned());
            }
        }
        Value::Object(map) => map.iter().for_each(|(key, value)| collect(&format!("{name}.{key}"), value, canaries)),
        Value::Array(items) => items.iter().for_each(|item| collect(name, item, canaries)),
        _ => {}
    }
}

/// A run with the operator's own secrets, its temporary files in a folder of their own.
fn command(environment: &TestEnvironment, temporary: &Path, arguments: &[&str]) -> Command {
    let mut command = environment.command(arguments);
    let path = std::env::join_paths(
        std::iter::once(fixture("")).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    command.env("PATH", path.unwrap()).env("TMPDIR", temporary);
    command.env("BWS_ACCESS_TOKEN", BWS_TOKEN);
    command.env("OP_SERVICE_ACCOUNT_TOKEN", TOKEN).env("SOPS_AGE_KEY", age_key()).env_remove("SOPS_AGE_KEY_FILE");
    command
}

/// Searches the arguments and environment of every process below `parent` until it exits.
fn watch(parent: &mut Child, temporary: &Path, canaries: &Canaries) -> Vec<String> {
    let mut found = Vec::new();
    while parent.try_wait().unwrap().is_none() {
        let own = std::fs::read(format!("/proc/{}/cmdline", parent.id())).unwrap_or_default();
        for pid in below(parent.id()) {
            let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let line = read("cmdline");
            let environment = read("environ");
            // Amid exec the two may be of two programs, and the arguments are empty: the next iteration sees them.
            if line.is_empty() || line != read("cmdline") {
                continue;
            }
            // Between fork and exec a child is still ourselves; what the stand-in for `op` does within is its own.
            if line == own || ancestors(pid, parent.id()).iter().any(|line| is_op(line)) {
                continue;
            }
            let name = String::from_utf8_lossy(&line).replace('\0', " ");
            found.extend(canaries.within(&line).iter().map(|canary| format!("{canary} in the arguments of {name}")));
            // Each of the two has the credential that is its own.
            let holds = |canary: &str| match canary {
                // The command that the operator declared has all that is the operator's.
                "OP_SERVICE_ACCOUNT_TOKEN" | "SOPS_AGE_KEY" | "BWS_ACCESS_TOKEN" if name.contains("bws secret get") => {
                    true
                }
                "OP_SERVICE_ACCOUNT_TOKEN" => name.contains("/op "),
                "SOPS_AGE_KEY" => name.contains("/sops "),
                _ => false,
            };
            let foreign = canaries.within(&environment).into_iter().filter(|canary| !holds(canary));
            found.extend(foreign.map(|canary| format!("{canary} in the environment of {name}")));
        }
        found.extend(in_files(temporary, canaries));
    }
    found.sort();
    found.dedup();
    found
}

/// Whether this is the stand-in for `op` itself, not one of the two processes that lead to it.
fn is_op(line: &str) -> bool {
    line.contains("/fixtures/op inject") && !line.contains(" __")
}

/// Every process that descends from `parent`.
fn below(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    let descends = |pid: &u32| std::iter::successors(parent_of(*pid), |pid| parent_of(*pid)).any(|it| it == parent);
    pids.filter(descends).collect()
}

/// The command lines between `pid` and `parent`.
fn ancestors(pid: u32, parent: u32) -> Vec<String> {
    let up = std::iter::successors(parent_of(pid), |pid| parent_of(*pid)).take_while(|pid| *pid != parent);
    let line = |pid| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    up.map(|pid| String::from_utf8_lossy(&line(pid)).replace('\0', " ")).collect()
}

fn in_files(folder: &Path, canaries: &Canaries) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(in_files(&path, canaries));
        } else if !ASKED_FOR.iter().any(|name| path.ends_with(name)) {
            let bytes = std::fs::read(&path).unwrap_or_default();
            found.extend(canaries.within(&bytes).iter().map(|canary| format!("{canary} in {}", path.display())));
        }
    }
    found
}

/// Runs to the end under watch; the exit code and what was found outside of memory.
fn searched(
    environment: &TestEnvironment,
    canaries: &Canaries,
    mut command: Command,
    temporary: &Path,
) -> (i32, Vec<String>) {
    let log = |name: &str| std::fs::File::create(environment.state().with_file_name(name)).unwrap();
    let mut child = command.stdout(log("out")).stderr(log("err")).stdin(Stdio::null()).spawn().unwrap();
    let mut found = watch(&mut child, temporary, canaries);
    for name in ["out", "err"] {
        let text = std::fs::read(environment.state().with_file_name(name)).unwrap();
        found.extend(canaries.within(&text).iter().map(|canary| format!("{canary} in what was printed to {name}")));
    }
    found.extend(in_files(&environment.state().join("labs/infra/run"), canaries));
    (child.wait().unwrap().code().unwrap_or(-1), found)
}

#[test]
fn no_secret_leaves_memory_but_into_the_cluster_and_the_files_asked_for() {
    let environment = TestEnvironment::copy();
    let canaries = Canaries::new(&environment);
    let more = "apiVersion: v1\nkind: Secret\nmetadata: {name: tunnel, namespace: flux-system}\nstringData: {secret: 'bws://3f0b'}\n";
    std::fs::write(environment.repository.join("bootstrap/infra/more.yaml.tpl"), more).unwrap();
    let sources = "secrets: {sources: {bws: {command: [bws, secret, get, '{path}'], pointer: /value}}}\n";
    std::fs::write(environment.repository.join("k8s-bootstrap.yaml"), sources).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let _lab = environment.lab("infra");
    let run = |arguments: &[&str]| command(&environment, temporary.path(), arguments);
    let bootstrap = ["-o", "json", "infra", "--lab", "--secrets", "real"];

    let mut signed_out = run(&bootstrap);
    signed_out.env("OP_SERVICE_ACCOUNT_TOKEN", "expired");
    assert_eq!(searched(&environment, &canaries, signed_out, temporary.path()), (3, vec![]));
    let mut locked = run(&["render", "infra"]);
    locked.env("SOPS_AGE_KEY", "AGE-SECRET-KEY-1QQQ");
    assert_eq!(searched(&environment, &canaries, locked, temporary.path()), (3, vec![]));
    for (arguments, code) in [
        (&[&bootstrap[..], &["--resume"]].concat()[..], 0),
        (&["render", "infra"], 0),
        (&["plan", "infra"], 0),
        (&["status", "infra", "--lab"], 0),
    ] {
        let (ended, found) = searched(&environment, &canaries, run(arguments), temporary.path());
        let err = std::fs::read_to_string(environment.state().with_file_name("err")).unwrap();
        assert_eq!((ended, found), (code, vec![]), "{arguments:?}: {err}");
    }
    let secret = environment.kubectl("infra", &["get", "secret", "-n", "flux-system", "cluster-secrets", "-o", "json"]);
    assert!(secret["data"]["SECRET_CLOUDFLARE_TOKEN"].is_string(), "the secrets did not get where they belong");
    let secret = environment.kubectl("infra", &["get", "secret", "-n", "flux-system", "tunnel", "-o", "json"]);
    assert_eq!(secret["data"]["secret"], "c3RhbmQtaW4tdHVubmVsLXNlY3JldA==");
    assert_eq!(in_files(temporary.path(), &canaries), Vec::<String>::new());
}
