//! `k8s-bootstrap releases list|build|values|template`: the releases of a helmfile.

use bootstrap::ops::{self, ReleaseQuery};
use helm::TemplateOptions;
use helmfile::ReadDepth;

use super::args::{Common, HelmfileArgs, Output, ReleasesCommand};
use super::error::CommandError;
use super::exit::Exit;
use super::output;
use super::workspace::workspace;
use crate::report::{documents, release_list_json, release_table, release_values, state_files, to_json};

pub(super) async fn releases(common: &Common, command: ReleasesCommand) -> Result<Exit, CommandError> {
    let workspace = workspace(common);
    let read = |args, depth| ops::releases(&workspace, &query(args), depth);
    let text = match (command, common.output) {
        (ReleasesCommand::List(args), Output::Json) => release_list_json(&read(args, ReadDepth::Fields)?),
        (ReleasesCommand::List(args), Output::Text) => release_table(&read(args, ReadDepth::Fields)?),
        (ReleasesCommand::Build(args), output) => {
            let files = state_files(&workspace.repository()?, &read(args, ReadDepth::Fields)?);
            print(output, files)?
        }
        (ReleasesCommand::Values(args), output) => {
            let helmfile = read(args, ReadDepth::Everything)?;
            let values = release_values(&helmfile);
            match output {
                Output::Json => values.to_json(),
                Output::Text => values.to_yaml()?,
            }
        }
        (ReleasesCommand::Template { helmfile, include_crds, no_hooks, kube_version }, output) => {
            let options = TemplateOptions { kube_version, include_crds, hooks: !no_hooks, api_versions: vec![] };
            print(output, ops::release_manifests(&workspace, &query(helmfile), &options).await?)?
        }
    };
    output::data(&text);
    Ok(Exit::Done)
}

fn print(output: Output, all: Vec<serde_json::Value>) -> Result<String, CommandError> {
    match output {
        Output::Json => Ok(to_json(all)),
        Output::Text => Ok(documents(&all)?),
    }
}

fn query(args: HelmfileArgs) -> ReleaseQuery {
    ReleaseQuery {
        file: args.file,
        environment: args.environment,
        selectors: args.selector,
        include_needs: args.include_needs,
        state_values: args.state_values_set,
        state_texts: args.state_values_set_string,
        state_values_files: args.state_values_file,
    }
}
