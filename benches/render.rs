//! How fast a hundred machine configs are made: read, rendered, patched, validated, each field traced to its line.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Instant;

use talos_config::adapters;
use talos_config::adapters::{InputContext, InputSettings};
use talos_config::{FetchedInputs, SecretsBundle};

const NODES: usize = 100;
const MOST: f64 = 1.0;

fn main() -> ExitCode {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("talconfig.yaml"), talconfig()).unwrap();
    std::fs::write(folder.path().join("all.yaml"), PATCH).unwrap();
    let bundle = SecretsBundle::generate(jiff::Timestamp::now()).unwrap();
    let start = Instant::now();
    let place = InputContext {
        root: folder.path(),
        folder: folder.path(),
        environment: &BTreeMap::new(),
        sources: &FetchedInputs::default(),
        settings: &InputSettings::default(),
    };
    let inputs = adapters::read(&place).unwrap();
    let read = start.elapsed().as_secs_f64();
    let mut bytes = 0;
    for node in &inputs.inventory().nodes {
        bytes += inputs.config(&bundle, node).unwrap().documents.to_yaml().len();
    }
    let all = start.elapsed().as_secs_f64();
    let verdict = if all <= MOST { "ok" } else { "MISSED" };
    println!("{NODES} nodes read in {read:.2} s, {} KiB of configs", bytes / 1024);
    println!("{:<34} {all:>8.2} {:<4} (at most {MOST}) {verdict}", "configs of 100 nodes rendered", "s");
    if all <= MOST { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn talconfig() -> String {
    let mut text = String::from(
        "clusterName: large\ntalosVersion: v1.12.4\nkubernetesVersion: v1.35.0\nendpoint: https://10.1.0.1:6443\n\
         cniConfig: {name: none}\npatches: ['@all.yaml']\ncontrolPlane:\n  patches:\n  - |-\n    cluster:\n      proxy: {disabled: true}\n\
         worker:\n  schematic:\n    customization: {extraKernelArgs: [mitigations=off]}\nnodes:\n",
    );
    for index in 0..NODES {
        let (low, high) = (index % 200 + 10, index / 200);
        write!(
            text,
            "- hostname: node-{index}\n  ipAddress: 10.1.{high}.{low}\n  controlPlane: {}\n  installDisk: /dev/sda\n\
             \x20 nameservers: [10.1.0.2]\n  nodeLabels: {{rack: r{}}}\n  networkInterfaces:\n  - interface: bond0\n    mtu: 9000\n\
             \x20   addresses: [10.1.{high}.{low}/16]\n    routes: [{{network: 0.0.0.0/0, gateway: 10.1.0.2}}]\n\
             \x20   bond: {{mode: 802.3ad, interfaces: [eth0, eth1]}}\n    vlans: [{{vlanId: 40, dhcp: true}}]\n\
             \x20 patches:\n  - |-\n    machine:\n      env: {{NODE: '{{{{ .MachineConfig.MachineType }}}}-{index}'}}\n",
            index < 3,
            index % 8
        )
        .unwrap();
    }
    text
}

const PATCH: &str = "machine:
  kubelet: {extraConfig: {serializeImagePulls: false}, nodeIP: {validSubnets: [10.1.0.0/16]}}
  sysctls: {fs.inotify.max_user_watches: '1048576', net.core.rmem_max: '7500000'}
---
apiVersion: v1alpha1
kind: TimeSyncConfig
ntp: {servers: [10.1.0.2]}
";
