//! References to secrets: each has the right position, and a placeholder replaces every one of them.
#![no_main]

use secrets::{Adapters, op, placeholders};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let adapters = Adapters::default();
    for references in [op::references(text), adapters.references(text)] {
        let mut end = 0;
        for reference in references {
            assert!(end <= reference.range.start && reference.range.end <= text.len());
            assert!(text[reference.range.clone()].contains(&reference.text));
            end = reference.range.end;
        }
    }
    let filled = placeholders(text, &adapters);
    assert!(op::references(text).is_empty() || filled != text);
});
