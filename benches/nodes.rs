//! What simulated machines cost: a hundred of them, started at once in this process.
//!
//! `just bench` runs it. A figure that misses its target is marked, and the exit code is not 0.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use lab::{ApiServers, ChartsFrom, DiskSpec, FluxControllers, Lab, LabSpec, NodeSpec, Scenario};
use tools::{Options, Toolbox};

const MACHINES: u8 = 100;

fn spec(folder: &std::path::Path, name: &str, network: &str, machines: u8) -> LabSpec {
    let folder = folder.join(name);
    std::fs::create_dir(&folder).unwrap();
    let node = |index: u8| NodeSpec {
        name: format!("machine-{index}"),
        address: format!("{network}.{}", index + 1).parse().unwrap(),
        disk: DiskSpec::default(),
    };
    LabSpec {
        cluster: name.to_owned(),
        nodes: (0..machines).map(node).collect(),
        releases: vec![],
        crd_urls: vec![],
        vip: None,
        api_port: 6443,
        talos_version: "v1.12.4".to_owned(),
        folder,
        charts: ChartsFrom::StandIns,
        api_servers: ApiServers::One,
        flux: FluxControllers::Played,
    }
}

/// Starts a lab; how long that took.
async fn start(spec: LabSpec) -> (Lab, Duration) {
    let toolbox = Toolbox::new(Options::from_environment(None));
    let scenario = Scenario::load("fast").unwrap();
    let began = Instant::now();
    let lab = Lab::start(spec, scenario, &toolbox, &|_| {}).await.unwrap();
    (lab, began.elapsed())
}

/// Memory that is this process's alone and resident.
#[allow(clippy::cast_precision_loss, reason = "a number of KiB needs no more than 52 bits")]
fn resident_mib() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() as f64 / 1024.0
}

fn main() -> ExitCode {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        // One machine pays for what all share: tools that are looked for, a registry that is started.
        let (one, alone) = start(spec(folder.path(), "one", "10.66.1", 1)).await;
        let before = resident_mib();
        let (all, together) = start(spec(folder.path(), "all", "10.66.2", MACHINES)).await;
        let each = (resident_mib() - before) / f64::from(MACHINES);
        one.shut_down().await;
        all.shut_down().await;
        let seconds = together.as_secs_f64();
        let ratio = seconds / alone.as_secs_f64();
        println!("{MACHINES} machines took {ratio:.1} times as long as one ({:.2} s)", alone.as_secs_f64());
        let figures =
            [("start of 100 machines, with the lab", seconds, "s", 2.0), ("memory of a machine", each, "MiB", 3.0)];
        let mut missed = false;
        for (name, value, unit, most) in figures {
            missed |= value > most;
            let verdict = if value > most { "MISSED" } else { "ok" };
            println!("{name:<36} {value:>8.2} {unit:<4} (at most {most}) {verdict}");
        }
        if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    })
}
