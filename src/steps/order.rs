//! In which order releases go in: the helmfile's `needs:`, and the phases for releases that declare none.

use std::collections::{BTreeMap, BTreeSet};

use crate::helm::helmfile::{Release, ReleaseId};
use crate::plan::{PhaseName, Phases};

/// Everything that must be done before each release.
///
/// A release's own `needs:` decide. One that declares none comes after the releases of the phases that its phase
/// comes after, unless one of those needs it.
pub(super) fn order(releases: &[Release], phases: &Phases) -> BTreeMap<ReleaseId, BTreeSet<ReleaseId>> {
    let declared: BTreeMap<&ReleaseId, &[ReleaseId]> =
        releases.iter().map(|release| (&release.id, release.needs.as_slice())).collect();
    let known = |need: &&ReleaseId| declared.contains_key(*need);
    releases
        .iter()
        .map(|release| {
            let needs = if release.needs.is_empty() {
                let before = before(&phases.of_release(&release.id.name), releases, phases);
                before.into_iter().filter(|other| !reaches(&declared, other, &release.id)).collect()
            } else {
                release.needs.iter().filter(known).cloned().collect()
            };
            (release.id.clone(), needs)
        })
        .collect()
}

/// The releases of the nearest phases before `phase` that claim any.
fn before(phase: &PhaseName, releases: &[Release], phases: &Phases) -> BTreeSet<ReleaseId> {
    let mut found = BTreeSet::new();
    let Some(spec) = phases.iter().find(|spec| spec.name == *phase) else { return found };
    for earlier in &spec.after {
        let claimed: BTreeSet<ReleaseId> = releases
            .iter()
            .filter(|release| phases.of_release(&release.id.name) == *earlier)
            .map(|release| release.id.clone())
            .collect();
        found.extend(if claimed.is_empty() { self::before(earlier, releases, phases) } else { claimed });
    }
    found
}

/// Whether `from` needs `to`, directly or through others.
fn reaches(declared: &BTreeMap<&ReleaseId, &[ReleaseId]>, from: &ReleaseId, to: &ReleaseId) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(current) = open.pop() {
        if current == to {
            return true;
        }
        if seen.insert(current) {
            open.extend(declared.get(current).into_iter().flat_map(|needs| needs.iter()));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::helm::helmfile::{Chart, Flags, OnFailure, Wait};
    use crate::plan::builtin_phases;
    use crate::yaml::{Origin, Position};

    fn id(name: &str) -> ReleaseId {
        ReleaseId { namespace: "kube-system".to_owned(), name: name.to_owned() }
    }

    fn release(name: &str, needs: &[&str]) -> Release {
        Release {
            id: id(name),
            chart: Chart::Local(PathBuf::from("/chart")),
            values: serde_json::json!({}),
            needs: needs.iter().map(|need| id(need)).collect(),
            hooks: vec![],
            flags: Flags {
                wait: Wait::Workloads,
                timeout: Duration::from_mins(5),
                create_namespace: false,
                force_conflicts: false,
                on_failure: OnFailure::Keep,
                args: vec![],
            },
            at: Origin::new("01-apps.yaml").at(Position::default()),
        }
    }

    fn needs(releases: &[Release], name: &str) -> Vec<String> {
        let order = order(releases, &builtin_phases().unwrap());
        order[&id(name)].iter().map(|need| need.name.clone()).collect()
    }

    #[test]
    fn phases_order_what_declares_no_needs() {
        let releases = [release("cilium", &[]), release("coredns", &[]), release("cert-manager", &[])];
        assert_eq!(needs(&releases, "cilium"), Vec::<String>::new());
        assert_eq!(needs(&releases, "coredns"), ["cilium"]);
        // There is no spegel, so the phase before it counts.
        assert_eq!(needs(&releases, "cert-manager"), ["coredns"]);
    }

    #[test]
    fn declared_needs_win_over_phases() {
        let releases = [release("cilium", &["coredns"]), release("coredns", &[]), release("grafana", &[])];
        assert_eq!(needs(&releases, "cilium"), ["coredns"]);
        assert_eq!(needs(&releases, "coredns"), Vec::<String>::new());
        assert_eq!(needs(&releases, "grafana"), Vec::<String>::new());
    }
}
