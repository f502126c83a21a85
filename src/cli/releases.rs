//! `k8s-bootstrap releases list|build|values|template`: the releases of a helmfile, as they were read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::args::{Common, HelmfileArgs, Output, ReleasesCommand};
use super::error::CommandError;
use super::exit::Exit;
use super::output;
use super::workspace::workspace;
use bootstrap::ops::repository_charts;
use helm::TemplateOptions;
use helmfile::{
    Helmfile, HelmfileOptions, ListedRelease, ReadDepth, Selector, SelectorError, StateFile, StateValue,
    StateValueError,
};
use repository::TemplatePrograms;

pub(super) async fn releases(common: &Common, command: ReleasesCommand) -> Result<Exit, CommandError> {
    let root = common.directory.canonicalize().map_err(|error| {
        CommandError::invalid(format!("the repository {} cannot be opened: {error}", common.directory.display()))
    })?;
    let text = match &command {
        ReleasesCommand::List(args) => list(&read(&root, args, ReadDepth::Fields)?, common.output),
        ReleasesCommand::Build(args) => build(&root, &read(&root, args, ReadDepth::Fields)?, common.output)?,
        ReleasesCommand::Values(args) => values(&read(&root, args, ReadDepth::Everything)?, common.output)?,
        ReleasesCommand::Template { helmfile, include_crds, no_hooks, kube_version } => {
            let options = TemplateOptions {
                kube_version: kube_version.clone(),
                include_crds: *include_crds,
                hooks: !no_hooks,
                api_versions: vec![],
            };
            template(common, &root, helmfile, &options).await?
        }
    };
    output::data(&text);
    Ok(Exit::Done)
}

fn read(root: &Path, args: &HelmfileArgs, depth: ReadDepth) -> Result<Helmfile, CommandError> {
    let variables: BTreeMap<String, String> = std::env::vars().collect();
    let helmfile = helmfile::read(root, &root.join(&args.file), &variables, &options(args, depth)?)?;
    for notice in &helmfile.notices {
        output::say(&format!("notice: {notice}"));
    }
    if helmfile.files.iter().all(|file| file.releases.is_empty()) {
        return Err(CommandError::invalid(format!("{} has no release that is meant", args.file.display()))
            .hint("look at its labels without a selector: k8s-bootstrap releases list -f FILE"));
    }
    Ok(helmfile)
}

fn options(args: &HelmfileArgs, depth: ReadDepth) -> Result<HelmfileOptions, CommandError> {
    let selectors = args.selector.iter().map(|selector| selector.parse::<Selector>());
    let texts = args.state_values_set_string.iter().map(|set| StateValue::parse_text(set));
    let sets = texts.chain(args.state_values_set.iter().map(|set| StateValue::parse(set)));
    Ok(HelmfileOptions {
        environment: args.environment.clone(),
        selectors: selectors
            .collect::<Result<_, SelectorError>>()
            .map_err(|error| CommandError::caused_by(Exit::InvalidInput, &error))?,
        state_values: sets
            .collect::<Result<Vec<_>, StateValueError>>()
            .map_err(|error| CommandError::caused_by(Exit::InvalidInput, &error))?
            .concat(),
        state_values_files: args.state_values_file.clone(),
        include_needs: args.include_needs,
        programs: Some(Arc::new(TemplatePrograms)),
        depth,
    })
}

/// Every release, by namespace and name.
fn all(helmfile: &Helmfile) -> Vec<&ListedRelease> {
    let mut all: Vec<&ListedRelease> = helmfile.files.iter().flat_map(|file| &file.releases).collect();
    all.sort_by_key(|listed| (&listed.namespace, &listed.name));
    all
}

fn labels(listed: &ListedRelease, between: &str) -> String {
    listed.labels.iter().map(|(key, value)| format!("{key}:{value}")).collect::<Vec<_>>().join(between)
}

fn list(helmfile: &Helmfile, format: Output) -> String {
    let all = all(helmfile);
    if format == Output::Json {
        let entry = |listed: &&ListedRelease| {
            json!({
                "name": listed.name, "namespace": listed.namespace, "enabled": listed.enabled,
                "installed": listed.installed, "labels": labels(listed, ","), "chart": listed.chart,
                "version": listed.version,
            })
        };
        return Value::from(all.iter().map(entry).collect::<Vec<_>>()).to_string();
    }
    let heads = ["NAME", "NAMESPACE", "ENABLED", "INSTALLED", "CHART", "VERSION", "LABELS"].map(str::to_owned);
    let row = |listed: &&ListedRelease| {
        [
            listed.name.clone(),
            listed.namespace.clone(),
            listed.enabled.to_string(),
            listed.installed.to_string(),
            listed.chart.clone(),
            listed.version.clone(),
            labels(listed, ","),
        ]
    };
    let rows: Vec<_> = std::iter::once(heads).chain(all.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..7).map(width).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn build(root: &Path, helmfile: &Helmfile, format: Output) -> Result<String, CommandError> {
    let files: Vec<Value> = helmfile.files.iter().map(|file| built(root, file)).collect();
    if format == Output::Json {
        return Ok(Value::from(files).to_string());
    }
    let texts = files.iter().map(to_yaml).collect::<Result<Vec<_>, _>>()?;
    Ok(texts.iter().map(|text| format!("---\n{text}")).collect())
}

fn built(root: &Path, file: &StateFile) -> Value {
    let releases = file.releases.iter().map(|listed| {
        json!({
            "name": listed.name, "namespace": listed.namespace, "chart": listed.chart, "version": listed.version,
            "labels": listed.labels, "needs": listed.needs.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "installed": listed.installed, "enabled": listed.enabled, "kubeVersion": listed.kube_version,
            "apiVersions": listed.api_versions, "at": listed.at.to_string(),
        })
    });
    json!({
        "file": relative(root, &file.path), "environment": file.environment, "values": file.values,
        "releases": releases.collect::<Vec<_>>(),
    })
}

fn relative(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_owned()
}

fn values(helmfile: &Helmfile, format: Output) -> Result<String, CommandError> {
    if format == Output::Json {
        let all = helmfile.releases.iter().map(|release| (release.id.to_string(), release.values.clone()));
        return Ok(Value::Object(all.collect()).to_string());
    }
    let one = |release: &helmfile::Release| Ok(format!("---\n# {}\n{}", release.id, to_yaml(&release.values)?));
    helmfile.releases.iter().map(one).collect()
}

async fn template(
    common: &Common,
    root: &Path,
    args: &HelmfileArgs,
    options: &TemplateOptions,
) -> Result<String, CommandError> {
    let helmfile = read(root, args, ReadDepth::Everything)?;
    helmfile::check_needs(&[&helmfile])?;
    let charts = repository_charts(&workspace(common), root).await?;
    let mut all = vec![];
    for release in &helmfile.releases {
        let given = |flag: &str| release.flags.args.iter().any(|argument| argument == flag);
        let options = TemplateOptions {
            kube_version: options.kube_version.clone().or_else(|| release.kube_version.clone()),
            include_crds: options.include_crds || given("--include-crds"),
            hooks: options.hooks && !given("--no-hooks"),
            api_versions: release.api_versions.clone(),
        };
        let ready = charts.prepare(release, &options).await?;
        all.extend(charts.helm.template(release, &ready.chart, &options).await?);
    }
    if common.output == Output::Json {
        return Ok(Value::from(all).to_string());
    }
    let texts = all.iter().map(to_yaml).collect::<Result<Vec<_>, _>>()?;
    Ok(texts.iter().map(|text| format!("---\n{text}")).collect())
}

fn to_yaml(value: &Value) -> Result<String, CommandError> {
    yaml::to_string(value).map_err(|error| CommandError::caused_by(Exit::InvalidInput, &error))
}
