//! What rendering many charts at once costs over helm alone in two lanes: 12 charts of different sizes on two cores.
//!
//! Both are measured in turn, so that whatever else the machine does touches both.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use futures::future::join_all;
use futures::stream::{self, TryStreamExt};
use helm::{ChartVersion, Charts, Helm, HelmError, Mirrors, TemplateOptions};
use helmfile::{Chart, Release, ReleaseId};
use tools::{Options, Tool, Toolbox};
use yaml::{Origin, Position};

const CHARTS: usize = 12;
const LANES: usize = 2;
/// As many as a run prepares at once.
const AT_ONCE: usize = 4;
const ROUNDS: usize = 7;
const MOST: f64 = 1.15;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let releases: Vec<Release> = (0..CHARTS).map(|number| release(folder.path(), number)).collect();
    let mut ratios: Vec<f64> = runtime.block_on(async {
        let charts = charts(folder.path()).await;
        let mut ratios = Vec::new();
        // The first round warms caches up.
        for round in 0..=ROUNDS {
            let lanes = lanes(&charts, &releases).await;
            let together = together(&charts, &releases).await;
            if round > 0 {
                ratios.push(together / lanes);
            }
        }
        ratios
    });
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ROUNDS / 2];
    let verdict = if median <= MOST { "ok" } else { "MISSED" };
    println!("{CHARTS} charts at once, over two lanes   {median:>6.2} x   (at most {MOST}) {verdict}");
    if median <= MOST { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn charts(folder: &Path) -> Charts {
    let toolbox = Toolbox::new(Options::from_environment(None));
    let helm = toolbox.provide(Tool::Helm, &|_| {}).await.unwrap();
    Charts {
        helm: Helm { program: helm.path, version: helm.version },
        cache: folder.join("cache"),
        mirrors: Mirrors::default(),
        bundle: None,
    }
}

/// Helm alone, in seconds: two lanes, each with every other chart, until the slower one is through.
async fn lanes(charts: &Charts, releases: &[Release]) -> f64 {
    let lane = |first: usize| async move {
        for release in releases.iter().skip(first).step_by(LANES) {
            let Chart::Local(folder) = &release.chart else { unreachable!("every chart here is a folder") };
            let mut helm = tokio::process::Command::new(&charts.helm.program);
            let output = helm.arg("template").arg(&release.id.name).arg(folder).output().await.unwrap();
            assert!(output.status.success());
        }
    };
    let began = Instant::now();
    join_all((0..LANES).map(lane)).await;
    began.elapsed().as_secs_f64()
}

async fn together(charts: &Charts, releases: &[Release]) -> f64 {
    let began = Instant::now();
    let all = stream::iter(releases.iter().map(Ok));
    all.try_for_each_concurrent(AT_ONCE, |release| render(charts, release)).await.unwrap();
    began.elapsed().as_secs_f64()
}

async fn render(charts: &Charts, release: &Release) -> Result<(), HelmError> {
    let options = TemplateOptions::default();
    let ready = charts.prepare(release, &ChartVersion::Packaged, &options).await?;
    charts.helm.template(release, &ready.chart, &options).await.map(drop)
}

/// A chart that makes more objects the higher its number.
fn release(folder: &Path, number: usize) -> Release {
    let name = format!("chart-{number}");
    let path: PathBuf = folder.join(&name);
    std::fs::create_dir_all(path.join("templates")).unwrap();
    std::fs::write(path.join("Chart.yaml"), format!("apiVersion: v2\nname: {name}\nversion: 1.0.0\n")).unwrap();
    std::fs::write(path.join("values.yaml"), format!("count: {}\n", 50 + 30 * number)).unwrap();
    let template = "{{- range until (int .Values.count) }}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: \
                    {{ $.Release.Name }}-{{ . }}\ndata:\n  text: {{ repeat 20 (sha256sum (toString .)) | quote }}\n{{- end }}\n";
    std::fs::write(path.join("templates/all.yaml"), template).unwrap();
    let id = ReleaseId { namespace: "bench".into(), name };
    Release::new(id, Chart::Local(path), Origin::new("bench").location(Position { line: 1, column: 1 }))
}
