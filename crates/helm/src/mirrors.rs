//! Registry mirrors, for air-gapped installs and rehearsals.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Registry host to `[http://]HOST[:PORT][/PREFIX]`. The key `*` applies to every host without an entry; its content is
/// below the original host's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirrors(pub BTreeMap<String, String>);

/// A chart reference with mirrors applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirroredReference {
    /// `HOST[:PORT]/PATH`, without a scheme.
    pub reference: String,
    /// The registry is accessed by HTTP without TLS: the mirror is written with `http://`, or is on this machine.
    pub plain_http: bool,
    /// Whether it refers to a mirror.
    pub mirrored: bool,
}

impl Mirrors {
    /// Replaces the host of `HOST[:PORT]/PATH`.
    pub fn resolve(&self, reference: &str) -> MirroredReference {
        let (host, path) = reference.split_once('/').unwrap_or((reference, ""));
        let (target, path) = match (self.0.get(host), self.0.get("*")) {
            (Some(mirror), _) => (mirror.as_str(), path),
            (None, Some(mirror)) => (mirror.as_str(), reference),
            (None, None) => {
                return MirroredReference { plain_http: is_local(host), reference: reference.into(), mirrored: false };
            }
        };
        let written_http = target.starts_with("http://");
        let target = target.trim_start_matches("http://").trim_start_matches("https://").trim_start_matches("oci://");
        let target = target.trim_end_matches('/');
        let host = target.split('/').next().unwrap_or(target);
        MirroredReference {
            plain_http: written_http || is_local(host),
            reference: if path.is_empty() { target.to_owned() } else { format!("{target}/{path}") },
            mirrored: true,
        }
    }

    /// Whether there is a mirror for this host.
    pub fn has_mirror(&self, host: &str) -> bool {
        self.0.contains_key(host) || self.0.contains_key("*")
    }
}

/// Whether `HOST[:PORT]` is this machine.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or(bracketed),
        None => host.split(':').next().unwrap_or(host),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(mirrors: &[(&str, &str)], reference: &str) -> (String, bool) {
        let mirrors = mirrors.iter().map(|(host, mirror)| ((*host).to_owned(), (*mirror).to_owned())).collect();
        let resolved = Mirrors(mirrors).resolve(reference);
        (resolved.reference, resolved.plain_http)
    }

    #[test]
    fn a_host_is_replaced_and_the_star_keeps_it_as_a_prefix() {
        let cilium = "quay.io/cilium/charts/cilium";
        for (mirrors, reference, plain_http) in [
            (&[][..], cilium, false),
            (&[("quay.io", "registry.lan:5000")], "registry.lan:5000/cilium/charts/cilium", false),
            (&[("quay.io", "registry.lan/mirror/")], "registry.lan/mirror/cilium/charts/cilium", false),
            (&[("quay.io", "http://registry.lan")], "registry.lan/cilium/charts/cilium", true),
            (&[("ghcr.io", "registry.lan")], cilium, false),
            (&[("*", "127.25.11.10:5000")], "127.25.11.10:5000/quay.io/cilium/charts/cilium", true),
            (&[("*", "other.lan"), ("quay.io", "[::1]:5000")], "[::1]:5000/cilium/charts/cilium", true),
        ] {
            assert_eq!(resolve(mirrors, cilium), (reference.to_owned(), plain_http), "{mirrors:?}");
        }
    }
}
