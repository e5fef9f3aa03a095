# Short names for the usual commands. `just` without a name lists them.

# `target` is a source folder here: wherever Cargo is called from, it builds into `build`.
export CARGO_TARGET_DIR := justfile_directory() / "build"

set shell := ["bash", "-euo", "pipefail", "-c"]

# What there is
default:
    @just --list --unsorted

# Build everything, unoptimised
build:
    cargo build --workspace --all-targets

# Build the programs as they are shipped
release:
    cargo build --release

# Build holdfast-agent for initiator hosts: static, at build/agent/holdfast-agent
agent:
    control-plane/agent/build

# Run an appliance in the foreground: just up --ram-pool 4GiB
up *FLAGS: release
    build/release/holdfast up {{ FLAGS }}

# Everything that must hold: what continuous integration runs
test:
    tests/run

# The tests that need no guests
unit:
    tests/run unit doc

# Only the tests with Linux guests
e2e:
    tests/run build guests e2e

# Check a fresh appliance against the NVMe specifications: just conformance --filter 'transport.*'
conformance *FLAGS: build
    build/debug/holdfast-conformance {{ FLAGS }}

# Inputs that nobody thought of: just fuzz --runs 100000, just fuzz --coverage
fuzz *FLAGS:
    target/fuzz/run {{ FLAGS }}

# Power cuts on a simulated device: just crashes --crashes 20000
crashes *FLAGS:
    target/store/tests/crash/run {{ FLAGS }}

# Power cuts of whole appliances, under scripted hosts and under Linux guests: just power-cuts --cuts 300 --guests 20
power-cuts *FLAGS:
    tests/e2e/tests/power_cuts/run {{ FLAGS }}

# Every byte of every structure of a small pool changed in turn: just corruption --stride 7
corruption *FLAGS:
    target/store/tests/corruption/run {{ FLAGS }}

# Integrity policies under a writer that changes what is in flight: just policies --boots '6.12/nvme' --only table
policies *FLAGS:
    tests/e2e/tests/policies/run {{ FLAGS }}

# The kernel patches, one by one
patches:
    tests/run patches

# Format the sources
fmt:
    cargo fmt --all

# Formatting and lints
lint:
    tests/run fmt clippy

# The target against a bare socket loop, in alternating runs: just bench --rounds 3
bench *FLAGS:
    tests/bench/run {{ FLAGS }}

# How long pools take to open: just bench-recovery --mapped 1,10
bench-recovery *FLAGS:
    tests/bench/recovery {{ FLAGS }}

# A pool in a file against a plain file of the same file system: just bench-disk --fills 50,80,95
bench-disk *FLAGS:
    tests/bench/disk {{ FLAGS }}

# iSCSI against Debian's tgt and istgt, and against NVMe/TCP: just bench-iscsi --rounds 3
bench-iscsi *FLAGS:
    tests/bench/iscsi {{ FLAGS }}

# Licences, advisories and sources of the dependencies (cargo install --locked cargo-deny)
deny:
    cargo deny check

# The long tests. Each part that has passed for this very tree is passed over when this is started again
full: (once "test" "tests/run") (once "e2e-file" "tests/run build guests e2e-file-long") (once "tuples" "tests/run build guests e2e-long") (once "hostile" "tests/run build e2e-debug") (once "patches" "tests/run patches") (once "policies" "tests/e2e/tests/policies/run") (once "fuzz" "target/fuzz/run --runs 1000000") (once "crashes" "target/store/tests/crash/run --crashes 200000") (once "power-cuts" "tests/e2e/tests/power_cuts/run") (once "corruption" "target/store/tests/corruption/run") (once "bench" "tests/bench/run --full")

# Runs COMMAND unless it has passed since the tree last changed
[private]
once PART COMMAND:
    #!/usr/bin/env bash
    set -euo pipefail
    mkdir -p build/full
    tree=$(git ls-files -z -co --exclude-standard | sort -z | xargs -0 sha256sum 2>/dev/null | sha256sum) || true
    if [[ $tree == "$(cat "build/full/{{ PART }}" 2>/dev/null || true)" ]]; then
        echo "{{ PART }}: has passed for this tree"
        exit 0
    fi
    {{ COMMAND }}
    echo "$tree" >"build/full/{{ PART }}"

# Delete what was built
clean:
    @echo "Only from inside: 'cargo clean --manifest-path …' from elsewhere would delete the sources in target/." >&2
    @test "$CARGO_TARGET_DIR" = "{{ justfile_directory() }}/build"
    cargo clean

# Build the agent as one static program, for any Linux host of this architecture
agent-static:
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --release -p holdfast-agent --target x86_64-unknown-linux-gnu
