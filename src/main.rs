//! Parse, run, exit code.

fn main() -> std::process::ExitCode {
    k8s_bootstrap::cli::main()
}
