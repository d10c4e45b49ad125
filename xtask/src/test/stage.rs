//! The stages of `cargo xtask test` and the commands they are made of.

use std::process::Command;

use clap::ValueEnum;

use super::fuzz;
use crate::{
    setup::Need,
    tools::{cargo, target_dir},
};

/// One stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    /// Format of the code
    Fmt,
    /// Lints of the host side
    Clippy,
    /// Lints of the eBPF programs
    ClippyEbpf,
    /// Tests that need no rights
    Unit,
    /// Tests on real labs (root)
    Integration,
    /// Documentation
    Doc,
    /// Short runs of the fuzzers
    Fuzz,
}

/// How many integration tests run at once on each CPU.
const THREADS_PER_CPU: usize = 3;

/// Tests on real labs: all of them, whatever becomes of one.
const REAL_LABS: &[&str] = &["--no-fail-fast", "--test", "*"];

/// All packages but the one that builds for another target.
const HOST_SIDE: [&str; 3] = ["--workspace", "--exclude", "vethpath-ebpf"];

impl Stage {
    /// In the order they run.
    pub(super) const ALL: [Self; 7] =
        [Self::Fmt, Self::Clippy, Self::ClippyEbpf, Self::Unit, Self::Integration, Self::Doc, Self::Fuzz];

    /// The name that `--only` takes.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::ClippyEbpf => "clippy-ebpf",
            Self::Unit => "unit",
            Self::Integration => "integration",
            Self::Doc => "doc",
            Self::Fuzz => "fuzz",
        }
    }

    /// What it checks, for its heading.
    pub(super) const fn about(self) -> &'static str {
        match self {
            Self::Fmt => "the format of the code",
            Self::Clippy => "lints of the host side",
            Self::ClippyEbpf => "lints of the eBPF programs, without and with logging",
            Self::Unit => "tests that need no rights",
            Self::Integration => "tests on real labs",
            Self::Doc => "the documentation",
            Self::Fuzz => "hostile files, messages and records, in short runs",
        }
    }

    /// What must be installed for it.
    pub(super) const fn needs(self) -> &'static [Need] {
        match self {
            Self::Fmt => &[Need::Format],
            Self::Clippy | Self::ClippyEbpf => &[Need::Lint, Need::Build],
            Self::Unit | Self::Doc => &[Need::Build],
            Self::Integration => &[Need::Build, Need::Judge],
            Self::Fuzz => &[Need::Build, Need::Fuzz],
        }
    }

    /// Its commands; `test_args` go to the test binaries.
    pub(super) fn commands(self, test_args: &[String]) -> Vec<Command> {
        match self {
            Self::Fmt => vec![
                checked(&["fmt", "--all", "--check"]),
                checked(&["fmt", "--manifest-path", fuzz::MANIFEST, "--check"]),
            ],
            Self::Clippy => {
                let mut command = checked(&["clippy"]);
                command.args(HOST_SIDE).args(["--all-targets", "--", "-D", "warnings"]);
                vec![command]
            }
            Self::ClippyEbpf => vec![clippy_ebpf(&[]), clippy_ebpf(&["--features", "log"])],
            Self::Unit => vec![test(&["--lib", "--bins"], test_args), test(&["--doc"], test_args)],
            Self::Integration => {
                let mut command = test(REAL_LABS, test_args);
                // They wait more than they compute.
                let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
                command.env("RUST_TEST_THREADS", (cpus * THREADS_PER_CPU).to_string());
                vec![command]
            }
            Self::Doc => {
                let mut command = checked(&["doc"]);
                command.args(HOST_SIDE).arg("--no-deps").env("RUSTDOCFLAGS", "-D warnings");
                vec![command]
            }
            Self::Fuzz => fuzz::commands(),
        }
    }
}

/// These integration tests and no others, one after the other.
pub(super) fn alone(tests: &[String]) -> Command {
    let mut command = test(REAL_LABS, &[]);
    command.args(["--", "--exact"]).args(tests).env("RUST_TEST_THREADS", "1");
    command
}

/// cargo in surroundings that are the same everywhere: the tests read what other tools print.
fn checked(args: &[&str]) -> Command {
    let mut command = cargo();
    command
        .args(args)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("PAGER", "cat")
        .env("RUST_BACKTRACE", "1");
    command
}

/// The tests of the host side that `kinds` selects.
fn test(kinds: &[&str], test_args: &[String]) -> Command {
    let mut command = checked(&["test"]);
    command.args(HOST_SIDE).args(kinds);
    if !test_args.is_empty() {
        command.arg("--").args(test_args);
    }
    command
}

/// Lints the programs as `vethpath/build.rs` builds them: for their target, with a `core` of their
/// own, which stable Rust allows under `RUSTC_BOOTSTRAP`. A target folder apart keeps these flags
/// from invalidating everything else that was built.
fn clippy_ebpf(features: &[&str]) -> Command {
    let mut command = checked(&["clippy", "--package", "vethpath-ebpf", "--release"]);
    command.args(["-Z", "build-std=core", "--target", "bpfel-unknown-none", "--target-dir"]);
    command.arg(target_dir().join("ebpf-clippy")).args(features).args(["--", "-D", "warnings"]);
    command.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", target_arch(std::env::consts::ARCH));
    command
}

/// The flag by which `aya-ebpf` learns whose registers it reads.
fn target_arch(host: &str) -> String {
    let arch = if host.starts_with("riscv64") { "riscv64" } else { host };
    format!("--cfg=bpf_target_arch=\"{arch}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::display;

    #[test]
    fn names_are_those_of_the_command_line() {
        for stage in Stage::ALL {
            let value = stage.to_possible_value().expect("no stage is hidden");
            assert_eq!(value.get_name(), stage.name());
        }
        assert_eq!(Stage::ALL.len(), Stage::value_variants().len());
    }

    #[test]
    fn test_arguments_reach_the_test_binaries() {
        let [command] = Stage::Integration.commands(&["roaming".to_owned()]).try_into().expect("one command");
        let line = display(&command);
        assert!(
            line.ends_with("test --workspace --exclude vethpath-ebpf --no-fail-fast --test '*' -- roaming"),
            "{line}"
        );
    }

    #[test]
    fn a_test_that_is_alone_is_the_only_one() {
        let line = display(&alone(&["faults::torn".to_owned()]));
        assert!(line.ends_with("--test '*' -- --exact faults::torn"), "{line}");
    }

    #[test]
    fn the_target_of_the_programs_is_the_hosts() {
        assert_eq!(target_arch("x86_64"), "--cfg=bpf_target_arch=\"x86_64\"");
        assert_eq!(target_arch("riscv64gc"), "--cfg=bpf_target_arch=\"riscv64\"");
    }
}
