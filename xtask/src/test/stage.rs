//! The suites of `cargo xtask test`, their stages, and the commands that these are made of.

use std::{process::Command, time::Duration};

use clap::ValueEnum;

use super::fuzz;
use crate::{
    error::KERNELS,
    setup::Need,
    tools::{cargo, target_dir},
};

/// The extent of testing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suite {
    /// For use during development.
    Quick,
    /// For every change.
    Full,
    /// For releases, and for changes of the agent or of the programs.
    Long,
}

impl Suite {
    /// Its stages.
    pub(super) const fn stages(self) -> &'static [Stage] {
        match self {
            Self::Quick => &Stage::QUICK,
            Self::Full => &Stage::ALL,
            Self::Long => &Stage::LONG,
        }
    }

    /// The time limit of an integration test. The longest one of the full suite takes a third of it on a quiet machine.
    pub(super) const fn limit(self) -> Duration {
        match self {
            Self::Quick | Self::Full => Duration::from_secs(300),
            Self::Long => Duration::from_secs(3 * 3600),
        }
    }

    /// The time limit of each fuzzer.
    pub(super) const fn fuzz(self) -> Duration {
        match self {
            Self::Quick | Self::Full => Duration::from_secs(10),
            Self::Long => Duration::from_secs(1800),
        }
    }

    /// Environment variables for tests with a configurable number of steps or duration.
    pub(super) const fn variables(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Quick | Self::Full => &[],
            Self::Long => &[("VETHPATH_LONG", "1")],
        }
    }
}

/// The stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    /// Format of the code
    Fmt,
    /// Lints of the host side
    Clippy,
    /// Lints of the eBPF programs
    ClippyEbpf,
    /// Compilation for another CPU
    Aarch64,
    /// Tests that need no rights
    Unit,
    /// Tests on real labs (root)
    Integration,
    /// Documentation
    Doc,
    /// Short runs of the fuzzers
    Fuzz,
    /// Integration tests on other kernels, in emulated guests
    Kernels,
}

/// All packages except the one for the BPF target.
const HOST_SIDE: [&str; 3] = ["--workspace", "--exclude", "vethpath-ebpf"];

/// The other supported CPU, as rustup and cargo name it.
pub(crate) const OTHER_CPU: &str = "aarch64-unknown-linux-gnu";

impl Stage {
    /// In order of execution: the fastest to fail first.
    pub(super) const LONG: [Self; 9] = [
        Self::Fmt,
        Self::Clippy,
        Self::ClippyEbpf,
        Self::Aarch64,
        Self::Unit,
        Self::Integration,
        Self::Doc,
        Self::Fuzz,
        Self::Kernels,
    ];
    /// The stages for every change.
    pub(super) const ALL: [Self; 8] = *Self::LONG.first_chunk().expect("there are more");
    /// The stages of `--quick`.
    pub(super) const QUICK: [Self; 4] = [Self::Fmt, Self::Clippy, Self::Unit, Self::Integration];

    /// The value of `--only`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::ClippyEbpf => "clippy-ebpf",
            Self::Aarch64 => "aarch64",
            Self::Unit => "unit",
            Self::Integration => "integration",
            Self::Doc => "doc",
            Self::Fuzz => "fuzz",
            Self::Kernels => KERNELS,
        }
    }

    /// The text of its heading.
    pub(super) const fn about(self) -> &'static str {
        match self {
            Self::Fmt => "the format of the code",
            Self::Clippy => "lints of the host side",
            Self::ClippyEbpf => "lints of the eBPF programs, without and with logging",
            Self::Aarch64 => "the product compiles for aarch64",
            Self::Unit => "tests that need no rights",
            Self::Integration => "tests on real labs, a process for each",
            Self::Doc => "the documentation",
            Self::Fuzz => "hostile files, messages and records",
            Self::Kernels => "tests on real labs under other kernels",
        }
    }

    /// Its requirements.
    pub(super) const fn needs(self) -> &'static [Need] {
        match self {
            Self::Fmt => &[Need::Format],
            Self::Clippy | Self::ClippyEbpf => &[Need::Lint, Need::Build],
            Self::Aarch64 | Self::Doc => &[Need::Build, Need::OtherCpu],
            Self::Unit => &[Need::Build],
            Self::Integration => &[Need::Build, Need::Judge],
            Self::Fuzz => &[Need::Build, Need::Fuzz],
            Self::Kernels => &[Need::Build],
        }
    }

    /// Its commands. `test_args` go to the test binaries. Integration tests and guests have runners of their own.
    pub(super) fn commands(self, test_args: &[String]) -> Vec<Command> {
        match self {
            Self::Fmt => vec![
                cargo_with(&["fmt", "--all", "--check"]),
                cargo_with(&["fmt", "--manifest-path", fuzz::MANIFEST, "--check"]),
            ],
            Self::Clippy => {
                let mut command = cargo_with(&["clippy"]);
                command.args(HOST_SIDE).args(["--all-targets", "--", "-D", "warnings"]);
                vec![command]
            }
            Self::ClippyEbpf => vec![clippy_ebpf(&[]), clippy_ebpf(&["--features", "log"])],
            Self::Aarch64 => {
                vec![as_released(cargo_with(&["check", "--package", "vethpath", "--target", OTHER_CPU]))]
            }
            Self::Unit => vec![unit(&["--lib", "--bins"], test_args), unit(&["--doc"], test_args)],
            Self::Integration | Self::Kernels => Vec::new(),
            Self::Doc => {
                // The target is the other CPU's: its stage has already checked the dependencies with the needed
                // features.
                let mut command = as_released(cargo_with(&["doc", "--no-deps", "--target", OTHER_CPU]));
                command.args(HOST_SIDE).env("RUSTDOCFLAGS", "-D warnings");
                vec![command]
            }
            Self::Fuzz => fuzz::build(),
        }
    }
}

/// For the other CPU, compiles what release builds have in place of test hooks. No other stage does.
fn as_released(mut command: Command) -> Command {
    let variable = format!("CARGO_TARGET_{}_RUSTFLAGS", OTHER_CPU.to_uppercase().replace('-', "_"));
    command.env(variable, "-Cdebug-assertions=off");
    command
}

/// cargo with a fixed environment.
pub(super) fn cargo_with(args: &[&str]) -> Command {
    let mut command = fixed(cargo());
    command.args(args);
    command
}

/// A command with a fixed locale and time zone, since tests parse the output of tools.
pub(super) fn fixed(mut command: Command) -> Command {
    command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC").env("PAGER", "cat").env("RUST_BACKTRACE", "1");
    command
}

/// The host-side tests of these `kinds`.
fn unit(kinds: &[&str], test_args: &[String]) -> Command {
    let mut command = cargo_with(&["test"]);
    command.args(HOST_SIDE).args(kinds);
    if !test_args.is_empty() {
        command.arg("--").args(test_args);
    }
    command
}

/// Lints the programs as `vethpath/build.rs` builds them: for the BPF target, with `build-std`, which `RUSTC_BOOTSTRAP`
/// enables on stable Rust. The separate target folder keeps these flags from invalidating other builds.
fn clippy_ebpf(features: &[&str]) -> Command {
    let mut command = cargo_with(&["clippy", "--package", "vethpath-ebpf", "--release"]);
    command.args(["-Z", "build-std=core", "--target", "bpfel-unknown-none", "--target-dir"]);
    command.arg(target_dir().join("ebpf-clippy")).args(features).args(["--", "-D", "warnings"]);
    command.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", target_arch(std::env::consts::ARCH));
    command
}

/// The flag that sets the register layout for `aya-ebpf`.
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
        for stage in Stage::LONG {
            let value = stage.to_possible_value().expect("no stage is hidden");
            assert_eq!(value.get_name(), stage.name());
        }
        assert_eq!(Stage::LONG.len(), Stage::value_variants().len());
    }

    #[test]
    fn test_arguments_reach_the_test_binaries() {
        let commands = Stage::Unit.commands(&["roaming".to_owned()]);
        let lines: Vec<_> = commands.iter().map(display).collect();
        assert!(lines.iter().all(|line| line.ends_with(" -- roaming")), "{lines:?}");
    }

    #[test]
    fn the_target_of_the_programs_is_the_hosts() {
        assert_eq!(target_arch("x86_64"), "--cfg=bpf_target_arch=\"x86_64\"");
        assert_eq!(target_arch("riscv64gc"), "--cfg=bpf_target_arch=\"riscv64\"");
    }
}
