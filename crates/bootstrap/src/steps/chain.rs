//! The steps from a bare Kubernetes API to Flux: base, CRDs, releases with their hooks, hand-over.

use std::sync::Arc;

use engine::Code;
use engine::plan::{Fingerprint, PhaseName, Step, StepId};
use helmfile::{HookSide, Release, StateFile};
use kubernetes::ObjectRef;

use super::decryption::Keys;
use super::errors::release_place;
use super::hooks::{HookOwner, HookPlace};
use super::names::Names;
use super::{OPERATOR, Steps, base, conversion_step, crds, fingerprints, handoff, hooks, namespaces, order, release};

/// The name that Flux's operator gives its instance.
const FLUX_INSTANCE: &str = "flux";

impl Steps {
    /// Namespaces, and the secrets that releases and Flux start with.
    pub(super) fn base(&mut self, api: &StepId) -> Vec<StepId> {
        let context = self.context.clone();
        let mut added = vec![api.clone()];
        if !namespaces::names(&context).is_empty() {
            let step = Step::new("base", "namespaces", Code::K07)
                .title("the namespaces of every release")
                .needs([api])
                .made_from(context.namespaces_fingerprint());
            added.push(self.action(step, Arc::new(base::Namespaces::new(context.clone()))));
        }
        if !context.cluster.bootstrap.secrets.is_empty() {
            let step = Step::new("base", "secrets", Code::O01)
                .title("the secrets that releases and Flux start with")
                .needs(&added)
                .made_from(context.secrets_fingerprint())
                .deadline(OPERATOR);
            let uploaded = self.action(step, Arc::new(base::Secrets::new(context, self.secrets.clone())));
            added.push(uploaded.clone());
            added.extend(self.decryption(Keys::Cluster, &[uploaded]));
        }
        added.split_off(1)
    }

    /// The CRDs of charts, and of files that recipes apply.
    pub(super) fn crds(&mut self, api: &StepId) -> Vec<StepId> {
        let context = self.context.clone();
        let mut added = Vec::new();
        for release in &context.cluster.bootstrap.crds.releases {
            let step = Step::new("crds", &release.id.name, Code::H03)
                .title(format!("the CRDs of {} are served", release.chart))
                .needs([api])
                .with_place(release_place(release))
                .made_from(fingerprints::release(release));
            let source = crds::Source::Chart(Box::new(release.clone()));
            added.push(self.action(step, Arc::new(crds::Crds::new(context.clone(), source))));
        }
        let files = context.cluster.bootstrap.crd_files.clone();
        if !files.is_empty() {
            let step = Step::new("crds", "files", Code::H03)
                .title(format!("the CRDs of {} files that recipes apply are served", files.len()))
                .needs([api])
                .made_from(Fingerprint::builder().parts(files.iter().map(|file| &file.url)).finish());
            added.push(self.action(step, Arc::new(crds::Crds::new(context, crds::Source::Files(files)))));
        }
        added
    }

    /// Every release with its hooks, and the hooks of whole files around them; returns all of those steps.
    pub(super) fn releases(&mut self, before: &[StepId]) -> Vec<StepId> {
        let context = self.context.clone();
        let helmfile = &context.cluster.bootstrap.releases;
        let releases = &helmfile.releases;
        let order = order::order(releases, &context.cluster.phases);
        let names = Names::new(releases, &context.cluster.bootstrap.crds.releases);
        let mut all = Vec::new();
        for (number, file) in helmfile.files.iter().enumerate() {
            let mut own = self.file_hooks(number, file, HookSide::Before, before);
            let prepared: Vec<StepId> = own.last().cloned().into_iter().collect();
            for release in releases.iter().filter(|release| release.file == file.path) {
                let needs = order.get(&release.id).into_iter().flatten().flat_map(|need| names.ends(need));
                let needs: Vec<StepId> = needs.chain(before.iter().cloned()).chain(prepared.iter().cloned()).collect();
                own.extend(self.release(release, &names, needs));
            }
            let done = self.file_hooks(number, file, HookSide::After, &own);
            all.extend(own.into_iter().chain(done));
        }
        all
    }

    /// The hooks of a whole file on one side of its releases, one after the other.
    fn file_hooks(&mut self, number: usize, file: &StateFile, side: HookSide, needs: &[StepId]) -> Vec<StepId> {
        let phase = self.context.cluster.phases.of_release("");
        let context = self.context.clone();
        let helmfile = &context.cluster.bootstrap.releases;
        let mut added: Vec<StepId> = Vec::new();
        for (index, hook) in file.hooks.iter().enumerate().filter(|(_, hook)| hook.is_on(side)) {
            let earlier = helmfile.files[..number].iter().flat_map(|file| &file.hooks).chain(&file.hooks[..index]);
            let place = HookPlace::new(HookOwner::StateFile, earlier, hook);
            let id = StepId::new(format!("hook/file-{}/{}", number + 1, index + 1));
            let needs: Vec<StepId> = needs.iter().chain(added.last()).cloned().collect();
            added.push(self.hook(id, &phase, place, &needs));
        }
        added
    }

    /// One release between its hooks; each step needs the one before it, the first one `needs`.
    fn release(&mut self, release: &Release, names: &Names, needs: Vec<StepId>) -> Vec<StepId> {
        let phase = self.context.cluster.phases.of_release(&release.id.name);
        let owner = HookOwner::Release(&release.id);
        let hook_place = |index: usize| HookPlace::new(owner, &release.hooks[..index], &release.hooks[index]);
        let mut added = Vec::new();
        let mut last = needs;
        for (id, index) in names.hooks(release, HookSide::Before) {
            last = vec![self.hook(id, &phase, hook_place(index), &last)];
            added.extend(last.iter().cloned());
        }
        let converts = names.conversion(&release.id);
        let gate = if converts.is_some() { release::ConversionGate::LaterStep } else { release::ConversionGate::Own };
        let code = Arc::new(release::Installed::new(self.context.clone(), release.clone(), gate));
        self.installed.push(code.clone());
        let step = Step::new("release", names.name(&release.id), Code::H15)
            .phase(phase.clone())
            .title(format!("{}, installed as Flux will adopt it, and ready", release.chart))
            .needs(&last)
            .with_place(release_place(release))
            .made_from(fingerprints::release(release))
            .deadline(release::deadline(&release.flags));
        last = vec![self.action(step, code.clone())];
        added.extend(last.iter().cloned());
        if converts.is_some() {
            let step = Step::new("conversion", names.name(&release.id), Code::H04)
                .phase(phase.clone())
                .title(format!("{}'s conversion webhook serves every version", release.id.name))
                .needs(&last)
                .with_place(release_place(release))
                .made_from(fingerprints::release(release));
            last = vec![self.check(step, Arc::new(conversion_step::Converts::new(code)))];
            added.extend(last.iter().cloned());
        }
        for (id, index) in names.hooks(release, HookSide::After) {
            last = vec![self.hook(id, &phase, hook_place(index), &last)];
            added.extend(last.iter().cloned());
        }
        added
    }

    fn hook(&mut self, id: StepId, phase: &PhaseName, hook_place: HookPlace<'_>, needs: &[StepId]) -> StepId {
        let hook = hook_place.hook;
        let object = id.as_str().strip_prefix("hook/").unwrap_or(id.as_str());
        let code = hooks::code(self.context.clone(), &hook_place);
        let step = Step::new("hook", object, code.overdue())
            .phase(phase.clone())
            .title(hooks::title(hook))
            .needs(needs)
            .with_place(hook.at.to_string())
            .made_from(fingerprints::hook(hook))
            .deadline(hooks::deadline(&self.context, &hook_place));
        match code {
            hooks::HookCode::Action(action) => self.action(step, action),
            hooks::HookCode::Check(check) => self.check(step, check),
            hooks::HookCode::Process(process) => {
                self.processes.push(step.id.clone(), process.clone());
                self.action(step, process)
            }
        }
    }

    /// Every node Ready, Flux at work, and Flux the owner of what was installed. The objects of Flux are looked at side by
    /// side: its instance is Ready last, once what it depends on is (flux-operator 0.38).
    pub(super) fn handoff(&mut self, everything: &[StepId]) {
        let context = self.context.clone();
        let step = Step::new("handoff", "nodes", Code::K02)
            .title("every node is Ready, and none is left cordoned")
            .needs(everything)
            .made_from(context.hostnames_fingerprint());
        let nodes = self.action(step, Arc::new(handoff::NodesReady::new(context.clone())));
        let Some(flux) = context.flux() else { return };
        let object =
            |api_version: &str, kind: &str, name: &str| ObjectRef::new(api_version, kind, Some(&flux.namespace), name);
        let instance = object("fluxcd.controlplane.io/v1", "FluxInstance", FLUX_INSTANCE);
        let mut objects = vec![("instance", "Flux's controllers run", instance, Code::F08)];
        if let Some(sync) = &flux.sync {
            let source = object("source.toolkit.fluxcd.io/v1", sync.kind.as_str(), &sync.name);
            let root = object("kustomize.toolkit.fluxcd.io/v1", "Kustomization", &sync.name);
            objects.push(("source", "Flux reads the repository", source, Code::F02));
            objects.push(("root", "Flux applies the repository", root, Code::F07));
        }
        let needed = || everything.iter().chain([&nodes]);
        for (name, title, object, code) in objects {
            let step = Step::new("handoff", name, code)
                .title(title)
                .needs(needed())
                .with_place(object.to_string())
                .made_from(Fingerprint::builder().part(object.to_string()).part(format!("{flux:?}")).finish());
            self.check(step, Arc::new(handoff::FluxReady::new(context.clone(), object, code)));
        }
        let step = Step::new("handoff", "adoption", Code::F05)
            .title("Flux owns what was installed")
            .needs(needed())
            .made_from(context.adoption_fingerprint());
        self.check(step, Arc::new(handoff::Adopted::new(context)));
    }
}
