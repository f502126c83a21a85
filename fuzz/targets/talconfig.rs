//! The talconfig reader, with nothing beside the file itself.
#![no_main]

use std::sync::LazyLock;

use talos_config::{FetchedInputs, talconfig};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder can be made"));

fuzz_target!(|text: &str| {
    let folder = FOLDER.path();
    std::fs::write(folder.join("talconfig.yaml"), text).expect("the folder can be written to");
    let _ = talconfig::read(folder, folder, &|_| None, &FetchedInputs::default());
});
