//! Whether the files that hooks apply exist, checked before any machine is changed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::idiom::{Command, recognise};
use helmfile::Hook;
use repository::Cluster;
use template::{clean, moved};
use yaml::{Diagnostic, Diagnostics};

/// Finds the files and kustomizations of a cluster's hooks that do not exist. A file that an earlier program names may be
/// its output, and is not checked.
pub(crate) fn check(cluster: &Cluster) -> Diagnostics {
    let mut found = Diagnostics::default();
    let helmfile = &cluster.bootstrap.releases;
    let releases = helmfile.releases.iter().map(|release| &release.hooks);
    for hooks in releases.chain(helmfile.files.iter().map(|file| &file.hooks)) {
        let mut made: Vec<OsString> = Vec::new();
        for hook in hooks {
            let (files, kustomizations) = match recognise(hook) {
                Command::Apply { files, kustomizations, .. } => (files, kustomizations),
                Command::WaitCrds(_) => continue,
                Command::Process => {
                    made.extend(hook.args.iter().flat_map(|argument| names(argument)));
                    continue;
                }
            };
            let expected =
                |path: &&PathBuf| !path.file_name().is_some_and(|name| made.iter().any(|known| known == name));
            let files = files.iter().filter(expected);
            files.filter_map(|path| missing(&cluster.root, path, hook)).for_each(|it| found.push(it));
            for path in kustomizations.iter().filter(expected).filter(|path| !is_kustomization(path)) {
                let missing = missing(&cluster.root, path, hook);
                found.push(missing.unwrap_or_else(|| not_one(&cluster.root, path, hook)));
            }
        }
    }
    for rule in cluster.hook_rules().iter().filter(|rule| !helmfile.hooks().any(|hook| rule.matches(hook))) {
        found.error(rule.at.clone(), format!("no hook of `{}` begins with `{}`", cluster.name, rule.command));
    }
    found
}

/// The files that an argument names, which may be a script.
fn names(argument: &str) -> impl Iterator<Item = OsString> {
    let words = argument.split(|letter: char| letter.is_whitespace() || "'\"`;|&<>()=".contains(letter));
    words.filter_map(|word| Path::new(word).file_name().map(ToOwned::to_owned))
}

const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

fn is_kustomization(folder: &Path) -> bool {
    KUSTOMIZATIONS.iter().any(|name| folder.join(name).is_file())
}

fn shown(root: &Path, path: &Path) -> String {
    let path = clean(path);
    path.strip_prefix(root).unwrap_or(&path).display().to_string()
}

fn missing(root: &Path, path: &Path, hook: &Hook) -> Option<Diagnostic> {
    if path.exists() {
        return None;
    }
    let finding = Diagnostic::at_location(
        hook.at.clone(),
        format!("the hook applies {}, which does not exist", shown(root, path)),
    );
    let same = |path: &Path| moved(root, &clean(path)).map(|near| shown(root, &near));
    // Of a folder, its kustomization is searched for.
    let near = same(path).or_else(|| KUSTOMIZATIONS.iter().find_map(|name| same(&path.join(name))));
    Some(match near {
        Some(near) => finding.with_hint(format!("did it move to {near}?")),
        None => finding,
    })
}

fn not_one(root: &Path, path: &Path, hook: &Hook) -> Diagnostic {
    let message = format!("the hook applies {} as a kustomization, which it is not", shown(root, path));
    Diagnostic::at_location(hook.at.clone(), message)
        .with_hint("it has no kustomization.yaml; `-f` applies plain manifests")
}
