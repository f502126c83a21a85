//! Generates the Talos API types from `proto/`; protox compiles them, so no protoc is needed.

use std::error::Error;
use std::fs::DirEntry;
use std::path::Path;

/// The protocol files, at the top of the repository.
const PROTO: &str = "../../proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let entries = std::fs::read_dir(PROTO)?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<_> = entries.iter().map(DirEntry::file_name).collect();
    // What they import lies in folders.
    files.retain(|name| Path::new(name).extension().is_some());
    files.sort();
    let descriptors = protox::compile(files, [PROTO])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
