//! Where the cases lie, and what a test of a case does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use libtest_mimic::{Failed, Trial};

/// How a case is compared; the error says what differs.
pub(crate) type Comparison = fn(&Path) -> Result<(), String>;

/// The cases of a kind, in the order of their names. Without cases, a test that fails.
pub(crate) fn list(kind: &str) -> Result<Vec<PathBuf>, Trial> {
    let root = std::env::var_os("K8S_BOOTSTRAP_GOLDEN");
    let root = root.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from);
    let folder = root.join(kind);
    let entries = std::fs::read_dir(&folder).into_iter().flatten();
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    if cases.is_empty() {
        let missing = format!("no golden cases in {}", folder.display());
        return Err(Trial::test(kind.to_owned(), || Err(Failed::from(missing))));
    }
    Ok(cases)
}

/// The case's name, as it is part of the test's name.
pub(crate) fn name(case: &Path) -> String {
    case.file_name().unwrap().to_string_lossy().into_owned()
}

/// Compares a case; a panic is a failure of this case only.
pub(crate) fn attempt(comparison: Comparison, case: &Path) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| comparison(case))).unwrap_or_else(|_| Err("panicked".to_owned()))
}
