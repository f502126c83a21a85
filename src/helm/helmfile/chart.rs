//! Where a chart comes from.

use super::Site;
use super::model::Chart;
use super::state::{Repository, Text};
use crate::yaml::{Diagnostic, near};

/// Resolves a chart as a release names it.
///
/// # Errors
///
/// A repository that is not declared, a folder that is not there, a version that OCI has not.
pub(super) fn resolve(
    site: &Site<'_>,
    repositories: &[Repository],
    chart: &str,
    version: Option<&str>,
    at: &Text,
) -> Result<Chart, Diagnostic> {
    let fail = |message: String| Err(Diagnostic::at(at.at.clone(), message));
    if let Some(reference) = chart.strip_prefix("oci://") {
        return oci(reference, version).or_else(fail);
    }
    if chart.contains("://") {
        return fail(format!(
            "the chart `{chart}` has a URL that is not supported; `oci://`, `repository/name` and paths are"
        ));
    }
    let path = site.path(chart);
    if chart.starts_with(['.', '/']) || path.exists() {
        if path.exists() {
            return Ok(Chart::Local(path));
        }
        return fail(format!("there is no chart at {}", site.origin(&path)));
    }
    let Some((repository, name)) = chart.split_once('/') else {
        return fail(format!("there is no chart `{chart}`: neither a folder nor `repository/name`"));
    };
    let Some(found) = repositories.iter().rev().find(|known| known.name == repository) else {
        let near = near(repository, repositories.iter().map(|known| known.name.as_str()));
        let message = format!("the chart `{chart}` names the repository `{repository}`, which `repositories` does not");
        return Err(Diagnostic::at(at.at.clone(), message).did_you_mean(near));
    };
    if found.oci {
        let url = found.url.trim_start_matches("oci://").trim_end_matches('/');
        return oci(&format!("{url}/{name}"), version).or_else(fail);
    }
    Ok(Chart::Repository { url: found.url.clone(), name: name.to_owned(), version: version.map(str::to_owned) })
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
