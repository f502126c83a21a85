//! Packed charts and bundles: as they are, and as what a gzip stream holds, which no mutation would hit upon.
#![no_main]

use std::io::Write;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::GzEncoder;
use helm::{ChartBundle, PulledChart};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder can be made"));

fuzz_target!(|bytes: &[u8]| {
    let path = FOLDER.path().join("package");
    std::fs::write(&path, bytes).expect("the folder can be written to");
    let _ = PulledChart::local(&path);
    let _ = ChartBundle::open(&path);
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).expect("memory can be written to");
    std::fs::write(&path, packed.finish().expect("memory can be written to")).expect("the folder can be written to");
    let _ = PulledChart::local(&path);
});
