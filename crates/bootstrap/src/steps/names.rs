//! The ids of the steps around releases.

use std::collections::{BTreeMap, BTreeSet};

use engine::plan::StepId;
use helmfile::{HookSide, Release, ReleaseId};

use super::conversion;

/// The ids of the steps around releases. Two releases of one name are distinguished by their namespaces.
pub(super) struct Names {
    steps: BTreeMap<ReleaseId, String>,
    /// Those whose CRDs go in before them.
    converting: BTreeSet<ReleaseId>,
    ends: BTreeMap<ReleaseId, Vec<StepId>>,
}

impl Names {
    pub(super) fn new(releases: &[Release], crds: &[Release]) -> Self {
        let mut repeated = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for release in releases {
            if !seen.insert(&release.id.name) {
                repeated.insert(&release.id.name);
            }
        }
        let name = |id: &ReleaseId| if repeated.contains(&id.name) { id.to_string() } else { id.name.clone() };
        let mut names = Self {
            steps: releases.iter().map(|release| (release.id.clone(), name(&release.id))).collect(),
            converting: releases
                .iter()
                .filter(|release| conversion::is_awaited(release, crds))
                .map(|release| release.id.clone())
                .collect(),
            ends: BTreeMap::new(),
        };
        let ends = releases.iter().map(|release| {
            let last = names.hooks(release, HookSide::After).pop().map(|(id, _)| id);
            let last = last.or_else(|| names.conversion(&release.id));
            (release.id.clone(), vec![last.unwrap_or_else(|| names.step(&release.id))])
        });
        names.ends = ends.collect();
        names
    }

    pub(super) fn name<'n>(&'n self, id: &'n ReleaseId) -> &'n str {
        self.steps.get(id).map_or(&id.name, String::as_str)
    }

    pub(super) fn step(&self, id: &ReleaseId) -> StepId {
        StepId::new(format!("release/{}", self.name(id)))
    }

    /// The step after the installation of a release that may convert.
    pub(super) fn conversion(&self, id: &ReleaseId) -> Option<StepId> {
        self.converting.contains(id).then(|| StepId::new(format!("conversion/{}", self.name(id))))
    }

    /// The steps after which a release counts as done.
    pub(super) fn ends(&self, id: &ReleaseId) -> Vec<StepId> {
        self.ends.get(id).cloned().unwrap_or_default()
    }

    /// The hooks of a release on one side of its installation: step id and index.
    pub(super) fn hooks(&self, release: &Release, side: HookSide) -> Vec<(StepId, usize)> {
        let runs = |index: &usize| release.hooks[*index].is_on(side);
        let id = |index: usize| StepId::new(format!("hook/{}/{}", self.name(&release.id), index + 1));
        (0..release.hooks.len()).filter(runs).map(|index| (id(index), index)).collect()
    }
}
