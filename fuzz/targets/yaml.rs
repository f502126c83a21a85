//! The YAML loader in both dialects: it ends, within its limits, with nodes or with a place.
#![no_main]

use yaml::{Dialect, Origin, parse, parse_as};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let origin = Origin::new("fuzz");
    let read = parse(&origin, text);
    assert_eq!(read.is_ok(), parse(&origin, text).is_ok());
    if let Err(diagnostic) = parse_as(&origin, text, Dialect::Verbatim) {
        assert!(!diagnostic.message.is_empty());
    }
});
