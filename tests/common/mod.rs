//! What end-to-end tests share: a private state directory, the real binary, a lab that ends with the test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use test_support::{CommandOutput, Condition, Deadline, LoopbackNetwork, Redactions, wait_until};

mod one_release;
mod program;

pub(crate) use one_release::{NETWORK_PLUGIN, ONE_RELEASE_FILE};
pub(crate) use program::program;

/// A test environment: cleared variables, private home and state directory, a repository.
pub struct TestEnvironment {
    folder: tempfile::TempDir,
    pub repository: PathBuf,
    /// The network of a copy's nodes.
    network: Option<LoopbackNetwork>,
}

impl TestEnvironment {
    /// The reference repository.
    pub fn reference() -> Self {
        Self::with(tempfile::tempdir().unwrap(), PathBuf::from(env!("CARGO_MANIFEST_DIR")))
    }

    /// A repository as an operator may have it, untouched: one of `tests/fixtures/repositories`.
    pub fn operator(name: &str) -> Self {
        Self::with(tempfile::tempdir().unwrap(), operator(name))
    }

    /// An empty repository, for commands that read the files they are given.
    pub fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = folder.path().join("repository");
        std::fs::create_dir(&repository).unwrap();
        Self::with(folder, repository)
    }

    /// A copy of such a repository, to be broken.
    pub fn operator_copy(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = folder.path().join("repository");
        let network = LoopbackNetwork::allocate();
        let moved =
            |text: String| lazy_regex::regex!(r"10\.67\.\d+\.").replace_all(&text, format!("{network}.")).into_owned();
        copy_tree(&operator(name), &repository, &moved);
        Self { folder, repository, network: Some(network) }
    }

    /// A copy of the reference inputs whose nodes have a network of their own, so that labs of several tests run side
    /// by side. The nodes of both clusters are in that network, so at most one of them has a lab.
    pub fn copy() -> Self {
        Self::copy_of(&["talos", "bootstrap", "infrastructure", "clusters"])
    }

    /// The same machines with nothing to install on them.
    pub fn machines() -> Self {
        let environment = Self::copy_of(&["talos"]);
        let folder = environment.repository.join("bootstrap/infra/helmfile.d");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("01-apps.yaml"), "releases: []\n").unwrap();
        environment
    }

    fn with(folder: tempfile::TempDir, repository: PathBuf) -> Self {
        Self { folder, repository, network: None }
    }

    fn copy_of(folders: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = folder.path().join("repository");
        let network = LoopbackNetwork::allocate();
        let nodes = format!("{network}.");
        let moved = |text: String| text.replace("10.25.11.", &nodes).replace("10.25.13.", &nodes);
        for folder in folders {
            copy_tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &repository.join(folder), &moved);
        }
        Self { folder, repository, network: Some(network) }
    }

    /// The network of a copy's nodes.
    pub fn network(&self) -> &LoopbackNetwork {
        self.network.as_ref().unwrap()
    }

    /// Bootstraps up to the wait for Ready nodes, and ends the run there.
    pub fn bootstrap_machines(&self, cluster: &str) {
        self.events_until(&[cluster, "--lab"], "handoff/nodes");
    }

    /// Resumes a run up to the same place.
    pub fn resume_machines(&self, cluster: &str) {
        self.events_until(&[cluster, "--lab", "--resume"], "handoff/nodes");
    }

    /// The events of a run until a step starts, where the run is killed.
    pub fn events_until(&self, arguments: &[&str], step: &str) -> Vec<serde_json::Value> {
        let mut child = self.command(&["-o", "json"]).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let text: Vec<String> = lines
            .map(Result::unwrap)
            .take_while(|line| !(line.contains("step-started") && line.contains(step)))
            .collect();
        // It is a failure of the run when it ends by itself.
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(ended, None, "{text:#?}");
        text.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Writes a file of the repository, below folders that may be new.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.repository.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Replaces a text that a file of the repository contains.
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.repository.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} does not contain {from}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn home(&self) -> PathBuf {
        let home = self.folder.path().join("home");
        std::fs::create_dir_all(&home).unwrap();
        home
    }

    /// A tool with the home of this environment.
    pub fn child(&self, tool_name: &str) -> Command {
        let mut command = test_support::child(tool(tool_name));
        command.env("HOME", self.home());
        command
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_with_state(&self.state(), arguments)
    }

    pub fn command_with_state(&self, state: &Path, arguments: &[&str]) -> Command {
        provision();
        let mut command = program();
        command.env("HOME", self.home());
        command.arg("-C").arg(&self.repository).arg("--state-dir").arg(state).args(arguments);
        command.env("XDG_CACHE_HOME", cache());
        command.env("SOPS_AGE_KEY_FILE", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/age.key"));
        command
    }

    /// Runs to the end.
    pub fn run(&self, arguments: &[&str]) -> CommandOutput {
        self.output(&mut self.command(arguments))
    }

    /// Runs a command to the end. Its transcript has none of this environment's paths and addresses.
    pub fn output(&self, command: &mut Command) -> CommandOutput {
        let redactions = Redactions::default().path(&self.repository, "REPOSITORY").path(&self.state(), "STATE");
        let redactions = redactions.path(self.folder.path(), "TEMP").path(&cache(), "CACHE");
        let redactions = match &self.network {
            Some(network) => redactions.network(network),
            None => redactions,
        };
        CommandOutput::new(command.output().unwrap(), redactions)
    }

    /// Starts a lab and waits until its machines are up.
    pub fn lab(&self, cluster: &str) -> LabProcess {
        self.lab_of(&[cluster, "--scenario", "fast"])
    }

    /// The same, with further arguments of `lab up`.
    pub fn lab_as(&self, cluster: &str, arguments: &[&str]) -> LabProcess {
        self.lab_of(&[&[cluster, "--scenario", "fast"], arguments].concat())
    }

    /// Starts a lab of a scenario of its own.
    pub fn lab_with(&self, cluster: &str, scenario: &str) -> LabProcess {
        let path = self.folder.path().join("scenario.yaml");
        std::fs::write(&path, scenario).unwrap();
        self.lab_of(&[cluster, "--scenario", path.to_str().unwrap()])
    }

    fn lab_of(&self, arguments: &[&str]) -> LabProcess {
        let arguments = [&["lab", "up"], arguments].concat();
        let mut child = self.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut lines = stderr.lines().map(Result::unwrap);
        let up = lines.by_ref().find(|line| line.contains("is up"));
        assert!(up.is_some(), "the lab did not come up");
        // Later output must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        LabProcess(child)
    }

    /// Runs to the end; exit code and the events of the run.
    pub fn events(&self, arguments: &[&str]) -> (i32, Vec<serde_json::Value>) {
        let CommandOutput { code, stdout, .. } = self.run(&[&["-o", "json"], arguments].concat());
        (code, stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// What kubectl prints as JSON, with the kubeconfig that the run wrote.
    pub fn kubectl(&self, cluster: &str, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_slice(&self.kubectl_output(cluster, arguments)).unwrap()
    }

    /// The run that holds the lease of the cluster.
    pub fn lease_holder(&self, cluster: &str) -> serde_json::Value {
        let name = format!("k8s-bootstrap-{cluster}");
        self.kubectl(cluster, &["-n", "kube-system", "get", "lease", &name, "-o", "json"])["spec"]["holderIdentity"]
            .clone()
    }

    /// Waits for objects as `kubectl wait` does.
    pub fn kubectl_wait(&self, cluster: &str, arguments: &[&str]) {
        self.kubectl_output(cluster, &[&["wait", "--timeout=120s"], arguments].concat());
    }

    /// Deletes objects.
    pub fn kubectl_delete(&self, cluster: &str, arguments: &[&str]) {
        self.kubectl_output(cluster, &[&["delete"], arguments].concat());
    }

    fn kubectl_output(&self, cluster: &str, arguments: &[&str]) -> Vec<u8> {
        let kubeconfig = self.state().join("labs").join(cluster).join("run/kubeconfig");
        let output = self.child("kubectl").arg("--kubeconfig").arg(kubeconfig).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Waits until no helm of a killed run is left; the kernel ends them with their parent.
    pub fn wait_for_no_helm(&self, cluster: &str) {
        let marker = self.state().join("labs").join(cluster).join("charts").display().to_string();
        let helm = || processes(&marker).into_iter().filter(|line| line.contains("helm ")).collect::<Vec<_>>();
        wait_until(Deadline::after(Duration::from_secs(30)), || match helm() {
            left if left.is_empty() => Condition::Met(()),
            left => Condition::Unmet(format!("{left:?}")),
        });
    }

    pub fn status(&self, cluster: &str) -> serde_json::Value {
        let output = self.run(&["-o", "json", "lab", "status", cluster]);
        assert_eq!(output.code, 0, "{output}");
        serde_json::from_str(&output.stdout).unwrap()
    }
}

/// The failed steps of a run with their causes, without those lines whose order differs from run to run.
pub fn failures(run: &CommandOutput) -> String {
    let stderr = run.redacted_stderr();
    let mut failures: Vec<Vec<&str>> = Vec::new();
    let mut is_failure = false;
    for line in stderr.lines() {
        let Some((_, line)) = line.split_once("[DURATION]] ") else { continue };
        let is_first = line.contains(": error: ") || line.contains(": error[");
        is_failure = is_first || (is_failure && line.starts_with("    "));
        if is_first {
            failures.push(vec![line]);
        } else if let (true, Some(failure)) = (is_failure, failures.last_mut()) {
            failure.push(line);
        }
    }
    failures.sort();
    format!("exit code: {}\n{}", run.code, failures.concat().join("\n"))
}

/// The file of the program under test.
pub fn program_path() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_k8s-bootstrap"))
}

/// The cache that every test shares, so that a tool is built once.
pub fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from)
}

/// Provides every tool that a lab needs; the first time on a machine this builds them, which takes minutes.
fn provision() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let mut install = test_support::with_downloads(program());
        let status = install.args(["tools", "install"]).stdout(Stdio::null()).status().unwrap();
        assert!(status.success(), "the tools of the lab could not be provided");
    });
}

/// Provides a tool that a lab does without; false, and a line that says so, when it cannot be built.
pub fn has_optional_tool(name: &str) -> bool {
    let output = test_support::with_downloads(program()).args(["tools", "install", name]).output().unwrap();
    if !output.status.success() {
        // Past the capture of the test's output, which is not shown when a test passes.
        let reason = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = format!("SKIPPED: {name} cannot be built: {reason}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    output.status.success()
}

/// The path of a tool, as the binary itself finds it.
pub fn tool(name: &str) -> PathBuf {
    static LIST: OnceLock<String> = OnceLock::new();
    let list = LIST.get_or_init(|| {
        provision();
        let output = test_support::with_downloads(program()).args(["tools", "list"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    });
    let line = list.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
    PathBuf::from(line.split_whitespace().last().unwrap())
}

/// Command lines of live processes that mention `marker`, the lab's own excepted.
pub fn processes(marker: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(marker) && !line.contains("lab up") {
            found.push(line);
        }
    }
    found
}

/// Command lines of live processes that mention `marker` and descend not from the process `root`, itself excepted.
pub fn processes_outside(root: u32, marker: &str) -> Vec<String> {
    let descends = |mut pid: u32| loop {
        match parent_of(pid) {
            _ if pid == root => break true,
            Some(parent) if parent > 1 => pid = parent,
            _ => break false,
        }
    };
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let outside = pids.filter(|&pid| !descends(pid));
    let line = |pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok();
    let lines = outside.filter_map(line).map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(marker)).collect()
}

/// The process that started `pid`, as long as it lives.
pub fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, the fourth the parent.
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

fn operator(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/repositories").join(name)
}

fn copy_tree(from: &Path, to: &Path, change: &dyn Fn(String) -> String) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(change(path.file_name().unwrap().to_string_lossy().into_owned()));
        if path.is_dir() {
            copy_tree(&path, &target, change);
        } else {
            std::fs::write(target, change(std::fs::read_to_string(&path).unwrap())).unwrap();
        }
    }
}

/// A lab that is killed with the test.
pub struct LabProcess(pub Child);

impl LabProcess {
    /// Kills the lab as a power cut would.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for LabProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
