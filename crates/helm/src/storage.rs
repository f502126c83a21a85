//! What helm recorded in a cluster: its release Secrets, read and judged.
//!
//! Everything here is pure; whoever has a client lists the Secrets (type [`SECRET_TYPE`], labels `owner=helm` and
//! `name=RELEASE`) and carries out what is decided.

use std::fmt;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::Value;

/// The type of the Secrets that helm keeps releases in (helm `pkg/storage/driver/secrets.go`).
pub const SECRET_TYPE: &str = "helm.sh/release.v1";

/// A Secret holds 1 MiB; a release that unpacks to more than this was not made by helm.
const MAX_RELEASE: u64 = 64 << 20;

/// The state that helm recorded for a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Deployed,
    Failed,
    PendingInstall,
    PendingUpgrade,
    PendingRollback,
    Superseded,
    Uninstalled,
    Uninstalling,
    #[serde(other)]
    Unknown,
}

impl Status {
    /// A writer was at work when this was recorded.
    pub fn is_pending(self) -> bool {
        matches!(self, Self::PendingInstall | Self::PendingUpgrade | Self::PendingRollback | Self::Uninstalling)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deployed => "deployed",
            Self::Failed => "failed",
            Self::PendingInstall => "pending-install",
            Self::PendingUpgrade => "pending-upgrade",
            Self::PendingRollback => "pending-rollback",
            Self::Superseded => "superseded",
            Self::Uninstalled => "uninstalled",
            Self::Uninstalling => "uninstalling",
            Self::Unknown => "unknown",
        })
    }
}

/// One revision of a release. Its manifest may hold secrets, so it is not shown by `Debug`.
#[derive(Clone, PartialEq)]
pub struct StoredRelease {
    pub namespace: String,
    pub name: String,
    pub revision: u32,
    pub status: Status,
    /// Helm's sentence about the last operation.
    pub description: String,
    pub chart_name: String,
    pub chart_version: String,
    /// The values that the release was given, without the chart's defaults; an object.
    pub config: Value,
    pub manifest: String,
    /// `csa` or `ssa`; absent in what Helm 3 wrote, which knows only the first.
    pub apply_method: Option<String>,
}

impl fmt::Debug for StoredRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredRelease")
            .field("release", &format_args!("{}/{}", self.namespace, self.name))
            .field("revision", &self.revision)
            .field("status", &self.status)
            .field("chart", &format_args!("{} {}", self.chart_name, self.chart_version))
            .finish_non_exhaustive()
    }
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("it is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("it cannot be unpacked: {0}")]
    Gzip(#[from] std::io::Error),
    #[error("it is no release of helm's: {0}")]
    Json(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Record {
    name: String,
    #[serde(default)]
    namespace: String,
    version: u32,
    info: Info,
    chart: ChartRecord,
    #[serde(default)]
    config: Option<Value>,
    #[serde(default)]
    manifest: String,
    #[serde(default)]
    apply_method: Option<String>,
}

#[derive(Deserialize)]
struct Info {
    status: Status,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct ChartRecord {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    version: String,
}

impl StoredRelease {
    /// Reads `data.release` of a release Secret: base64 of base64 of gzipped JSON as the API's JSON has it, or with
    /// the outer base64 already taken off, as typed clients do.
    ///
    /// # Errors
    ///
    /// Which of the layers is broken.
    pub fn decode(release: &[u8]) -> Result<Self, RecordError> {
        let mut bytes = STANDARD.decode(release.trim_ascii())?;
        if !is_gzip(&bytes)
            && let Ok(inner) = STANDARD.decode(&bytes)
        {
            bytes = inner;
        }
        let mut json = Vec::new();
        if is_gzip(&bytes) {
            GzDecoder::new(bytes.as_slice()).take(MAX_RELEASE).read_to_end(&mut json)?;
        } else {
            // Very old Helms did not pack.
            json = bytes;
        }
        let record: Record = serde_json::from_slice(&json)?;
        Ok(Self {
            namespace: record.namespace,
            name: record.name,
            revision: record.version,
            status: record.info.status,
            description: record.info.description,
            chart_name: record.chart.metadata.name,
            chart_version: record.chart.metadata.version,
            config: record.config.filter(Value::is_object).unwrap_or_else(|| Value::Object(serde_json::Map::default())),
            manifest: record.manifest,
            apply_method: record.apply_method.filter(|method| !method.is_empty()),
        })
    }

    /// The name of the Secret that holds this revision.
    pub fn secret_name(&self) -> String {
        format!("sh.helm.release.v1.{}.v{}", self.name, self.revision)
    }
}

fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// The revision that counts.
pub fn newest(releases: Vec<StoredRelease>) -> Option<StoredRelease> {
    releases.into_iter().max_by_key(|release| release.revision)
}

/// What a release is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DesiredRelease<'a> {
    pub chart_name: &'a str,
    pub chart_version: &'a str,
    pub values: &'a Value,
}

/// How a recorded release stands to what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseState {
    Absent,
    /// Deployed with this chart and these values.
    Deployed,
    /// Deployed, but otherwise; why.
    Outdated(String),
    /// A writer is at work, or was and died.
    Pending {
        revision: u32,
        status: Status,
    },
    /// The last operation failed; helm's reason.
    Failed(String),
}

/// Compares the newest revision with what is wanted.
pub fn release_state(newest: Option<&StoredRelease>, wanted: &DesiredRelease) -> ReleaseState {
    let Some(release) = newest else { return ReleaseState::Absent };
    match release.status {
        Status::Uninstalled => ReleaseState::Absent,
        status if status.is_pending() => ReleaseState::Pending { revision: release.revision, status },
        Status::Failed => ReleaseState::Failed(release.description.clone()),
        Status::Deployed => match difference(release, wanted) {
            None => ReleaseState::Deployed,
            Some(reason) => ReleaseState::Outdated(reason),
        },
        status => ReleaseState::Outdated(format!("its newest revision {} is {status}", release.revision)),
    }
}

fn difference(release: &StoredRelease, wanted: &DesiredRelease) -> Option<String> {
    let recorded = (release.chart_name.as_str(), version(&release.chart_version));
    if recorded != (wanted.chart_name, version(wanted.chart_version)) {
        return Some(format!(
            "chart {} {} is installed, {} {} is wanted",
            release.chart_name, release.chart_version, wanted.chart_name, wanted.chart_version
        ));
    }
    let path = first_difference(&release.config, wanted.values, &mut Vec::new())?;
    Some(if path.is_empty() { "its values differ".to_owned() } else { format!("its values differ, first at `{path}`") })
}

/// A chart version without build metadata: helm-controller adds the artifact's digest there.
fn version(version: &str) -> &str {
    version.split('+').next().unwrap_or(version).trim_start_matches('v')
}

/// The path of the first value that differs; never the value. Numbers are compared as numbers, since helm's JSON has
/// only one kind of them. A null is not a key that is absent: it takes a chart's default away, and helm records it.
fn first_difference(one: &Value, other: &Value, path: &mut Vec<String>) -> Option<String> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let keys = one.keys().chain(other.keys().filter(|key| !one.contains_key(*key)));
            for key in keys {
                path.push(key.clone());
                let found = match (one.get(key), other.get(key)) {
                    (Some(one), Some(other)) => first_difference(one, other, path),
                    _ => Some(path.join(".")),
                };
                if found.is_some() {
                    return found;
                }
                path.pop();
            }
            None
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, pair) in one.iter().zip(other).enumerate() {
                path.push(index.to_string());
                let found = first_difference(pair.0, pair.1, path);
                if found.is_some() {
                    return found;
                }
                path.pop();
            }
            None
        }
        (Value::Number(one), Value::Number(other)) if one == other || one.as_f64() == other.as_f64() => None,
        (one, other) if one == other => None,
        _ => Some(path.join(".")),
    }
}

/// What frees a release whose recorded writer is known to be dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// No writer is recorded; helm can go on.
    Nothing,
    /// Delete this Secret and nothing else: workloads stay, the revision before it is the newest again, and the next
    /// `upgrade --install` takes over what is there.
    DeleteRecord { namespace: String, secret: String, reason: String },
}

/// Decides how a release is freed (H01). The caller has proven that no writer lives.
pub fn recovery(newest: Option<&StoredRelease>) -> Recovery {
    match newest {
        Some(release) if release.status.is_pending() => Recovery::DeleteRecord {
            namespace: release.namespace.clone(),
            secret: release.secret_name(),
            reason: format!("revision {} was left {} by a writer that is gone", release.revision, release.status),
        },
        _ => Recovery::Nothing,
    }
}

#[cfg(test)]
mod tests;
