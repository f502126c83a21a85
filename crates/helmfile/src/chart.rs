//! Resolves the chart of a release, and how it is fetched.

use super::FileContext;
use super::model::{Chart, Credentials, FetchOptions};
use super::settings::Settings;
use super::state::{Repository, State, Text};
use yaml::{Diagnostic, near};

/// Resolves the chart that a release names.
///
/// # Errors
///
/// An undeclared repository, a missing folder, a version that OCI does not support.
pub(super) fn resolve(
    files: &FileContext<'_>,
    state: &State,
    settings: &Settings,
    chart: &str,
    version: Option<&str>,
    at: &Text,
) -> Result<(Chart, FetchOptions), Diagnostic> {
    let fail = |message: String| Err(Diagnostic::at_location(at.at.clone(), message));
    let mut fetch = FetchOptions {
        skip_tls_verify: settings.is("insecureSkipTLSVerify"),
        plain_http: settings.is("plainHttp"),
        devel: settings.is("devel"),
        ..FetchOptions::default()
    };
    if let Some(reference) = chart.strip_prefix("oci://") {
        return oci(reference, version, at).map(|chart| (chart, fetch));
    }
    if chart.contains("://") {
        return fail(format!("unsupported URL of chart `{chart}`: use `oci://`, `repository/name` or a path"));
    }
    let path = files.path(chart);
    if chart.starts_with(['.', '/']) || path.exists() {
        if !path.exists() {
            return fail(format!("chart not found: {}", files.origin(&path)));
        }
        if path.is_dir() && !path.join("Chart.yaml").exists() {
            let origin = files.origin(&path);
            return fail(format!(
                "{origin} has no Chart.yaml; folders of manifests and kustomizations are not supported as charts"
            ));
        }
        return Ok((Chart::Local(path), fetch));
    }
    let Some((repository, name)) = chart.split_once('/') else {
        return fail(format!("chart `{chart}` is neither a folder nor `repository/name`"));
    };
    let Some(found) = state.repositories.iter().rev().find(|known| known.name == repository) else {
        let near = near(repository, state.repositories.iter().map(|known| known.name.as_str()));
        let message = format!("chart `{chart}`: unknown repository `{repository}`");
        return Err(Diagnostic::at_location(at.at.clone(), message).did_you_mean(near));
    };
    apply_repository(files, found, &mut fetch);
    if found.is("oci") {
        let url = found.url.trim_start_matches("oci://").trim_end_matches('/');
        return oci(&format!("{url}/{name}"), version, at).map(|chart| (chart, fetch));
    }
    let version = version.map(str::to_owned);
    Ok((Chart::Repository { url: found.url.clone(), name: name.to_owned(), version }, fetch))
}

/// Applies a repository's options; its credentials may also be in the environment, as `NAME_USERNAME` and
/// `NAME_PASSWORD`.
fn apply_repository(files: &FileContext<'_>, repository: &Repository, fetch: &mut FetchOptions) {
    let prefix = repository.name.replace('-', "_").to_uppercase();
    let variable = |suffix: &str| files.variables.get(&format!("{prefix}_{suffix}")).filter(|value| !value.is_empty());
    let username = repository.username.clone().or_else(|| variable("USERNAME").cloned());
    let password = repository.password.clone().or_else(|| variable("PASSWORD").map(|value| value.as_str().into()));
    if let (Some(username), Some(password)) = (username, password) {
        fetch.credentials = Some(Credentials { username, password, pass_on: repository.is("passCredentials") });
    }
    let path = |key: &str| repository.files.get(key).map(|file| files.path(&file.raw));
    fetch.ca_file = path("caFile");
    fetch.cert_file = path("certFile");
    fetch.key_file = path("keyFile");
    fetch.skip_tls_verify |= repository.is("skipTLSVerify");
    fetch.plain_http |= repository.is("plainHttp");
}

/// The reference may contain a tag, and the version a digest.
fn oci(reference: &str, version: Option<&str>, at: &Text) -> Result<Chart, Diagnostic> {
    let (tag, digest) = match version.map(|version| version.split_once('@').unwrap_or((version, ""))) {
        Some((tag, digest)) => {
            (Some(tag).filter(|tag| !tag.is_empty()), Some(digest).filter(|digest| !digest.is_empty()))
        }
        None => (None, None),
    };
    if tag == Some("latest") {
        let message = format!("invalid version `latest` of OCI chart `{reference}`: Helm needs a semantic version");
        return Err(Diagnostic::at_location(at.at.clone(), message));
    }
    let (bare, own_digest) = reference.split_once('@').map_or((reference, None), |(bare, digest)| (bare, Some(digest)));
    let name = bare.rfind('/').map_or(0, |slash| slash + 1);
    let (bare, own_tag) = match bare[name..].split_once(':') {
        Some((short, tag)) => (&bare[..name + short.len()], Some(tag)),
        None => (bare, None),
    };
    let reference = match own_digest.or(digest) {
        Some(digest) => format!("{bare}@{digest}"),
        None => bare.to_owned(),
    };
    Ok(Chart::Oci { reference, version: tag.or(own_tag).map(str::to_owned) })
}
