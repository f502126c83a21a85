//! References to 1Password: each is where it says, and a placeholder stands for every one of them.
#![no_main]

use k8s_bootstrap::secrets::op::{placeholders, references};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut end = 0;
    for reference in references(text) {
        assert!(end <= reference.range.start && reference.range.end <= text.len());
        assert!(text[reference.range.clone()].contains(&reference.text));
        end = reference.range.end;
    }
    let filled = placeholders(text);
    assert!(references(text).is_empty() || filled != text);
});
