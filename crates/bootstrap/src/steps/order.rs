//! In which order releases go in: the helmfile's `needs:`, and the phases for releases that declare none.

use std::collections::{BTreeMap, BTreeSet};

use engine::plan::{PhaseName, Phases};
use helmfile::{Release, ReleaseId};

/// Everything that must be done before each release.
///
/// A release's own `needs:` decide. Sub-helmfiles go one after the other, and before their parent. A release of which
/// neither says anything comes after the releases of the phases that its phase comes after. What the weaker rule says
/// is dropped where the stronger one says the opposite.
pub(super) fn order(releases: &[Release], phases: &Phases) -> BTreeMap<ReleaseId, BTreeSet<ReleaseId>> {
    let known: BTreeSet<&ReleaseId> = releases.iter().map(|release| &release.id).collect();
    let declared = |release: &Release| release.needs.iter().filter(|need| known.contains(need)).cloned().collect();
    let mut order: BTreeMap<ReleaseId, BTreeSet<ReleaseId>> =
        releases.iter().map(|release| (release.id.clone(), declared(release))).collect();
    for release in releases {
        let earlier = release.after.iter().filter(|other| known.contains(other)).cloned().collect();
        add(&mut order, &release.id, earlier);
    }
    for release in releases.iter().filter(|release| release.needs.is_empty() && release.after.is_empty()) {
        let earlier = before(&phases.of_release(&release.id.name), releases, phases);
        add(&mut order, &release.id, earlier);
    }
    order
}

/// Puts `earlier` before `id`, but none that waits for it.
fn add(order: &mut BTreeMap<ReleaseId, BTreeSet<ReleaseId>>, id: &ReleaseId, earlier: BTreeSet<ReleaseId>) {
    let earlier: Vec<ReleaseId> = earlier.into_iter().filter(|other| !reaches(order, other, id)).collect();
    if let Some(before) = order.get_mut(id) {
        before.extend(earlier);
    }
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
fn reaches(order: &BTreeMap<ReleaseId, BTreeSet<ReleaseId>>, from: &ReleaseId, to: &ReleaseId) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(current) = open.pop() {
        if current == to {
            return true;
        }
        if seen.insert(current) {
            open.extend(order.get(current).into_iter().flat_map(|needs| needs.iter()));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use engine::plan::builtin_phases;
    use helmfile::{Chart, FetchOptions, InstallFlags, OnFailure, Wait};
    use yaml::{Origin, Position};

    fn id(name: &str) -> ReleaseId {
        ReleaseId { namespace: "kube-system".to_owned(), name: name.to_owned() }
    }

    fn release(name: &str, needs: &[&str]) -> Release {
        Release {
            id: id(name),
            chart: Chart::Local(PathBuf::from("/chart")),
            fetch: FetchOptions::default(),
            values: serde_json::json!({}),
            written_values: serde_json::json!({}),
            needs: needs.iter().map(|need| id(need)).collect(),
            after: vec![],
            hooks: vec![],
            kube_version: None,
            api_versions: vec![],
            patches: vec![],
            file: PathBuf::from("01-apps.yaml"),
            flags: InstallFlags {
                wait: Wait::Workloads,
                timeout: Duration::from_mins(5),
                create_namespace: false,
                force_conflicts: false,
                on_failure: OnFailure::Keep,
                args: vec![],
            },
            at: Origin::new("01-apps.yaml").location(Position::default()),
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
        // Without spegel, the phase before it counts.
        assert_eq!(needs(&releases, "cert-manager"), ["coredns"]);
    }

    #[test]
    fn declared_needs_win_over_phases() {
        let releases = [release("cilium", &["coredns"]), release("coredns", &[]), release("grafana", &[])];
        assert_eq!(needs(&releases, "cilium"), ["coredns"]);
        assert_eq!(needs(&releases, "coredns"), Vec::<String>::new());
        assert_eq!(needs(&releases, "grafana"), Vec::<String>::new());
    }

    #[test]
    fn files_order_what_does_not_need_each_other() {
        let mut crds = release("crds", &[]);
        let mut apps = release("apps", &[]);
        apps.after = vec![id("crds")];
        assert_eq!(needs(&[crds.clone(), apps.clone()], "apps"), ["crds"]);
        crds.needs = vec![id("apps")];
        assert_eq!(needs(&[crds, apps], "apps"), Vec::<String>::new());
    }
}
