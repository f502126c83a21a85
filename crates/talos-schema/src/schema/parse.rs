//! Parser of `types.txt`; that file explains its notation.

use std::collections::HashMap;

use super::{DocumentKind, Field, ListRule, Scalar, Schema, Struct, Type};
use crate::Contract;

/// The name of the legacy document in the table.
pub(super) const LEGACY: &str = "-";

/// Names of types and enums.
#[derive(Default)]
struct Names {
    types: HashMap<&'static str, usize>,
    enums: HashMap<&'static str, Vec<&'static str>>,
}

/// A line of the table that is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}: {text}")]
pub(super) struct TableError {
    pub(super) line: usize,
    problem: &'static str,
    text: &'static str,
}

pub(super) fn parse(text: &'static str) -> Result<Schema, TableError> {
    let names = names(text);
    let mut schema = Schema::default();
    // Whether the following fields belong to a kind or to a type.
    let mut in_kind = None;
    for (index, line) in text.lines().enumerate() {
        let fail = |problem| TableError { line: index + 1, problem, text: line };
        let words: Vec<&'static str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] | ["#" | "enum", ..] => {}
            ["kind", name, flags @ ..] if !line.starts_with(' ') => {
                in_kind = Some(true);
                let since = match flags {
                    ["since", version, ..] => version.parse().map_err(|_| fail("unknown version"))?,
                    _ => Contract::V1_11,
                };
                schema.kinds.push(DocumentKind {
                    name,
                    since,
                    named: flags.contains(&"named"),
                    control_plane_only: flags.contains(&"control-plane"),
                    body: Struct::default(),
                });
            }
            ["type", _] if !line.starts_with(' ') => {
                in_kind = Some(false);
                schema.types.push(Struct::default());
            }
            [name, value_type, rule @ ..] => {
                let field = field(name, value_type, rule, &names).ok_or_else(|| fail("unknown type or rule"))?;
                let body = match in_kind {
                    Some(true) => schema.kinds.last_mut().map(|kind| &mut kind.body),
                    Some(false) => schema.types.last_mut(),
                    None => None,
                };
                body.ok_or_else(|| fail("field outside of a kind or type"))?.fields.push(field);
            }
            [_] => return Err(fail("field without a type")),
        }
    }
    Ok(schema)
}

fn names(text: &'static str) -> Names {
    let mut names = Names::default();
    for line in text.lines().filter(|line| !line.starts_with(' ')) {
        let words: Vec<&'static str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["type", name] => {
                let index = names.types.len();
                names.types.insert(name, index);
            }
            ["enum", name, values @ ..] => {
                names.enums.insert(name, values.to_vec());
            }
            _ => {}
        }
    }
    names
}

fn field(name: &'static str, value_type: &'static str, rule: &[&'static str], names: &Names) -> Option<Field> {
    let (value_type, always) =
        value_type.strip_suffix('!').map_or((value_type, false), |value_type| (value_type, true));
    let (list, replace) = match rule {
        [] => (ListRule::Append, false),
        ["replace"] => (ListRule::Append, true),
        ["by", keys @ ..] => (ListRule::MergeBy(keys.to_vec()), false),
        ["swap", key] => (ListRule::ReplaceBy(key), false),
        _ => return None,
    };
    Some(Field { name, value_type: of_text(value_type, &list, names)?, always, replace })
}

fn of_text(text: &'static str, list: &ListRule, names: &Names) -> Option<Type> {
    if let Some(inner) = text.strip_prefix('?') {
        return Some(Type::Optional(Box::new(of_text(inner, list, names)?)));
    }
    if let Some(inner) = text.strip_prefix('[') {
        return Some(Type::List(Box::new(of_text(inner.strip_suffix(']')?, list, names)?), list.clone()));
    }
    if let Some(inner) = text.strip_prefix('{') {
        return Some(Type::Map(Box::new(of_text(inner.strip_suffix('}')?, list, names)?)));
    }
    if let Some(index) = names.types.get(text) {
        return Some(Type::Struct(*index));
    }
    if let Some(values) = names.enums.get(text) {
        return Some(Type::Enum(values.clone()));
    }
    match text {
        "free" => Some(Type::Free),
        "args" => Some(Type::Arguments),
        _ => scalar(text).map(Type::Scalar),
    }
}

fn scalar(text: &str) -> Option<Scalar> {
    Some(match text {
        "string" => Scalar::String,
        "manifest" => Scalar::Manifest,
        "bool" => Scalar::Bool,
        "int" => Scalar::Integer(i64::MIN, i64::MAX.unsigned_abs()),
        "uint" | "uint64" => Scalar::Integer(0, u64::MAX),
        "uint8" => Scalar::Integer(0, u8::MAX.into()),
        "uint16" => Scalar::Integer(0, u16::MAX.into()),
        "uint32" => Scalar::Integer(0, u32::MAX.into()),
        "duration" => Scalar::Duration,
        "url" => Scalar::Url,
        "address" => Scalar::Address,
        "address-port" => Scalar::AddressPort,
        "prefix" => Scalar::Prefix,
        "mac" => Scalar::Mac,
        "base64" => Scalar::Base64,
        "size" => Scalar::Size,
        "size-or-percent" => Scalar::SizeOrPercent,
        "disk-size" => Scalar::DiskSize,
        "size-condition" => Scalar::SizeCondition,
        "mode" => Scalar::Mode,
        "ports" => Scalar::Ports,
        "table" => Scalar::Table,
        "cel" => Scalar::Expression,
        _ => return None,
    })
}
