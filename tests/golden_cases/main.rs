//! Golden cases: inputs with the results of the real tools, one test per case.
//!
//! The cases are read from `K8S_BOOTSTRAP_GOLDEN` (default `tests/golden`): every folder below `talos/<kind>/` is a
//! test called `<kind>::<folder>`, every folder below `helmfile/` one called `helmfile::<folder>`, so that further cases
//! only have to be put there. A kind without cases fails.
#![allow(clippy::unwrap_used)]

mod cases;
mod helmfile;
#[path = "../common/program.rs"]
mod program;
mod talos;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = talos::trials().into_iter().chain(helmfile::trials()).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
