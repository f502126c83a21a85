//! Helm's release Secrets: decoding, and comparison with the desired release.
//!
//! Everything here is pure; the caller lists the Secrets (type [`SECRET_TYPE`], labels `owner=helm` and `name=RELEASE`) and
//! deletes them if needed.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// The type of helm's release Secrets (helm `pkg/storage/driver/secrets.go`).
pub const SECRET_TYPE: &str = "helm.sh/release.v1";

/// Maximum bytes of an unpacked release; the Secret itself has at most 1 MiB.
const MAX_RELEASE: u64 = 64 << 20;

/// The status that helm recorded for a revision.
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
    /// Whether an operation was running when this was recorded.
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

/// One revision of a release. `Debug` does not show values and manifest, which may contain secrets.
#[derive(Clone, PartialEq)]
pub struct StoredRelease {
    pub namespace: String,
    pub name: String,
    pub revision: u32,
    pub status: Status,
    /// Helm's description of the last operation.
    pub description: String,
    pub chart_name: String,
    pub chart_version: String,
    /// The values of the release, without the chart's defaults; an object.
    pub config: Value,
    pub manifest: String,
    /// The manifest of each hook.
    pub hooks: Vec<String>,
    /// The labels of its Secret. A later revision inherits those that are not Helm's own.
    pub labels: BTreeMap<String, String>,
    /// `csa` or `ssa`; Helm 3 writes none and only supports the first.
    pub apply_method: Option<String>,
    /// When the operation of this revision began, by the clock of the machine that helm ran on.
    pub last_deployed: Option<Timestamp>,
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

/// Why a release Secret cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("invalid base64")]
    Base64(#[from] base64::DecodeError),
    #[error("cannot be unpacked")]
    Gzip(#[from] std::io::Error),
    #[error("not a helm release")]
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
    hooks: Option<Vec<HookRecord>>,
    #[serde(default)]
    apply_method: Option<String>,
}

#[derive(Deserialize)]
struct HookRecord {
    #[serde(default)]
    manifest: String,
}

#[derive(Deserialize)]
struct Info {
    status: Status,
    #[serde(default)]
    description: String,
    #[serde(default)]
    last_deployed: Option<String>,
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
    /// Decodes `data.release` of a release Secret: base64 of base64 of gzipped JSON as in the API's JSON, or without the
    /// outer base64, which typed clients decode.
    ///
    /// # Errors
    ///
    /// The layer that is invalid.
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
            // Very old versions of Helm did not compress.
            json = bytes;
        }
        Ok(Self::from_json(&json)?)
    }

    /// Reads a release as Helm prints it with `--output json`.
    pub(super) fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        let record: Record = serde_json::from_slice(json)?;
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
            hooks: record.hooks.into_iter().flatten().map(|hook| hook.manifest).collect(),
            labels: BTreeMap::new(),
            apply_method: record.apply_method.filter(|method| !method.is_empty()),
            last_deployed: record.info.last_deployed.and_then(|time| time.parse().ok()),
        })
    }

    /// Adds the labels of the Secret that holds it.
    #[must_use]
    pub fn with_labels(self, labels: BTreeMap<String, String>) -> Self {
        Self { labels, ..self }
    }

    /// The name of this revision's Secret.
    pub fn secret_name(&self) -> String {
        format!("sh.helm.release.v1.{}.v{}", self.name, self.revision)
    }
}

fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// The newest revision.
pub fn newest(releases: Vec<StoredRelease>) -> Option<StoredRelease> {
    releases.into_iter().max_by_key(|release| release.revision)
}

/// Chart and values that a release should have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DesiredRelease<'a> {
    pub chart_name: &'a str,
    pub chart_version: &'a str,
    pub values: &'a Value,
}

/// The state of a recorded release, compared with the desired one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseState {
    Absent,
    /// Deployed with this chart and these values.
    Deployed,
    /// Deployed with another chart or other values; the reason.
    Outdated(String),
    /// An operation is running, or was interrupted.
    Pending {
        revision: u32,
        status: Status,
    },
    /// The last operation failed; helm's description.
    Failed(String),
}

/// Compares the newest revision with the desired release.
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
        status => ReleaseState::Outdated(format!("the newest revision {} is {status}", release.revision)),
    }
}

fn difference(release: &StoredRelease, wanted: &DesiredRelease) -> Option<String> {
    let recorded = (release.chart_name.as_str(), version(&release.chart_version));
    if recorded != (wanted.chart_name, version(wanted.chart_version)) {
        return Some(format!(
            "chart {} {} is installed, expected {} {}",
            release.chart_name, release.chart_version, wanted.chart_name, wanted.chart_version
        ));
    }
    let path = first_difference(&release.config, wanted.values, &mut Vec::new())?;
    Some(if path.is_empty() { "values differ".to_owned() } else { format!("values differ, first at `{path}`") })
}

/// A chart version without build metadata: helm-controller adds the artifact's digest there.
fn version(version: &str) -> &str {
    version.split('+').next().unwrap_or(version).trim_start_matches('v')
}

/// The path of the first value that differs, never the value. Numbers are compared by value, since helm's JSON has only
/// one numeric type. A null differs from a missing key: it removes a chart's default, and helm records it.
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

/// How to recover a release whose recorded operation was interrupted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// No operation is recorded; helm can continue.
    Nothing,
    /// Delete only this Secret: workloads stay, the previous revision is the newest one again, and the next
    /// `upgrade --install` adopts existing objects.
    DeleteRecord { namespace: String, secret: String, reason: String },
}

/// How to recover a release (H01). The caller has verified that no operation is running.
pub fn recovery(newest: Option<&StoredRelease>) -> Recovery {
    match newest {
        Some(release) if release.status.is_pending() => Recovery::DeleteRecord {
            namespace: release.namespace.clone(),
            secret: release.secret_name(),
            reason: format!("revision {} was left {} by an interrupted operation", release.revision, release.status),
        },
        _ => Recovery::Nothing,
    }
}

#[cfg(test)]
mod tests;
