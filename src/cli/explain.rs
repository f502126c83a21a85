//! `k8s-bootstrap explain CODE`: the page of an error code.

use serde_json::json;

use super::args::{Common, ExplainArgs, Output};
use super::exit::Exit;
use super::output;

pub(super) fn explain(common: &Common, args: &ExplainArgs) -> Exit {
    let code = args.code;
    output::data(&match common.output {
        Output::Json => {
            json!({"code": code, "title": code.title(), "next": code.next(), "page": code.page()}).to_string()
        }
        Output::Text => code.page().to_owned(),
    });
    Exit::Done
}
