//! The program `helm`: renders and installs releases in a way that helm-controller adopts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use semver::Version;
use serde_json::Value;

use super::storage::StoredRelease;
use super::{HelmError, HelmErrorCause, HelmErrorKind, PulledChart, manifest};
use helmfile::{InstallFlags, OnFailure, Release};
use process::{Command, Stream};

/// Rendering needs no network; it takes seconds.
const RENDER: Duration = Duration::from_mins(2);
/// Helm's `--timeout` applies to each hook; its process may take this much longer for everything else.
const AROUND_HOOKS: Duration = Duration::from_mins(10);

/// An installed helm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helm {
    pub program: PathBuf,
    pub version: Version,
}

/// How objects are applied: as the Helm in the Flux version that adopts the release does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyMethod {
    /// Helm 3's three-way merge.
    ClientSide,
    /// Helm 4's server-side apply.
    ServerSide,
}

impl ApplyMethod {
    /// The method of a Flux version such as `2.7.5` or `2.8.x`: its helm-controller contains Helm 3 up to 2.7 and Helm 4
    /// from 2.8 on. An open range (`2.x`) means the newest version.
    pub fn from_flux_version(version: &str) -> Self {
        let mut parts = version.trim_start_matches(['v', '=', '~', '^']).split('.').map(str::parse::<u64>);
        match (parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < (2, 8) => Self::ClientSide,
            _ => Self::ServerSide,
        }
    }
}

/// Whether an upgrade takes over fields that another field manager owns; only server-side apply notices them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldConflicts {
    /// As the release declares with `forceConflicts`.
    #[default]
    AsDeclared,
    /// Take them over, to restore fields that were changed by hand.
    TakeOver,
}

/// How a release is installed or upgraded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeOptions {
    pub method: ApplyMethod,
    pub conflicts: FieldConflicts,
    /// Labels of the new record; those without a value are removed. A record inherits the labels of the one before it.
    pub labels: BTreeMap<String, Option<String>>,
    /// How many hooks Helm may wait for, one after the other.
    pub hooks: usize,
}

impl UpgradeOptions {
    pub fn new(method: ApplyMethod) -> Self {
        Self { method, conflicts: FieldConflicts::default(), labels: BTreeMap::new(), hooks: 1 }
    }
}

/// How a chart is rendered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TemplateOptions {
    /// Such as `v1.35.0`; helm's own default when absent.
    pub kube_version: Option<String>,
    pub include_crds: bool,
    /// Include the objects of hooks.
    pub hooks: bool,
    /// Additional `.Capabilities.APIVersions`.
    pub api_versions: Vec<String>,
}

/// Warnings about settings of a release that are ignored.
pub fn notices(release: &Release) -> Vec<String> {
    let mut notices = Vec::new();
    if release.flags.on_failure == OnFailure::RollBack {
        notices.push(format!("{}: `atomic` is ignored: a failed installation stays for the next attempt", release.id));
    }
    for argument in SortedArguments::new(&release.flags.args).ignored {
        notices.push(format!("{}: the argument {argument} is ignored: k8s-bootstrap selects the cluster", release.id));
    }
    notices
}

impl Helm {
    /// A helm command without environment variables that select a cluster.
    pub(super) fn command(&self) -> Command {
        // An empty kubeconfig, since helm falls back to ~/.kube/config.
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

    /// Renders a release without a cluster.
    ///
    /// # Errors
    ///
    /// [`HelmErrorKind::Chart`] with helm's output if the chart rejects the values.
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
        manifest::parse(&text)
            .map_err(|error| HelmError::new(HelmErrorKind::Chart, subject, HelmErrorCause::Manifest(error)))
    }

    /// The objects in a chart's `crds/` folder and in those of its dependencies, which `helm install` creates before it
    /// renders the templates.
    ///
    /// # Errors
    ///
    /// [`HelmErrorKind::Chart`] if they cannot be read.
    pub async fn chart_crds(&self, release: &Release, chart: &PulledChart) -> Result<Vec<Value>, HelmError> {
        let subject = release.id.to_string();
        let command = self.command().args(["show", "crds", &chart.path.display().to_string()]);
        let output = command.deadline(RENDER).run().await;
        let output = output.map_err(|error| HelmError::from_process(&subject, error))?;
        manifest::parse(&String::from_utf8_lossy(&output.stdout))
            .map_err(|error| HelmError::new(HelmErrorKind::Chart, subject, HelmErrorCause::Manifest(error)))
    }

    /// Installs or upgrades a release in the cluster of the kubeconfig at `kubeconfig`. Helm waits for hooks, but not for
    /// workloads, and does not roll back after a failure.
    ///
    /// # Errors
    ///
    /// Helm's, by kind; [`HelmErrorKind::TooOld`] for server-side apply with Helm 3.
    pub async fn upgrade(
        &self,
        release: &Release,
        chart: &PulledChart,
        kubeconfig: &str,
        options: &UpgradeOptions,
        on_line: impl Fn(Stream, &str) + Send + Sync + 'static,
    ) -> Result<(), HelmError> {
        let arguments = self.upgrade_arguments(release, chart, options)?;
        let upgrade = self
            .command()
            .arg("upgrade")
            .args(arguments)
            .args(["--kubeconfig", kubeconfig])
            .stdin(release.values.to_string().into())
            .deadline(upgrade_limit(&release.flags, options.hooks))
            .on_line(on_line)
            .run();
        let upgraded = kill_points::around("helm upgrade", upgrade).await;
        upgraded.map(drop).map_err(|error| HelmError::from_cluster_process(&release.id.to_string(), error))
    }

    /// Renders a release as an upgrade in the cluster of the kubeconfig at `kubeconfig` would store it: with the API
    /// versions that the cluster serves, with `lookup`, and as the next revision. Nothing is changed.
    ///
    /// # Errors
    ///
    /// As [`upgrade`](Self::upgrade).
    pub async fn dry_run_upgrade(
        &self,
        release: &Release,
        chart: &PulledChart,
        kubeconfig: &str,
        method: ApplyMethod,
    ) -> Result<StoredRelease, HelmError> {
        let subject = release.id.to_string();
        let arguments = self.upgrade_arguments(release, chart, &UpgradeOptions::new(method))?;
        let output = self
            .command()
            .arg("upgrade")
            .args(arguments)
            // Helm 3.13 and newer.
            .args(["--dry-run=server", "--output", "json", "--kubeconfig", kubeconfig])
            .stdin(release.values.to_string().into())
            .deadline(RENDER)
            .run()
            .await
            .map_err(|error| HelmError::from_cluster_process(&subject, error))?;
        StoredRelease::from_json(&output.stdout)
            .map_err(|error| HelmError::new(HelmErrorKind::Other, subject, HelmErrorCause::DryRun(error)))
    }

    /// # Errors
    ///
    /// [`HelmErrorKind::TooOld`] for server-side apply with Helm 3.
    fn upgrade_arguments(
        &self,
        release: &Release,
        chart: &PulledChart,
        options: &UpgradeOptions,
    ) -> Result<Vec<String>, HelmError> {
        if options.method == ApplyMethod::ServerSide && self.version.major < 4 {
            let cause = HelmErrorCause::NoServerSideApply { found: self.version.clone() };
            return Err(HelmError::new(HelmErrorKind::TooOld, release.id.to_string(), cause));
        }
        Ok(upgrade_arguments(release, chart, options, self.version.major))
    }

    /// Uninstalls a release and deletes its record, if it exists.
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
            .map_err(|error| HelmError::from_cluster_process(&subject, error))
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

/// How long an upgrade may take: each hook may take the whole timeout of the release, one after the other.
pub fn upgrade_limit(flags: &InstallFlags, hooks: usize) -> Duration {
    let hooks = u32::try_from(hooks.max(1)).unwrap_or(u32::MAX);
    flags.timeout.saturating_mul(hooks).saturating_add(AROUND_HOOKS)
}

fn upgrade_arguments(release: &Release, chart: &PulledChart, options: &UpgradeOptions, helm: u64) -> Vec<String> {
    let flags = &release.flags;
    let mut arguments = vec!["--install".to_owned()];
    arguments.append(&mut common(release, chart));
    arguments.extend(["--timeout".to_owned(), seconds(flags)]);
    for (is_set, argument) in [
        (!flags.args.iter().any(|arg| arg == "--hide-notes"), "--hide-notes"),
        (flags.args.iter().any(|arg| arg == "--no-hooks"), "--no-hooks"),
    ] {
        if is_set {
            arguments.push(argument.to_owned());
        }
    }
    if flags.create_namespace {
        arguments.push("--create-namespace".to_owned());
    }
    for (label, value) in &options.labels {
        // Helm removes a label whose value is `null` (Helm 4.1 `mergeCustomLabels`).
        arguments.extend(["--labels".to_owned(), format!("{label}={}", value.as_deref().unwrap_or("null"))]);
    }
    match (options.method, helm) {
        (_, ..4) => {}
        (ApplyMethod::ClientSide, _) => arguments.push("--server-side=false".to_owned()),
        (ApplyMethod::ServerSide, _) => {
            arguments.push("--server-side=true".to_owned());
            if flags.force_conflicts || options.conflicts == FieldConflicts::TakeOver {
                arguments.push("--force-conflicts".to_owned());
            }
        }
    }
    arguments
}

/// Name, chart, namespace, values and the operator's arguments.
fn common(release: &Release, chart: &PulledChart) -> Vec<String> {
    let mut arguments = vec![
        release.id.name.clone(),
        chart.path.display().to_string(),
        "--namespace".to_owned(),
        release.id.namespace.clone(),
        "--values".to_owned(),
        "-".to_owned(),
    ];
    arguments.append(&mut SortedArguments::new(&release.flags.args).passed);
    arguments
}

fn seconds(flags: &InstallFlags) -> String {
    format!("{}s", flags.timeout.as_secs())
}

/// The operator's arguments.
struct SortedArguments<'a> {
    /// What helm gets.
    passed: Vec<String>,
    /// The names of those that select a cluster.
    ignored: Vec<&'a str>,
}

impl<'a> SortedArguments<'a> {
    fn new(arguments: &'a [String]) -> Self {
        let (mut passed, mut ignored) = (Vec::new(), Vec::new());
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let (name, has_value) =
                argument.split_once('=').map_or((argument.as_str(), false), |(name, _)| (name, true));
            if CLUSTER.contains(&name) {
                ignored.push(name);
            } else if !OURS.contains(&name) {
                passed.push(argument.clone());
                continue;
            }
            // The value of these may be the next argument.
            if !has_value && (CLUSTER.contains(&name) || name == "--server-side") {
                arguments.next();
            }
        }
        Self { passed, ignored }
    }
}

/// Arguments that are set here: what is rendered, how long helm waits, what it does after a failure.
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

/// Arguments that select a cluster or namespace, which k8s-bootstrap sets.
const CLUSTER: [&str; 5] = ["--kube-context", "--kubeconfig", "--kube-apiserver", "--kube-token", "--namespace"];

#[cfg(test)]
mod tests {
    use helmfile::{Chart, FetchOptions, ReleaseId, Wait};
    use yaml::{Origin, Position};

    use super::*;

    /// The removal of a network plugin that failed to become ready would take the cluster's network along (H09).
    #[test]
    fn a_failed_installation_is_neither_rolled_back_nor_removed() {
        for on_failure in [OnFailure::RollBack, OnFailure::CleanUp, OnFailure::Keep] {
            let release = Release {
                id: ReleaseId { namespace: "kube-system".into(), name: "cilium".into() },
                chart: Chart::Local("cilium".into()),
                fetch: FetchOptions::default(),
                values: Value::Null,
                written_values: Value::Null,
                needs: vec![],
                after: vec![],
                hooks: vec![],
                kube_version: None,
                api_versions: vec![],
                patches: vec![],
                file: PathBuf::new(),
                flags: InstallFlags {
                    wait: Wait::Workloads,
                    timeout: Duration::from_mins(5),
                    create_namespace: true,
                    force_conflicts: false,
                    on_failure,
                    args: ["--atomic", "--rollback-on-failure", "--cleanup-on-fail", "--wait"].map(Into::into).into(),
                },
                at: Origin::new("test").location(Position::default()),
            };
            let chart = PulledChart::absent("cilium", "1.18.5");
            let arguments = upgrade_arguments(&release, &chart, &UpgradeOptions::new(ApplyMethod::ServerSide), 4);
            let removes = ["--atomic", "--rollback-on-failure", "--cleanup-on-fail", "--wait"];
            assert!(!arguments.iter().any(|argument| removes.contains(&argument.as_str())), "{arguments:?}");
            let is_reported = notices(&release).iter().any(|notice| notice.contains("`atomic` is ignored"));
            assert_eq!(is_reported, on_failure == OnFailure::RollBack);
        }
    }
}
