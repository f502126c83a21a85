//! The names of things in a plan.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(Arc<str>);

        impl $type {
            pub fn new(name: impl AsRef<str>) -> Self {
                Self(Arc::from(name.as_ref()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// A step: `kind/object`, such as `machine-config/infra-cp-01`. Stable from run to run.
    StepId
}
name! {
    /// A phase, such as `cilium`.
    PhaseName
}

/// What a step was made from: a SHA-256 over all of its inputs (rendered values, configs, arguments, addresses).
///
/// The journal records it with every step that is done. When the same step has another fingerprint in a later run, its
/// inputs have changed, and its record in the journal is void: the step has to be observed in full. The
/// same fingerprint proves nothing about the cluster. Secret inputs go in as an HMAC keyed from the cluster's bundle
/// ([`FingerprintBuilder::secret`]), because a plain digest of a short secret can be guessed from the journal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    pub fn builder() -> FingerprintBuilder {
        FingerprintBuilder(Sha256::new())
    }

    /// All 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve hexadecimal digits, enough to distinguish fingerprints on a screen.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// Collects the inputs of a step. Parts are length-prefixed, so that no two lists of parts look alike.
#[derive(Debug, Clone)]
pub struct FingerprintBuilder(Sha256);

impl FingerprintBuilder {
    #[must_use]
    pub fn part(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds several parts.
    #[must_use]
    pub fn parts(self, parts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        parts.into_iter().fold(self, Self::part)
    }

    /// Adds a secret input.
    #[must_use]
    pub fn secret(self, key: &FingerprintKey, secret: &SecretString) -> Self {
        let mut mac = key.0.clone();
        mac.update(secret.expose_secret().as_bytes());
        self.part(mac.finalize().into_bytes())
    }

    pub fn finish(self) -> Fingerprint {
        use fmt::Write;
        let mut hex = String::with_capacity(64);
        for byte in self.0.finalize() {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Fingerprint(hex)
    }
}

/// Keys the fingerprints of secret inputs. It is made from the cluster's bundle, so that only who has the bundle can
/// test guesses against a journal.
#[derive(Clone)]
pub struct FingerprintKey(Hmac<Sha256>);

impl FingerprintKey {
    pub fn new(secret: &SecretString) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC accepts keys of every length (RFC 2104)")]
        let mac = Hmac::new_from_slice(secret.expose_secret().as_bytes()).expect("a key of any length");
        Self(mac)
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FingerprintKey").finish_non_exhaustive()
    }
}
