//! What became of hooks that run as processes: recorded in the journal and in the cluster, and found again by what a hook
//! is, not by its place in the files. This file decides and does no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use engine::journal::RecordedIntents;
use engine::plan::{Fingerprint, FingerprintKey};
use helmfile::{Helmfile, Hook, ReleaseId};
use repository::Cluster;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::steps::choices::HookAnswer;

/// What a hook belongs to. Which state file it is in does not matter, so a file may be renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::steps) enum HookOwner<'a> {
    Release(&'a ReleaseId),
    StateFile,
}

/// A hook among those of its owner; all state files are one owner.
#[derive(Debug, Clone, Copy)]
pub(in crate::steps) struct HookPlace<'a> {
    owner: HookOwner<'a>,
    pub(in crate::steps) hook: &'a Hook,
    /// How many equal hooks of the owner come before it.
    occurrence: usize,
}

impl<'a> HookPlace<'a> {
    /// A hook and those of its owner that come before it.
    pub(in crate::steps) fn new(
        owner: HookOwner<'a>,
        earlier: impl IntoIterator<Item = &'a Hook>,
        hook: &'a Hook,
    ) -> Self {
        let occurrence = earlier.into_iter().filter(|other| is_same_command(other, hook)).count();
        Self { owner, hook, occurrence }
    }

    /// The timeout of the hook's release.
    pub(super) fn timeout(&self, helmfile: &Helmfile) -> Option<Duration> {
        let HookOwner::Release(id) = self.owner else { return None };
        helmfile.releases.iter().find(|release| release.id == *id).map(|release| release.flags.timeout)
    }

    /// Such as `release rook/ceph, Postsync`.
    fn owner_and_events(&self) -> String {
        let events = self.hook.events.iter().map(|event| format!(", {event:?}"));
        format!("{}{}", self.owner, events.collect::<String>())
    }
}

impl fmt::Display for HookOwner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release(id) => write!(f, "release {id}"),
            Self::StateFile => f.write_str("state file"),
        }
    }
}

/// What a hook is known by: its key, and what of it an edited hook may still have in common with an earlier record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookIdentity {
    pub key: HookKey,
    /// The command without its arguments.
    pub command: String,
    pub owner_and_events: String,
}

impl HookIdentity {
    pub(super) fn new(place: &HookPlace<'_>, root: &Path, secret: &FingerprintKey) -> Self {
        let key = HookKey::new(place, root, secret);
        Self { key, command: place.hook.command.clone(), owner_and_events: place.owner_and_events() }
    }
}

/// Identifies a hook: its owner, events, folder, command and arguments, and which of several equal ones it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HookKey(String);

impl HookKey {
    /// The arguments may be secret, so they enter keyed by the cluster's bundle.
    pub(super) fn new(place: &HookPlace<'_>, root: &Path, secret: &FingerprintKey) -> Self {
        let hook = place.hook;
        let folder = hook.folder.strip_prefix(root).unwrap_or(&hook.folder).display().to_string();
        let events = hook.events.iter().map(|event| format!("{event:?}"));
        let fingerprint =
            Fingerprint::builder().part(place.owner.to_string()).part(folder).part(place.occurrence.to_string());
        let fingerprint = fingerprint.part(hook.events.len().to_string()).parts(events);
        let arguments = hook.args.iter().map(|argument| SecretString::from(argument.as_str()));
        let fingerprint = fingerprint.part(&hook.command);
        let fingerprint = arguments.fold(fingerprint, |all, argument| all.secret(secret, &argument));
        Self::from(&fingerprint.finish())
    }

    /// The keys of every hook of a cluster.
    pub(super) fn all(cluster: &Cluster, secret: &FingerprintKey) -> BTreeSet<Self> {
        let places = places(&cluster.bootstrap.releases);
        places.iter().map(|place| Self::new(place, &cluster.root, secret)).collect()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&Fingerprint> for HookKey {
    fn from(fingerprint: &Fingerprint) -> Self {
        Self(fingerprint.as_str().to_owned())
    }
}

fn is_same_command(one: &Hook, other: &Hook) -> bool {
    one.events == other.events && one.command == other.command && one.args == other.args && one.folder == other.folder
}

fn places(helmfile: &Helmfile) -> Vec<HookPlace<'_>> {
    let of_releases = helmfile.releases.iter().flat_map(|release| {
        let (owner, hooks) = (HookOwner::Release(&release.id), &release.hooks);
        hooks.iter().enumerate().map(move |(index, hook)| HookPlace::new(owner, &hooks[..index], hook))
    });
    let of_files: Vec<&Hook> = helmfile.files.iter().flat_map(|file| &file.hooks).collect();
    let files = (0..of_files.len())
        .map(|index| HookPlace::new(HookOwner::StateFile, of_files[..index].iter().copied(), of_files[index]));
    of_releases.chain(files).collect()
}

/// The key that marks the cluster's records as complete: they began with the cluster.
pub const COMPLETE: &str = "complete";

/// What became of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookState {
    /// It was started; the run ended before it did.
    Begun,
    Failed,
    Done,
}

/// A hook on record. The command's arguments are left out: they may be secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRecord {
    pub state: HookState,
    /// The command without its arguments.
    pub command: String,
    /// Whether the hook was not to run twice when it ran.
    pub once: bool,
    /// Absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_and_events: Option<String>,
}

impl HookRecord {
    /// Whether the record may be of this hook before it was edited. That `idempotent: false` was added since shows nothing.
    fn may_be(&self, hook: &HookIdentity) -> bool {
        let is_same_place = self.owner_and_events.as_ref().is_none_or(|place| *place == hook.owner_and_events);
        self.once || is_same_place || self.command == hook.command
    }
}

/// A hook that is about to be started, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookIntent {
    pub hook: HookKey,
    /// The command without its arguments.
    #[serde(default = "unknown_command")]
    pub command: String,
    /// Whether the hook must not run twice.
    #[serde(default = "yes")]
    pub once: bool,
    /// Absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_and_events: Option<String>,
}

fn unknown_command() -> String {
    "unknown".to_owned()
}

fn yes() -> bool {
    true
}

/// What is on record, by hook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookRecords(BTreeMap<HookKey, HookRecord>);

impl HookRecords {
    /// The records of the journal. What was written before hooks had keys is known as the record of a hook that is not
    /// in the plan.
    pub fn from_journal(intents: &RecordedIntents) -> Self {
        let all = intents.values().flatten().filter_map(|recorded| {
            let HookIntent { hook, command, once, owner_and_events } =
                serde_json::from_value(recorded.intent.clone()).ok()?;
            let state = match &recorded.outcome {
                None => HookState::Begun,
                Some(outcome) if *outcome == json!(HookState::Done) => HookState::Done,
                Some(_) => HookState::Failed,
            };
            Some((hook, HookRecord { state, command, once, owner_and_events }))
        });
        Self(all.collect())
    }

    /// The records in the data of the cluster's ConfigMap.
    ///
    /// # Errors
    ///
    /// A value that is not a record, by its key.
    pub fn from_cluster(data: &BTreeMap<String, String>) -> Result<Self, UnreadableRecord> {
        let one = |(key, text): (&String, &String)| {
            let record = serde_json::from_str(text).map_err(|source| UnreadableRecord { key: key.clone(), source })?;
            Ok((HookKey(key.clone()), record))
        };
        data.iter().filter(|(key, _)| *key != COMPLETE).map(one).collect::<Result<_, _>>().map(Self)
    }

    /// Both together. The cluster's record is written before and after the journal's own, except that what is done
    /// anywhere is done.
    #[must_use]
    pub fn merged(mut self, cluster: Self) -> Self {
        for (key, record) in cluster.0 {
            let is_done = self.0.get(&key).is_some_and(|own| own.state == HookState::Done);
            if !is_done {
                self.0.insert(key, record);
            }
        }
        self
    }

    pub(super) fn state(&self, key: &HookKey) -> Option<HookState> {
        self.0.get(key).map(|record| record.state)
    }

    /// The commands of hooks that have run, are not in the plan (any more, or under this key), and may have been `hook`.
    pub(super) fn unmatched(&self, plan: &BTreeSet<HookKey>, hook: &HookIdentity) -> Vec<String> {
        let unmatched = self.0.iter().filter(|(key, record)| !plan.contains(*key) && record.may_be(hook));
        unmatched.map(|(_, record)| record.command.clone()).collect()
    }
}

/// A value in the cluster that is not the record of a hook.
#[derive(Debug, thiserror::Error)]
#[error("the value of `{key}` is not a record")]
pub struct UnreadableRecord {
    key: String,
    source: serde_json::Error,
}

/// How often a hook may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repetition {
    Allowed,
    /// `idempotent: false`.
    Never,
}

/// Whether the records of a cluster's hooks are complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// This journal began with the cluster, or the cluster has records of its own.
    Complete,
    /// The cluster is older than the journal and has no records.
    Unknown,
}

/// What to do about a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookDecision {
    HasRun,
    Run,
    /// The operator says that it has run.
    Conclude,
    /// Only the operator can know.
    Ask(Doubt),
}

/// Why a hook that must not run twice is not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    Interrupted,
    Failed,
    /// These commands have run and match no hook of the plan: this one may be one of them, changed.
    Unmatched(Vec<String>),
    RecordLost,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => f.write_str("it was started, and the run ended before it did"),
            Self::Failed => f.write_str("it failed"),
            Self::Unmatched(commands) => write!(
                f,
                "a hook that is not in the files now has run (`{}`), and this may be the same one, changed",
                commands.join("`, `")
            ),
            Self::RecordLost => f.write_str("the cluster is older than this journal, and neither has a record of it"),
        }
    }
}

/// Decides about a hook.
pub fn decide(
    hook: &HookIdentity,
    records: &HookRecords,
    repetition: Repetition,
    answer: Option<HookAnswer>,
    plan: &BTreeSet<HookKey>,
    completeness: Completeness,
) -> HookDecision {
    let state = records.state(&hook.key);
    match (state, answer, repetition) {
        (Some(HookState::Done), _, _) => HookDecision::HasRun,
        (_, Some(HookAnswer::Done), _) => HookDecision::Conclude,
        (_, Some(HookAnswer::Again), _) | (_, None, Repetition::Allowed) => HookDecision::Run,
        (Some(HookState::Begun), None, Repetition::Never) => HookDecision::Ask(Doubt::Interrupted),
        (Some(HookState::Failed), None, Repetition::Never) => HookDecision::Ask(Doubt::Failed),
        (None, None, Repetition::Never) => {
            let unmatched = records.unmatched(plan, hook);
            match completeness {
                _ if !unmatched.is_empty() => HookDecision::Ask(Doubt::Unmatched(unmatched)),
                Completeness::Unknown => HookDecision::Ask(Doubt::RecordLost),
                Completeness::Complete => HookDecision::Run,
            }
        }
    }
}

/// Whether the operator's answer about a hook would decide something: it is asked about, or was left unfinished.
pub fn is_in_question(
    hook: &HookIdentity,
    records: &HookRecords,
    repetition: Repetition,
    plan: &BTreeSet<HookKey>,
    completeness: Completeness,
) -> bool {
    match decide(hook, records, repetition, None, plan, completeness) {
        HookDecision::Ask(_) => true,
        HookDecision::Run => records.state(&hook.key).is_some(),
        HookDecision::HasRun | HookDecision::Conclude => false,
    }
}

#[cfg(test)]
mod tests;
