//! Whether a deployed release is what its inputs give now: its stored manifest, and its objects in the cluster.
//!
//! Chart, version and values are compared before (`helm::storage`). Everything here is pure.

use std::collections::BTreeMap;

use engine::plan::Fingerprint;
use engine::{Code, Observation};
use helm::comparison::{ManifestChange, ManifestDifference};
use helmfile::Wait;
use kubernetes::{InstalledObject, InstalledState};
use serde_json::Value;

/// The label of a release's record that names the inputs of the revision. It marks releases that k8s-bootstrap installed.
pub(super) const INPUTS_LABEL: &str = "k8s-bootstrap.io/inputs";
/// The label that names the drift which the revision was to repair.
const RESTORED_LABEL: &str = "k8s-bootstrap.io/restored";
/// Values in a diff are cut after so many characters.
const LONGEST_VALUE: usize = 200;

/// A deployed release, compared with its inputs and with the cluster.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DeployedState {
    /// What an upgrade would change in the stored manifest.
    pub(super) manifest: Vec<ManifestDifference>,
    /// The objects of the stored manifest, as they are in the cluster.
    pub(super) objects: Vec<InstalledObject>,
    pub(super) record: RecordMarks,
    /// What the release would be made from now.
    pub(super) inputs: Fingerprint,
}

/// What the labels of a release's record say of its revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct RecordMarks {
    pub(super) revision: u32,
    pub(super) labels: BTreeMap<String, String>,
}

impl RecordMarks {
    /// Whether this very revision was written with the mark; a later one inherits the labels of the one before it.
    fn has(&self, label: &str, fingerprint: &Fingerprint) -> bool {
        self.labels.get(label) == Some(&mark(fingerprint, self.revision))
    }

    /// The labels of the revision after this one.
    pub(super) fn next(&self, inputs: &Fingerprint, drift: Option<&Fingerprint>) -> BTreeMap<String, Option<String>> {
        let revision = self.revision + 1;
        let mut labels = BTreeMap::from([(INPUTS_LABEL.to_owned(), Some(mark(inputs, revision)))]);
        if drift.is_some() || self.labels.contains_key(RESTORED_LABEL) {
            labels.insert(RESTORED_LABEL.to_owned(), drift.map(|drift| mark(drift, revision)));
        }
        labels
    }
}

/// A fingerprint and the revision that it belongs to, as the value of a label.
fn mark(fingerprint: &Fingerprint, revision: u32) -> String {
    format!("{}-{revision}", fingerprint.short())
}

impl DeployedState {
    /// Objects that are gone or changed, and that Flux does not manage.
    fn drifted(&self) -> impl Iterator<Item = &InstalledObject> {
        self.objects.iter().filter(|object| object.flux_owner.is_none() && object.state.is_drift())
    }

    /// Identifies the drift that an upgrade would repair; nothing without one.
    pub(super) fn drift(&self) -> Option<Fingerprint> {
        let lines: Vec<String> = self.drifted().filter_map(drift_line).collect();
        (!lines.is_empty()).then(|| Fingerprint::builder().parts(lines).finish())
    }

    /// How the release compares with its goal.
    pub(super) fn observation(&self, wait: Wait) -> Observation {
        let is_rendered_anew = self.record.has(INPUTS_LABEL, &self.inputs);
        let differences: Vec<String> = self.manifest.iter().map(ToString::to_string).collect();
        if let Some(changes) = first_of(&differences)
            && !is_rendered_anew
        {
            return Observation::Missing(format!("the chart renders another manifest: {changes}"));
        }
        let drifted: Vec<String> = self.drifted().filter_map(drift_line).collect();
        if let Some(drifts) = first_of(&drifted) {
            let is_repeated = self.drift().is_some_and(|drift| self.record.has(RESTORED_LABEL, &drift));
            return if is_repeated {
                let revision = self.record.revision;
                self.degraded(wait, format!(
                    "{drifts} again after the upgrade to revision {revision}: another controller writes it, or Helm cannot \
                     restore it"
                ))
            } else {
                Observation::Missing(drifts)
            };
        }
        if let Some(changes) = first_of(&differences) {
            return self.degraded(wait, format!("the chart renders another manifest from the same inputs: {changes}"));
        }
        let notes = self.notes();
        match self.unready(wait) {
            _ if wait == Wait::Nothing => Observation::UpToDate(format!("deployed{notes}")),
            Some(reason) => Observation::InProgress(reason),
            None => Observation::UpToDate(format!("deployed and ready{notes}")),
        }
    }

    /// What is not ready of what the release waits for.
    fn unready(&self, wait: Wait) -> Option<String> {
        if wait == Wait::Nothing {
            return None;
        }
        let found = self.objects.iter().find_map(|object| Some((object, object.readiness.unready()?)));
        found.map(|(object, reason)| format!("{}: {reason}", object.reference))
    }

    /// A difference that stays; only once the release is ready, because nothing is gated after that.
    fn degraded(&self, wait: Wait, reason: String) -> Observation {
        self.unready(wait).map_or(Observation::Degraded(reason), Observation::InProgress)
    }

    /// What of the release is left alone, and why.
    fn notes(&self) -> String {
        let notes = self.objects.iter().filter_map(|object| match (&object.flux_owner, &object.state) {
            (Some(owner), InstalledState::Changed(drift)) => {
                Some(format!("{} {drift}, and Flux's {owner} manages it", object.reference))
            }
            (None, InstalledState::Unverified { drift, why }) => {
                Some(format!("{} {drift} perhaps: its dry run is rejected: {why}", object.reference))
            }
            _ => None,
        });
        notes.map(|note| format!("; {note}")).collect()
    }

    /// Every change of an upgrade, a line each: of the stored manifest, then of the objects in the cluster.
    pub(super) fn diff(&self) -> String {
        let manifest = self.manifest.iter().map(diff_line);
        let objects = self.objects.iter().filter_map(drift_line).map(|line| format!("! {line}"));
        manifest.chain(objects).collect::<Vec<_>>().join("\n")
    }
}

/// Why a release of Flux is skipped, with what Flux has to repair.
pub(super) fn owned_by_flux(objects: &[InstalledObject]) -> String {
    let drifts: Vec<String> = objects.iter().filter_map(drift_line).collect();
    let drifts = first_of(&drifts).map(|drifts| format!("; {drifts}")).unwrap_or_default();
    format!("Flux owns it ({}){drifts}", Code::F01)
}

/// The drift of an object, such as `ConfigMap lab/app .data.color differs`.
fn drift_line(object: &InstalledObject) -> Option<String> {
    match &object.state {
        InstalledState::Absent => Some(format!("{} is absent", object.reference)),
        InstalledState::Changed(drift) => Some(format!("{} {drift}", object.reference)),
        InstalledState::Intact | InstalledState::Expired | InstalledState::Unverified { .. } => None,
    }
}

/// The first line, and how many more there are.
fn first_of(lines: &[String]) -> Option<String> {
    let (first, others) = lines.split_first()?;
    Some(if others.is_empty() { first.clone() } else { format!("{first}, and {} more", others.len()) })
}

/// A difference of the stored manifest as a line of a diff.
fn diff_line(difference: &ManifestDifference) -> String {
    let object = &difference.object;
    match &difference.change {
        ManifestChange::Added => format!("+ {object}"),
        ManifestChange::Removed => format!("- {object}"),
        ManifestChange::Field { path, stored, rendered } => {
            format!("~ {object} {path}: {} -> {}", value(stored.as_ref()), value(rendered.as_ref()))
        }
    }
}

fn value(value: Option<&Value>) -> String {
    let Some(value) = value else { return "(none)".to_owned() };
    let text = value.to_string();
    match text.char_indices().nth(LONGEST_VALUE) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use kubernetes::{DriftKind, FieldDrift, ObjectRef, Readiness};
    use serde_json::json;

    use super::*;

    fn object(state: InstalledState) -> InstalledObject {
        let reference = ObjectRef::new("v1", "ConfigMap", Some("lab"), "app");
        InstalledObject { reference, state, readiness: Readiness::Ready, flux_owner: None }
    }

    fn changed() -> InstalledState {
        InstalledState::Changed(FieldDrift { path: ".data.color".to_owned(), kind: DriftKind::Different })
    }

    fn inputs(text: &str) -> Fingerprint {
        Fingerprint::builder().part(text).finish()
    }

    fn state(objects: Vec<InstalledObject>) -> DeployedState {
        DeployedState { manifest: vec![], objects, record: RecordMarks::default(), inputs: inputs("now") }
    }

    fn differing(path: &str) -> ManifestDifference {
        let change = ManifestChange::Field { path: path.to_owned(), stored: Some(json!(1)), rendered: Some(json!(3)) };
        ManifestDifference { object: "Deployment lab/app".to_owned(), change }
    }

    /// The record of the revision that follows on an upgrade.
    fn upgraded(from: &DeployedState) -> RecordMarks {
        let mut labels = from.record.labels.clone();
        for (label, value) in from.record.next(&from.inputs, from.drift().as_ref()) {
            match value {
                Some(value) => drop(labels.insert(label, value)),
                None => drop(labels.remove(&label)),
            }
        }
        RecordMarks { revision: from.record.revision + 1, labels }
    }

    #[test]
    fn what_is_as_it_should_be_is_up_to_date() {
        let found = state(vec![object(InstalledState::Intact), object(InstalledState::Expired)]);
        assert_eq!(found.observation(Wait::Nothing), Observation::UpToDate("deployed".into()));
        assert_eq!(found.observation(Wait::Workloads), Observation::UpToDate("deployed and ready".into()));
        assert_eq!((found.drift(), found.diff()), (None, String::new()));
    }

    #[test]
    fn a_rendering_of_other_inputs_is_installed() {
        let found =
            DeployedState { manifest: vec![differing(".spec.replicas"), differing(".spec.x")], ..state(vec![]) };
        let expected = "the chart renders another manifest: Deployment lab/app .spec.replicas differs, and 1 more";
        assert_eq!(found.observation(Wait::Workloads), Observation::Missing(expected.into()));
        assert_eq!(found.diff(), "~ Deployment lab/app .spec.replicas: 1 -> 3\n~ Deployment lab/app .spec.x: 1 -> 3");
    }

    #[test]
    fn a_chart_that_never_renders_the_same_is_upgraded_once() {
        let found = DeployedState { manifest: vec![differing(".spec.replicas")], ..state(vec![]) };
        let again = DeployedState { record: upgraded(&found), ..found.clone() };
        assert!(matches!(again.observation(Wait::Workloads), Observation::Degraded(_)));
        let other = DeployedState { inputs: inputs("changed"), ..again.clone() };
        assert!(matches!(other.observation(Wait::Workloads), Observation::Missing(_)));
        // A revision that another tool wrote inherits the labels.
        let mut theirs = again;
        theirs.record.revision += 1;
        assert!(matches!(theirs.observation(Wait::Workloads), Observation::Missing(_)));
    }

    #[test]
    fn what_is_gone_or_changed_is_restored_with_and_without_a_wait() {
        for wait in [Wait::Nothing, Wait::Workloads] {
            let found = state(vec![object(InstalledState::Absent)]).observation(wait);
            assert_eq!(found, Observation::Missing("ConfigMap lab/app is absent".into()));
            let found = state(vec![object(changed()), object(InstalledState::Absent)]).observation(wait);
            assert_eq!(found, Observation::Missing("ConfigMap lab/app .data.color differs, and 1 more".into()));
        }
    }

    #[test]
    fn a_drift_that_comes_back_is_left_to_the_operator() {
        let found = state(vec![object(changed())]);
        let again = DeployedState { record: upgraded(&found), ..found.clone() };
        let expected = "ConfigMap lab/app .data.color differs again after the upgrade to revision 1: another \
                        controller writes it, or Helm cannot restore it";
        assert_eq!(again.observation(Wait::Workloads), Observation::Degraded(expected.into()));
        let other = DeployedState { objects: vec![object(InstalledState::Absent)], ..again.clone() };
        assert!(matches!(other.observation(Wait::Workloads), Observation::Missing(_)));
        // The mark goes with the next upgrade for another reason.
        let intact = DeployedState { objects: vec![], ..again };
        assert_eq!(intact.record.next(&intact.inputs, None).get(RESTORED_LABEL), Some(&None));
    }

    #[test]
    fn an_object_of_flux_is_reported_and_left_alone() {
        let owner = Some("Kustomization flux-system/apps".to_owned());
        let owned = InstalledObject { flux_owner: owner, ..object(changed()) };
        let expected = "deployed and ready; ConfigMap lab/app .data.color differs, and Flux's Kustomization \
                        flux-system/apps manages it";
        let found = state(vec![owned.clone()]);
        assert_eq!(found.observation(Wait::Workloads), Observation::UpToDate(expected.into()));
        assert_eq!(owned_by_flux(&[owned]), "Flux owns it (F01); ConfigMap lab/app .data.color differs");
        assert_eq!(owned_by_flux(&[object(InstalledState::Intact)]), "Flux owns it (F01)");
    }

    #[test]
    fn an_object_that_is_not_ready_is_waited_for_only_if_the_release_waits() {
        let starting =
            InstalledObject { readiness: Readiness::Progressing("0/1 ready".into()), ..object(InstalledState::Intact) };
        let found = state(vec![starting]);
        assert_eq!(found.observation(Wait::Workloads), Observation::InProgress("ConfigMap lab/app: 0/1 ready".into()));
        assert_eq!(found.observation(Wait::Nothing), Observation::UpToDate("deployed".into()));
    }

    #[test]
    fn a_long_value_is_cut() {
        let text = value(Some(&json!("ü".repeat(500))));
        assert!(text.len() < 500 && text.ends_with("..."), "{text}");
    }
}
