# Shortcuts for plain cargo commands. The two main ones:
#
#   just rehearse      the whole bootstrap of `infra`, against simulated nodes and a real Kubernetes control plane
#   just test          every test, with real programs (etcd, kube-apiserver, helm, …)
#
# Needed: cargo, git, a C compiler, go. The other tools are found, downloaded or built on first use.

# List the recipes.
default:
    @just --list

# Rehearse the bootstrap of a cluster: `just rehearse apps --scenario fast`.
rehearse cluster='infra' *options:
    cargo run --release -- rehearse {{ cluster }} {{ options }}

# Run the tests: `just test`, `just test -p yaml`.
test *filter:
    cargo test {{ filter }}

# Format the code.
fmt:
    cargo fmt --all

# Run CI's checks of format, lints and dependencies.
lint:
    cargo fmt --all --check
    cargo clippy --all-targets -- -D warnings
    cargo deny check bans licenses sources

# Benchmarks: a rehearsal over its critical path, simulated nodes, reading of repositories, rendering of configs.
bench:
    cargo bench --bench charts
    cargo bench --bench crds
    cargo bench --bench load
    cargo bench --bench render
    cargo bench --bench nodes
    cargo bench --bench rehearsal

# Kill the bootstrap at every point around its effects and at random instants; continues an interrupted matrix.
kill-matrix:
    cargo test --test main every_point_and_random_instants_converge -- --ignored --nocapture

# Build the API documentation with private items; broken links are errors.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

# Fuzz every parser of external input, each target for SECONDS. Needs nightly Rust and cargo-fuzz.
fuzz seconds='60':
    fuzz/run {{ seconds }}

# Install the tools that a rehearsal needs.
tools:
    cargo run --release -- tools install

# Run all CI checks, as on a clean machine.
ci:
    .ci/run
