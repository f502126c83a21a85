//! Generates the Talos API types from `proto/`; protox compiles them, so no protoc is needed.

use std::error::Error;

const FILES: [&str; 8] = [
    "common.proto",
    "machine.proto",
    "lifecycle.proto",
    "image.proto",
    "cluster.proto",
    "storage.proto",
    "time.proto",
    "cosi.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=phases");
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
