//! Integration tests on other kernels: Debian's kernel packages, booted under QEMU without KVM.
//!
//! A guest has neither disk nor network. Its root is an initramfs of Debian packages (`root`) with the test binary,
//! `vethpath`, this program and the sources. In it, this program runs the tests (`guest`) and prints a line for each to
//! the console, which `console` reads. `matrix` stores the results in docs/kernels.md.

mod console;
mod guest;
mod matrix;
mod root;

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use self::{
    console::Console,
    guest::{Line, Request},
    matrix::Record,
};
use super::{
    runner::{Binary, Outcome},
    select,
    stage::{OTHER_CPU, cargo_with},
};
use crate::{
    error::Error,
    setup::Need,
    tools::{command, output, root as sources, run as run_command, say, target_dir},
};

pub(crate) use guest::{Args as GuestArgs, run as run_guest};

/// A kernel to test on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    /// The value of `--kernel`.
    name: &'static str,
    /// The Debian package that depends on the newest image of this series.
    package: &'static str,
    machine: &'static Machine,
    /// Prefixes of the tests' names. Tests that are ignored elsewhere are included.
    tests: &'static [&'static str],
    /// Prefixes of tests that are not run, with the reasons.
    skipped: &'static [(&'static str, &'static str)],
}

/// An emulated machine.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    /// Debian's name of the architecture.
    architecture: &'static str,
    qemu: &'static str,
    options: &'static [&'static str],
    /// The kernel's name of the console that QEMU connects to its standard output.
    console: &'static str,
    /// Target and linker, if they differ from this machine's.
    cross: Option<(&'static str, &'static str)>,
    strip: &'static str,
}

const X86: Machine = Machine {
    architecture: "amd64",
    qemu: "qemu-system-x86_64",
    options: &["-cpu", "max"],
    console: "ttyS0",
    cross: None,
    strip: "strip",
};

const ARM: Machine = Machine {
    architecture: "arm64",
    qemu: "qemu-system-aarch64",
    // QARMA, the architected algorithm of pointer authentication, is very slow in emulation.
    options: &["-M", "virt", "-cpu", "max,pauth-impdef=on"],
    console: "ttyAMA0",
    cross: Some((OTHER_CPU, "aarch64-linux-gnu-gcc")),
    strip: "aarch64-linux-gnu-strip",
};

/// Tests for other kernels: those that depend on the kernel, and those that this machine's kernel cannot run.
const OTHER_KERNEL: &[&str] = &["walkthrough::", "hazards::", "traffic::", "segments::", "kernels::"];
/// Tests for other CPUs.
const OTHER_CPU_TESTS: &[&str] =
    &["walkthrough::", "programs::stations", "segments::stations::", "hazards::state::moves"];

/// Why a test is not run in a guest.
const SPEED: &str = "it is decided by how fast the machine is";

const ALL: [Kernel; 3] = [
    Kernel {
        name: "6.1",
        package: "linux-image-amd64",
        machine: &X86,
        tests: OTHER_KERNEL,
        skipped: &[("hazards::delivery::losses::", SPEED)],
    },
    Kernel {
        name: "6.12",
        package: "linux-image-6.12-amd64",
        machine: &X86,
        tests: OTHER_KERNEL,
        skipped: &[("hazards::delivery::losses::", SPEED)],
    },
    Kernel {
        name: "arm64",
        package: "linux-image-6.12-arm64",
        machine: &ARM,
        tests: OTHER_CPU_TESTS,
        skipped: &[],
    },
];

/// The value of `--kernel` for all kernels.
const EVERY: &str = "all";

/// Parallel tests in a guest, which has two CPUs.
const SLOTS: usize = 2;
/// The time limit of a test in a guest: emulated CPUs are about ten times slower.
const LIMIT: Duration = Duration::from_secs(1800);
/// The variable that scales the tests' timeouts: tests/harness/wait.rs.
const SLOWNESS: (&str, &str) = ("VETHPATH_SLOWNESS", "5");
/// Timeout of a silent guest, beyond the time limit of a test.
const SILENCE: Duration = Duration::from_secs(300);

/// The values of `--kernel`.
pub(super) fn names() -> Vec<&'static str> {
    ALL.iter().map(|kernel| kernel.name).chain([EVERY]).collect()
}

/// The kernels of these names, without duplicates; all if the list is empty.
pub(super) fn named(names: &[String]) -> Vec<&'static Kernel> {
    let every = names.is_empty() || names.iter().any(|name| name == EVERY);
    ALL.iter().filter(|kernel| every || names.iter().any(|name| name == kernel.name)).collect()
}

impl Kernel {
    /// The requirements of its tests.
    pub(super) fn needs(&self) -> &'static [Need] {
        match self.machine.cross {
            None => &[Need::Build, Need::Guest],
            Some(_) => &[Need::Build, Need::OtherCpu, Need::OtherGuest],
        }
    }

    fn folder(&self) -> PathBuf {
        folder().join(self.name)
    }
}

/// The folder of all guests.
fn folder() -> PathBuf {
    target_dir().join("guests")
}

/// Runs the tests on each of `kernels`, even if some fail. The error names the failed tests.
pub(super) fn run(kernels: &[&'static Kernel], arguments: &[String]) -> Result<(), Error> {
    if env::consts::ARCH != "x86_64" {
        return Err(Error::Guest("guests are emulated on x86-64 machines alone".to_owned()));
    }
    let folder = folder();
    let file = |source| Error::File { path: folder.clone(), source };
    fs::create_dir_all(&folder).map_err(file)?;
    let alone = File::create(folder.join("lock")).map_err(file)?;
    if alone.try_lock().is_err() {
        return Err(Error::Guest(format!("another run holds {}/lock: wait until it ends", folder.display())));
    }
    // Read first: writing a kernel's record must not mark the commit as dirty for the next one.
    let commit = commit();
    let mut failed = Vec::new();
    for kernel in kernels {
        say(&format!("\n-- Linux {}", kernel.name));
        let results = match run_one(kernel, arguments) {
            Ok(results) => results,
            Err(Error::Guest(why)) => {
                say(&format!("FAILED Linux {}: {why}", kernel.name));
                failed.push(format!("the guest with Linux {}", kernel.name));
                continue;
            }
            Err(error) => return Err(error),
        };
        let (passed, lacking, bad) = results.counts();
        say(&format!("Linux {}: {passed} passed, {bad} failed, {lacking} lack what they test", kernel.name));
        for complaint in &results.complaints {
            say(&format!("note: the kernel said: {complaint}"));
        }
        let name = |outcome: &Outcome| format!("{} ({})", outcome.name, kernel.name);
        failed.extend(results.outcomes.iter().filter(|outcome| outcome.has_failed()).map(name));
        if arguments.is_empty() {
            Record::of(kernel, &results, commit.clone()).keep(kernel)?;
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Error::TestsFailed(failed)) }
}

/// The results of a guest.
#[derive(Default)]
struct Results {
    /// `uname -r`, and Debian's version in `uname -v`.
    release: String,
    outcomes: Vec<Outcome>,
    /// Warnings in the kernel log.
    complaints: Vec<String>,
}

impl Results {
    /// How many passed, lack a feature, and failed.
    fn counts(&self) -> (usize, usize, usize) {
        let lacking = self.outcomes.iter().filter(|outcome| outcome.lacks().is_some()).count();
        let failed = self.outcomes.iter().filter(|outcome| outcome.has_failed()).count();
        (self.outcomes.len() - lacking - failed, lacking, failed)
    }
}

/// Builds, boots, and collects results until the guest powers off.
fn run_one(kernel: &'static Kernel, arguments: &[String]) -> Result<Results, Error> {
    // First, so that a missing network fails before the build.
    root::prepare(kernel)?;
    let built = Built::build(kernel)?;
    let request = Request {
        kernel: kernel.name.to_owned(),
        binary: built.tests.clone(),
        arguments: arguments.to_owned(),
        environment: vec![select::seed(), (SLOWNESS.0.to_owned(), SLOWNESS.1.to_owned())],
    };
    let initrd = root::initrd(kernel, &built.files(), &request)?;
    let logs = kernel.folder().join("tests");
    let _ = fs::remove_dir_all(&logs);
    fs::create_dir_all(&logs).map_err(|source| Error::File { path: logs.clone(), source })?;
    let mut console = Console::boot(kernel, &root::kernel_image(kernel), &initrd)?;
    let mut results = Results::default();
    // A guest whose console closes early has crashed.
    loop {
        match console.next(LIMIT + SILENCE)? {
            Line::Begin { release, tests } => {
                say(&format!("{release}: {tests} tests, {SLOTS} at a time"));
                results.release = release;
            }
            Line::Test { outcome, log } => {
                let file = logs.join(outcome.name.replace("::", "."));
                fs::write(&file, log).map_err(|source| Error::File { path: file.clone(), source })?;
                match outcome.lacks() {
                    Some(what) => say(&format!("lacks           {}: {what}", outcome.name)),
                    None => outcome.show(&file),
                }
                results.outcomes.push(outcome);
            }
            Line::Error(error) => return Err(Error::Guest(error)),
            Line::End { complaints } => {
                results.complaints = complaints;
                break;
            }
        }
    }
    console.ends().map(|()| results)
}

/// The programs for a guest.
struct Built {
    tests: PathBuf,
    vethpath: PathBuf,
    xtask: PathBuf,
    strip: &'static str,
}

impl Built {
    fn build(kernel: &Kernel) -> Result<Self, Error> {
        let Machine { cross, strip, .. } = kernel.machine;
        let binary = Binary::build(|command| for_machine(command, *cross))?;
        let tests = binary.path().to_owned();
        // `target/debug/deps/integration-...`
        let profile = tests.ancestors().nth(2).map(Path::to_owned).unwrap_or_default();
        let xtask = if cross.is_some() {
            let mut command = cargo_with(&["build", "--package", "xtask"]);
            for_machine(&mut command, *cross);
            run_command(&mut command)?;
            profile.join("xtask")
        } else {
            env::current_exe().map_err(|source| Error::File { path: "xtask".into(), source })?
        };
        Ok(Self { vethpath: profile.join("vethpath"), tests, xtask, strip })
    }

    /// Each file with its path in the guest and its `strip`.
    fn files(&self) -> [(&Path, &Path, &'static str); 3] {
        [
            (&self.tests, &self.tests, self.strip),
            (&self.vethpath, &self.vethpath, self.strip),
            (&self.xtask, Path::new(guest::XTASK), self.strip),
        ]
    }
}

/// Makes cargo build for the guest's CPU.
fn for_machine(command: &mut Command, cross: Option<(&'static str, &'static str)>) {
    if let Some((target, linker)) = cross {
        let variable = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
        command.args(["--target", target]).env(variable, linker);
    }
}

/// The tested commit, with `+` if the work tree has changes.
fn commit() -> Option<String> {
    let described = output(command("git").args(["describe", "--always", "--dirty=+", "--exclude=*"]))?;
    Some(described.trim().to_owned())
}

/// The sources that tests read, relative to the repository.
const SOURCES: [&str; 6] = ["README.md", "docs", "examples", "tests", "vethpath/src", "vethpath/Cargo.toml"];

#[cfg(test)]
mod tests {
    use super::*;

    fn words(names: &[&str]) -> Vec<&'static str> {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        named(&names).into_iter().map(|kernel| kernel.name).collect()
    }

    #[test]
    fn kernels_are_named_once_and_in_order() {
        assert_eq!(words(&["arm64", "6.1", "6.1"]), ["6.1", "arm64"]);
        assert_eq!(words(&["6.12"]), ["6.12"]);
        for every in [&["all"][..], &[], &["6.1", "all"]] {
            assert_eq!(words(every), ["6.1", "6.12", "arm64"]);
        }
        assert_eq!(names(), ["6.1", "6.12", "arm64", "all"]);
    }

    #[test]
    fn only_the_other_cpu_asks_for_a_compiler() {
        let needs = |name| named(&[String::from(name)])[0].needs();
        assert!(!needs("6.12").contains(&Need::OtherGuest) && needs("arm64").contains(&Need::OtherGuest));
    }

    #[test]
    fn cargo_is_told_target_and_linker() {
        let mut command = Command::new("cargo");
        for_machine(&mut command, ARM.cross);
        let variable = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER";
        assert!(command.get_envs().any(|(name, value)| name == variable && value.is_some()));
        assert!(command.get_args().any(|word| word == OTHER_CPU));
    }

    #[test]
    fn the_sources_that_tests_read_are_there() {
        for path in SOURCES {
            assert!(sources().join(path).exists(), "{path}");
        }
    }
}
