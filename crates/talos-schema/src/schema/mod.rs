//! The schema of Talos machine configs, as data.
//!
//! `schema` is the table of `types.txt`: every document kind with its fields and their types, and the rules by which
//! a patch merges into them. Generic code (reading, merging, deleting, writing) walks this table, so that a new Talos
//! version needs new lines there and no new code. No rule here names a field.

mod parse;

use std::sync::LazyLock;

use crate::Contract;

/// All document kinds and shared types.
#[derive(Debug, Default)]
pub(super) struct Schema {
    kinds: Vec<DocumentKind>,
    types: Vec<Struct>,
}

/// A document kind. The legacy document, which has no `kind`, is named `-`.
#[derive(Debug)]
pub(super) struct DocumentKind {
    pub(super) name: &'static str,
    /// The first Talos version with this kind; 1.11 also stands for earlier versions.
    pub(super) since: Contract,
    /// Documents of this kind are distinguished by their `name`.
    pub(super) named: bool,
    pub(super) control_plane_only: bool,
    pub(super) body: Struct,
}

/// Named fields, in the order in which Talos writes them.
#[derive(Debug, Default)]
pub(super) struct Struct {
    pub(super) fields: Vec<Field>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) value_type: Type,
    /// Talos writes the field even when it is empty.
    pub(super) always: bool,
    /// A patch replaces the whole value.
    pub(super) replace: bool,
}

#[derive(Debug)]
pub(super) enum Type {
    Scalar(Scalar),
    /// The allowed strings; the first is the zero value.
    Enum(Vec<&'static str>),
    /// A pointer in Go: a zero value counts as set.
    Optional(Box<Type>),
    List(Box<Type>, ListRule),
    Map(Box<Type>),
    /// An index into the schema's types, see [`Schema::struct_type`].
    Struct(usize),
    /// Arguments by name, each a string or a list of strings; a patch replaces an argument.
    Arguments,
    /// A mapping with any content.
    Free,
}

/// How a patch merges into a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ListRule {
    Append,
    /// Elements are merged when they are equal in the first of these keys that the patch has; others are appended.
    MergeBy(Vec<&'static str>),
    /// Elements are replaced when they are equal in this key; others are appended.
    ReplaceBy(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    String,
    /// A string whose leading blank lines are dropped.
    Manifest,
    Bool,
    /// An integer in this inclusive range.
    Integer(i64, u64),
    Duration,
    Url,
    Address,
    AddressPort,
    Prefix,
    /// A hardware address, with or without colons.
    Mac,
    Base64,
    /// A number of bytes, with or without a unit.
    Size,
    SizeOrPercent,
    /// A size in bytes that Talos writes as a number.
    DiskSize,
    /// A size with a comparison operator: `>= 100GB`.
    SizeCondition,
    /// A file mode.
    Mode,
    /// A port or a range `LOW-HIGH`.
    Ports,
    /// A routing table, by number or name.
    Table,
    /// An expression of the Common Expression Language.
    Expression,
}

#[expect(clippy::expect_used, reason = "the table is part of the program, and a test parses it")]
static SCHEMA: LazyLock<Schema> = LazyLock::new(|| parse::parse(include_str!("types.txt")).expect("a valid table"));

/// The schema of Talos 1.14, which is a superset of its three predecessors.
pub(super) fn schema() -> &'static Schema {
    &SCHEMA
}

impl Schema {
    /// The kind of a document; the legacy document's is `None`.
    pub(super) fn kind(&self, name: Option<&str>) -> Option<&DocumentKind> {
        let name = name.unwrap_or(parse::LEGACY);
        self.kinds.iter().find(|kind| kind.name == name)
    }

    /// The names of all kinds, without the legacy document.
    pub(super) fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.kinds.iter().map(|kind| kind.name).filter(|name| *name != parse::LEGACY)
    }

    pub(super) fn struct_type(&self, index: usize) -> &Struct {
        &self.types[index]
    }
}

impl Struct {
    pub(super) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed_and_knows_all_kinds_of_talos_1_14() {
        use Contract::{V1_11, V1_12, V1_13, V1_14};
        let schema = parse::parse(include_str!("types.txt")).unwrap();
        assert_eq!(schema.kinds().count(), 89);
        assert!(schema.kind(None).unwrap().body.field("machine").is_some());
        assert!(schema.kind(Some("BondConfig")).unwrap().named);
        assert!(schema.kind(Some("NoSuchKind")).is_none());
        let since = |kind| schema.kind(kind).unwrap().since;
        let kinds = [None, Some("VolumeConfig"), Some("BondConfig"), Some("VRFConfig"), Some("KubeletConfig")];
        assert_eq!(kinds.map(since), [V1_11, V1_11, V1_12, V1_13, V1_14]);
        let by_contract = [V1_11, V1_12, V1_13, V1_14]
            .map(|contract| schema.kinds.iter().filter(|kind| kind.since <= contract).count() - 1);
        assert_eq!(by_contract, [17, 36, 44, 89], "kinds that each release registers, without the legacy document");
    }

    #[test]
    fn an_invalid_table_is_reported_with_the_line() {
        for (table, line) in [("kind A\n  x nonsense\n", 2), ("type A\n  x\n", 2), ("  x string\n", 1)] {
            assert_eq!(parse::parse(table).unwrap_err().line, line);
        }
    }
}
