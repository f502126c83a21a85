//! The steps from a bare Kubernetes API to Flux: base, CRDs, releases with their hooks, hand-over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::decryption::Keys;
use super::secret_manifests::SecretManifests;
use super::{Site, Steps, base, conversion, crds, handoff, hooks, order, release};
use engine::plan::{Fingerprint, FingerprintBuilder, StepId};
use helm::ApplyMethod;
use helmfile::{HookSide, Release, ReleaseId, StateFile};
use kubernetes::ObjectRef;

/// The release that carries Flux's instance, and the names that Flux's operator gives (flux-operator: an instance is
/// named `flux`; its sync by default as its namespace).
const FLUX_RELEASE: &str = "flux-instance";
const FLUX_INSTANCE: &str = "flux";

/// Steps that the chain stands on.
pub(super) struct Ground {
    /// The API answers.
    pub(super) api: StepId,
    /// Everything else that a finished cluster has: every node registered, every control plane voting.
    pub(super) rest: Vec<StepId>,
}

impl Steps {
    /// Adds the whole chain.
    pub(super) fn chain(&mut self, site: &Arc<Site>, secrets: &Arc<SecretManifests>, ground: &Ground) {
        let base = self.base(site, secrets, &ground.api);
        let crds: Vec<StepId> =
            site.cluster.bootstrap.crds.releases.iter().map(|release| self.crds(site, release, &ground.api)).collect();
        let crds: Vec<StepId> = crds.into_iter().chain(self.crd_files(site, &ground.api)).collect();
        let before: Vec<StepId> = base.into_iter().chain(crds).chain([ground.api.clone()]).collect();
        let releases = self.releases(site, &before);
        let everything: Vec<StepId> = before.into_iter().chain(releases).chain(ground.rest.iter().cloned()).collect();
        self.handoff(site, &everything);
    }

    fn base(&mut self, site: &Arc<Site>, secrets: &Arc<SecretManifests>, api: &StepId) -> Vec<StepId> {
        let mut added = Vec::new();
        let names = base::names(site);
        if !names.is_empty() {
            added.push(self.add(
                "base",
                "base/namespaces",
                "the namespaces of every release",
                [api.clone()],
                names.iter().fold(Fingerprint::builder(), FingerprintBuilder::part).finish(),
                Arc::new(base::Namespaces::new(site.clone())),
            ));
        }
        if !site.cluster.bootstrap.secrets.is_empty() {
            let files = site.cluster.bootstrap.secrets.iter();
            let fingerprint = files.fold(String::new(), |all, source| all + &source.text);
            let needs: Vec<StepId> = added.iter().cloned().chain([api.clone()]).collect();
            added.push(self.add(
                "base",
                "base/secrets",
                "the secrets that releases and Flux start with",
                needs,
                site.keyed_fingerprint(&fingerprint),
                Arc::new(base::Secrets::new(site.clone(), secrets.clone())),
            ));
            self.wait_for_a_person();
            let uploaded: Vec<StepId> = added.last().cloned().into_iter().collect();
            added.extend(self.decryption(site, secrets, Keys::Cluster, uploaded));
        }
        added
    }

    fn crds(&mut self, site: &Arc<Site>, release: &Release, api: &StepId) -> StepId {
        self.add(
            "crds",
            &format!("crds/{}", release.id.name),
            &format!("the CRDs of {} are served", release.chart),
            [api.clone()],
            fingerprint(release),
            Arc::new(crds::Crds::new(site.clone(), crds::Source::Chart(Box::new(release.clone())))),
        )
    }

    fn crd_files(&mut self, site: &Arc<Site>, api: &StepId) -> Option<StepId> {
        let files = site.cluster.bootstrap.crd_files.clone();
        if files.is_empty() {
            return None;
        }
        Some(self.add(
            "crds",
            "crds/files",
            &format!("the CRDs of {} files that recipes apply are served", files.len()),
            [api.clone()],
            files.iter().fold(Fingerprint::builder(), |all, file| all.part(&file.url)).finish(),
            Arc::new(crds::Crds::new(site.clone(), crds::Source::Files(files))),
        ))
    }

    /// Adds every release with its hooks, and the hooks of whole files around them; returns all of those steps.
    fn releases(&mut self, site: &Arc<Site>, before: &[StepId]) -> Vec<StepId> {
        let helmfile = &site.cluster.bootstrap.releases;
        let releases = &helmfile.releases;
        let order = order::order(releases, &site.cluster.phases);
        let names = Names::of(releases, &site.cluster.bootstrap.crds.releases);
        let mut all = Vec::new();
        for (number, file) in helmfile.files.iter().enumerate() {
            let mut own = self.file_hooks(site, number, file, HookSide::Before, before);
            let prepared: Vec<StepId> = own.last().cloned().into_iter().collect();
            for release in releases.iter().filter(|release| release.file == file.path) {
                let needs = order.get(&release.id).into_iter().flatten().flat_map(|need| names.ends(need));
                let needs = needs.chain(before.iter().cloned()).chain(prepared.iter().cloned()).collect();
                own.extend(self.release(site, release, &names, needs));
            }
            let done = self.file_hooks(site, number, file, HookSide::After, &own);
            all.extend(own.into_iter().chain(done));
        }
        all
    }

    /// The hooks of a whole file on one side of its releases, one after the other.
    fn file_hooks(
        &mut self,
        site: &Arc<Site>,
        number: usize,
        file: &StateFile,
        side: HookSide,
        needs: &[StepId],
    ) -> Vec<StepId> {
        let phase = site.cluster.phases.of_release("");
        let mut added: Vec<StepId> = Vec::new();
        for (index, hook) in file.hooks.iter().enumerate().filter(|(_, hook)| hook.is_on(side)) {
            let id = format!("hook/file-{}/{}", number + 1, index + 1);
            let needs: Vec<StepId> = needs.iter().chain(added.last()).cloned().collect();
            let code = hooks::step(site.clone(), hook);
            added.push(self.add(phase.as_str(), &id, &hooks::title(hook), needs, hooks::fingerprint(hook), code));
        }
        added
    }

    fn release(&mut self, site: &Arc<Site>, release: &Release, names: &Names, needs: Vec<StepId>) -> Vec<StepId> {
        let phase = site.cluster.phases.of_release(&release.id.name);
        let mut added = Vec::new();
        let mut last = needs;
        for (id, index) in names.hooks(release, HookSide::Before) {
            last = vec![self.hook(site, phase.as_str(), &id, release, index, last)];
            added.extend(last.iter().cloned());
        }
        let converts = names.conversion(&release.id);
        let code = Arc::new(release::Installed::new(site.clone(), release.clone(), converts.is_some()));
        self.installed.push(code.clone());
        let installed = self.add(
            phase.as_str(),
            names.step(&release.id).as_str(),
            &format!("{}, installed as Flux will adopt it, and ready", release.chart),
            last,
            fingerprint(release),
            code.clone(),
        );
        added.push(installed.clone());
        let mut last = vec![installed];
        if let Some(id) = converts {
            let title = format!("what {} converts can be read in every version", release.id.name);
            let code = Arc::new(conversion::Converts::new(code));
            last = vec![self.add(phase.as_str(), id.as_str(), &title, last, fingerprint(release), code)];
            added.extend(last.iter().cloned());
        }
        for (id, index) in names.hooks(release, HookSide::After) {
            last = vec![self.hook(site, phase.as_str(), &id, release, index, last)];
            added.extend(last.iter().cloned());
        }
        added
    }

    fn hook(
        &mut self,
        site: &Arc<Site>,
        phase: &str,
        id: &StepId,
        release: &Release,
        index: usize,
        needs: Vec<StepId>,
    ) -> StepId {
        let hook = &release.hooks[index];
        let code = hooks::step(site.clone(), hook);
        self.add(phase, id.as_str(), &hooks::title(hook), needs, hooks::fingerprint(hook), code)
    }

    fn handoff(&mut self, site: &Arc<Site>, everything: &[StepId]) {
        let plain = |name: &str| Fingerprint::builder().part(name).finish();
        let nodes = self.add(
            "handoff",
            "handoff/nodes",
            "every node is Ready",
            everything.iter().cloned(),
            plain("nodes"),
            Arc::new(handoff::NodesReady::new(site.clone())),
        );
        let Some(flux) = site.flux() else { return };
        let object = |api_version: &str, kind: &str, name: &str| ObjectRef {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: Some(flux.namespace.clone()),
            name: name.to_owned(),
        };
        let waits = [
            ("instance", "Flux's controllers run", object("fluxcd.controlplane.io/v1", "FluxInstance", FLUX_INSTANCE)),
            ("source", "Flux reads the repository", object("source.toolkit.fluxcd.io/v1", "GitRepository", &flux.sync)),
            (
                "root",
                "Flux applies the repository",
                object("kustomize.toolkit.fluxcd.io/v1", "Kustomization", &flux.sync),
            ),
        ];
        let mut last = nodes;
        for (name, title, object) in waits {
            let id = format!("handoff/{name}");
            let code = Arc::new(handoff::FluxReady::new(site.clone(), object));
            let needs: Vec<StepId> = everything.iter().cloned().chain([last]).collect();
            last = self.add("handoff", &id, title, needs, plain(name), code);
        }
        self.add(
            "handoff",
            "handoff/adoption",
            "Flux owns what was installed",
            [last],
            plain("adoption"),
            Arc::new(handoff::Adopted::new(site.clone())),
        );
    }
}

/// How Flux's sync is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flux {
    pub namespace: String,
    /// The name of the GitRepository and of the root Kustomization.
    pub sync: String,
    /// What of the repository is followed, such as `main`.
    pub reference: String,
}

impl Site {
    /// Flux's instance as its release's values describe it; nothing when no release installs one.
    pub fn flux(&self) -> Option<Flux> {
        let release =
            self.cluster.bootstrap.releases.releases.iter().find(|release| release.id.name == FLUX_RELEASE)?;
        let text = |key: &str| release.values.pointer(&format!("/instance/sync/{key}")).and_then(Value::as_str);
        let reference = text("ref").unwrap_or_default();
        Some(Flux {
            namespace: release.id.namespace.clone(),
            sync: text("name").unwrap_or(&release.id.namespace).to_owned(),
            reference: reference.rsplit('/').next().unwrap_or_default().to_owned(),
        })
    }
}

impl Site {
    /// The Secret by which Flux is to read the repository, and the release that says so.
    pub(super) fn flux_pull_secret(&self) -> Option<(ObjectRef, String)> {
        let release =
            self.cluster.bootstrap.releases.releases.iter().find(|release| release.id.name == FLUX_RELEASE)?;
        let name = release.values.pointer("/instance/sync/pullSecret").and_then(Value::as_str)?;
        let secret = ObjectRef::new("v1", "Secret", Some(&release.id.namespace), name);
        (!name.is_empty()).then(|| (secret, format!("release {} ({})", release.id, release.at)))
    }

    /// How Helm writes objects: as the Helm inside the Flux that will adopt the releases does.
    pub(super) fn apply_method(&self) -> ApplyMethod {
        let releases = self.cluster.bootstrap.releases.releases.iter();
        let version = releases
            .filter(|release| release.id.name == FLUX_RELEASE)
            .find_map(|release| release.values.pointer("/instance/distribution/version")?.as_str());
        // Without a Flux that says otherwise, the merge that every Helm knows.
        version.map_or(ApplyMethod::ClientSide, ApplyMethod::from_flux_version)
    }
}

/// Everything that a release is made of. No value in a helmfile is a secret; those come by Secrets.
fn fingerprint(release: &Release) -> Fingerprint {
    let own = Fingerprint::builder()
        .part(release.id.to_string())
        .part(format!("{:?}", release.chart))
        .part(release.values.to_string())
        .part(format!("{:?}", release.flags));
    release.patches.iter().fold(own, |all, patch| all.part(format!("{patch:?}"))).finish()
}

/// The ids of steps around releases. Two releases of one name tell themselves apart by their namespaces.
struct Names {
    steps: BTreeMap<ReleaseId, String>,
    /// Those whose CRDs go in before them.
    converting: BTreeSet<ReleaseId>,
    ends: BTreeMap<ReleaseId, Vec<StepId>>,
}

impl Names {
    fn of(releases: &[Release], crds: &[Release]) -> Self {
        let mut twice = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for release in releases {
            if !seen.insert(&release.id.name) {
                twice.insert(&release.id.name);
            }
        }
        let name = |id: &ReleaseId| if twice.contains(&id.name) { id.to_string() } else { id.name.clone() };
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

    fn name<'n>(&'n self, id: &'n ReleaseId) -> &'n str {
        self.steps.get(id).map_or(&id.name, String::as_str)
    }

    fn step(&self, id: &ReleaseId) -> StepId {
        StepId::new(format!("release/{}", self.name(id)))
    }

    /// The step after the installation of a release that may convert.
    fn conversion(&self, id: &ReleaseId) -> Option<StepId> {
        self.converting.contains(id).then(|| StepId::new(format!("conversion/{}", self.name(id))))
    }

    /// The steps after which a release counts as done.
    fn ends(&self, id: &ReleaseId) -> Vec<StepId> {
        self.ends.get(id).cloned().unwrap_or_default()
    }

    /// The hooks of a release on one side of its installation: step id and index.
    fn hooks(&self, release: &Release, side: HookSide) -> Vec<(StepId, usize)> {
        let runs = |index: &usize| release.hooks[*index].is_on(side);
        let id = |index: usize| StepId::new(format!("hook/{}/{}", self.name(&release.id), index + 1));
        (0..release.hooks.len()).filter(runs).map(|index| (id(index), index)).collect()
    }
}
