//! A real talosctl against machines of its own version.
//!
//! `K8S_BOOTSTRAP_TALOSCTL` names one or several (with colons between them); else the one on `PATH` is taken.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use regex::Regex;
use serde_json::json;
use test_support::{Condition, Deadline, child, wait_until};

use crate::test_lab::TestLab;

const TIMEOUT: Duration = Duration::from_secs(90);

/// A talosctl with its minor version.
#[derive(Debug, Clone)]
pub struct Tool {
    path: PathBuf,
    pub tag: String,
    pub minor: u32,
}

pub fn tools() -> Vec<Tool> {
    let named = std::env::var("K8S_BOOTSTRAP_TALOSCTL").unwrap_or_else(|_| "talosctl".to_owned());
    named.split(':').filter_map(|path| Tool::at(Path::new(path))).collect()
}

impl Tool {
    fn at(path: &Path) -> Option<Self> {
        let output = child(path).args(["version", "--client"]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let found = Regex::new(r"(v1\.(\d+)\.\S+)").unwrap().captures(&text)?;
        Some(Self { path: path.to_owned(), tag: found[1].to_owned(), minor: found[2].parse().unwrap() })
    }
}

/// An operator at a keyboard.
pub struct Operator {
    tool: Tool,
    folder: tempfile::TempDir,
}

pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Operator {
    pub fn new(tool: Tool, test_lab: &TestLab, first: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let talosconfig = test_lab.cluster.talosconfig(&test_lab.dialled(first), &[&test_lab.address(first)]);
        std::fs::write(folder.path().join("talosconfig"), talosconfig).unwrap();
        Self { tool, folder }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = child(&self.tool.path);
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("TALOSCONFIG", self.file("talosconfig")).env("HOME", self.folder.path()).env("NO_COLOR", "1");
        command.env("TALOS_HOME", self.folder.path());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    /// What it has written when it is stopped, once all of `patterns` are in it.
    pub fn watch(&self, arguments: &[&str], patterns: &[&str]) -> String {
        let path = self.file("watched");
        let file = || std::fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        let mut child = self.command(arguments).stdout(file()).stderr(file()).spawn().unwrap();
        let wanted: Vec<Regex> = patterns.iter().map(|pattern| pattern_of(pattern)).collect();
        let text = wait_until(Deadline::after(TIMEOUT), || {
            let text = std::fs::read_to_string(&path).unwrap();
            let is_ended = child.try_wait().unwrap().is_some();
            if is_ended || wanted.iter().all(|pattern| pattern.is_match(&text)) {
                return Condition::Met(text);
            }
            Condition::Unmet(format!("{arguments:?}: not all of {patterns:?} in\n{text}"))
        });
        let _ = child.kill();
        child.wait().unwrap();
        for pattern in &wanted {
            assert!(pattern.is_match(&text), "{arguments:?}: nothing like {pattern} in\n{text}");
        }
        text
    }

    /// Exits with this code and prints text that matches every pattern.
    pub fn expect(&self, arguments: &[&str], code: i32, patterns: &[&str]) -> Ran {
        let ran = self.run(arguments);
        let output = format!("{}{}", ran.out, ran.err);
        assert_eq!(ran.code, code, "{} {arguments:?}\n{output}", self.tool.tag);
        for pattern in patterns {
            assert!(
                pattern_of(pattern).is_match(&output),
                "{} {arguments:?}: nothing like {pattern} in\n{output}",
                self.tool.tag
            );
        }
        ran
    }

    /// Runs it until it ends well.
    pub fn until(&self, arguments: &[&str], patterns: &[&str]) -> Ran {
        wait_until(Deadline::after(TIMEOUT), || {
            let ran = self.run(arguments);
            let output = format!("{}{}", ran.out, ran.err);
            if ran.code == 0 && patterns.iter().all(|pattern| pattern_of(pattern).is_match(&output)) {
                return Condition::Met(ran);
            }
            Condition::Unmet(format!("{} {arguments:?}: {}\n{output}", self.tool.tag, ran.code))
        })
    }
}

fn pattern_of(pattern: &str) -> Regex {
    Regex::new(&format!("(?m){pattern}")).unwrap()
}

/// A DaemonSet that the lab treats as a CNI, so that nodes become Ready.
pub fn cni() -> String {
    let labels = json!({"k8s-app": "cilium"});
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "cilium", "namespace": "kube-system", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "hostNetwork": true, "tolerations": [{"operator": "Exists"}],
                    "containers": [{"name": "agent", "image": "quay.io/cilium/cilium:v1"}],
                },
            },
        },
    })
    .to_string()
}

pub fn kubectl(kubectl: &Path, kubeconfig: &Path, arguments: &[&str], input: &str) -> Ran {
    use std::io::Write;
    let mut kubectl = child(kubectl)
        .env("HOME", kubeconfig.parent().unwrap())
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    kubectl.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Ran::of(kubectl.wait_with_output().unwrap())
}
