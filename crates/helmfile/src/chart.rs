//! Where a chart comes from, and how it is fetched.

use super::FileContext;
use super::model::{Chart, Credentials, FetchOptions};
use super::settings::Settings;
use super::state::{Repository, State, Text};
use yaml::{Diagnostic, near};

/// Resolves a chart as a release names it.
///
/// # Errors
///
/// A repository that is not declared, a folder that is not there, a version that OCI has not.
pub(super) fn resolve(
    site: &FileContext<'_>,
    state: &State,
    settings: &Settings,
    chart: &str,
    version: Option<&str>,
    at: &Text,
) -> Result<(Chart, FetchOptions), Diagnostic> {
    let fail = |message: String| Err(Diagnostic::at(at.at.clone(), message));
    let mut fetch = FetchOptions {
        skip_tls_verify: settings.is("insecureSkipTLSVerify"),
        plain_http: settings.is("plainHttp"),
        devel: settings.is("devel"),
        ..FetchOptions::default()
    };
    if let Some(reference) = chart.strip_prefix("oci://") {
        return oci(reference, version).map(|chart| (chart, fetch)).or_else(fail);
    }
    if chart.contains("://") {
        return fail(format!(
            "the chart `{chart}` has a URL that is not supported; `oci://`, `repository/name` and paths are"
        ));
    }
    let path = site.path(chart);
    if chart.starts_with(['.', '/']) || path.exists() {
        if !path.exists() {
            return fail(format!("there is no chart at {}", site.origin(&path)));
        }
        if path.is_dir() && !path.join("Chart.yaml").exists() {
            let origin = site.origin(&path);
            return fail(format!(
                "{origin} is no chart: it has no Chart.yaml, and manifests or a kustomization in its place are not supported"
            ));
        }
        return Ok((Chart::Local(path), fetch));
    }
    let Some((repository, name)) = chart.split_once('/') else {
        return fail(format!("there is no chart `{chart}`: neither a folder nor `repository/name`"));
    };
    let Some(found) = state.repositories.iter().rev().find(|known| known.name == repository) else {
        let near = near(repository, state.repositories.iter().map(|known| known.name.as_str()));
        let message = format!("the chart `{chart}` names the repository `{repository}`, which `repositories` does not");
        return Err(Diagnostic::at(at.at.clone(), message).did_you_mean(near));
    };
    access(site, found, &mut fetch);
    if found.is("oci") {
        let url = found.url.trim_start_matches("oci://").trim_end_matches('/');
        return oci(&format!("{url}/{name}"), version).map(|chart| (chart, fetch)).or_else(fail);
    }
    let version = version.map(str::to_owned);
    Ok((Chart::Repository { url: found.url.clone(), name: name.to_owned(), version }, fetch))
}

/// What a repository says of itself; a login that it does not hold may be in the environment, as `NAME_USERNAME` and
/// `NAME_PASSWORD`.
fn access(site: &FileContext<'_>, repository: &Repository, fetch: &mut FetchOptions) {
    let prefix = repository.name.replace('-', "_").to_uppercase();
    let variable = |suffix: &str| site.variables.get(&format!("{prefix}_{suffix}")).filter(|value| !value.is_empty());
    let username = repository.username.clone().or_else(|| variable("USERNAME").cloned());
    let password = repository.password.clone().or_else(|| variable("PASSWORD").map(|value| value.as_str().into()));
    if let (Some(username), Some(password)) = (username, password) {
        fetch.credentials = Some(Credentials { username, password, pass_on: repository.is("passCredentials") });
    }
    let path = |key: &str| repository.files.get(key).map(|file| site.path(&file.raw));
    fetch.ca_file = path("caFile");
    fetch.cert_file = path("certFile");
    fetch.key_file = path("keyFile");
    fetch.skip_tls_verify |= repository.is("skipTLSVerify");
    fetch.plain_http |= repository.is("plainHttp");
}

/// A tag may stand in the reference, and a digest in the version.
fn oci(reference: &str, version: Option<&str>) -> Result<Chart, String> {
    let (tag, digest) = match version.map(|version| version.split_once('@').unwrap_or((version, ""))) {
        Some((tag, digest)) => {
            (Some(tag).filter(|tag| !tag.is_empty()), Some(digest).filter(|digest| !digest.is_empty()))
        }
        None => (None, None),
    };
    if tag == Some("latest") {
        return Err(format!("`latest` is no version of the OCI chart `{reference}`: Helm wants semantic versions"));
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
