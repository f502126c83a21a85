//! `k8s-bootstrap render CLUSTER [NODE]`: machine configs as they would be applied, secrets masked.

use std::io::IsTerminal;

use bootstrap::ops::{self, Comparison};

use super::args::{Common, Output, RenderArgs};
use super::error::CommandError;
use super::exit::Exit;
use super::output;
use super::workspace::{LabFlag, target, workspace};
use crate::report::{explained_json, explained_text};
use error_report::ErrorReport;

pub(super) async fn render(common: &Common, args: RenderArgs) -> Result<Exit, CommandError> {
    if args.show_secrets {
        confirm(&args.cluster)?;
    }
    let workspace = workspace(common);
    let target = target(&workspace, &args.cluster, LabFlag(args.lab))?;
    let comparison = if args.view.diff { Comparison::Running } else { Comparison::None };
    let secrets = target.default_secrets();
    let nodes = ops::render(&workspace, &args.cluster, &target, secrets, args.node.as_deref(), comparison).await?;
    let mask = |text: &str| if args.show_secrets { text.to_owned() } else { workspace.redactor.redact(text) };
    let mut differs = false;
    for ops::RenderedNode { node, rendered, diff } in &nodes {
        let text = match (diff, args.view.explain, common.output) {
            (Some(diff), ..) => diff.clone(),
            (None, true, Output::Json) => explained_json(node, rendered),
            (None, true, Output::Text) => explained_text(node, rendered, &mask),
            (None, false, _) => format!("# {}\n---\n{}", node.hostname, rendered.documents.to_yaml()),
        };
        if !text.is_empty() {
            differs |= diff.is_some();
            output::data(&mask(&text));
        }
    }
    Ok(if differs { Exit::Changes } else { Exit::Done })
}

/// Asks for the cluster's name before private keys are printed.
fn confirm(cluster: &str) -> Result<(), CommandError> {
    let refused = |why: &str| {
        CommandError::invalid(format!("--show-secrets prints the private keys of `{cluster}`; {why}"))
            .hint("remove --show-secrets to print the config with masked secrets")
    };
    if !std::io::stdin().is_terminal() {
        return Err(refused("it needs a terminal for the confirmation"));
    }
    output::print_note(&format!(
        "This prints the private keys of `{cluster}`. Type the name of the cluster to continue:"
    ));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| refused(&ErrorReport::new(&error).to_string()))?;
    if answer.trim() == cluster { Ok(()) } else { Err(refused("the name does not match")) }
}
