//! Golden cases as tests: every folder of cases is a test of its own, so that further ones only have to be put there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use libtest_mimic::{Failed, Trial};

/// Where the cases of a kind lie: below `K8S_BOOTSTRAP_GOLDEN` (default `tests/golden` of the repository).
pub fn folder(kind: &str) -> PathBuf {
    let root = std::env::var_os("K8S_BOOTSTRAP_GOLDEN");
    root.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from).join(kind)
}

/// A test per case; where there are none, one that fails.
pub fn trials(kind: &str, title: &str, run: fn(&Path) -> Result<(), String>) -> Vec<Trial> {
    let folder = folder(kind);
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    cases.sort();
    if cases.is_empty() {
        let missing = format!("no golden cases in {}", folder.display());
        return vec![Trial::test(title, || Err(Failed::from(missing)))];
    }
    let trial = |case: PathBuf| {
        let title = format!("{title}::{}", case.file_name().unwrap().to_string_lossy());
        Trial::test(title, move || attempt(run, &case).map_err(Failed::from))
    };
    cases.into_iter().map(trial).collect()
}

fn attempt(run: fn(&Path) -> Result<(), String>, case: &Path) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| run(case))).unwrap_or_else(|_| Err("panicked".to_owned()))
}
