//! Which Helm release a HelmRelease owns, by helm-controller's own rule.

use std::fmt;

use helmfile::ReleaseId;
use sha2::{Digest, Sha256};

/// The longest name of a release (Helm).
const MAX_NAME: usize = 53;
/// The digits of the hash at the end of a name that was too long.
const HASH: usize = 12;

/// The names in a HelmRelease; its own namespace may be set by what applies it.
#[derive(Debug, Clone, Copy)]
pub struct HelmReleaseNames<'n> {
    pub name: &'n str,
    pub namespace: Option<&'n str>,
    pub release_name: Option<&'n str>,
    pub target_namespace: Option<&'n str>,
    pub storage_namespace: Option<&'n str>,
}

/// The Helm release that a HelmRelease installs, upgrades and records; what is not known is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRelease {
    pub name: String,
    pub namespace: Option<String>,
    /// The namespace of Helm's record.
    pub storage: Option<String>,
}

impl OwnedRelease {
    /// helm-controller 1.4: `GetReleaseName`, `GetReleaseNamespace`, `GetStorageNamespace`, `ShortenName`.
    pub fn owned_by(names: HelmReleaseNames<'_>) -> Self {
        let name = match (names.release_name, names.target_namespace) {
            (Some(name), _) => name.to_owned(),
            (None, Some(namespace)) => format!("{namespace}-{}", names.name),
            (None, None) => names.name.to_owned(),
        };
        let text = |namespace: Option<&str>| namespace.map(str::to_owned);
        Self {
            name: shortened(name),
            namespace: text(names.target_namespace.or(names.namespace)),
            storage: text(names.storage_namespace.or(names.namespace)),
        }
    }

    /// Whether this is the release, as far as it is known.
    pub fn is(&self, release: &ReleaseId) -> bool {
        self.installs(release) && is_or_unknown(self.storage.as_ref(), &release.namespace)
    }

    /// Whether its objects are those of the release, wherever Helm's record is.
    pub fn installs(&self, release: &ReleaseId) -> bool {
        self.name == release.name && self.is_in(release)
    }

    /// Whether it is installed into the namespace of the release, as far as that is known.
    pub(super) fn is_in(&self, release: &ReleaseId) -> bool {
        is_or_unknown(self.namespace.as_ref(), &release.namespace)
    }

    /// What the HelmRelease has to say to own `release`.
    pub(super) fn settings_for(&self, release: &ReleaseId) -> String {
        let differs = |known: Option<&String>| !is_or_unknown(known, &release.namespace);
        // With a target namespace, the name has another default.
        let is_renamed = self.name != release.name || differs(self.namespace.as_ref());
        let settings = [
            (is_renamed, "releaseName", &release.name),
            (differs(self.namespace.as_ref()), "targetNamespace", &release.namespace),
            (differs(self.storage.as_ref()), "storageNamespace", &release.namespace),
        ];
        let needed = settings.iter().filter(|(differs, ..)| *differs);
        needed.map(|(_, key, value)| format!("`{key}: {value}`")).collect::<Vec<_>>().join(" and ")
    }
}

impl fmt::Display for OwnedRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

fn is_or_unknown(known: Option<&String>, wanted: &str) -> bool {
    known.is_none_or(|known| known == wanted)
}

fn shortened(name: String) -> String {
    let Some(beginning) = name.get(..MAX_NAME - HASH - 1).filter(|_| name.len() > MAX_NAME) else { return name };
    let hash: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{beginning}-{}", hash.get(..HASH).unwrap_or(&hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: HelmReleaseNames<'_> = HelmReleaseNames {
        name: "coredns",
        namespace: Some("flux-system"),
        release_name: None,
        target_namespace: None,
        storage_namespace: None,
    };

    fn id(namespace: &str, name: &str) -> ReleaseId {
        ReleaseId { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn a_helm_release_owns_what_flux_says_it_does() {
        assert!(OwnedRelease::owned_by(NAMES).is(&id("flux-system", "coredns")));
        let target = HelmReleaseNames { target_namespace: Some("kube-system"), ..NAMES };
        assert_eq!(OwnedRelease::owned_by(target).to_string(), "kube-system/kube-system-coredns");
        let named = HelmReleaseNames { release_name: Some("coredns"), ..target };
        let owned = OwnedRelease::owned_by(named);
        assert!(!owned.is(&id("kube-system", "coredns")), "its record is in flux-system");
        assert_eq!(owned.settings_for(&id("kube-system", "coredns")), "`storageNamespace: kube-system`");
        assert!(
            OwnedRelease::owned_by(HelmReleaseNames { storage_namespace: Some("kube-system"), ..named })
                .is(&id("kube-system", "coredns"))
        );
        let expected = "`releaseName: coredns` and `storageNamespace: kube-system`";
        assert_eq!(OwnedRelease::owned_by(target).settings_for(&id("kube-system", "coredns")), expected);
    }

    #[test]
    fn what_is_not_known_is_no_difference() {
        let owned = OwnedRelease::owned_by(HelmReleaseNames { namespace: None, ..NAMES });
        assert!(owned.is(&id("kube-system", "coredns")) && !owned.is(&id("kube-system", "cilium")));
    }

    #[test]
    fn a_long_name_is_shortened_with_a_hash() {
        let name = "a".repeat(54);
        let owned = OwnedRelease::owned_by(HelmReleaseNames { name: &name, ..NAMES });
        // `printf %054d | tr 0 a | sha256sum`
        assert_eq!(owned.name, format!("{}-a3f01b693925", "a".repeat(40)));
        let name = "a".repeat(53);
        assert_eq!(OwnedRelease::owned_by(HelmReleaseNames { name: &name, ..NAMES }).name, name);
    }
}
