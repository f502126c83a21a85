//! Time and memory for reading and planning a large repository: 20 releases, 300 HelmReleases nearby.
//!
//! Warm, which is how an operator meets it the second time; the program is started anew for each measurement.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "../tests/common/program.rs"]
mod program;

use std::fmt::Write;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

const RELEASES: usize = 20;
const APPS: usize = 300;
const RUNS: usize = 15;
/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(2);
const MOST_MS: f64 = 300.0;
const MOST_MIB: f64 = 60.0;

fn main() -> ExitCode {
    let root = tempfile::tempdir().unwrap();
    write_repository(root.path());
    let mut runs: Vec<(f64, f64)> = (0..=RUNS).map(|_| plan(root.path())).skip(1).collect();
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (median, peak) = (runs[RUNS / 2].0, runs.iter().map(|run| run.1).fold(0.0, f64::max));
    let mut missed = false;
    for (name, value, unit, most) in [
        ("reading and planning, median", median, "ms", MOST_MS),
        ("peak resident memory of that", peak, "MiB", MOST_MIB),
    ] {
        missed |= value > most;
        let verdict = if value <= most { "ok" } else { "MISSED" };
        println!("{name:<34} {value:>8.2} {unit:<4} (at most {most}) {verdict}");
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Milliseconds and MiB of one plan.
fn plan(root: &Path) -> (f64, f64) {
    let start = Instant::now();
    let mut child = test_support::with_downloads(program::program())
        .arg("-C")
        .arg(root)
        .args(["plan", "large"])
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut peak = 0.0_f64;
    loop {
        peak = peak.max(resident_peak(child.id()).unwrap_or_default());
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "the plan of our own repository failed");
            return (start.elapsed().as_secs_f64() * 1000.0, peak);
        }
        // Looking all the time would take the time that is measured.
        std::thread::sleep(LOOK);
    }
}

/// The kernel's own record of the highest, in MiB.
fn resident_peak(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok().map(|kib| kib / 1024.0)
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn write_repository(root: &Path) {
    write(root, "talos/talconfig.yaml", &talconfig());
    let bundle = program::program().args(["secrets", "gen"]).output().unwrap();
    write(root, "talos/talsecret.yaml", &String::from_utf8(bundle.stdout).unwrap());
    let base = "helmDefaults:\n  wait: true\n  timeout: 600\ntemplates:\n  app:\n    chart: >-\n      {{ (fromYaml (tpl (readFile \
                \"templates/release.yaml.gotmpl\") .)).chart }}\n    version: 1.0.0\n    values: [templates/values.yaml.gotmpl]\n";
    write(root, "bootstrap/helmfile.d/templates/base.yaml", base);
    let chart = "chart: oci://registry.example.com/charts/{{ .Release.Name }}\n";
    write(root, "bootstrap/helmfile.d/templates/release.yaml.gotmpl", chart);
    let values = "{{ (fromYaml (readFile (printf \"../../../kubernetes/apps/%s/%s/app/helmrelease.yaml\" .Release.Namespace \
                  .Release.Name))).spec.values | toYaml }}\n";
    write(root, "bootstrap/helmfile.d/templates/values.yaml.gotmpl", values);
    let mut chain = String::from("bases: [templates/base.yaml]\n---\nreleases:\n");
    for index in 0..RELEASES {
        let needs = if index == 0 {
            String::new()
        } else {
            format!("\n    needs: [group-{}/app-{}]", (index - 1) % 8, index - 1)
        };
        writeln!(
            chain,
            "  - name: app-{index}\n    namespace: group-{}\n    inherit: [{{template: app}}]{needs}",
            index % 8
        )
        .unwrap();
    }
    write(root, "bootstrap/helmfile.d/01-apps.yaml", &chain);
    for index in 0..APPS {
        let folder = format!("kubernetes/apps/group-{}/app-{index}", index % 8);
        write(root, &format!("{folder}/app/helmrelease.yaml"), &helm_release(index));
        let kustomization = format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: app-{index}\n  namespace: flux-system\n\
             spec:\n  interval: 1h\n  path: ./{folder}/app\n  prune: true\n  sourceRef: {{kind: GitRepository, name: flux-system}}\n"
        );
        write(root, &format!("{folder}/ks.yaml"), &kustomization);
    }
}

fn helm_release(index: usize) -> String {
    let mut text = format!(
        "---\napiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata:\n  name: app-{index}\n  namespace: group-{}\nspec:\n  \
         interval: 1h\n  chartRef: {{kind: OCIRepository, name: app-{index}}}\n  values:\n    replicas: 2\n    controllers:\n",
        index % 8
    );
    for container in 0..8 {
        writeln!(
            text,
            "      c{container}:\n        image: {{repository: registry.example.com/app, tag: v{index}.{container}}}\n        env:\n          \
             TZ: Europe/Zurich\n          LEVEL: info\n        resources:\n          requests: {{cpu: 10m, memory: 64Mi}}\n          limits: \
             {{memory: 512Mi}}\n        probes: &probes{container}\n          liveness: {{enabled: true}}\n          readiness: {{enabled: true}}"
        )
        .unwrap();
    }
    writeln!(
        text,
        "---\napiVersion: source.toolkit.fluxcd.io/v1\nkind: OCIRepository\nmetadata:\n  name: app-{index}\n  namespace: group-{}\nspec:\n  \
         interval: 1h\n  url: oci://registry.example.com/charts/app-{index}\n  ref: {{tag: 1.0.0}}",
        index % 8
    )
    .unwrap();
    text
}

fn talconfig() -> String {
    let mut text = String::from(
        "clusterName: large\ntalosVersion: v1.12.4\nkubernetesVersion: v1.35.0\nendpoint: https://10.1.0.1:6443\ncniConfig: {name: none}\n\
         nodes:\n",
    );
    for index in 0..6 {
        writeln!(
            text,
            "- hostname: node-{index}\n  ipAddress: 10.1.0.{}\n  controlPlane: {}\n  installDisk: /dev/sda",
            index + 10,
            index < 3
        )
        .unwrap();
    }
    text
}
