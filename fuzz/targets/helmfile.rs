//! State files: two in a folder, with a form feed between, so that bases and parts meet. What would start a program is
//! left out.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use helmfile::HelmfileOptions;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder can be made"));

fuzz_target!(|text: &str| {
    if text.contains("exec") {
        return;
    }
    let (state, base) = text.split_once('\u{c}').unwrap_or((text, ""));
    let folder = FOLDER.path();
    std::fs::write(folder.join("base.yaml"), base).expect("the folder can be written to");
    for name in ["helmfile.yaml", "helmfile.yaml.gotmpl"] {
        std::fs::write(folder.join(name), state).expect("the folder can be written to");
        let _ = helmfile::read(folder, &folder.join(name), &BTreeMap::new(), &HelmfileOptions::default());
    }
});
