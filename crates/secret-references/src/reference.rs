//! Secret references in the text of a template, wherever they lead.

use std::ops::Range;

/// How references of 1Password begin.
pub const ONE_PASSWORD_SCHEME: &str = "op://";

/// A secret reference in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Without braces: `op://vault/item/[section/]field`.
    pub text: String,
    /// The bytes that its value replaces: with braces, when there are any.
    pub range: Range<usize>,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl Reference {
    /// The reference `text` at the bytes `range` of a template.
    pub fn new(template: &str, text: &str, range: Range<usize>) -> Self {
        let before = &template[..range.start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let (line, column) = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
        Self { text: text.to_owned(), range, line, column }
    }

    /// Whether it is 1Password's.
    pub fn is_one_password(&self) -> bool {
        let scheme = self.text.get(..ONE_PASSWORD_SCHEME.len());
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(ONE_PASSWORD_SCHEME))
    }

    /// The vault of a reference of 1Password, as it is written.
    pub fn vault(&self) -> &str {
        let path = self.text.get(ONE_PASSWORD_SCHEME.len()..);
        path.and_then(|path| path.split('/').next()).unwrap_or_default()
    }
}

/// The template with a text in the place of each reference; these are in order and do not overlap.
pub fn replace<'r, E>(
    template: &str,
    references: impl IntoIterator<Item = &'r Reference>,
    mut value: impl FnMut(&Reference) -> Result<String, E>,
) -> Result<String, E> {
    let mut filled = String::with_capacity(template.len());
    let mut from = 0;
    for reference in references {
        filled.push_str(&template[from..reference.range.start]);
        filled.push_str(&value(reference)?);
        from = reference.range.end;
    }
    filled.push_str(&template[from..]);
    Ok(filled)
}
