//! Patches: base and patch in one text, with a form feed between. Applying one never changes the base, and an empty one
//! nothing at all.
#![no_main]

use talos_schema::{Documents, ConfigPatch, merge, parse_documents, parse_strictly};
use yaml::Origin;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Some((base, patch)) = text.split_once('\u{c}') else { return };
    let Ok(config) = parse_strictly(&Origin::new("base"), base) else { return };
    if let Ok(patch) = ConfigPatch::parse(&Origin::new("patch"), patch)
        && let Ok(patched) = patch.apply(&config)
    {
        assert_eq!(patch.apply(&config).as_ref(), Ok(&patched));
        if let Ok(written) = merge(&patched, &Documents::default()) {
            assert_eq!(merge(&written, &Documents::default()).as_ref(), Ok(&written));
        }
    }
    if let Ok(patch) = parse_documents(&Origin::new("patch"), patch) {
        let _ = merge(&config, &patch);
    }
});
