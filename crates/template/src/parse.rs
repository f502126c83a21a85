//! Parses a template to a tree in which every block is closed and every function is known.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::TemplateError;
use gotmpl::parse::{BranchNode, DefineNode, Expr, ListNode, Node, Parser, PipeNode, Pos};

use super::{Functions, TemplateSource, functions};
use yaml::{Diagnostic, Origin, Position};

/// Marks the end of the text: the parser silently accepts an unclosed block and a stray `end`, but then this mark is not
/// the last node at the top level.
const END: &str = "\u{0}end of template\u{0}";

/// A parsed template, and the templates that it can call.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) body: ListNode,
    pub(super) defines: BTreeMap<String, Define>,
}

/// A named template.
#[derive(Debug)]
pub(super) struct Define {
    pub(super) body: ListNode,
    /// The helper file that defines it, and that file's text.
    pub(super) helper: Option<Arc<(Origin, String)>>,
}

/// Parses a template, and the helper files in its folder (`_*.tpl`) if it may call one.
pub(super) fn parse(source: &TemplateSource<'_>, functions: &Functions) -> Result<Tree, Diagnostic> {
    let mut tree = parse_one(source)?;
    if source.text.contains("include") || source.text.contains("template") {
        for helper in functions.helpers()?.into_iter().rev().map(Arc::new) {
            let more = parse_one(&TemplateSource::file(&helper.0, &helper.1))?;
            for (name, define) in more.defines {
                tree.defines.entry(name).or_insert(Define { helper: Some(helper.clone()), ..define });
            }
        }
    }
    Ok(tree)
}

fn parse_one(source: &TemplateSource<'_>) -> Result<Tree, Diagnostic> {
    let marked = format!("{}{END}", source.text);
    let parsed = Parser::new(&marked, "{{", "}}").and_then(Parser::parse);
    let (body, defines) = parsed.map_err(|error| syntax(source, error))?;
    let mut seen = vec![];
    for define in &defines {
        collect(&define.body, &mut seen);
    }
    collect(&body, &mut seen);
    if !ends_at_the_top(&body) {
        return Err(unbalanced(source, &body, &defines));
    }
    for (pos, name) in seen {
        functions::check_known(&name).map_err(|failure| failure.at(source.at(pos.offset)))?;
    }
    let named = |define: DefineNode| (define.name.to_string(), Define { body: define.body, helper: None });
    Ok(Tree { body, defines: defines.into_iter().map(named).collect() })
}

/// A text node without the mark.
pub(super) fn text(text: &str) -> &str {
    text.strip_suffix(END).unwrap_or(text)
}

fn syntax(source: &TemplateSource<'_>, error: TemplateError) -> Diagnostic {
    let (TemplateError::Parse { line, col, message, .. } | TemplateError::Lex { line, col, message, .. }) = error
    else {
        return Diagnostic::at_location(source.at(0), format!("invalid template: {error}"));
    };
    let offset = source.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
    let before = source.text.get(offset..).unwrap_or_default().chars().take(col.saturating_sub(1));
    let offset = offset + before.map(char::len_utf8).sum::<usize>();
    Diagnostic::at_location(source.at(offset), format!("invalid template: {message}"))
}

fn ends_at_the_top(body: &ListNode) -> bool {
    matches!(body.nodes.last(), Some(Node::Text(node)) if node.text.ends_with(END))
}

fn unbalanced(source: &TemplateSource<'_>, body: &ListNode, defines: &[DefineNode]) -> Diagnostic {
    let open = defines.iter().find(|define| holds_end(&define.body)).map(|define| (define.pos, "define"));
    match open.or_else(|| innermost(body)) {
        Some((pos, kind)) => Diagnostic::at_location(source.at(pos.offset), format!("unclosed `{kind}`"))
            .with_hint("close it with `{{ end }}`"),
        None => {
            let location = source.origin.location(Position { ..source.start });
            Diagnostic::at_location(location, "unexpected `end` or `else`")
        }
    }
}

fn holds_end(body: &ListNode) -> bool {
    ends_at_the_top(body) || innermost(body).is_some()
}

/// The innermost block that contains the mark.
fn innermost(body: &ListNode) -> Option<(Pos, &'static str)> {
    body.nodes.iter().find_map(|node| {
        let (branch, kind) = match node {
            Node::If(branch) => (branch, "if"),
            Node::Range(branch) => (branch, "range"),
            Node::With(branch) => (branch, "with"),
            _ => return None,
        };
        std::iter::once(&branch.body)
            .chain(&branch.else_body)
            .find_map(|body| innermost(body).or_else(|| ends_at_the_top(body).then_some((branch.pos, kind))))
    })
}

fn collect(body: &ListNode, seen: &mut Vec<(Pos, String)>) {
    for node in &body.nodes {
        match node {
            Node::List(list) => collect(list, seen),
            Node::Action(action) => pipe(&action.pipe, seen),
            Node::If(node) | Node::Range(node) | Node::With(node) => branch(node, seen),
            Node::Template(node) => node.pipe.iter().for_each(|node| pipe(node, seen)),
            Node::Define(node) => collect(&node.body, seen),
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
}

fn branch(node: &BranchNode, seen: &mut Vec<(Pos, String)>) {
    pipe(&node.pipe, seen);
    collect(&node.body, seen);
    node.else_body.iter().for_each(|body| collect(body, seen));
}

fn pipe(node: &PipeNode, seen: &mut Vec<(Pos, String)>) {
    node.commands.iter().flat_map(|command| &command.args).for_each(|node| expression(node, seen));
}

fn expression(node: &Expr, seen: &mut Vec<(Pos, String)>) {
    match node {
        Expr::Identifier(pos, name) => seen.push((*pos, name.to_string())),
        Expr::Pipe(_, node) => pipe(node, seen),
        Expr::Chain(_, node, _) => expression(node, seen),
        _ => {}
    }
}
