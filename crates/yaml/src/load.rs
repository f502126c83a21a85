//! Parses text to nodes, within limits.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::{Diagnostic, Dialect, Entry, Mapping, Node, Origin, Position, Value, scalar};

/// Limits on what is parsed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of text.
    pub bytes: usize,
    /// Nodes after aliases are expanded.
    pub nodes: usize,
    /// Levels of nesting.
    pub depth: usize,
}

/// Far above any real configuration file, far below what exhausts memory.
pub const LIMITS: Limits = Limits { bytes: 16 << 20, nodes: 2_000_000, depth: 200 };

/// Parses every document of `text` in the dialect [`Dialect::Typed`].
///
/// # Errors
///
/// As [`parse_as`].
pub fn parse(origin: &Origin, text: &str) -> Result<Vec<Node>, Diagnostic> {
    parse_as(origin, text, Dialect::Typed)
}

/// Parses every document of `text`.
///
/// # Errors
///
/// Invalid YAML, a duplicate key (Helm and Kubernetes use the last one), a recursive alias, more than [`LIMITS`] allow.
pub fn parse_as(origin: &Origin, text: &str, dialect: Dialect) -> Result<Vec<Node>, Diagnostic> {
    if text.len() > LIMITS.bytes {
        return Err(Diagnostic::general(format!(
            "{origin}: {} bytes of YAML exceed the limit of {} bytes",
            text.len(),
            LIMITS.bytes
        )));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut loader = Loader { origin, dialect, anchors: HashMap::new(), nodes: 0 };
    let mut events = Parser::new_from_str(text);
    let mut documents = Vec::new();
    loop {
        let (event, at) = loader.next(&mut events)?;
        match event {
            Event::StreamEnd => return Ok(documents),
            Event::DocumentStart(_) => {
                loader.anchors.clear();
                let (event, at) = loader.next(&mut events)?;
                documents.push(loader.node(&mut events, event, at, 0)?);
            }
            _ => {
                let _ = at;
            }
        }
    }
}

/// Parses a text of one document; an empty text is null.
///
/// # Errors
///
/// As [`parse`], and a second document.
pub fn parse_one(origin: &Origin, text: &str) -> Result<Node, Diagnostic> {
    let mut documents = parse(origin, text)?;
    match documents.len() {
        0 => Ok(Node { at: Position { line: 1, column: 1 }, value: Value::Null }),
        1 => Ok(documents.remove(0)),
        _ => Err(Diagnostic::at_location(origin.location(documents[1].at), "unexpected second document")),
    }
}

struct Loader<'o> {
    origin: &'o Origin,
    dialect: Dialect,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

type Events<'i> = Parser<'i, saphyr_parser::StrInput<'i>>;

impl Loader<'_> {
    fn next<'i>(&self, events: &mut Events<'i>) -> Result<(Event<'i>, Position), Diagnostic> {
        match events.next() {
            Some(Ok((event, span))) => Ok((event, position(&span.start))),
            Some(Err(error)) => Err(self.fail(position(error.marker()), format!("invalid YAML: {}", error.info()))),
            None => Ok((Event::StreamEnd, Position::default())),
        }
    }

    fn fail(&self, at: Position, message: impl Into<String>) -> Diagnostic {
        Diagnostic::at_location(self.origin.location(at), message)
    }

    fn node<'i>(
        &mut self,
        events: &mut Events<'i>,
        event: Event<'i>,
        at: Position,
        depth: usize,
    ) -> Result<Node, Diagnostic> {
        self.count(1, at)?;
        if depth > LIMITS.depth {
            return Err(self.fail(at, format!("nested more than {} levels deep", LIMITS.depth)));
        }
        let (anchor, value) = match event {
            Event::Alias(id) => return self.alias(id, at),
            Event::Scalar(text, style, anchor, tag) => (anchor, self.scalar(&text, style, tag.as_deref(), at)?),
            Event::SequenceStart(anchor, _) => (anchor, self.sequence(events, depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.mapping(events, depth)?),
            _ => return Err(self.fail(at, "expected a value")),
        };
        let node = Node { at, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, at: Position) -> Result<Node, Diagnostic> {
        let Some(target) = self.anchors.get(&id).cloned() else {
            return Err(self.fail(at, "recursive alias: it refers to the value that contains it"));
        };
        self.count(size(&target), at)?;
        Ok(target)
    }

    fn count(&mut self, more: usize, at: Position) -> Result<(), Diagnostic> {
        self.nodes += more;
        if self.nodes > LIMITS.nodes {
            return Err(self.fail(at, format!("more than {} values after aliases are expanded", LIMITS.nodes)));
        }
        Ok(())
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Position) -> Result<Value, Diagnostic> {
        let tag = tag.map(|tag| (tag.handle.as_str(), tag.suffix.as_str()));
        match tag {
            None | Some(("" | "!", "")) if style == ScalarStyle::Plain && tag.is_none() => {
                Ok(scalar::plain(text, self.dialect))
            }
            None | Some(("" | "!", "") | (_, "str" | "binary")) => Ok(Value::String(text.to_owned())),
            Some(("tag:yaml.org,2002:", "null" | "bool" | "int" | "float")) => Ok(scalar::plain(text, self.dialect)),
            Some((handle, suffix)) => Err(self.fail(at, format!("unknown tag {handle}{suffix}"))),
        }
    }

    fn sequence(&mut self, events: &mut Events<'_>, depth: usize) -> Result<Value, Diagnostic> {
        let mut items = Vec::new();
        loop {
            let (event, at) = self.next(events)?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Value::Sequence(items));
            }
            items.push(self.node(events, event, at, depth + 1)?);
        }
    }

    fn mapping(&mut self, events: &mut Events<'_>, depth: usize) -> Result<Value, Diagnostic> {
        let mut own: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, Position> = HashMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, key_at) = self.next(events)?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.key(events, event, key_at, depth)?;
            let (event, at) = self.next(events)?;
            let value = self.node(events, event, at, depth + 1)?;
            if is_merge {
                merged.push(value);
                continue;
            }
            if let Some(first) = seen.insert(key.clone(), key_at) {
                if self.dialect == Dialect::Kubernetes {
                    own.retain(|entry: &Entry| entry.key != key);
                    own.push(Entry { key, key_at, value });
                    continue;
                }
                return Err(self.fail(key_at, format!("duplicate key `{key}`, first used in line {}", first.line)));
            }
            own.push(Entry { key, key_at, value });
        }
        self.merge(&mut own, merged)?;
        Ok(Value::Mapping(Mapping(own)))
    }

    fn key<'i>(
        &mut self,
        events: &mut Events<'i>,
        event: Event<'i>,
        at: Position,
        depth: usize,
    ) -> Result<String, Diagnostic> {
        if let Event::Scalar(text, style, 0, _) = &event {
            let resolved = (*style == ScalarStyle::Plain && self.dialect == Dialect::Kubernetes)
                .then(|| scalar::plain(text, self.dialect));
            return Ok(match resolved {
                Some(Value::Bool(key)) => key.to_string(),
                _ => text.to_string(),
            });
        }
        match self.node(events, event, at, depth + 1)?.value {
            Value::String(key) => Ok(key),
            other => Err(self.fail(at, format!("a key must be a string, not {}", other.kind()))),
        }
    }

    /// `<<`: the mapping's own keys win, then those of the earlier merged mappings.
    fn merge(&self, own: &mut Vec<Entry>, merged: Vec<Node>) -> Result<(), Diagnostic> {
        for node in merged {
            let sources = match node.value {
                Value::Mapping(_) => vec![node],
                Value::Sequence(items) => items,
                other => return Err(self.fail(node.at, format!("`<<` merges mappings, not {}", other.kind()))),
            };
            for source in sources {
                let Value::Mapping(Mapping(entries)) = source.value else {
                    return Err(self.fail(source.at, format!("`<<` merges mappings, not {}", source.value.kind())));
                };
                for entry in entries {
                    if !own.iter().any(|mine| mine.key == entry.key) {
                        own.push(entry);
                    }
                }
            }
        }
        Ok(())
    }
}

fn position(marker: &Marker) -> Position {
    Position { line: marker.line(), column: marker.col() + 1 }
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::Sequence(items) => items.iter().map(size).sum(),
        Value::Mapping(mapping) => mapping.iter().map(|entry| size(&entry.value)).sum(),
        _ => 0,
    }
}
