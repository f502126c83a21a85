//! A case: its input, what helmfile was asked, what it answered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bootstrap::template_programs;
use helmfile::{HelmfileOptions, Selector, SelectorError, StateValue};
use serde_json::Value;
use yaml::{Dialect, Origin};

pub(crate) struct Case {
    pub name: String,
    pub folder: PathBuf,
    dir: String,
    /// Whether helm was a stand-in in every run.
    pub standins: bool,
    pub variables: BTreeMap<String, String>,
    pub runs: Vec<Run>,
    /// The error of each run that failed.
    pub failed: BTreeMap<String, String>,
}

/// A run of helmfile.
#[derive(Default)]
pub(crate) struct Run {
    /// The file or folder of the result.
    pub result: String,
    pub verb: String,
    file: Option<String>,
    environment: Option<String>,
    selectors: Vec<String>,
    sets: Vec<String>,
    text_sets: Vec<String>,
    values_files: Vec<String>,
    include_needs: bool,
    /// Accepts a state file without releases.
    pub may_be_none: bool,
    pub kube_version: Option<String>,
    /// Arguments that go on to helm.
    pub helm_args: Vec<String>,
    /// Arguments that this test does not know.
    pub other: Vec<String>,
}

pub(crate) fn read_yaml(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let documents = yaml::parse_as(&Origin::of_path(path), &text, Dialect::Typed).unwrap();
    documents.iter().map(yaml::Node::to_json).collect()
}

impl Case {
    pub(crate) fn read(folder: &Path) -> Self {
        let cmd = read_yaml(&folder.join("cmd")).remove(0);
        let inherited =
            ["PATH", "HOME"].into_iter().filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
        let mut variables: BTreeMap<String, String> = inherited.collect();
        for (name, value) in cmd["env"].as_object().into_iter().flatten() {
            variables.insert(name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        Self {
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            folder: folder.to_owned(),
            dir: cmd["dir"].as_str().unwrap_or_default().to_owned(),
            standins: cmd["standins"] == true,
            variables,
            runs: cmd["runs"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(result, arguments)| Run::read(result, arguments))
                .collect(),
            failed: failed(&std::fs::read_to_string(folder.join("error.txt")).unwrap_or_default()),
        }
    }

    pub(crate) fn input(&self) -> PathBuf {
        self.folder.canonicalize().unwrap().join("input")
    }

    fn working_folder(&self) -> PathBuf {
        self.input().join(&self.dir)
    }

    /// The state file or folder that a run means.
    pub(crate) fn state_file(&self, run: &Run) -> Result<PathBuf, String> {
        let folder = self.working_folder();
        if let Some(file) = &run.file {
            return Ok(folder.join(file));
        }
        let usual = ["helmfile.yaml", "helmfile.yaml.gotmpl", "helmfile.d"].map(|name| folder.join(name));
        usual.into_iter().find(|path| path.exists()).ok_or_else(|| "no state file found".to_owned())
    }

    pub(crate) fn options(&self, run: &Run) -> HelmfileOptions {
        let sets = run.text_sets.iter().flat_map(|set| StateValue::parse_text(set).unwrap());
        let sets = sets.chain(run.sets.iter().flat_map(|set| StateValue::parse(set).unwrap()));
        let selectors = run.selectors.iter().map(|selector| selector.parse::<Selector>());
        HelmfileOptions {
            environment: run.environment.clone(),
            // A malformed argument has no value; it is rejected later.
            selectors: selectors
                .collect::<Result<_, _>>()
                .unwrap_or_else(|_: SelectorError| vec!["no=no".parse().unwrap()]),
            state_values: sets.collect(),
            state_values_files: run.values_files.iter().map(|file| self.working_folder().join(file)).collect(),
            include_needs: run.include_needs,
            programs: Some(template_programs()),
            depth: super::depth(&run.verb),
        }
    }
}

/// The errors by run: a headline, and what stands below it.
fn failed(text: &str) -> BTreeMap<String, String> {
    let mut failed = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        match line.strip_prefix("# ").and_then(|line| line.split_once(": exit ")) {
            Some((result, _)) => {
                result.clone_into(&mut current);
                failed.insert(current.clone(), String::new());
            }
            None => {
                let error = failed.entry(current.clone()).or_default();
                error.push_str(line);
                error.push('\n');
            }
        }
    }
    failed
}

impl Run {
    fn read(result: &str, arguments: &Value) -> Self {
        let mut run = Self { result: result.to_owned(), ..Self::default() };
        let mut words = arguments.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned());
        while let Some(word) = words.next() {
            match word.as_str() {
                "-f" | "--file" => run.file = words.next(),
                "-e" | "--environment" => run.environment = words.next(),
                "-l" | "--selector" => run.selectors.extend(words.next()),
                "--state-values-set" => run.sets.extend(words.next()),
                "--state-values-set-string" => run.text_sets.extend(words.next()),
                "--state-values-file" => run.values_files.extend(words.next()),
                "--kube-version" => run.kube_version = words.next(),
                "--args" => run.helm_args.extend(words.next().unwrap().split(' ').map(str::to_owned)),
                "--include-needs" | "--include-transitive-needs" => run.include_needs = true,
                "--allow-no-matching-release" => run.may_be_none = true,
                "--include-crds" | "--no-hooks" | "--hide-notes" => run.helm_args.push(word),
                "--output" | "--output-file-template" | "--concurrency" => drop(words.next()),
                "--sequential-helmfiles" | "--skip-charts" | "--skip-deps" | "--embed-values" | "-q" => {}
                _ if run.verb.is_empty() && !word.starts_with('-') => run.verb = word,
                _ => run.other.push(word),
            }
        }
        run
    }
}
