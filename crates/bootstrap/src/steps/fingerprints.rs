//! What each kind of step is made from.

use engine::plan::{Fingerprint, FingerprintBuilder};
use helmfile::{Hook, Release};
use talos_config::InventoryNode;

use super::RunContext;

impl RunContext {
    /// A node's address and its config.
    pub(super) fn node_fingerprint(&self, node: &InventoryNode) -> Fingerprint {
        let address = Fingerprint::builder().part(node.address.to_string());
        address.secret(&self.fingerprint_key(), &self.config_text(node)).finish()
    }

    /// Every manifest with secrets, as it is written.
    pub(super) fn secrets_fingerprint(&self) -> Fingerprint {
        self.secrets().finish()
    }

    fn secrets(&self) -> FingerprintBuilder {
        let key = self.fingerprint_key();
        let sources = self.cluster.bootstrap.secrets.iter();
        sources.fold(Fingerprint::builder(), |all, source| {
            let path = self.cluster.relative(&source.path).display().to_string();
            all.part(path).secret(&key, &source.text.clone().into())
        })
    }

    /// The manifests with keys, and the files that they have to open.
    pub(super) fn decryption_fingerprint(&self) -> Fingerprint {
        let decryptions = self.cluster.flux.decryptions();
        let all = decryptions.iter().fold(self.secrets(), |all, decryption| {
            let files = decryption.files.iter().map(|file| self.cluster.relative(file).display().to_string());
            all.part(&decryption.namespace).part(&decryption.secret).parts(files)
        });
        all.finish()
    }

    /// Every chart and hook of the helmfiles.
    pub(super) fn charts_fingerprint(&self) -> Fingerprint {
        let bootstrap = &self.cluster.bootstrap;
        let releases = bootstrap.crds.releases.iter().chain(&bootstrap.releases.releases).map(release);
        let hooks = bootstrap.releases.hooks().map(hook);
        let parts = releases.chain(hooks).map(|fingerprint| fingerprint.as_str().to_owned());
        Fingerprint::builder().parts(parts).finish()
    }

    pub(super) fn control_planes_fingerprint(&self) -> Fingerprint {
        let addresses = self.control_planes().into_iter().map(|node| node.address.to_string());
        Fingerprint::builder().parts(addresses).finish()
    }

    /// The endpoint, and the control planes behind it.
    pub(super) fn api_fingerprint(&self) -> Fingerprint {
        let addresses = self.control_planes().into_iter().map(|node| node.address.to_string());
        Fingerprint::builder().part(self.cluster.inventory.endpoint.url()).parts(addresses).finish()
    }

    pub(super) fn hostnames_fingerprint(&self) -> Fingerprint {
        Fingerprint::builder().parts(self.hostnames()).finish()
    }

    /// Every namespace of a release, with its labels.
    pub(super) fn namespaces_fingerprint(&self) -> Fingerprint {
        let objects = super::namespaces::namespaces(self);
        Fingerprint::builder().parts(objects.iter().map(ToString::to_string)).finish()
    }

    /// The releases that Flux will own.
    pub(super) fn adoption_fingerprint(&self) -> Fingerprint {
        let releases = super::handoff::expected(self);
        Fingerprint::builder().parts(releases.iter().map(ToString::to_string)).finish()
    }
}

/// Everything that a release is made of. No value in a helmfile is a secret; those come by Secrets.
pub(super) fn release(release: &Release) -> Fingerprint {
    let own = Fingerprint::builder()
        .part(release.id.to_string())
        .part(format!("{:?}", release.chart))
        .part(release.values.to_string())
        .part(format!("{:?}", release.flags));
    own.parts(release.patches.iter().map(|patch| format!("{patch:?}"))).finish()
}

/// The command of a hook. Manifests that it applies are compared with the cluster.
pub(super) fn hook(hook: &Hook) -> Fingerprint {
    Fingerprint::builder().part(&hook.command).parts(&hook.args).finish()
}
