//! Typed scalars, decoded like Go decodes them from YAML.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::schema::Scalar;
use super::duration;
use super::url::Url;

/// The placeholder that Talos shows for a redacted key and accepts as one.
const REDACTED: &str = "******";

/// The description of an expected value, such as `an IP address`.
#[derive(Debug)]
pub(super) struct Expected(pub(super) Cow<'static, str>);

impl From<&'static str> for Expected {
    fn from(description: &'static str) -> Self {
        Self(Cow::Borrowed(description))
    }
}

/// Decodes a scalar.
///
/// # Errors
///
/// A description of the expected value.
pub(super) fn read(kind: Scalar, resolved: &Value, spelled: &str) -> Result<Value, Expected> {
    let text = || Value::String(spelled.to_owned());
    let when = |valid: bool, expected: &'static str| if valid { Ok(text()) } else { Err(expected.into()) };
    match kind {
        Scalar::String | Scalar::Expression => Ok(text()),
        Scalar::Manifest => {
            Ok(Value::String(spelled.trim_start_matches(['\t', '\n', '\u{b}', '\u{c}', '\r']).to_owned()))
        }
        Scalar::Bool => boolean(resolved).map(Value::Bool).ok_or_else(|| "true or false".into()),
        Scalar::Integer(low, high) => integer(resolved, low, high).ok_or_else(|| between(low, high)),
        Scalar::Mode => integer(resolved, 0, u32::MAX.into()).ok_or_else(|| "a file mode such as 0o644".into()),
        Scalar::Duration => {
            let is_text = matches!(resolved, Value::String(_));
            when(is_text && duration::parse(spelled).is_some(), "a duration such as 90s or 1h30m")
        }
        Scalar::Url => when(Url::parse(spelled).is_some(), "a URL"),
        Scalar::Address => canonical(spelled, address(spelled), "an IP address"),
        Scalar::AddressPort => canonical(spelled, address_port(spelled), "an IP address and port"),
        Scalar::Prefix => canonical(spelled, prefix(spelled), "an IP network such as 10.0.0.0/8"),
        Scalar::Mac => canonical(spelled, mac(spelled), "a hardware address such as 52:54:00:aa:bb:cc"),
        Scalar::Base64 => when(is_base64(spelled), "base64"),
        Scalar::Size => when(spelled.is_empty() || signed_size(spelled), "a size such as 10GiB"),
        Scalar::SizeOrPercent => {
            let percent = spelled.contains('%');
            let valid = spelled.is_empty() || if percent { is_percent(spelled) } else { signed_size(spelled) };
            when(valid, "a size such as 10GiB or a percentage such as 80%")
        }
        Scalar::DiskSize => match size(spelled) {
            Some(_) => Ok(resolved.clone()),
            None => Err("a size such as 10GiB".into()),
        },
        Scalar::SizeCondition => {
            let condition = spelled.trim();
            let number = condition.trim_start_matches(['<', '>', '=']);
            let known = ["", "<", ">", "<=", ">=", "=="].contains(&&condition[..condition.len() - number.len()]);
            if known && size(number).is_some() {
                Ok(Value::String(condition.to_owned()))
            } else {
                Err("a size with a comparison such as `>= 100GB`".into())
            }
        }
        Scalar::Ports => ports(resolved, spelled).ok_or_else(|| "a port or a range such as 8000-8080".into()),
        Scalar::Table => {
            let number = spelled.parse::<u8>().is_ok_and(|number| (1..253).contains(&number));
            when(number || ["unspec", "default", "main", "local"].contains(&spelled), "a routing table")
        }
    }
}

/// The canonical form of a string; an empty one is the zero value.
fn canonical(spelled: &str, value: Option<String>, expected: &'static str) -> Result<Value, Expected> {
    if spelled.is_empty() {
        return Ok(Value::String(String::new()));
    }
    value.map(Value::String).ok_or_else(|| expected.into())
}

/// YAML 1.1 words such as `yes` are accepted, quoted or not.
fn boolean(resolved: &Value) -> Option<bool> {
    match resolved {
        Value::Bool(value) => Some(*value),
        Value::String(text) => match text.as_str() {
            "y" | "Y" | "yes" | "on" => Some(true),
            "n" | "N" | "no" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn integer(resolved: &Value, low: i64, high: u64) -> Option<Value> {
    let number = resolved.as_number()?;
    if let Some(value) = number.as_u64() {
        return (value <= high).then(|| Value::from(value));
    }
    if let Some(value) = number.as_i64() {
        return (value >= low).then(|| Value::from(value));
    }
    // Go accepts `1e3` as an integer.
    let value = number.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
    let whole = (value.fract() == 0.0 && value.abs() < 9e15).then_some(value as i64)?;
    (whole >= low && u64::try_from(whole).map_or(true, |whole| whole <= high)).then(|| Value::from(whole))
}

fn between(low: i64, high: u64) -> Expected {
    if low == 0 && high < u64::MAX { Expected(format!("an integer up to {high}").into()) } else { "an integer".into() }
}

/// An IP address, with or without a zone.
fn address(text: &str) -> Option<String> {
    match text.split_once('%') {
        Some((address, zone)) if !zone.is_empty() => {
            address.parse::<Ipv6Addr>().ok().map(|address| format!("{address}%{zone}"))
        }
        Some(_) => None,
        None => text.parse::<IpAddr>().ok().map(|address| address.to_string()),
    }
}

fn address_port(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    match host.strip_prefix('[') {
        Some(host) => {
            let host = address(host.strip_suffix(']')?)?;
            host.contains(':').then(|| format!("[{host}]:{port}"))
        }
        None => address(host).filter(|host| !host.contains(':')).map(|host| format!("{host}:{port}")),
    }
}

fn prefix(text: &str) -> Option<String> {
    let (host, bits) = text.split_once('/')?;
    let host: IpAddr = host.parse().ok()?;
    let most = if host.is_ipv4() { 32 } else { 128 };
    let plain = bits == "0" || !bits.starts_with(['0', '+']);
    let bits: u8 = bits.parse().ok()?;
    (plain && bits <= most).then(|| format!("{host}/{bits}"))
}

fn mac(text: &str) -> Option<String> {
    let digits = text.replace(':', "").to_lowercase();
    let even = digits.len().is_multiple_of(2) && digits.chars().all(|digit| digit.is_ascii_hexdigit());
    let pairs: Vec<&str> = (0..digits.len()).step_by(2).filter_map(|at| digits.get(at..at + 2)).collect();
    even.then(|| pairs.join(":"))
}

/// Go ignores line breaks.
fn is_base64(text: &str) -> bool {
    text == REDACTED || STANDARD.decode(text.replace(['\n', '\r'], "")).is_ok()
}

fn signed_size(text: &str) -> bool {
    size(text.strip_prefix('-').unwrap_or(text)).is_some()
}

/// Parses a size like go-humanize: `10GiB`, `1.5 TB`, `4096`; in bytes.
pub(crate) fn size(text: &str) -> Option<f64> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ',')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.replace(',', "").parse().ok()?;
    let unit = unit.trim().to_lowercase();
    let (base, prefix) = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('i')) {
        Some(prefix) if !prefix.is_empty() => (1024_f64, prefix),
        _ => (1000_f64, unit.strip_suffix('b').unwrap_or(&unit)),
    };
    let power = ["", "k", "m", "g", "t", "p", "e"].iter().position(|known| *known == prefix)?;
    let bytes = number * base.powi(i32::try_from(power).ok()?);
    (bytes < 1.8e19).then_some(bytes)
}

fn is_percent(text: &str) -> bool {
    let number = text.strip_suffix('%').map(|number| number.strip_prefix('-').unwrap_or(number));
    number.and_then(|number| number.parse::<f64>().ok()).is_some_and(|number| (0.0..=100.0).contains(&number))
}

fn ports(resolved: &Value, spelled: &str) -> Option<Value> {
    if resolved.is_number() {
        return integer(resolved, 0, u16::MAX.into());
    }
    let (low, high) = spelled.split_once('-')?;
    let (low, high): (u16, u16) = (low.parse().ok()?, high.parse().ok()?);
    Some(if low == high { Value::from(low) } else { Value::String(format!("{low}-{high}")) })
}
