//! Files and the environment.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};

use super::{Call, Entry, Failure, Functions, Outcome, string};
use yaml::{Origin, near};

/// Larger files are rejected.
const MAX_BYTES: u64 = super::bounds::MAX_TEXT as u64;
/// How many directory entries are searched for a moved file.
const MAX_ENTRIES: usize = 20_000;

pub(super) const TABLE: &[Entry] = &[
    ("base", 1, 1, |_, a| Ok(Value::from(base(string(a, 0)?)))),
    ("clean", 1, 1, |_, a| Ok(Value::from(clean(Path::new(string(a, 0)?)).display().to_string()))),
    ("dir", 1, 1, |_, a| Ok(Value::from(dir(string(a, 0)?)))),
    ("env", 1, 1, |c, a| Ok(Value::from(variable(c, string(a, 0)?)))),
    ("expandenv", 1, 1, expandenv),
    ("ext", 1, 1, |_, a| Ok(Value::from(ext(string(a, 0)?)))),
    ("isAbs", 1, 1, |_, a| Ok(Value::from(string(a, 0)?.starts_with('/')))),
    ("isDir", 1, 1, |c, a| Ok(Value::from(c.functions.path(string(a, 0)?).is_dir()))),
    ("isFile", 1, 1, |c, a| Ok(Value::from(c.functions.path(string(a, 0)?).is_file()))),
    ("osBase", 1, 1, |_, a| Ok(Value::from(base(string(a, 0)?)))),
    ("osDir", 1, 1, |_, a| Ok(Value::from(dir(string(a, 0)?)))),
    ("osExt", 1, 1, |_, a| Ok(Value::from(ext(string(a, 0)?)))),
    ("readDir", 1, 1, read_dir),
    ("readDirEntries", 1, 1, read_dir_entries),
    ("readFile", 1, 1, read_file),
    ("requiredEnv", 1, 1, required_env),
];

impl Functions {
    pub(super) fn path(&self, written: &str) -> PathBuf {
        clean(&self.folder.join(written))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn environment(&self) -> &std::collections::BTreeMap<String, String> {
        &self.environment
    }

    /// The path relative to the root, for messages.
    pub(super) fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    /// Reads a file for a function. For a missing file, the hint names the path to which it was probably moved.
    pub(crate) fn read(&self, written: &str) -> Result<String, Failure> {
        let path = self.path(written);
        let shown = self.shown(&path);
        let length = std::fs::metadata(&path).map(|meta| meta.len());
        if length.is_ok_and(|length| length > MAX_BYTES) {
            return Err(Failure::new(format!("{shown} exceeds {} MiB", MAX_BYTES >> 20)));
        }
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                self.read.borrow_mut().push((text.clone(), Origin::new(shown)));
                Ok(text)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let failure = Failure::new(format!("{shown}: file not found"));
                Err(match moved(&self.root, &path) {
                    Some(near) => failure.hint(format!("did it move to {}?", self.shown(&near))),
                    None => failure,
                })
            }
            Err(error) => Err(Failure::new(format!("{shown}: cannot read file: {error}"))),
        }
    }
}

/// Removes `.` and `..` from a path lexically, as Go's `filepath.Clean` does.
pub fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(clean.components().next_back(), Some(Component::Normal(_))) => {
                clean.pop();
            }
            Component::ParentDir if clean.has_root() => {}
            other => clean.push(other),
        }
    }
    if clean.as_os_str().is_empty() { PathBuf::from(".") } else { clean }
}

/// Finds the file below `root` with the name of the missing file whose path is most similar.
pub fn moved(root: &Path, missing: &Path) -> Option<PathBuf> {
    let name = missing.file_name()?;
    let (mut folders, mut found, mut entries) = (vec![root.to_owned()], vec![], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).ok().into_iter().flatten().flatten() {
            entries += 1;
            if entries > MAX_ENTRIES {
                return None;
            }
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !hidden => folders.push(entry.path()),
                Ok(kind) if kind.is_file() && entry.file_name() == name => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    most_similar(&found, missing, root)
}

/// The path that has most folders in common with the missing one; a folder weighs more if fewer candidates contain it.
fn most_similar(found: &[PathBuf], missing: &Path, root: &Path) -> Option<PathBuf> {
    let folders = |path: &Path| -> Vec<OsString> {
        let inside = path.strip_prefix(root).unwrap_or(path).parent().into_iter().flat_map(Path::iter);
        inside.map(ToOwned::to_owned).collect()
    };
    let wanted = folders(missing);
    let uses = |folder: &OsString| found.iter().filter(|path| folders(path).contains(folder)).count();
    let rarity: Vec<(OsString, usize)> = wanted.iter().map(|folder| (folder.clone(), uses(folder))).collect();
    let shared = |path: &PathBuf| -> Vec<usize> {
        let own = folders(path);
        rarity.iter().filter(|(folder, _)| own.contains(folder)).map(|(_, count)| *count).collect()
    };
    // Integer weights suffice: rarely do more than a thousand files have one name.
    let similarity = |path: &PathBuf| shared(path).into_iter().map(|count| 1000 / count).sum::<usize>();
    let best = found.iter().max_by_key(|path| similarity(path))?;
    let shared = shared(best);
    // The innermost folder that at most half of the candidates contain usually names the application.
    let distinctive = rarity.iter().rev().find(|(_, count)| count * 2 <= found.len()).map(|(folder, _)| folder);
    let is_certain = found.len() == 1 || distinctive.is_some_and(|folder| folders(best).contains(folder));
    (is_certain && (shared.len() + 1) * 2 > wanted.len()).then(|| best.clone())
}

fn read_file(call: &Call<'_>, arguments: &[Value]) -> Outcome {
    call.functions.read(string(arguments, 0)?).map(Value::from)
}

fn entries(call: &Call<'_>, arguments: &[Value]) -> Result<Vec<(String, bool)>, Failure> {
    let path = call.functions.path(string(arguments, 0)?);
    let entries = std::fs::read_dir(&path)
        .map_err(|error| Failure::new(format!("{}: cannot read folder: {error}", call.functions.shown(&path))))?;
    let mut names: Vec<_> = entries
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path().is_dir()))
        .collect();
    names.sort();
    Ok(names)
}

/// helmfile's `readDir`: the files of a folder, each with the folder's path as given.
fn read_dir(call: &Call<'_>, arguments: &[Value]) -> Outcome {
    let folder = Path::new(string(arguments, 0)?);
    let files = entries(call, arguments)?.into_iter().filter(|(_, is_dir)| !is_dir);
    Ok(files.map(|(name, _)| Value::from(clean(&folder.join(name)).display().to_string())).collect())
}

fn read_dir_entries(call: &Call<'_>, arguments: &[Value]) -> Outcome {
    let entries = entries(call, arguments)?.into_iter();
    Ok(entries.map(|(name, is_dir)| json!({"Name": name, "IsDir": is_dir})).collect())
}

fn base(path: &str) -> String {
    Path::new(path).file_name().map_or_else(|| ".".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn dir(path: &str) -> String {
    let parent = Path::new(path).parent().map(|parent| clean(parent).display().to_string());
    parent.unwrap_or_else(|| "/".to_owned())
}

fn ext(path: &str) -> String {
    let name = base(path);
    name.rfind('.').map_or_else(String::new, |dot| name[dot..].to_owned())
}

fn variable<'c>(call: &'c Call<'_>, name: &str) -> &'c str {
    call.functions.environment.get(name).map_or("", String::as_str)
}

/// helmfile treats an empty variable as unset.
fn required_env(call: &Call<'_>, arguments: &[Value]) -> Outcome {
    let name = string(arguments, 0)?;
    match variable(call, name) {
        "" => {
            let failure = Failure::new(format!("environment variable `{name}` is not set"));
            Err(failure.did_you_mean(
                near(name, call.functions.environment.keys().map(String::as_str)).filter(|near| *near != name),
            ))
        }
        value => Ok(Value::from(value)),
    }
}

/// Expands `$NAME` and `${NAME}`; an unset variable is empty.
fn expandenv(call: &Call<'_>, arguments: &[Value]) -> Outcome {
    let text = string(arguments, 0)?;
    let (mut out, mut rest) = (String::new(), text);
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some((name, after)) = rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            out.push_str(variable(call, name));
            rest = after;
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            out.push_str(variable(call, &rest[..end]));
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    Ok(Value::from(out))
}
