//! What recipes read from 1Password with the `op` program (op 2.x: `op read`, `op item get`).

use lazy_regex::regex;
use regex::Regex;

/// Whether a command asks 1Password.
pub(crate) fn is_read(command: &str) -> bool {
    command.contains("op read") || command.contains("op item get")
}

/// What such a command asks for, as a reference `op://vault/item/field`; none where a variable is part of it.
pub(crate) fn reference(command: &str) -> Option<String> {
    let reference = regex!(r#"\bop read\b.*?(op://[^"'`)]+)"#);
    let item = regex!(r#"\bop item get\s+["']?([^\s"'-][^\s"']*)["']?"#);
    let vault = regex!(r#"--vault[ =]["']?([^\s"'`)]+)"#);
    let field = regex!(r#"--fields?[ =]["']?(?:label=)?([^\s"'`),]+)"#);
    let first = |regex: &Regex| Some(regex.captures(command)?.get(1)?.as_str().trim().to_owned());
    let composed = || Some(format!("op://{}/{}/{}", first(vault)?, first(item)?, first(field)?));
    first(reference).or_else(composed).filter(|reference| !reference.contains(['$', '{', '}']))
}
