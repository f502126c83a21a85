//! Executes a parsed template.

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, Number, PipeNode, Pos, SmolStr, TemplateNode};
use serde_json::{Map, Value};

use super::functions::{self, Call, Failure, Functions};
use super::parse::{self, Tree};
use super::place::{Step, ValueRef, aliased_argument};
use super::{TemplateSource, value};
use yaml::{Diagnostic, near};

/// Maximum nesting of `tpl`, `include`, `template` and blocks.
const MAX_DEPTH: usize = 64;
/// The highest number that `range` counts to.
const MAX_COUNT: u64 = 1_000_000;

pub(super) fn render(
    source: &TemplateSource<'_>,
    data: &Value,
    functions: &Functions,
    depth: usize,
) -> Result<String, Diagnostic> {
    let tree = parse::parse(source, functions)?;
    let data = ValueRef::of(data.clone());
    let mut executor = Executor::new(source, &tree, functions, &data, depth);
    executor.list(&tree.body, &data)?;
    Ok(executor.out)
}

/// Executes a template that the tree defines.
pub(super) fn include(
    source: &TemplateSource<'_>,
    tree: &Tree,
    functions: &Functions,
    name: &str,
    data: &ValueRef,
    depth: usize,
) -> Result<String, Diagnostic> {
    let Some(define) = tree.defines.get(name) else {
        let near = near(name, tree.defines.keys().map(String::as_str));
        let failure = Failure::new(format!("template `{name}` is not defined"));
        return Err(failure.did_you_mean(near).at(source.at(0)));
    };
    let helper = define.helper.as_deref().map(|(origin, text)| TemplateSource::file(origin, text));
    let mut executor = Executor::new(helper.as_ref().unwrap_or(source), tree, functions, data, depth);
    executor.list(&define.body, data)?;
    Ok(executor.out)
}

/// How a node affects the loop around it.
#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// The dot inside of `if` and `with`.
#[derive(Clone, Copy)]
enum Dot {
    /// `if`: the dot around it.
    Unchanged,
    /// `with`: the result of the pipeline.
    Result,
}

/// Whether a variable is declared (`:=`) or assigned (`=`).
#[derive(Clone, Copy)]
enum Binding {
    Declare,
    Assign,
}

impl Binding {
    fn of(pipe: &PipeNode) -> Self {
        if pipe.is_assign { Self::Assign } else { Self::Declare }
    }
}

/// Where the value of a chain of fields may come from.
#[derive(Clone, Copy, PartialEq)]
enum Root {
    /// The data that the template is rendered with.
    Data,
    /// A variable or a function's result, which may come from a file.
    Computed,
}

type Done<T> = Result<T, Diagnostic>;

struct Executor<'e> {
    source: &'e TemplateSource<'e>,
    tree: &'e Tree,
    functions: &'e Functions,
    variables: Vec<(SmolStr, ValueRef)>,
    depth: usize,
    out: String,
}

impl<'e> Executor<'e> {
    fn new(
        source: &'e TemplateSource<'e>,
        tree: &'e Tree,
        functions: &'e Functions,
        data: &ValueRef,
        depth: usize,
    ) -> Self {
        let variables = vec![(SmolStr::new_static("$"), data.clone())];
        Self { source, tree, functions, variables, depth, out: String::new() }
    }

    fn fail(&self, pos: Pos, failure: impl Into<Failure>) -> Diagnostic {
        failure.into().at(self.source.at(pos.offset))
    }

    fn list(&mut self, list: &ListNode, dot: &ValueRef) -> Done<Flow> {
        for node in &list.nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn node(&mut self, node: &Node, dot: &ValueRef) -> Done<Flow> {
        match node {
            Node::Text(node) => self.write(node.pos, parse::text(&node.text))?,
            Node::Action(node) => {
                let result = self.pipe(&node.pipe, dot)?;
                if node.pipe.decl.is_empty() {
                    let text = result.with(|result| match result {
                        Value::Null if is_typed_nil(&node.pipe) => "<nil>".to_owned(),
                        Value::Null => "<no value>".to_owned(),
                        result => value::text(result),
                    });
                    self.write(node.pos, &text)?;
                }
            }
            Node::If(branch) => return self.block(branch, dot, Dot::Unchanged),
            Node::With(branch) => return self.block(branch, dot, Dot::Result),
            Node::Range(branch) => return self.range(branch, dot),
            Node::Template(node) => self.template(node, dot)?,
            Node::List(list) => return self.list(list, dot),
            Node::Define(_) => {}
            Node::Break(_) => return Ok(Flow::Break),
            Node::Continue(_) => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn block(&mut self, branch: &BranchNode, dot: &ValueRef, inner: Dot) -> Done<Flow> {
        let mark = self.variables.len();
        self.enter(branch.pos)?;
        let result = self.pipe(&branch.pipe, dot)?;
        let body_dot = match inner {
            Dot::Result => &result,
            Dot::Unchanged => dot,
        };
        let flow = match &branch.else_body {
            _ if result.with(value::truth) => self.list(&branch.body, body_dot)?,
            Some(body) => self.list(body, dot)?,
            None => Flow::Next,
        };
        self.depth -= 1;
        self.variables.truncate(mark);
        Ok(flow)
    }

    fn enter(&mut self, pos: Pos) -> Done<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.fail(pos, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        self.functions.turn().map_err(|failure| self.fail(pos, failure))
    }

    /// Appends to the output.
    fn write(&mut self, pos: Pos, text: &str) -> Done<()> {
        functions::check_length(self.out.len() + text.len()).map_err(|failure| self.fail(pos, failure))?;
        self.out.push_str(text);
        Ok(())
    }

    fn range(&mut self, branch: &BranchNode, dot: &ValueRef) -> Done<Flow> {
        let mark = self.variables.len();
        self.enter(branch.pos)?;
        let over = self.commands(&branch.pipe, dot)?;
        let items = self.items(branch, &over)?;
        let binding = Binding::of(&branch.pipe);
        if let (true, Some(body)) = (items.is_empty(), &branch.else_body) {
            self.list(body, dot)?;
        }
        for (key, item) in items {
            self.functions.turn().map_err(|failure| self.fail(branch.pos, failure))?;
            match branch.pipe.decl.as_slice() {
                [] => {}
                [one] => self.bind(branch.pos, one, item.clone(), binding)?,
                [index, element, ..] => {
                    self.bind(branch.pos, index, key, binding)?;
                    self.bind(branch.pos, element, item.clone(), binding)?;
                }
            }
            let flow = self.list(&branch.body, &item)?;
            self.variables.truncate(mark);
            if flow == Flow::Break {
                break;
            }
        }
        self.depth -= 1;
        self.variables.truncate(mark);
        Ok(Flow::Next)
    }

    /// The keys and elements that `range` iterates over; maps in key order.
    fn items(&self, branch: &BranchNode, over: &ValueRef) -> Done<Vec<(ValueRef, ValueRef)>> {
        over.with(|value| match value {
            Value::Null => Ok(vec![]),
            Value::Array(items) => {
                Ok((0..items.len()).map(|index| (ValueRef::of(index), over.child(Step::Index(index)))).collect())
            }
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort();
                let entry = |key: &String| (ValueRef::of(key.clone()), over.child(Step::Key(key.clone())));
                Ok(keys.into_iter().map(entry).collect())
            }
            Value::Number(number) if number.as_u64().is_some_and(|count| count <= MAX_COUNT) => {
                let count = number.as_u64().unwrap_or_default();
                Ok((0..count).map(|index| (ValueRef::of(index), ValueRef::of(index))).collect())
            }
            other => Err(self.fail(branch.pos, format!("`range` cannot iterate over {}", value::kind(other)))),
        })
    }

    fn template(&mut self, node: &TemplateNode, dot: &ValueRef) -> Done<()> {
        let data = match &node.pipe {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => ValueRef::of(Value::Null),
        };
        self.enter(node.pos)?;
        let text = include(self.source, self.tree, self.functions, &node.name, &data, self.depth)?;
        self.write(node.pos, &text)?;
        self.depth -= 1;
        Ok(())
    }

    fn pipe(&mut self, pipe: &PipeNode, dot: &ValueRef) -> Done<ValueRef> {
        let result = self.commands(pipe, dot)?;
        for name in &pipe.decl {
            self.bind(pipe.pos, name, result.clone(), Binding::of(pipe))?;
        }
        Ok(result)
    }

    fn bind(&mut self, pos: Pos, name: &SmolStr, value: ValueRef, binding: Binding) -> Done<()> {
        let value = value.bound();
        match binding {
            Binding::Declare => self.variables.push((name.clone(), value)),
            Binding::Assign => match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
                Some((_, slot)) => *slot = value,
                None => return Err(self.undeclared(pos, name)),
            },
        }
        Ok(())
    }

    fn undeclared(&self, pos: Pos, name: &str) -> Diagnostic {
        let near = near(name, self.variables.iter().map(|(name, _)| name.as_str()));
        self.fail(pos, Failure::new(format!("variable `{name}` is not declared")).did_you_mean(near))
    }

    fn commands(&mut self, pipe: &PipeNode, dot: &ValueRef) -> Done<ValueRef> {
        let mut piped = None;
        for command in &pipe.commands {
            piped = Some(self.command(command, dot, piped)?);
        }
        Ok(piped.unwrap_or_else(|| ValueRef::of(Value::Null)))
    }

    fn command(&mut self, command: &CommandNode, dot: &ValueRef, piped: Option<ValueRef>) -> Done<ValueRef> {
        let Some((first, rest)) = command.args.split_first() else {
            return Err(self.fail(command.pos, "empty command"));
        };
        match first {
            Expr::Identifier(pos, name) => self.call(*pos, name, rest, dot, piped),
            Expr::Chain(pos, inner, fields) if matches!(**inner, Expr::Identifier(..)) => {
                let Expr::Identifier(at, name) = &**inner else { return Ok(ValueRef::of(Value::Null)) };
                let result = self.call(*at, name, rest, dot, piped)?;
                self.fields(*pos, &format!("{name}…"), &result, fields, Root::Computed)
            }
            _ if piped.is_some() || !rest.is_empty() => {
                Err(self.fail(first.pos(), "arguments are allowed only after a function, this is a value"))
            }
            Expr::Nil(pos) => Err(self.fail(*pos, "`nil` is not a command")),
            _ => self.expression(first, dot),
        }
    }

    fn expression(&mut self, expression: &Expr, dot: &ValueRef) -> Done<ValueRef> {
        match expression {
            Expr::Dot(_) => Ok(dot.clone()),
            Expr::Nil(_) => Ok(ValueRef::of(Value::Null)),
            Expr::Bool(_, value) => Ok(ValueRef::of(*value)),
            Expr::String(_, text) => Ok(ValueRef::of(&**text)),
            Expr::Number(_, Number::Int(number)) => Ok(ValueRef::of(*number)),
            Expr::Number(_, Number::Uint(number)) => Ok(ValueRef::of(*number)),
            Expr::Number(_, Number::Float(number)) => Ok(ValueRef::of(*number)),
            Expr::Field(pos, fields) => self.fields(*pos, "", dot, fields, Root::Data),
            Expr::Variable(pos, name, fields) => {
                let Some((_, value)) = self.variables.iter().rev().find(|(known, _)| known == name) else {
                    return Err(self.undeclared(*pos, name));
                };
                let root = if name == "$" { Root::Data } else { Root::Computed };
                self.fields(*pos, name, &value.clone(), fields, root)
            }
            Expr::Identifier(pos, name) => self.call(*pos, name, &[], dot, None),
            Expr::Pipe(_, pipe) => self.pipe(pipe, dot),
            Expr::Chain(pos, inner, fields) => {
                let value = self.expression(inner, dot)?;
                self.fields(*pos, "(…)", &value, fields, Root::Computed)
            }
        }
    }

    /// Follows a chain of fields; a missing field is an error.
    fn fields(&self, pos: Pos, base: &str, value: &ValueRef, fields: &[SmolStr], root: Root) -> Done<ValueRef> {
        let mut place = value.clone();
        let mut path = base.to_owned();
        for field in fields {
            let parent = if path.is_empty() { "the data".to_owned() } else { format!("`{path}`") };
            path = format!("{path}.{field}");
            place.with(|value| match value {
                Value::Object(map) if map.contains_key(field.as_str()) => Ok(()),
                Value::Object(map) => Err(self.fail(pos, self.in_file(missing(&path, field, &parent, map), root))),
                other => {
                    let kind = value::kind(other);
                    Err(self.fail(pos, format!("`{path}`: {parent} is {kind}, without a field `{field}`")))
                }
            })?;
            place = place.child(Step::Key(field.to_string()));
        }
        Ok(place)
    }

    /// Names the file that was read last, if the missing value may come from it.
    fn in_file(&self, failure: Failure, root: Root) -> Failure {
        let last_read = self.functions.last_read().filter(|_| root == Root::Computed);
        let Some((file, documents)) = last_read else { return failure };
        let failure = failure.and(format!("; the last file read is {file}"));
        if documents > 1 {
            failure.hint(format!("{file} has {documents} documents, and `fromYaml` reads only the first"))
        } else {
            failure
        }
    }

    fn call(
        &mut self,
        pos: Pos,
        name: &str,
        arguments: &[Expr],
        dot: &ValueRef,
        piped: Option<ValueRef>,
    ) -> Done<ValueRef> {
        let mut places = vec![];
        let stop = match name {
            "and" => Some(false),
            "or" => Some(true),
            _ => None,
        };
        for argument in arguments {
            let place = self.expression(argument, dot)?;
            if stop == Some(place.with(value::truth)) {
                return Ok(place);
            }
            places.push(place);
        }
        places.extend(piped);
        let call = Call { functions: self.functions, source: self.source, tree: self.tree, depth: self.depth + 1 };
        if self.depth + 1 > MAX_DEPTH {
            return Err(self.fail(pos, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        if ["include", "tpl"].contains(&name) {
            self.functions.turn().map_err(|failure| self.fail(pos, failure))?;
        }
        let values: Vec<Value> = places.iter().map(ValueRef::get).collect();
        let result = functions::run(&call, name, &values).map_err(|failure| self.fail(pos, failure))?;
        let Some(place) = aliased_argument(name, &places) else { return Ok(ValueRef::of(result)) };
        if functions::CHANGES.contains(&name) {
            place.put(result);
            return Ok(place);
        }
        // A changed value is a new one, not an alias.
        Ok(if place.with(|value| *value == result) { place } else { ValueRef::of(result) })
    }
}

/// `.Event.Error` is the only typed nil in helmfile's data; Go prints it as `<nil>`.
fn is_typed_nil(pipe: &PipeNode) -> bool {
    match pipe.commands.as_slice() {
        [CommandNode { args, .. }] => {
            matches!(args.as_slice(), [Expr::Field(_, fields)] if fields.iter().eq(["Event", "Error"].iter()))
        }
        _ => false,
    }
}

fn missing(path: &str, field: &str, parent: &str, map: &Map<String, Value>) -> Failure {
    let mut keys: Vec<&str> = map.keys().map(String::as_str).collect();
    keys.sort_unstable();
    let has = match keys.as_slice() {
        [] => "which is empty".to_owned(),
        keys if keys.len() > 8 => format!("which has {} and {} more", keys[..8].join(", "), keys.len() - 8),
        keys => format!("which has {}", keys.join(", ")),
    };
    Failure::new(format!("`{path}`: no `{field}` in {parent}, {has}")).did_you_mean(near(field, keys))
}
