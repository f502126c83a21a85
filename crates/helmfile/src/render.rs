//! Renders releases: selects them, resolves their charts, merges their values.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::fields::{ResolvedRelease, Scope};
use super::layers::Loaded;
use super::model::{InstallFlags, OnFailure, Release, ReleaseId, StateFile, Wait};
use super::selector::{Selector, any_matches};
use super::settings::Settings;
use super::state::Draft;
use super::values::Merging;
use super::{FileContext, Findings, HelmfileOptions, ReadDepth, chart, hooks, inherit, patches, sets};

/// Labels that Helm itself sets on a release's record.
const HELM_LABELS: [&str; 6] = ["createdAt", "modifiedAt", "name", "owner", "status", "version"];

/// Which releases of a state file are rendered.
pub(super) struct Request<'a> {
    pub(super) selectors: &'a [Selector],
    pub(super) options: &'a HelmfileOptions,
    /// Releases to install before those of this file.
    pub(super) after: &'a [ReleaseId],
}

/// The releases of a state file: the selected ones, and those of them that are installed.
pub(super) fn file(
    files: &FileContext<'_>,
    path: &Path,
    loaded: &Loaded,
    request: &Request<'_>,
    findings: &mut Findings,
) -> (StateFile, Vec<Release>) {
    let Loaded { state, environment, .. } = loaded;
    let values = environment.merged();
    let scope = Scope { files, state, environment, values: &values };
    report_contexts(&scope, path, findings);
    let drafts = inherit::resolve(state, findings);
    let all: Vec<ResolvedRelease> = drafts.iter().filter_map(|draft| scope.resolve(draft, findings)).collect();
    report_disabled_needs(&all, findings);
    let known = all.iter().map(|one| one.listed.id()).collect();
    let selected = selected(all, request);
    check_duplicates(&selected, findings);
    let mut file = StateFile {
        path: path.to_owned(),
        environment: environment.name.clone(),
        values: values.clone(),
        releases: selected.iter().map(|one| one.listed.clone()).collect(),
        known,
        hooks: vec![],
    };
    if request.options.depth == ReadDepth::Fields {
        return (file, vec![]);
    }
    file.hooks = hooks::of_file(&scope, findings);
    let wanted = selected.iter().filter(|one| one.listed.enabled && one.listed.installed);
    let releases = wanted.filter_map(|one| release(&scope, path, one, request.after, findings)).collect();
    (file, releases)
}

/// The releases that the selectors match and, if requested, what they need.
fn selected(all: Vec<ResolvedRelease>, request: &Request<'_>) -> Vec<ResolvedRelease> {
    let taken = all.iter().filter(|one| any_matches(request.selectors, &one.listed.labels));
    let mut wanted: BTreeSet<ReleaseId> = taken.map(|one| one.listed.id()).collect();
    let mut open: Vec<ReleaseId> =
        if request.options.include_needs { wanted.iter().cloned().collect() } else { vec![] };
    while let Some(id) = open.pop() {
        for need in all.iter().filter(|one| one.listed.id() == id).flat_map(|one| &one.listed.needs) {
            if wanted.insert(need.clone()) {
                open.push(need.clone());
            }
        }
    }
    let is_wanted =
        |one: &ResolvedRelease| any_matches(request.selectors, &one.listed.labels) || wanted.contains(&one.listed.id());
    if request.options.include_needs {
        return all.into_iter().filter(is_wanted).collect();
    }
    all.into_iter().filter(|one| any_matches(request.selectors, &one.listed.labels)).collect()
}

/// Reports `kubeContext`, which is ignored.
fn report_contexts(scope: &Scope<'_>, path: &Path, findings: &mut Findings) {
    let state = scope.state;
    let releases = state.releases.iter().map(|draft| &draft.settings.kube_context);
    let own = [&state.kube_context, &state.defaults.kube_context];
    let environment = Some(scope.environment.kube_context.clone()).filter(|context| !context.is_empty());
    let contexts: Vec<&String> = own.into_iter().chain(releases).chain([&environment]).flatten().collect();
    if let Some(context) = contexts.first() {
        let origin = scope.files.origin(path);
        findings
            .notices
            .push(format!("{origin}: `kubeContext` ({context}) is ignored: k8s-bootstrap selects the cluster"));
    }
}

/// Reports needs that are disabled.
fn report_disabled_needs(all: &[ResolvedRelease], findings: &mut Findings) {
    let off: BTreeMap<ReleaseId, &str> = all
        .iter()
        .filter_map(|one| match (one.listed.installed, one.listed.enabled) {
            (false, _) => Some((one.listed.id(), "`installed: false`")),
            (_, false) => Some((one.listed.id(), "its condition")),
            _ => None,
        })
        .collect();
    for one in all.iter().filter(|one| one.listed.installed && one.listed.enabled) {
        for need in &one.listed.needs {
            if let Some(why) = off.get(need) {
                let (at, id) = (&one.listed.at, one.listed.id());
                findings.notices.push(format!("{at}: {id} needs {need}, which is disabled by {why}"));
            }
        }
    }
}

fn check_duplicates(selected: &[ResolvedRelease], findings: &mut Findings) {
    let mut seen = BTreeMap::new();
    for one in selected {
        if let Some(first) = seen.insert(one.listed.id(), &one.listed.at) {
            let message = format!("duplicate release {}, first listed at {first}", one.listed.id());
            findings.error(&one.listed.at, message);
            seen.insert(one.listed.id(), first);
        }
    }
}

/// Renders one release; `None` after an error, which is in `findings`.
fn release(
    scope: &Scope<'_>,
    path: &Path,
    resolved: &ResolvedRelease,
    after: &[ReleaseId],
    findings: &mut Findings,
) -> Option<Release> {
    let ResolvedRelease { draft, listed, data, wait } = resolved;
    let (files, state, before) = (scope.files, scope.state, findings.found.len());
    let what = format!("release {:?}", listed.name);
    let mut settings = draft.settings.or_defaults(&state.defaults);
    if let Some(wait) = wait {
        settings.switches.insert("wait", *wait);
    }
    let flags = flags(draft, &settings, &listed.labels, &what, findings);
    let merging = Merging { files, what: what.clone(), data, missing: state.missing, findings };
    let written = merging.run(draft);
    let mut values = written.clone();
    sets::apply(scope, draft, data, &what, &mut values, findings);
    let patches = patches::read(scope, draft, data, &written, &what, findings);
    let written_values = Value::Object(written);
    let hooks = hooks::of_release(scope, resolved, &written_values, findings);
    let version = Some(listed.version.as_str()).filter(|version| !version.is_empty());
    let chart = chart::resolve(files, state, &settings, &listed.chart, version, draft.text("chart")?)
        .map_err(|diagnostic| findings.found.push(diagnostic))
        .ok();
    let (chart, fetch) = chart?;
    if fetch.skip_tls_verify {
        findings
            .notices
            .push(format!("{}: the chart of {what} is fetched without verifying the server's certificate", draft.at));
    }
    let release = Release {
        fetch,
        values: Value::Object(values),
        written_values,
        needs: listed.needs.clone(),
        after: after.to_vec(),
        hooks,
        flags,
        kube_version: listed.kube_version.clone(),
        api_versions: listed.api_versions.clone(),
        patches,
        file: path.to_owned(),
        ..Release::new(listed.id(), chart, draft.at.clone())
    };
    (findings.found.len() == before).then_some(release)
}

fn flags(
    draft: &Draft,
    settings: &Settings,
    labels: &BTreeMap<String, String>,
    what: &str,
    findings: &mut Findings,
) -> InstallFlags {
    if settings.is("force") && settings.is("forceConflicts") {
        findings
            .error(&draft.at, format!("{what} has both `force` and `forceConflicts`, directly or by `helmDefaults`"));
    }
    if settings.is("atomic") && settings.is("rollbackOnFailure") {
        findings.error(
            &draft.at,
            format!("{what} has both `atomic` and `rollbackOnFailure`, directly or by `helmDefaults`"),
        );
    }
    if settings.is("recreatePods") {
        findings.notices.push(format!("{}: `recreatePods` of {what} has no effect: Helm 4 removed it", draft.at));
    }
    let on_failure = if settings.is("atomic") || settings.is("rollbackOnFailure") {
        OnFailure::RollBack
    } else if settings.is("cleanupOnFail") {
        OnFailure::CleanUp
    } else {
        OnFailure::Keep
    };
    // Helm waits for jobs only if it waits at all, and always if it rolls back.
    let wait = match (settings.is("wait") || on_failure == OnFailure::RollBack, settings.is("waitForJobs")) {
        (true, true) => Wait::WorkloadsAndJobs,
        (true, false) => Wait::Workloads,
        (false, _) => Wait::Nothing,
    };
    InstallFlags {
        wait,
        timeout: settings.timeout.map_or(InstallFlags::TIMEOUT, Duration::from_secs),
        create_namespace: settings.switches.get("createNamespace").copied().unwrap_or(true),
        force_conflicts: settings.is("forceConflicts"),
        on_failure,
        args: arguments(settings, labels),
    }
}

/// Helm flags for settings that [`InstallFlags`] has no field for.
fn arguments(settings: &Settings, labels: &BTreeMap<String, String>) -> Vec<String> {
    const FLAGS: [(&str, &str); 6] = [
        ("disableOpenAPIValidation", "--disable-openapi-validation"),
        ("enableDNS", "--enable-dns"),
        ("force", "--force-replace"),
        ("skipCRDs", "--skip-crds"),
        ("skipSchemaValidation", "--skip-schema-validation"),
        ("takeOwnership", "--take-ownership"),
    ];
    let mut arguments = [settings.args.clone(), settings.sync_args.clone()].concat();
    arguments.extend(FLAGS.iter().filter(|(key, _)| settings.is(key)).map(|(_, flag)| (*flag).to_owned()));
    arguments.extend(settings.history_max.map(|max| format!("--history-max={max}")));
    arguments.extend(settings.server_side.as_ref().map(|side| format!("--server-side={side}")));
    arguments.extend(settings.description.as_ref().map(|text| format!("--description={text}")));
    let labels: Vec<String> = labels
        .iter()
        .filter(|(key, _)| settings.is("syncReleaseLabels") && !HELM_LABELS.contains(&key.as_str()))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    arguments.extend((!labels.is_empty()).then(|| format!("--labels={}", labels.join(","))));
    arguments
}
