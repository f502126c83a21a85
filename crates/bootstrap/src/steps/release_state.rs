//! Whether a deployed release is what its inputs give now: its stored manifest, and its objects in the cluster.
//!
//! Chart, version and values are compared before (`helm::storage`). Everything here is pure.

use std::collections::BTreeMap;

use engine::plan::Fingerprint;
use engine::{Code, Observation};
use helm::comparison::{ManifestChange, ManifestDifference};
use helmfile::Wait;
use kubernetes::{InstalledObject, InstalledState, ObjectRef};
use serde_json::Value;

/// The label of a release's record that names the inputs of the revision. It marks releases that k8s-bootstrap installed.
pub(super) const INPUTS_LABEL: &str = "k8s-bootstrap.io/inputs";
/// The label that names the changed fields which the revision was to restore.
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

    /// The labels of the revision after this one, which restores `changed`.
    pub(super) fn next(&self, inputs: &Fingerprint, changed: Option<&Fingerprint>) -> BTreeMap<String, Option<String>> {
        let revision = self.revision + 1;
        let mut labels = BTreeMap::from([(INPUTS_LABEL.to_owned(), Some(mark(inputs, revision)))]);
        if changed.is_some() || self.labels.contains_key(RESTORED_LABEL) {
            labels.insert(RESTORED_LABEL.to_owned(), changed.map(|changed| mark(changed, revision)));
        }
        labels
    }
}

/// A fingerprint and the revision that it belongs to, as the value of a label.
fn mark(fingerprint: &Fingerprint, revision: u32) -> String {
    format!("{}-{revision}", fingerprint.short())
}

/// How what drifted is repaired.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Repair {
    /// By an upgrade that takes no field from another manager; objects that are gone are created by it.
    #[default]
    Upgrade,
    /// By an upgrade that takes over the changed fields, which this identifies.
    TakeOver(Fingerprint),
    /// By creating these objects that are gone: an upgrade would write one that Flux keeps different, too.
    Create(Vec<ObjectRef>),
}

impl DeployedState {
    /// Objects that are gone or changed, and that Flux does not manage.
    fn drifted(&self) -> impl Iterator<Item = &InstalledObject> {
        self.objects.iter().filter(|object| object.flux_owner.is_none() && object.state.is_drift())
    }

    /// Those of them that are gone. They are created every time: only a field can have another writer.
    fn gone(&self) -> Vec<ObjectRef> {
        let gone = self.drifted().filter(|object| object.state == InstalledState::Absent);
        gone.map(|object| object.reference.clone()).collect()
    }

    /// Identifies the fields of ours that others have changed; nothing without one.
    fn changed(&self) -> Option<Fingerprint> {
        let changed = self.drifted().filter(|object| object.state != InstalledState::Absent);
        let lines: Vec<String> = changed.filter_map(drift_line).collect();
        (!lines.is_empty()).then(|| Fingerprint::builder().parts(lines).finish())
    }

    /// The object, and its owner, that Flux keeps different from the manifest, so that no upgrade may write it (F01).
    fn kept_by_flux(&self) -> Option<(&ObjectRef, &str)> {
        let differs =
            |state: &InstalledState| matches!(state, InstalledState::Changed(_) | InstalledState::Unverified { .. });
        let found = self.objects.iter().find(|object| object.flux_owner.is_some() && differs(&object.state));
        found.and_then(|object| Some((&object.reference, object.flux_owner.as_deref()?)))
    }

    /// Whether other inputs than those of the revision render another manifest.
    fn renders_other_inputs(&self) -> bool {
        !self.manifest.is_empty() && !self.record.has(INPUTS_LABEL, &self.inputs)
    }

    /// What repairs the drift.
    pub(super) fn repair(&self) -> Repair {
        match (self.kept_by_flux(), self.changed()) {
            (None, Some(changed)) => Repair::TakeOver(changed),
            (Some(_), _) if !self.renders_other_inputs() => Repair::Create(self.gone()),
            (None, None) | (Some(_), _) => Repair::Upgrade,
        }
    }

    /// How the release compares with its goal.
    pub(super) fn observation(&self, wait: Wait) -> Observation {
        let differences: Vec<String> = self.manifest.iter().map(ToString::to_string).collect();
        if let Some(changes) = first_of(&differences)
            && self.renders_other_inputs()
        {
            return Observation::Missing(format!("the chart renders another manifest: {changes}"));
        }
        let drifted: Vec<String> = self.drifted().filter_map(drift_line).collect();
        if let Some(drifts) = first_of(&drifted) {
            return self.drift_observation(wait, drifts);
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

    /// How a release with drift compares with its goal.
    fn drift_observation(&self, wait: Wait, drifts: String) -> Observation {
        let is_gone = !self.gone().is_empty();
        if let Some((object, owner)) = self.kept_by_flux() {
            let kept =
                format!("an upgrade would also overwrite {object}, which Flux's {owner} manages ({})", Code::F01);
            return if is_gone {
                Observation::Missing(format!("{drifts}; only what is absent is created: {kept}"))
            } else {
                self.degraded(wait, format!("{drifts}; left alone: {kept}"))
            };
        }
        let is_repeated = self.changed().is_some_and(|changed| self.record.has(RESTORED_LABEL, &changed));
        if is_gone || !is_repeated {
            return Observation::Missing(drifts);
        }
        let revision = self.record.revision;
        self.degraded(
            wait,
            format!(
                "{drifts} again after the upgrade to revision {revision}: another controller writes it, or Helm cannot \
                 restore it"
            ),
        )
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
    use kubernetes::{DriftKind, FieldDrift, Readiness};
    use proptest::prelude::*;
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
        for (label, value) in from.record.next(&from.inputs, from.changed().as_ref()) {
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
        assert_eq!((found.repair(), found.diff()), (Repair::Upgrade, String::new()));
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
    fn an_object_that_is_gone_is_created_every_time() {
        let mut found = state(vec![object(InstalledState::Absent)]);
        for _ in 0..3 {
            assert_eq!(found.observation(Wait::Workloads), Observation::Missing("ConfigMap lab/app is absent".into()));
            assert_eq!(found.repair(), Repair::Upgrade);
            found.record = upgraded(&found);
        }
        // Beside a field that another controller writes it is created too, and the field is left to the operator after that.
        found.objects.push(object(changed()));
        found.record = upgraded(&found);
        assert!(matches!(found.observation(Wait::Workloads), Observation::Missing(_)));
        found.objects.remove(0);
        assert!(matches!(found.observation(Wait::Workloads), Observation::Degraded(_)));
    }

    fn of_flux(name: &str, state: InstalledState) -> InstalledObject {
        let owner = Some("Kustomization flux-system/apps".to_owned());
        let reference = ObjectRef::new("v1", "ConfigMap", Some("lab"), name);
        InstalledObject { flux_owner: owner, reference, ..object(state) }
    }

    #[test]
    fn drift_beside_an_object_that_flux_keeps_different_is_repaired_without_an_upgrade() {
        let absent = object(InstalledState::Absent);
        let gone = state(vec![absent.clone(), object(changed()), of_flux("b", changed())]);
        let Observation::Missing(reason) = gone.observation(Wait::Workloads) else { panic!("{gone:?}") };
        assert!(reason.contains("overwrite ConfigMap lab/b, which Flux's Kustomization flux-system/apps"), "{reason}");
        assert_eq!(gone.repair(), Repair::Create(vec![absent.reference.clone()]));
        let differs = state(vec![object(changed()), of_flux("b", changed())]);
        let Observation::Degraded(reason) = differs.observation(Wait::Workloads) else { panic!("{differs:?}") };
        assert!(reason.contains("ConfigMap lab/app .data.color differs") && reason.contains("F01"), "{reason}");
        // An object that is as the manifest says is not changed by an upgrade.
        let equal = state(vec![object(changed()), of_flux("b", InstalledState::Intact)]);
        assert!(matches!(equal.repair(), Repair::TakeOver(_)));
        // Other inputs are installed, and take no field from Flux.
        let upgrade = DeployedState { manifest: vec![differing(".spec.replicas")], ..differs };
        assert_eq!(upgrade.repair(), Repair::Upgrade);
    }

    proptest! {
        /// Whatever the record says: what is gone is repaired, and no repair takes a field that Flux keeps different.
        #[test]
        fn what_is_gone_is_repaired_and_flux_is_overwritten_by_no_repair(
            kinds in proptest::collection::vec((0_u8..3, any::<bool>()), 0..5),
            is_marked in any::<bool>(),
        ) {
            let objects = kinds.iter().enumerate().map(|(index, (kind, is_of_flux))| {
                let name = format!("o{index}");
                match kind {
                    0 if !is_of_flux => InstalledObject {
                        reference: ObjectRef::new("v1", "ConfigMap", Some("lab"), &name), ..object(InstalledState::Absent)
                    },
                    1 if *is_of_flux => of_flux(&name, changed()),
                    1 => object(changed()),
                    _ if *is_of_flux => of_flux(&name, InstalledState::Intact),
                    _ => object(InstalledState::Intact),
                }
            });
            let mut found = state(objects.collect());
            if is_marked {
                found.record = upgraded(&found);
            }
            let gone = found.gone();
            let is_missing = matches!(found.observation(Wait::Workloads), Observation::Missing(_));
            prop_assert!(gone.is_empty() || is_missing);
            match found.repair() {
                Repair::TakeOver(_) => prop_assert_eq!(found.kept_by_flux(), None),
                Repair::Create(created) => prop_assert_eq!(created, gone),
                Repair::Upgrade => prop_assert!(!is_missing || found.kept_by_flux().is_none()),
            }
        }
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
