//! Helmfiles against the results of the real helmfile.
//!
//! The cases are read from `K8S_BOOTSTRAP_GOLDEN` (default `../shared/golden` beside the checkout); without them the test
//! says so and passes. A run of helmfile that failed must fail here too, before anything is touched; of the others the
//! releases, their needs and their merged values are compared. Runs that do not agree are listed below with the reason;
//! one that agrees once must leave the list.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use k8s_bootstrap::helm::helmfile::{self, Chart, Helmfile, OnFailure, Release, Wait};
use k8s_bootstrap::yaml::{self, Dialect, Origin};
use serde_json::{Value, json};

/// Not yet supported: refused by name.
const NOT_YET: &[(&str, &str)] = &[
    ("15-repositories/build.yaml", "credentials of a repository"),
    ("15-repositories/list.json", "credentials of a repository"),
    ("15-repositories/calls.jsonl", "credentials of a repository"),
    ("21-gotmpl-state/build-not-template.yaml", "`set`, T9"),
    ("21-gotmpl-state/build-parts.yaml", "top-level `values`, T9"),
    ("22-environments/build-default.yaml", "`environments`, T9"),
    ("22-environments/values-default", "`environments`, T9"),
    ("23-multi-document-merge/build.yaml", "top-level `values`, T9"),
    ("23-multi-document-merge/values", "top-level `values`, T9"),
    ("24-set", "`set`, T9"),
    ("25-patches", "`jsonPatches` and `strategicMergePatches`, T9"),
    ("28-installed-condition/build.yaml", "`condition`, T9"),
    ("28-installed-condition/calls.jsonl", "`condition`, T9"),
    ("28-installed-condition/dag.txt", "`condition`, T9"),
    ("28-installed-condition/list.json", "`condition`, T9"),
    ("28-installed-condition/template.yaml", "`condition`, T9"),
    ("28-installed-condition/values", "`condition`, T9"),
    ("29-hooks", "hooks of the whole file, `.Event.Error`"),
    ("34-nested-helmfiles/build-missing-tolerated.yaml", "`helmfiles`, T9"),
    ("34-nested-helmfiles/build.yaml", "`helmfiles`, T9"),
    ("34-nested-helmfiles/calls.jsonl", "`helmfiles`, T9"),
    ("34-nested-helmfiles/list-selected.json", "`helmfiles`, T9"),
    ("34-nested-helmfiles/list-sub-selected.json", "`helmfiles`, T9"),
    ("34-nested-helmfiles/list.json", "`helmfiles`, T9"),
    ("34-nested-helmfiles/values", "`helmfiles`, T9"),
    ("35-kube-version", "`kubeVersion` and `apiVersions`"),
];

/// Decided otherwise than helmfile on purpose.
const DIFFERENT: &[(&str, &str)] = &[
    ("05-needs-errors/dag-repeated.txt", "the same need twice makes helmfile panic; here it is a notice"),
    ("05-needs-errors/template-repeated.yaml", "the same need twice makes helmfile panic; here it is a notice"),
    ("09-template-leak/calls.jsonl", "a mistake of helmfile, not repeated but noticed"),
    ("13-exec-yq/values", "helm merges all documents, write-values takes the first; `template` is the truth"),
    ("15-repositories/calls-unknown.jsonl", "a repository that nobody declares is found before helm is asked"),
    ("19-functions/values", "helm reads YAML 1.1, write-values does not; `template` is the truth"),
    ("31-yaml-forms/values-flow", "helm reads YAML 1.1, write-values does not; `template` is the truth"),
    ("32-yaml-scalars/values", "helm reads YAML 1.1, write-values does not; `template` is the truth"),
    ("32-yaml-scalars/build-colons.yaml", "our parser takes `[::1]`"),
    ("37-state-errors/build-empty-releases.yaml", "a file without releases is no mistake: all may be commented out"),
    ("37-state-errors/build-no-name.yaml", "a release without a name cannot be installed"),
    ("37-state-errors/build-no-releases.yaml", "a file without releases is no mistake: all may be commented out"),
    ("37-state-errors/build-null-releases.yaml", "a file without releases is no mistake: all may be commented out"),
];

/// Only about helmfile's command line, which nothing here has.
const COMMAND_LINE: &[&str] = &["27-selectors"];

/// Flags of `helm upgrade` that helmfiles decide.
const FLAGS: &[&str] = &[
    "--cleanup-on-fail",
    "--create-namespace",
    "--force-conflicts",
    "--force-replace",
    "--rollback-on-failure",
    "--skip-schema-validation",
    "--take-ownership",
    "--timeout",
    "--wait",
    "--wait-for-jobs",
];

fn root() -> PathBuf {
    std::env::var_os("K8S_BOOTSTRAP_GOLDEN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden"), PathBuf::from)
        .join("helmfile")
}

/// What a case asks helmfile: `cmd`.
struct Case {
    name: String,
    folder: PathBuf,
    dir: String,
    environment: BTreeMap<String, String>,
    runs: Vec<Run>,
    failed: BTreeSet<String>,
}

struct Run {
    /// The file or folder of the result.
    result: String,
    file: Option<String>,
    selector: Option<String>,
    verb: String,
    /// Arguments that steer helmfile otherwise.
    other: Vec<String>,
}

fn read_yaml(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let documents = yaml::parse_as(&Origin::of_path(path), &text, Dialect::Typed).unwrap();
    documents.iter().map(yaml::Node::to_json).collect()
}

fn cases() -> Vec<Case> {
    let Ok(entries) = std::fs::read_dir(root()) else {
        eprintln!("SKIPPED: no golden cases at {}", root().display());
        return vec![];
    };
    let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders.into_iter().map(case).collect()
}

fn case(folder: PathBuf) -> Case {
    let cmd = read_yaml(&folder.join("cmd")).remove(0);
    let mut environment: BTreeMap<String, String> =
        ["PATH", "HOME"].into_iter().filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))).collect();
    for (name, value) in cmd["env"].as_object().into_iter().flatten() {
        environment.insert(name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    let errors = std::fs::read_to_string(folder.join("error.txt")).unwrap_or_default();
    let failed = errors.lines().filter_map(|line| Some(line.strip_prefix("# ")?.split_once(": exit")?.0.to_owned()));
    Case {
        name: folder.file_name().unwrap().to_string_lossy().into_owned(),
        dir: cmd["dir"].as_str().unwrap_or_default().to_owned(),
        environment,
        runs: cmd["runs"].as_object().unwrap().iter().map(|(result, arguments)| run(result, arguments)).collect(),
        failed: failed.collect(),
        folder,
    }
}

fn run(result: &str, arguments: &Value) -> Run {
    let mut run = Run { result: result.to_owned(), file: None, selector: None, verb: String::new(), other: vec![] };
    let mut words = arguments.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned());
    while let Some(word) = words.next() {
        match word.as_str() {
            "-f" | "--file" => run.file = words.next(),
            "-l" => run.selector = words.next(),
            "--output" | "--output-file-template" | "--concurrency" => drop(words.next()),
            "--sequential-helmfiles"
            | "--skip-charts"
            | "--skip-deps"
            | "-q"
            | "--hide-notes"
            | "--include-crds"
            | "--no-hooks"
            | "--args" => {}
            _ if run.verb.is_empty() && !word.starts_with('-') => run.verb = word,
            _ => run.other.push(word),
        }
    }
    run
}

/// The state files that a run reads.
fn state_files(folder: &Path, file: Option<&str>) -> Vec<PathBuf> {
    let is_state = |path: &PathBuf| {
        let name = path.to_string_lossy();
        path.is_file() && [".yaml", ".yml", ".yaml.gotmpl"].iter().any(|end| name.ends_with(end))
    };
    let single = file.map_or_else(
        || {
            let default = ["helmfile.yaml", "helmfile.yaml.gotmpl"].map(|name| folder.join(name));
            default.into_iter().find(|path| path.exists()).unwrap_or_else(|| folder.join("helmfile.d"))
        },
        |file| folder.join(file),
    );
    if !single.is_dir() {
        return vec![single];
    }
    let mut files: Vec<_> = std::fs::read_dir(single).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(is_state);
    files.sort();
    files
}

/// The input with only those releases that a selector takes, as a tree of its own.
fn selected(case: &Case, run: &Run) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_tree(&case.folder.join("input"), copy.path());
    // `build` renders every release before it selects.
    let selector = run.selector.as_deref().filter(|_| run.verb != "build");
    let Some((key, wanted)) = selector.and_then(|selector| selector.split_once('=')) else {
        return copy;
    };
    let state = state_files(&copy.path().join(&case.dir), run.file.as_deref()).remove(0);
    let mut document = read_yaml(&state).remove(0);
    document["releases"].as_array_mut().unwrap().retain(|release| {
        let label = release["labels"].get(key);
        label.or_else(|| release.get(key)).and_then(Value::as_str) == Some(wanted)
    });
    std::fs::write(&state, yaml::to_string(&document).unwrap()).unwrap();
    copy
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn read(case: &Case, run: &Run, root: &Path) -> Result<Vec<Helmfile>, String> {
    let files = state_files(&root.join(&case.dir), run.file.as_deref());
    let read: Vec<_> = files.iter().map(|file| helmfile::read(root, file, &case.environment)).collect();
    read.into_iter().collect::<Result<_, _>>().map_err(|found| found.to_string())
}

fn compare(case: &Case, run: &Run) -> Result<(), String> {
    let tree = selected(case, run);
    let read = read(case, run, tree.path());
    let same = |other: &&Run| other.file == run.file && other.selector == run.selector && other.other == run.other;
    let fails = case.runs.iter().filter(same).any(|run| case.failed.contains(&run.result));
    if fails {
        let graph = read.and_then(|files| {
            let files: Vec<&Helmfile> = files.iter().collect();
            helmfile::check(&files).map_err(|found| found.to_string())
        });
        return graph.map_or(Ok(()), |()| Err("helmfile fails, this does not".to_owned()));
    }
    let files = read?;
    let releases: Vec<&Release> = files.iter().flat_map(|file| &file.releases).collect();
    let result = case.folder.join(&run.result);
    match run.verb.as_str() {
        "list" => compare_list(tree.path(), &releases, &result),
        "build" => compare_build(&releases, &result),
        "write-values" => compare_values(&releases, &result),
        "template" => compare_template(&releases, &result),
        "sync" => compare_calls(&releases, &result),
        _ => Ok(()),
    }
}

fn differ(what: &str, ours: &impl ToString, theirs: &impl ToString) -> Result<(), String> {
    let (ours, theirs) = (ours.to_string(), theirs.to_string());
    if ours == theirs {
        return Ok(());
    }
    let difference = similar::TextDiff::from_lines(&theirs, &ours).unified_diff().context_radius(1).to_string();
    Err(format!("{what}\n{difference}"))
}

fn identity(release: &Value) -> Value {
    let namespace = release["namespace"].as_str().filter(|namespace| !namespace.is_empty()).unwrap_or("default");
    json!([namespace, release["name"]])
}

fn compare_list(root: &Path, releases: &[&Release], result: &Path) -> Result<(), String> {
    let listed: Value = serde_json::from_str(&std::fs::read_to_string(result).unwrap()).unwrap_or_default();
    let listed: Vec<&Value> = listed.as_array().into_iter().flatten().filter(|one| one["installed"] == true).collect();
    let mut theirs: Vec<String> = listed.iter().map(|release| identity(release).to_string()).collect();
    let mut ours: Vec<String> =
        releases.iter().map(|release| json!([release.id.namespace, release.id.name]).to_string()).collect();
    ours.sort();
    theirs.sort();
    differ("releases", &ours.join("\n"), &theirs.join("\n"))?;
    for listed in listed {
        let name = listed["name"].as_str().unwrap();
        let release = releases.iter().find(|release| release.id.name == name).unwrap();
        let (chart, version) = (listed["chart"].as_str().unwrap(), listed["version"].as_str().unwrap());
        same_chart(root, &release.chart, chart, version)
            .map_err(|ours| format!("chart of {name}: {ours} where helmfile has {chart} {version}"))?;
    }
    Ok(())
}

fn same_chart(root: &Path, ours: &Chart, chart: &str, version: &str) -> Result<(), String> {
    let same = match ours {
        Chart::Local(path) => path.starts_with(root) && path.ends_with(chart.trim_start_matches(['.', '/'])),
        Chart::Repository { name, version: ours, .. } => {
            chart.split_once('/').is_some_and(|(_, theirs)| theirs == name) && ours.as_deref().unwrap_or("") == version
        }
        Chart::Oci { reference, version: ours } => {
            let whole = format!("{reference}:{}", ours.as_deref().unwrap_or_default());
            let theirs = chart.trim_start_matches("oci://");
            let (bare, digest) = version.split_once('@').unwrap_or((version, ""));
            let by_repository = reference.ends_with(chart.split_once('/').unwrap().1);
            theirs == whole
                || (ours.as_deref().unwrap_or("") == bare
                    && (theirs == reference || by_repository || *reference == format!("{theirs}@{digest}")))
        }
    };
    if same { Ok(()) } else { Err(format!("{ours:?}")) }
}

fn compare_build(releases: &[&Release], result: &Path) -> Result<(), String> {
    let documents = read_yaml(result);
    let built = documents.iter().filter_map(|document| document["releases"].as_array()).flatten();
    let built = built.filter(|release| release["installed"] != false);
    let theirs: Vec<String> = built
        .map(|release| {
            let own = identity(release);
            let needs: Vec<Value> = release["needs"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|need| match need.as_str().unwrap().split_once('/') {
                    Some((namespace, name)) => json!([namespace, name]),
                    None => json!([own[0], need]),
                })
                .collect();
            json!([own, needs]).to_string()
        })
        .collect();
    let ours: Vec<String> = releases
        .iter()
        .map(|release| {
            let needs: Vec<Value> = release.needs.iter().map(|need| json!([need.namespace, need.name])).collect();
            json!([[release.id.namespace, release.id.name], needs]).to_string()
        })
        .collect();
    differ("needs", &ours.join("\n"), &theirs.join("\n"))
}

fn compare_values(releases: &[&Release], result: &Path) -> Result<(), String> {
    for release in releases {
        let path = result.join(format!("{}.yaml", release.id.name));
        let theirs = if path.exists() { read_yaml(&path).into_iter().next() } else { None };
        let theirs = theirs.filter(|values| !values.is_null()).unwrap_or_else(|| json!({}));
        let what = format!("values of {}", release.id);
        differ(&what, &format!("{:#}", normal(&release.values)), &format!("{:#}", normal(&theirs)))?;
    }
    Ok(())
}

/// What the real helm rendered, where the chart prints the values that reach it.
fn compare_template(releases: &[&Release], result: &Path) -> Result<(), String> {
    if !result.to_string_lossy().ends_with(".yaml") {
        return Ok(());
    }
    for document in read_yaml(result).iter().filter(|document| document["kind"] == "Effective") {
        let name = document["metadata"]["name"].as_str().unwrap();
        let Some(release) = releases.iter().find(|release| release.id.name == name) else {
            return Err(format!("helmfile renders {name}, which is not here"));
        };
        let Chart::Local(chart) = &release.chart else { continue };
        let defaults = chart.join("values.yaml");
        let defaults = if defaults.exists() { read_yaml(&defaults).remove(0) } else { json!({}) };
        let ours = normal(&over_defaults(&defaults, &release.values));
        differ(&format!("values of {name}"), &format!("{ours:#}"), &format!("{:#}", normal(&document["values"])))?;
    }
    Ok(())
}

/// What helmfile told helm about each release.
fn compare_calls(releases: &[&Release], result: &Path) -> Result<(), String> {
    let calls = std::fs::read_to_string(result).unwrap();
    for call in calls.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let words: Vec<&str> = call["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let ["upgrade", "--install", name, ..] = words[..] else { continue };
        let release = releases.iter().find(|release| release.id.name == name).unwrap();
        let mut theirs: Vec<String> =
            words.iter().filter(|word| FLAGS.contains(word)).map(ToString::to_string).collect();
        // Without `--wait` helm does not look at it.
        theirs.retain(|word| word != "--wait-for-jobs" || words.contains(&"--wait"));
        if let Some(timeout) = words.iter().position(|word| *word == "--timeout") {
            theirs.push(words[timeout + 1].to_owned());
        } else {
            theirs.extend(["--timeout".to_owned(), "300s".to_owned()]);
        }
        let mut ours = flags(release);
        ours.sort();
        theirs.sort();
        differ(&format!("flags of {name}"), &ours.join("\n"), &theirs.join("\n"))?;
    }
    Ok(())
}

fn flags(release: &Release) -> Vec<String> {
    let flags = &release.flags;
    let mut all: Vec<String> = match flags.wait {
        Wait::Nothing => vec![],
        Wait::Workloads => vec!["--wait".to_owned()],
        Wait::WorkloadsAndJobs => vec!["--wait".to_owned(), "--wait-for-jobs".to_owned()],
    };
    all.extend(match flags.on_failure {
        OnFailure::Keep => None,
        OnFailure::CleanUp => Some("--cleanup-on-fail".to_owned()),
        OnFailure::RollBack => Some("--rollback-on-failure".to_owned()),
    });
    all.extend(flags.create_namespace.then(|| "--create-namespace".to_owned()));
    all.extend(flags.force_conflicts.then(|| "--force-conflicts".to_owned()));
    all.extend(["--timeout".to_owned(), format!("{}s", flags.timeout.as_secs())]);
    all.extend(flags.args.iter().filter(|argument| FLAGS.contains(&argument.as_str())).cloned());
    all
}

/// Helm's coalescing: null takes a default away.
fn over_defaults(defaults: &Value, values: &Value) -> Value {
    let (Value::Object(defaults), Value::Object(values)) = (defaults, values) else { return values.clone() };
    let mut all = defaults.clone();
    for (key, value) in values {
        match defaults.get(key) {
            Some(_) if value.is_null() => drop(all.shift_remove(key)),
            Some(default) => drop(all.insert(key.clone(), over_defaults(default, value))),
            None => drop(all.insert(key.clone(), value.clone())),
        }
    }
    Value::Object(all)
}

/// Keys in order; whole numbers alike however they are written.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().map(|(key, value)| (key.clone(), normal(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Number(number) => number.as_f64().map_or_else(|| value.clone(), |number| Value::from(number + 0.0)),
        other => other.clone(),
    }
}

/// What of a case is compared: everything but its command lines, and of installations only those that succeed, since why
/// one fails is not in the file.
fn comparable(case: &Case) -> impl Iterator<Item = &Run> {
    let compared = |verb: &str| ["list", "build", "template", "write-values", "show-dag"].contains(&verb);
    case.runs.iter().filter(move |run| {
        !COMMAND_LINE.contains(&case.name.as_str())
            && (compared(&run.verb) || (run.verb == "sync" && !case.failed.contains(&run.result)))
    })
}

#[test]
fn helmfiles_are_read_as_helmfile_reads_them() {
    let (mut broken, mut healed, mut agree, mut all) = (vec![], BTreeSet::new(), 0, 0);
    let listed = || NOT_YET.iter().chain(DIFFERENT).map(|(known, _)| *known);
    let cases = cases();
    if !cases.is_empty() {
        healed.extend(listed());
    }
    for (case, run) in cases.iter().flat_map(|case| comparable(case).map(move |run| (case, run))) {
        all += 1;
        let name = format!("{}/{}", case.name, run.result);
        let known = listed().find(|known| *known == name || *known == case.name);
        match (compare(case, run), known) {
            (Ok(()), _) => agree += 1,
            (Err(_), Some(known)) => drop(healed.remove(known)),
            (Err(difference), None) => {
                eprintln!("--- {name}\n{difference}");
                broken.push(name);
            }
        }
    }
    eprintln!("helmfile: {agree} of {all} runs agree");
    assert!(broken.is_empty(), "these runs differ: {broken:#?}");
    assert!(healed.is_empty(), "these agree now and leave the lists: {healed:#?}");
}
