//! The program `helm`: rendering and installing, as helm-controller will find it.

use std::path::PathBuf;
use std::time::Duration;

use semver::Version;
use serde_json::Value;

use super::{HelmError, HelmErrorKind, PulledChart, manifest};
use helmfile::{InstallFlags, OnFailure, Release};
use process::{Command, Stream};

/// Rendering asks nobody; minutes mean that something is wrong.
const RENDER: Duration = Duration::from_mins(2);
/// Helm's `--timeout` holds for each hook; this much is left for everything around them.
const AROUND_HOOKS: Duration = Duration::from_mins(10);

/// A helm that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helm {
    pub program: PathBuf,
    pub version: Version,
}

/// How objects are written: the way of the Helm inside the Flux that adopts the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyMethod {
    /// Helm 3's three-way merge.
    ClientSide,
    /// Helm 4's server-side apply.
    ServerSide,
}

impl ApplyMethod {
    /// The method of a Flux distribution such as `2.7.5` or `2.8.x`: its helm-controller embeds Helm 3 up to 2.7 and
    /// Helm 4 from 2.8 on. An open range (`2.x`) means the newest.
    pub fn from_flux_version(version: &str) -> Self {
        let mut parts = version.trim_start_matches(['v', '=', '~', '^']).split('.').map(str::parse::<u64>);
        match (parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < (2, 8) => Self::ClientSide,
            _ => Self::ServerSide,
        }
    }
}

/// How a chart is rendered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TemplateOptions {
    /// Such as `v1.35.0`; helm's own default when absent.
    pub kube_version: Option<String>,
    pub include_crds: bool,
    /// Objects of hooks are rendered as well.
    pub hooks: bool,
    /// What `.Capabilities.APIVersions` holds besides the built-in ones.
    pub api_versions: Vec<String>,
}

/// What the operator should know of how a release's wishes are carried out.
pub fn notices(release: &Release) -> Vec<String> {
    let mut notices = Vec::new();
    if release.flags.on_failure == OnFailure::RollBack {
        notices.push(format!(
            "{}: `atomic` is not followed: a failed installation is left in place for the next attempt (H09)",
            release.id
        ));
    }
    for argument in sort_arguments(&release.flags.args).1 {
        notices.push(format!("{}: the argument {argument} is left out: the run decides where to", release.id));
    }
    notices
}

impl Helm {
    /// Helm without anything of the operator's that names a cluster.
    pub(super) fn command(&self) -> Command {
        // An empty kubeconfig, since without any helm falls back to ~/.kube/config.
        let command = Command::new(&self.program).env("KUBECONFIG", "/dev/null");
        [
            "HELM_DRIVER",
            "HELM_NAMESPACE",
            "HELM_KUBECONTEXT",
            "HELM_KUBETOKEN",
            "HELM_KUBEASUSER",
            "HELM_KUBEASGROUPS",
            "HELM_KUBEAPISERVER",
            "HELM_KUBECAFILE",
            "HELM_KUBETLS_SERVER_NAME",
            "HELM_KUBEINSECURE_SKIP_TLS_VERIFY",
            "HELM_DEBUG",
        ]
        .into_iter()
        .fold(command, Command::env_remove)
    }

    /// Renders a release without asking any cluster.
    ///
    /// # Errors
    ///
    /// [`HelmErrorKind::Chart`] with helm's words when the chart refuses the values.
    pub async fn template(
        &self,
        release: &Release,
        chart: &PulledChart,
        options: &TemplateOptions,
    ) -> Result<Vec<Value>, HelmError> {
        let subject = release.id.to_string();
        let output = self
            .command()
            .arg("template")
            .args(template_arguments(release, chart, options))
            .stdin(release.values.to_string().into())
            .deadline(RENDER)
            .run()
            .await
            .map_err(|error| HelmError::from_process(&subject, error))?;
        let text = String::from_utf8_lossy(&output.stdout);
        manifest::parse(&text).map_err(|reason| HelmError::new(HelmErrorKind::Chart, subject, reason))
    }

    /// Installs or upgrades a release in the cluster of the kubeconfig at `kubeconfig`. Hooks are waited for, by helm;
    /// workloads are not. A failure takes nothing back.
    ///
    /// # Errors
    ///
    /// Helm's, by kind; [`HelmErrorKind::TooOld`] when server-side apply is asked of Helm 3.
    pub async fn upgrade(
        &self,
        release: &Release,
        chart: &PulledChart,
        kubeconfig: &str,
        method: ApplyMethod,
        on_line: impl Fn(Stream, &str) + Send + Sync + 'static,
    ) -> Result<(), HelmError> {
        let subject = release.id.to_string();
        if method == ApplyMethod::ServerSide && self.version.major < 4 {
            let words = format!("server-side apply needs helm 4, this is {}", self.version);
            return Err(HelmError::new(HelmErrorKind::TooOld, subject, words));
        }
        self.command()
            .arg("upgrade")
            .args(upgrade_arguments(release, chart, method, self.version.major))
            .args(["--kubeconfig", kubeconfig])
            .stdin(release.values.to_string().into())
            .deadline(release.flags.timeout + AROUND_HOOKS)
            .on_line(on_line)
            .run()
            .await
            .map(drop)
            .map_err(|error| HelmError::from_process(&subject, error))
    }

    /// Removes a release and its record; one that is not there is no failure.
    ///
    /// # Errors
    ///
    /// Helm's, by kind.
    pub async fn uninstall(&self, release: &Release, kubeconfig: &str) -> Result<(), HelmError> {
        let subject = release.id.to_string();
        self.command()
            .args(["uninstall", &release.id.name, "--namespace", &release.id.namespace])
            .args(["--ignore-not-found", "--kubeconfig", kubeconfig])
            .args(["--timeout", &seconds(&release.flags)])
            .deadline(release.flags.timeout + AROUND_HOOKS)
            .run()
            .await
            .map(drop)
            .map_err(|error| HelmError::from_process(&subject, error))
    }
}

fn template_arguments(release: &Release, chart: &PulledChart, options: &TemplateOptions) -> Vec<String> {
    let mut arguments = common(release, chart);
    if let Some(version) = &options.kube_version {
        arguments.extend(["--kube-version".to_owned(), version.clone()]);
    }
    if options.include_crds {
        arguments.push("--include-crds".to_owned());
    }
    if !options.hooks {
        arguments.push("--no-hooks".to_owned());
    }
    for version in &options.api_versions {
        arguments.extend(["--api-versions".to_owned(), version.clone()]);
    }
    arguments
}

fn upgrade_arguments(release: &Release, chart: &PulledChart, method: ApplyMethod, helm: u64) -> Vec<String> {
    let flags = &release.flags;
    let mut arguments = vec!["--install".to_owned()];
    arguments.append(&mut common(release, chart));
    arguments.extend(["--timeout".to_owned(), seconds(flags)]);
    for (wanted, argument) in [
        (!flags.args.iter().any(|arg| arg == "--hide-notes"), "--hide-notes"),
        (flags.args.iter().any(|arg| arg == "--no-hooks"), "--no-hooks"),
    ] {
        if wanted {
            arguments.push(argument.to_owned());
        }
    }
    if flags.create_namespace {
        arguments.push("--create-namespace".to_owned());
    }
    match (method, helm) {
        (_, ..4) => {}
        (ApplyMethod::ClientSide, _) => arguments.push("--server-side=false".to_owned()),
        (ApplyMethod::ServerSide, _) => {
            arguments.push("--server-side=true".to_owned());
            if flags.force_conflicts {
                arguments.push("--force-conflicts".to_owned());
            }
        }
    }
    arguments
}

/// Name, chart, namespace, values and the operator's own arguments.
fn common(release: &Release, chart: &PulledChart) -> Vec<String> {
    let mut arguments = vec![
        release.id.name.clone(),
        chart.path.display().to_string(),
        "--namespace".to_owned(),
        release.id.namespace.clone(),
        "--values".to_owned(),
        "-".to_owned(),
    ];
    arguments.append(&mut sort_arguments(&release.flags.args).0);
    arguments
}

fn seconds(flags: &InstallFlags) -> String {
    format!("{}s", flags.timeout.as_secs())
}

/// The operator's arguments as far as helm is given them, and those that would choose another cluster.
fn sort_arguments(arguments: &[String]) -> (Vec<String>, Vec<&str>) {
    let (mut passed, mut foreign) = (Vec::new(), Vec::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let (name, has_value) = argument.split_once('=').map_or((argument.as_str(), false), |(name, _)| (name, true));
        if CLUSTER.contains(&name) {
            foreign.push(name);
        } else if !OURS.contains(&name) {
            passed.push(argument.clone());
            continue;
        }
        // Of these, the ones that take a value may have it as the next argument.
        if !has_value && (CLUSTER.contains(&name) || name == "--server-side") {
            arguments.next();
        }
    }
    (passed, foreign)
}

/// What is rendered, how long is waited and what a failure takes back is decided here.
const OURS: [&str; 8] = [
    "--include-crds",
    "--no-hooks",
    "--wait",
    "--wait-for-jobs",
    "--atomic",
    "--rollback-on-failure",
    "--cleanup-on-fail",
    "--server-side",
];

/// Which cluster is meant is decided by the run.
const CLUSTER: [&str; 5] = ["--kube-context", "--kubeconfig", "--kube-apiserver", "--kube-token", "--namespace"];
