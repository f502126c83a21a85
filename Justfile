# Everything here is a plain cargo command; `just` only saves typing. The two that matter:
#
#   just rehearse      the whole bootstrap of `infra`, against simulated nodes and a real Kubernetes control plane
#   just test          every test, on real parts
#
# Needed: cargo, git, a C compiler, go. The other tools are found, downloaded or built on first use.

# List the recipes.
default:
    @just --list

# Rehearse the bootstrap of a cluster: `just rehearse apps --scenario fast`.
rehearse cluster='infra' *options:
    cargo run --release -- rehearse {{ cluster }} {{ options }}

# Run the tests: `just test`, `just test yaml::`.
test *filter:
    cargo test {{ filter }}

# Format the code.
fmt:
    cargo fmt --all

# What CI says about style, lints and dependencies.
lint:
    cargo fmt --all --check
    cargo clippy --all-targets -- -D warnings
    cargo deny check bans licenses sources

# Measure a rehearsal against its own critical path, what simulated machines cost, and how fast repositories are read and configs made.
bench:
    cargo bench --bench charts
    cargo bench --bench crds
    cargo bench --bench load
    cargo bench --bench render
    cargo bench --bench nodes
    cargo bench --bench rehearsal

# Build the API documentation, private items too, and refuse broken links.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

# Fuzz whatever reads what others wrote, each target for so many seconds. Needs nightly Rust and cargo-fuzz.
fuzz seconds='60':
    fuzz/run {{ seconds }}

# Provide the tools that a rehearsal needs, ahead of time.
tools:
    cargo run --release -- tools install

# Everything that must pass on a clean machine.
ci:
    .ci/run
