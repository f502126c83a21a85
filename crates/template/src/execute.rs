//! Walking the tree.

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, Number, PipeNode, Pos, SmolStr, TemplateNode};
use serde_json::{Map, Value};

use super::functions;
use super::functions::{Call, Failure, Functions};
use super::parse;
use super::parse::Tree;
use super::place::{Place, Step, handed_on};
use super::{Source, value};
use yaml::{Diagnostic, near};

/// Levels of `tpl`, `include`, `template` and blocks within each other.
const MAX_DEPTH: usize = 64;
/// The highest number that a loop may count to.
const MAX_COUNT: u64 = 1_000_000;

pub(super) fn render(
    source: &Source<'_>,
    data: &Value,
    functions: &Functions,
    depth: usize,
) -> Result<String, Diagnostic> {
    let tree = parse::parse(source, functions)?;
    let data = Place::of(data.clone());
    let mut executor = Executor::new(source, &tree, functions, &data, depth);
    executor.list(&tree.body, &data)?;
    Ok(executor.out)
}

/// Runs a template that the tree defines.
pub(super) fn include(
    source: &Source<'_>,
    tree: &Tree,
    functions: &Functions,
    name: &str,
    data: &Place,
    depth: usize,
) -> Result<String, Diagnostic> {
    let Some(define) = tree.defines.get(name) else {
        let near = near(name, tree.defines.keys().map(String::as_str));
        let failure = Failure::new(format!("no template `{name}` is defined here"));
        return Err(failure.did_you_mean(near).at(source.at(0)));
    };
    let helper = define.helper.as_deref().map(|(origin, text)| Source::file(origin, text));
    let mut executor = Executor::new(helper.as_ref().unwrap_or(source), tree, functions, data, depth);
    executor.list(&define.body, data)?;
    Ok(executor.out)
}

/// What a node asks of the loop around it.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

type Done<T> = Result<T, Diagnostic>;

struct Executor<'e> {
    source: &'e Source<'e>,
    tree: &'e Tree,
    functions: &'e Functions,
    variables: Vec<(SmolStr, Place)>,
    depth: usize,
    out: String,
}

impl<'e> Executor<'e> {
    fn new(source: &'e Source<'e>, tree: &'e Tree, functions: &'e Functions, data: &Place, depth: usize) -> Self {
        let variables = vec![(SmolStr::new_static("$"), data.clone())];
        Self { source, tree, functions, variables, depth, out: String::new() }
    }

    fn fail(&self, pos: Pos, failure: impl Into<Failure>) -> Diagnostic {
        failure.into().at(self.source.at(pos.offset))
    }

    fn list(&mut self, list: &ListNode, dot: &Place) -> Done<Flow> {
        for node in &list.nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Place) -> Done<Flow> {
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
            Node::If(branch) => return self.block(branch, dot, false),
            Node::With(branch) => return self.block(branch, dot, true),
            Node::Range(branch) => return self.range(branch, dot),
            Node::Template(node) => self.template(node, dot)?,
            Node::List(list) => return self.list(list, dot),
            Node::Define(_) => {}
            Node::Break(_) => return Ok(Flow::Break),
            Node::Continue(_) => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    /// `if` and `with`, which differ in the dot of what they hold.
    fn block(&mut self, branch: &BranchNode, dot: &Place, moves_dot: bool) -> Done<Flow> {
        let mark = self.variables.len();
        self.enter(branch.pos)?;
        let result = self.pipe(&branch.pipe, dot)?;
        let flow = match &branch.else_body {
            _ if result.with(value::truth) => self.list(&branch.body, if moves_dot { &result } else { dot })?,
            Some(body) => self.list(body, dot)?,
            None => Flow::On,
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

    /// Adds to what is rendered.
    fn write(&mut self, pos: Pos, text: &str) -> Done<()> {
        functions::fits(self.out.len() + text.len()).map_err(|failure| self.fail(pos, failure))?;
        self.out.push_str(text);
        Ok(())
    }

    fn range(&mut self, branch: &BranchNode, dot: &Place) -> Done<Flow> {
        let mark = self.variables.len();
        self.enter(branch.pos)?;
        let over = self.commands(&branch.pipe, dot)?;
        let items = self.items(branch, &over)?;
        if let (true, Some(body)) = (items.is_empty(), &branch.else_body) {
            self.list(body, dot)?;
        }
        for (key, item) in items {
            self.functions.turn().map_err(|failure| self.fail(branch.pos, failure))?;
            match branch.pipe.decl.as_slice() {
                [] => {}
                [one] => self.bind(branch.pos, one, item.clone(), branch.pipe.is_assign)?,
                [index, element, ..] => {
                    self.bind(branch.pos, index, key, branch.pipe.is_assign)?;
                    self.bind(branch.pos, element, item.clone(), branch.pipe.is_assign)?;
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
        Ok(Flow::On)
    }

    /// Keys and elements of what a `range` goes over; maps in the order of their keys.
    fn items(&self, branch: &BranchNode, over: &Place) -> Done<Vec<(Place, Place)>> {
        over.with(|value| match value {
            Value::Null => Ok(vec![]),
            Value::Array(items) => {
                Ok((0..items.len()).map(|index| (Place::of(index), over.child(Step::Index(index)))).collect())
            }
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort();
                let entry = |key: &String| (Place::of(key.clone()), over.child(Step::Key(key.clone())));
                Ok(keys.into_iter().map(entry).collect())
            }
            Value::Number(number) if number.as_u64().is_some_and(|count| count <= MAX_COUNT) => {
                let count = number.as_u64().unwrap_or_default();
                Ok((0..count).map(|index| (Place::of(index), Place::of(index))).collect())
            }
            other => Err(self.fail(branch.pos, format!("`range` cannot go over {}", value::kind(other)))),
        })
    }

    fn template(&mut self, node: &TemplateNode, dot: &Place) -> Done<()> {
        let data = match &node.pipe {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Place::of(Value::Null),
        };
        self.enter(node.pos)?;
        let text = include(self.source, self.tree, self.functions, &node.name, &data, self.depth)?;
        self.write(node.pos, &text)?;
        self.depth -= 1;
        Ok(())
    }

    fn pipe(&mut self, pipe: &PipeNode, dot: &Place) -> Done<Place> {
        let result = self.commands(pipe, dot)?;
        for name in &pipe.decl {
            self.bind(pipe.pos, name, result.clone(), pipe.is_assign)?;
        }
        Ok(result)
    }

    fn bind(&mut self, pos: Pos, name: &SmolStr, value: Place, assign: bool) -> Done<()> {
        let value = value.bound();
        if !assign {
            self.variables.push((name.clone(), value));
            return Ok(());
        }
        match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, slot)) => {
                *slot = value;
                Ok(())
            }
            None => Err(self.undeclared(pos, name)),
        }
    }

    fn undeclared(&self, pos: Pos, name: &str) -> Diagnostic {
        let near = near(name, self.variables.iter().map(|(name, _)| name.as_str()));
        self.fail(pos, Failure::new(format!("the variable `{name}` is not declared")).did_you_mean(near))
    }

    fn commands(&mut self, pipe: &PipeNode, dot: &Place) -> Done<Place> {
        let mut piped = None;
        for command in &pipe.commands {
            piped = Some(self.command(command, dot, piped)?);
        }
        Ok(piped.unwrap_or_else(|| Place::of(Value::Null)))
    }

    fn command(&mut self, command: &CommandNode, dot: &Place, piped: Option<Place>) -> Done<Place> {
        let Some((first, rest)) = command.args.split_first() else {
            return Err(self.fail(command.pos, "an empty command"));
        };
        match first {
            Expr::Identifier(pos, name) => self.call(*pos, name, rest, dot, piped),
            Expr::Chain(pos, inner, fields) if matches!(**inner, Expr::Identifier(..)) => {
                let Expr::Identifier(at, name) = &**inner else { return Ok(Place::of(Value::Null)) };
                let result = self.call(*at, name, rest, dot, piped)?;
                self.fields(*pos, &format!("{name}…"), &result, fields, true)
            }
            _ if piped.is_some() || !rest.is_empty() => {
                Err(self.fail(first.pos(), "only a function takes arguments, this is a value"))
            }
            Expr::Nil(pos) => Err(self.fail(*pos, "`nil` is not a command")),
            _ => self.expression(first, dot),
        }
    }

    fn expression(&mut self, expression: &Expr, dot: &Place) -> Done<Place> {
        match expression {
            Expr::Dot(_) => Ok(dot.clone()),
            Expr::Nil(_) => Ok(Place::of(Value::Null)),
            Expr::Bool(_, value) => Ok(Place::of(*value)),
            Expr::String(_, text) => Ok(Place::of(&**text)),
            Expr::Number(_, Number::Int(number)) => Ok(Place::of(*number)),
            Expr::Number(_, Number::Uint(number)) => Ok(Place::of(*number)),
            Expr::Number(_, Number::Float(number)) => Ok(Place::of(*number)),
            Expr::Field(pos, fields) => self.fields(*pos, "", dot, fields, false),
            Expr::Variable(pos, name, fields) => {
                let Some((_, value)) = self.variables.iter().rev().find(|(known, _)| known == name) else {
                    return Err(self.undeclared(*pos, name));
                };
                self.fields(*pos, name, &value.clone(), fields, name != "$")
            }
            Expr::Identifier(pos, name) => self.call(*pos, name, &[], dot, None),
            Expr::Pipe(_, pipe) => self.pipe(pipe, dot),
            Expr::Chain(pos, inner, fields) => {
                let value = self.expression(inner, dot)?;
                self.fields(*pos, "(…)", &value, fields, true)
            }
        }
    }

    /// Follows a chain of fields; one that is missing is an error.
    fn fields(&self, pos: Pos, base: &str, value: &Place, fields: &[SmolStr], from_file: bool) -> Done<Place> {
        let mut place = value.clone();
        let mut path = base.to_owned();
        for field in fields {
            let parent = if path.is_empty() { "the data".to_owned() } else { format!("`{path}`") };
            path = format!("{path}.{field}");
            place.with(|value| match value {
                Value::Object(map) if map.contains_key(field.as_str()) => Ok(()),
                Value::Object(map) => Err(self.fail(pos, self.in_file(missing(&path, field, &parent, map), from_file))),
                other => {
                    let kind = value::kind(other);
                    Err(self.fail(pos, format!("`{path}`: {parent} is {kind} and has no field `{field}`")))
                }
            })?;
            place = place.child(Step::Key(field.to_string()));
        }
        Ok(place)
    }

    /// Names the file that was read last, when what is missing may come from it.
    fn in_file(&self, failure: Failure, from_file: bool) -> Failure {
        let Some((file, documents)) = self.functions.last_read().filter(|_| from_file) else { return failure };
        let failure = failure.and(format!("; the file read last is {file}"));
        if documents > 1 {
            failure.hint(format!("it holds {documents} documents, and `fromYaml` reads the first alone"))
        } else {
            failure
        }
    }

    fn call(&mut self, pos: Pos, name: &str, arguments: &[Expr], dot: &Place, piped: Option<Place>) -> Done<Place> {
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
        let values: Vec<Value> = places.iter().map(Place::get).collect();
        let result = functions::run(&call, name, &values).map_err(|failure| self.fail(pos, failure))?;
        let Some(place) = handed_on(name, &places) else { return Ok(Place::of(result)) };
        if functions::CHANGES.contains(&name) {
            place.put(result);
            return Ok(place);
        }
        // What a function made of it is its own.
        Ok(if place.with(|value| *value == result) { place } else { Place::of(result) })
    }
}

/// `.Event.Error` is the one field of helmfile's data whose nil has a type, which Go prints otherwise.
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
    Failure::new(format!("`{path}`: there is no `{field}` in {parent}, {has}")).did_you_mean(near(field, keys))
}
