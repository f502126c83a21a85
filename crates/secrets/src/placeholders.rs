//! Placeholders of the right type for a secret, chosen by the key and the manifest that contain it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const PLAIN: &str = "placeholder";
const OBJECT: &str = "{}";
/// An age identity that can be parsed and decrypts nothing: kustomize-controller 1.7.3 rejects a Kustomization whose
/// decryption Secret holds one with an invalid checksum, whether it has encrypted files or not.
const AGE_IDENTITY: &str = "AGE-SECRET-KEY-1PLACEHXLDERPLACEHXLDERPLACEHXLDERPLACEHXLDERPLACEHXQQ5VZP6";

/// Talos's secrets are base64, most of them of 32 bytes; its tokens may be any text.
const OF_TALOS: &str = "cGxhY2Vob2xkZXItcGxhY2Vob2xkZXItcGxhY2Vob2w=";

/// The placeholder for a value on a line (from 1) of a manifest; `hint` is whatever else names the value.
pub(super) fn placeholder(text: &str, line: usize, hint: &str) -> String {
    let value = unindented(text, line, hint);
    format!("{}{value}", " ".repeat(lacking(text, line)))
}

/// How far the value has to be indented, where the reference on this line stands for the indented content of a block
/// scalar that begins above it.
fn lacking(text: &str, line: usize) -> usize {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = text.lines().skip(line.saturating_sub(2));
    match (lines.next(), lines.next()) {
        (Some(above), Some(own)) if line > 1 => {
            let opens = [": |", ": |-", ": |+"].iter().any(|mark| above.trim_end().ends_with(mark));
            if opens { (indent(above) + 2).saturating_sub(indent(own)) } else { 0 }
        }
        _ => 0,
    }
}

fn unindented(text: &str, line: usize, hint: &str) -> String {
    let document = Document::around(text, line.saturating_sub(1));
    let keys = document.keys();
    if document.is_machine_config() {
        return of_network(&keys, hint).unwrap_or(OF_TALOS).to_owned();
    }
    let plain = shape(keys.first().copied().unwrap_or_default(), hint);
    // The values of a Secret's `data` are base64, whatever they hold.
    if document.is_secret() && keys.last() == Some(&"data") && keys.len() > 1 {
        STANDARD.encode(plain)
    } else if plain == OBJECT && document.is_bare() {
        // Without quotes it would be a mapping, where a Secret holds strings.
        format!("'{plain}'")
    } else {
        plain.to_owned()
    }
}

/// How a manifest holds a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Plain,
    Base64,
}

/// The placeholder for the value of a key.
pub(super) fn placeholder_of_key(key: &str, encoding: Encoding) -> String {
    let plain = shape(key, "");
    match encoding {
        Encoding::Plain => plain.to_owned(),
        Encoding::Base64 => STANDARD.encode(plain),
    }
}

fn shape(named: &str, words: &str) -> &'static str {
    let (key, hint) = (named.to_lowercase(), words.to_lowercase());
    let of_age = ["agekey", "age_key", "age-key", "sops-age", "sops_age", "sops_private_key", "age.key"];
    if key == "keys.txt" || of_age.iter().any(|words| key.contains(words) || hint.contains(words)) {
        return AGE_IDENTITY;
    }
    if key.ends_with("json") || hint.ends_with("json") {
        return OBJECT;
    }
    of_network(&[named], "").or_else(|| of_network(&[], words)).unwrap_or(PLAIN)
}

/// What stands for an address, a network or an endpoint, as the keys, the innermost first, or else the hint have it. The
/// addresses are those of RFC 5737, RFC 2544 and RFC 4193.
fn of_network(keys: &[&str], hint: &str) -> Option<&'static str> {
    if keys.first() == Some(&"endpoint") {
        let of_logs = keys.contains(&"destinations");
        return Some(if of_logs { "tcp://192.0.2.1:514" } else { "https://192.0.2.1:6443" });
    }
    let hint = hint.rsplit('/').next().unwrap_or_default();
    let key = keys.first().filter(|key| !key.is_empty()).copied().unwrap_or(hint);
    let is_ip = key.ends_with("IP") || key.eq_ignore_ascii_case("ip") || key.to_lowercase().ends_with("_ip");
    let words = key.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    let forms = [Some(words.as_str()), words.strip_suffix('s'), words.strip_suffix("es")];
    let ends = |parts: &[&str]| parts.iter().any(|part| forms.iter().flatten().any(|form| form.ends_with(part)));
    let is_v6 = has(&["v6"]);
    match () {
        () if is_v6 && ends(&["prefix"]) => Some("fd00"),
        () if has(&["cidr", "subnet", "podnet", "svcnet"]) => Some(match (is_v6, has(&["svc", "service"])) {
            (true, _) => "fd00::/108",
            (false, true) => "198.19.0.0/16",
            (false, false) => "198.18.0.0/16",
        }),
        () if is_ip || ends(&["ipv4", "ipv6", "vip", "addr", "address", "gateway", "nameserver"]) => {
            Some(if is_v6 { "fd00::1" } else { "192.0.2.1" })
        }
        () => None,
    }
}

/// The lines of one YAML document up to a line of it.
struct Document<'t> {
    before: Vec<&'t str>,
    line: &'t str,
    all: Vec<&'t str>,
}

impl<'t> Document<'t> {
    fn around(text: &'t str, index: usize) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let is_boundary = |line: &&str| line.starts_with("---");
        let start = lines.iter().take(index).rposition(is_boundary).map_or(0, |at| at + 1);
        let end = lines.iter().skip(index).position(is_boundary).map_or(lines.len(), |at| index + at);
        Self {
            before: lines.get(start..index).unwrap_or_default().to_vec(),
            line: lines.get(index).copied().unwrap_or_default(),
            all: lines.get(start..end).unwrap_or_default().to_vec(),
        }
    }

    /// Whether the line gives its key a reference without quotes.
    fn is_bare(&self) -> bool {
        self.line.split_once(": ").is_some_and(|(_, value)| value.trim_start().starts_with("op://"))
    }

    fn is_secret(&self) -> bool {
        self.all.iter().any(|line| line.strip_prefix("kind:").is_some_and(|kind| kind.trim() == "Secret"))
    }

    fn is_machine_config(&self) -> bool {
        let begins = |key: &str| self.all.iter().any(|line| line.starts_with(key));
        begins("machine:")
            || begins("cluster:")
            || self.all.iter().any(|line| line.trim_end() == "apiVersion: v1alpha1")
    }

    /// The keys that hold the line, from the innermost to the outermost.
    fn keys(&self) -> Vec<&'t str> {
        let mut keys = Vec::new();
        let mut depth = usize::MAX;
        for line in std::iter::once(&self.line).chain(self.before.iter().rev()) {
            let content = line.trim_start();
            let indent = line.len() - content.len();
            if content.is_empty() || content.starts_with('#') || indent >= depth {
                continue;
            }
            if let Some(key) = key(content) {
                keys.push(key);
                depth = indent;
            } else if keys.is_empty() {
                // A line of a block scalar: its key is further out.
                depth = indent;
            }
        }
        keys
    }
}

/// The key that a line of a mapping starts with.
fn key(content: &str) -> Option<&str> {
    let content = content.trim_start_matches("- ");
    let end = content.find(": ").or_else(|| content.strip_suffix(':').map(str::len))?;
    let key = content[..end].trim().trim_matches(['"', '\'']);
    (!key.is_empty() && !key.contains("op://")).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksum of Bech32 (BIP 173); 1 for a valid text.
    fn checksum(text: &str) -> u32 {
        const LETTERS: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
        const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
        let text = text.to_lowercase();
        let (prefix, content) = text.rsplit_once('1').unwrap();
        let high = prefix.bytes().map(|byte| u32::from(byte >> 5));
        let low = prefix.bytes().map(|byte| u32::from(byte & 31));
        let content = content.chars().map(|letter| u32::try_from(LETTERS.find(letter).unwrap()).unwrap());
        high.chain([0]).chain(low).chain(content).fold(1, |sum, value| {
            let step = |sum, (bit, generator)| if (sum >> (25 + bit)) & 1 == 1 { generator } else { 0 };
            let added =
                GENERATOR.iter().enumerate().fold(0, |added, (bit, generator)| added ^ step(sum, (bit, *generator)));
            ((sum & 0x1ff_ffff) << 5) ^ value ^ added
        })
    }

    #[test]
    fn an_age_placeholder_is_an_identity() {
        assert_eq!(AGE_IDENTITY.len(), "AGE-SECRET-KEY-1".len() + 58);
        assert_eq!(checksum(AGE_IDENTITY), 1);
        assert_ne!(checksum(&AGE_IDENTITY.replace("VZP6", "VZP7")), 1);
    }

    #[test]
    fn keys_are_found_through_block_scalars_and_lists() {
        let text = "kind: Secret\nstringData:\n  # a comment\n  config.yaml: |\n\n    token = x\n    other = y\nmore:\n  - name: z\n";
        let keys = |line: usize| Document::around(text, line - 1).keys().join(" < ");
        assert_eq!(keys(7), "config.yaml < stringData");
        assert_eq!(keys(9), "name < more");
        assert_eq!(keys(1), "kind");
    }

    #[test]
    fn a_secret_of_talos_is_base64_of_32_bytes() {
        assert_eq!(STANDARD.decode(OF_TALOS).unwrap().len(), 32);
        let text = "machine:\n  ca:\n    crt: op://v/i/f\n---\napiVersion: v1alpha1\nkind: X\nsecret: op://v/i/f\n---\nkind: Secret\n\
                    data:\n  a: op://v/i/f\n";
        assert_eq!([3, 7].map(|line| placeholder(text, line, "op://v/i/f")), [OF_TALOS, OF_TALOS]);
        assert_eq!(placeholder(text, 11, "op://v/i/f"), STANDARD.encode(PLAIN));
    }

    #[test]
    fn what_names_an_address_or_a_network_gets_one() {
        let of = |key: &str| placeholder_of_key(key, Encoding::Plain);
        assert_eq!(of("CLUSTER_POD_V6_CIDR"), "fd00::/108");
        assert_eq!(["clusterEndpointIP", "gateway", "podSubnets"].map(of), ["192.0.2.1", "192.0.2.1", "198.18.0.0/16"]);
        assert_eq!(placeholder("op://v/net/IPV6_PREFIX", 1, "op://v/net/IPV6_PREFIX"), "fd00");
        let logs = "machine:\n  logging:\n    destinations:\n      - endpoint: op://v/i/f\n";
        assert_eq!(placeholder(logs, 4, "op://v/i/f"), "tcp://192.0.2.1:514");
        assert_eq!(of("recipes"), PLAIN);
    }

    #[test]
    fn an_object_without_quotes_stays_a_string() {
        let text = "kind: Secret\nstringData:\n  a.json: op://v/i/f\n  b.json: 'op://v/i/f'\n";
        assert_eq!(placeholder(text, 3, "op://v/i/f"), "'{}'");
        assert_eq!(placeholder(text, 4, "op://v/i/f"), "{}");
    }
}
