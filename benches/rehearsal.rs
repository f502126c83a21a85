//! The numbers that a bootstrap is judged by, out of one run against the lab: ratios, not seconds.
//!
//! `cargo bench` builds the binary optimised and runs this; `just bench` is the same. A figure that misses its target
//! is marked, and the exit code is not 0.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

#[path = "../tests/common/program.rs"]
mod program;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

use serde_json::Value;

const CLUSTER: &str = "infra";

/// One figure with its target.
struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
    most: f64,
}

fn main() -> ExitCode {
    let state = tempfile::tempdir().unwrap();
    assert!(binary(state.path(), &["tools", "install"]).stdout(Stdio::null()).status().unwrap().success());
    let mut lab = lab(state.path());
    let first = run(state.path());
    let record = status(state.path());
    let critical = record["critical_path"]["seconds"].as_f64().unwrap();
    let waits = waits(&record["record"]);
    let again = run(state.path());
    lab.kill().unwrap();
    lab.wait().unwrap();
    let figures = [
        Figure { name: "R: wall time / critical path", value: first.seconds / critical, unit: "", most: 1.05 },
        Figure { name: "W: median over gates", value: quantile(&waits, 0.5), unit: "s", most: 0.1 },
        Figure { name: "W: 99th percentile", value: quantile(&waits, 0.99), unit: "s", most: 0.3 },
        Figure { name: "run again on a finished cluster", value: again.seconds, unit: "s", most: 2.0 },
        Figure { name: "steps applied by that", value: again.applied, unit: "", most: 0.0 },
        Figure { name: "peak resident memory", value: first.peak_mib, unit: "MiB", most: 80.0 },
        Figure {
            name: "size of the binary",
            value: size_mib(Path::new(program::program().get_program())),
            unit: "MiB",
            most: 25.0,
        },
        Figure { name: "--version, fastest of 10", value: version_ms(), unit: "ms", most: 20.0 },
    ];
    println!("{CLUSTER}: {:.1} s, critical path {critical:.1} s", first.seconds);
    let mut missed = false;
    for figure in figures {
        let met = figure.value <= figure.most;
        missed |= !met;
        let verdict = if met { "ok" } else { "MISSED" };
        println!("{:<34} {:>8.2} {:<4} (at most {}) {verdict}", figure.name, figure.value, figure.unit, figure.most);
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn binary(state: &Path, arguments: &[&str]) -> Command {
    let mut command = test_support::with_downloads(program::program());
    command.arg("-C").arg(env!("CARGO_MANIFEST_DIR")).arg("--state-dir").arg(state).args(arguments);
    command
}

fn lab(state: &Path) -> Child {
    let mut child = binary(state, &["lab", "up", CLUSTER]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("is up")), "the lab did not come up");
    // Later output must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

fn status(state: &Path) -> Value {
    let output = binary(state, &["-o", "json", "lab", "status", CLUSTER]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// For every condition that a gate waits for: from its being true in the lab to the next request to the same
/// place. Unrelated requests count too, so this is a lower bound of what a gate took.
fn waits(record: &Value) -> Vec<f64> {
    let requests = record["requests"].as_array().unwrap();
    let after = |to: &str, at: f64| {
        let theirs = requests.iter().filter(|request| request["to"] == to);
        let later = theirs.map(|request| request["at"].as_f64().unwrap() - at).filter(|wait| *wait >= 0.0);
        later.min_by(f64::total_cmp)
    };
    let wait = |fact: &Value| {
        let (name, at) = (fact["name"].as_str()?, fact["at"].as_f64()?);
        match name.split('/').collect::<Vec<_>>().as_slice() {
            ["node", node, "booted"] => after(node, at),
            ["api", "ready"]
            | ["release", _, _, "ready"]
            | ["flux", "instance-ready" | "repository-ready" | "kustomization-ready"] => after("kubernetes", at),
            _ => None,
        }
    };
    let mut waits: Vec<f64> = record["facts"].as_array().unwrap().iter().filter_map(wait).collect();
    waits.sort_by(f64::total_cmp);
    waits
}

/// Of sorted values.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
    let index = (share * (sorted.len() - 1) as f64).ceil() as usize;
    sorted[index]
}

struct Ran {
    seconds: f64,
    applied: f64,
    peak_mib: f64,
}

fn run(state: &Path) -> Ran {
    let began = Instant::now();
    let mut child = binary(state, &["-o", "json", CLUSTER, "--lab"]).stdout(Stdio::piped()).spawn().unwrap();
    let memory = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut ran = Ran { seconds: 0.0, applied: 0.0, peak_mib: 0.0 };
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if event["event"] == "step-done" && event["outcome"] == "applied" {
            ran.applied += 1.0;
        }
        ran.peak_mib = ran.peak_mib.max(peak_mib(&memory).unwrap_or(0.0));
    }
    assert!(child.wait().unwrap().success(), "the run failed");
    ran.seconds = began.elapsed().as_secs_f64();
    ran
}

/// The kernel's own high-water mark.
fn peak_mib(status: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

#[allow(clippy::cast_precision_loss, reason = "a file's size in MiB needs no more than 52 bits")]
fn size_mib(path: &Path) -> f64 {
    std::fs::metadata(path).unwrap().len() as f64 / f64::from(1 << 20)
}

fn version_ms() -> f64 {
    let once = || {
        let began = Instant::now();
        assert!(program::program().arg("--version").stdout(Stdio::null()).status().unwrap().success());
        began.elapsed().as_secs_f64() * 1000.0
    };
    (0..10).map(|_| once()).fold(f64::INFINITY, f64::min)
}
