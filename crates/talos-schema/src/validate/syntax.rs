//! Formats of names, addresses and URLs in Talos and Kubernetes.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::super::typed::Url;

/// An address or a network, with or without a leading exclamation mark.
pub(super) fn is_subnet_or_address(text: &str) -> bool {
    let text = text.strip_prefix('!').unwrap_or(text);
    IpNet::from_str(text).is_ok() || IpAddr::from_str(text).is_ok()
}

/// A CIDR as in Go's `net.ParseCIDR` when it has a slash, else an IP address.
pub(super) fn is_address(text: &str) -> bool {
    if text.contains('/') { IpNet::from_str(text).is_ok() } else { IpAddr::from_str(text).is_ok() }
}

/// A URL with a host, IPv6 addresses in brackets.
pub(super) fn is_endpoint(text: &str) -> bool {
    Url::parse(text).is_some_and(|url| {
        let bracketed = text.contains('[') || !url.host.contains(':');
        !url.host.is_empty() && bracketed && (url.port.is_empty() || url.port.parse::<u16>().is_ok())
    })
}

pub(super) fn is_dns_name(text: &str) -> bool {
    let body = text.strip_suffix(['.', '_']).unwrap_or(text);
    let label = |label: &str| {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        label.len() <= 63 && label.starts_with(word) && label.chars().all(|c| word(c) || c == '-')
    };
    !text.is_empty() && text.len() <= 255 && body.split('.').all(label)
}

/// Lower-case labels separated by dots.
pub(super) fn is_subdomain(text: &str) -> bool {
    let label = |label: &str| {
        let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        label.starts_with(edge) && label.ends_with(edge) && label.chars().all(|c| edge(c) || c == '-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn is_qualified(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    name.len() <= 63
        && name.starts_with(edge)
        && name.ends_with(edge)
        && name.chars().all(|c| edge(c) || matches!(c, '-' | '_' | '.'))
}

/// The problem of a label or annotation key (`prefix/name`), if it is invalid.
pub(super) fn key_problem(key: &str) -> Option<String> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    match prefix {
        Some("") => return Some(format!("the prefix of \"{key}\" is empty")),
        Some(prefix) if !is_subdomain(prefix) => return Some(format!("the prefix \"{prefix}\" is not a DNS name")),
        _ => {}
    }
    (!is_qualified(name)).then(|| format!("the name \"{name}\" is invalid"))
}

pub(super) fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_qualified(value)
}

/// A WireGuard key: the base64 of 32 bytes.
pub(super) fn is_wireguard_key(text: &str) -> bool {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

/// Whether a text consists of PEM blocks, all with this label if one is given.
pub(super) fn is_pem(text: &str, label: Option<&str>) -> bool {
    let blocks = pem::parse_many(text).unwrap_or_default();
    !blocks.is_empty() && blocks.iter().all(|block| label.is_none_or(|label| block.tag() == label))
}

/// A syntax error of a CEL expression. Only the node can check its identifiers.
pub(super) fn expression_problem(text: &str) -> Option<&'static str> {
    let mut open = Vec::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' | '\'' => loop {
                match characters.next() {
                    Some('\\') => drop(characters.next()),
                    Some(next) if next == character => break,
                    Some(_) => {}
                    None => return Some("has an unterminated string"),
                }
            },
            '(' => open.push(')'),
            '[' => open.push(']'),
            '{' => open.push('}'),
            ')' | ']' | '}' if open.pop() != Some(character) => return Some("has an unmatched closing bracket"),
            _ => {}
        }
    }
    let unfinished = text.trim_end().ends_with(['=', '<', '>', '&', '|', '+', '-', '*', '/', '!', '.', ',', '?', ':']);
    if !open.is_empty() {
        Some("has an unclosed bracket")
    } else if unfinished {
        Some("is incomplete")
    } else {
        None
    }
}
