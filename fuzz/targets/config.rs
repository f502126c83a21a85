//! The config loader: every accepted config is written so that it is read as the same config.
#![no_main]

use talos_schema::{RuntimeMode, parse_documents, parse_strictly, validate_text};
use yaml::Origin;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let origin = Origin::new("fuzz");
    let Ok(documents) = parse_documents(&origin, text) else { return };
    let again = parse_documents(&origin, &documents.to_yaml()).expect("our own output is read");
    assert_eq!(again, documents);
    if let Ok(strict) = parse_strictly(&origin, text) {
        assert_eq!(strict, documents);
        let _ = validate_text(&origin, text, RuntimeMode::Metal);
    }
});
