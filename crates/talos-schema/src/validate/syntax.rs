//! The forms of names, addresses and URLs that Talos and Kubernetes take.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::super::typed::Url;

/// An address or a network, with an exclamation mark in front or without.
pub(super) fn is_subnet_or_address(text: &str) -> bool {
    let text = text.strip_prefix('!').unwrap_or(text);
    IpNet::from_str(text).is_ok() || IpAddr::from_str(text).is_ok()
}

/// As Go's `net.ParseCIDR` takes it when there is a slash, an address when there is none.
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

/// Lower-case labels with dots between.
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

/// Why a label's or annotation's key is none: `prefix/name`.
pub(super) fn key_problem(key: &str) -> Option<String> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    match prefix {
        Some("") => return Some(format!("the prefix of \"{key}\" is empty")),
        Some(prefix) if !is_subdomain(prefix) => return Some(format!("the prefix \"{prefix}\" is no DNS name")),
        _ => {}
    }
    (!is_qualified(name)).then(|| format!("the name \"{name}\" is invalid"))
}

pub(super) fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_qualified(value)
}

/// A key of WireGuard: 32 bytes in base64.
pub(super) fn is_wireguard_key(text: &str) -> bool {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

/// Whether a text holds PEM blocks, every one of them with this label when one is given.
pub(super) fn is_pem(text: &str, label: Option<&str>) -> bool {
    let blocks = pem::parse_many(text).unwrap_or_default();
    !blocks.is_empty() && blocks.iter().all(|block| label.is_none_or(|label| block.tag() == label))
}

/// What is plainly wrong with a CEL expression. Whether its names exist only the node knows.
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
                    None => return Some("has a text that does not end"),
                }
            },
            '(' => open.push(')'),
            '[' => open.push(']'),
            '{' => open.push('}'),
            ')' | ']' | '}' if open.pop() != Some(character) => return Some("has a bracket that nothing opens"),
            _ => {}
        }
    }
    let unfinished = text.trim_end().ends_with(['=', '<', '>', '&', '|', '+', '-', '*', '/', '!', '.', ',', '?', ':']);
    if !open.is_empty() {
        Some("has a bracket that nothing closes")
    } else if unfinished {
        Some("ends in the middle")
    } else {
        None
    }
}
