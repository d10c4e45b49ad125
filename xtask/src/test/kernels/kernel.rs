//! The kernels and machines that tests run on, and the results of a guest.

use std::{path::PathBuf, time::Duration};

use crate::{
    setup::Need,
    test::{runner::Outcome, stage::OTHER_CPU},
    tools::target_dir,
};

/// A kernel to test on.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::test) struct Kernel {
    /// The value of `--kernel`.
    pub(super) name: &'static str,
    /// The Debian package that depends on the newest image of this series.
    pub(super) package: &'static str,
    pub(super) machine: &'static Machine,
    /// Prefixes of the tests' names. Tests that are ignored elsewhere are included.
    pub(super) tests: &'static [&'static str],
    /// Prefixes of tests that are not run, with the reasons.
    pub(super) skipped: &'static [(&'static str, &'static str)],
}

/// An emulated machine.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Machine {
    /// Debian's name of the architecture.
    pub(super) architecture: &'static str,
    pub(super) qemu: &'static str,
    pub(super) options: &'static [&'static str],
    /// The kernel's name of the console that QEMU connects to its standard output.
    pub(super) console: &'static str,
    /// Target and linker, if they differ from this machine's.
    pub(super) cross: Option<(&'static str, &'static str)>,
    pub(super) strip: &'static str,
}

pub(super) const X86: Machine = Machine {
    architecture: "amd64",
    qemu: "qemu-system-x86_64",
    options: &["-cpu", "max"],
    console: "ttyS0",
    cross: None,
    strip: "strip",
};

pub(super) const ARM: Machine = Machine {
    architecture: "arm64",
    qemu: "qemu-system-aarch64",
    // QARMA, the architected algorithm of pointer authentication, is very slow in emulation.
    options: &["-M", "virt", "-cpu", "max,pauth-impdef=on"],
    console: "ttyAMA0",
    cross: Some((OTHER_CPU, "aarch64-linux-gnu-gcc")),
    strip: "aarch64-linux-gnu-strip",
};

/// Tests for other kernels: those that depend on the kernel, and those that this machine's kernel cannot run.
pub(super) const OTHER_KERNEL: &[&str] =
    &["walkthrough::", "hazards::", "traffic::", "segments::", "fabric::", "firewall::", "kernels::"];
/// Tests for other CPUs.
pub(super) const OTHER_CPU_TESTS: &[&str] =
    &["walkthrough::", "programs::stations", "segments::stations::", "hazards::state::moves"];

/// Why a test is not run in a guest.
const SPEED: &str = "it is decided by how fast the machine is";

/// Tests that are not run in a guest.
const DECIDED_BY_SPEED: &[(&str, &str)] =
    &[("hazards::delivery::losses::", SPEED), ("hazards::state::flood::a_flood_of_addresses", SPEED)];

pub(super) const ALL: [Kernel; 3] = [
    Kernel {
        name: "6.1",
        package: "linux-image-amd64",
        machine: &X86,
        tests: OTHER_KERNEL,
        skipped: DECIDED_BY_SPEED,
    },
    Kernel {
        name: "6.12",
        package: "linux-image-6.12-amd64",
        machine: &X86,
        tests: OTHER_KERNEL,
        skipped: DECIDED_BY_SPEED,
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
pub(super) const EVERY: &str = "all";

/// Parallel tests in a guest, which has two CPUs.
pub(super) const SLOTS: usize = 2;
/// The time limit of a test in a guest: emulated CPUs are about ten times slower.
pub(super) const LIMIT: Duration = Duration::from_secs(1800);
/// The variable that scales the tests' timeouts: tests/harness/wait.rs.
pub(super) const SLOWNESS: (&str, &str) = ("VETHPATH_SLOWNESS", "5");
/// Timeout of a silent guest, beyond the time limit of a test.
pub(super) const SILENCE: Duration = Duration::from_secs(300);

/// The values of `--kernel`.
pub(in crate::test) fn names() -> Vec<&'static str> {
    ALL.iter().map(|kernel| kernel.name).chain([EVERY]).collect()
}

/// The kernels of these names, without duplicates; all if the list is empty.
pub(in crate::test) fn named(names: &[String]) -> Vec<&'static Kernel> {
    let every = names.is_empty() || names.iter().any(|name| name == EVERY);
    ALL.iter().filter(|kernel| every || names.iter().any(|name| name == kernel.name)).collect()
}

impl Kernel {
    /// The requirements of its tests.
    pub(in crate::test) fn needs(&self) -> &'static [Need] {
        match self.machine.cross {
            None => &[Need::Build, Need::Guest],
            Some(_) => &[Need::Build, Need::OtherCpu, Need::OtherGuest],
        }
    }

    pub(super) fn folder(&self) -> PathBuf {
        folder().join(self.name)
    }
}

/// The folder of all guests.
pub(super) fn folder() -> PathBuf {
    target_dir().join("guests")
}

/// The sources that tests read, relative to the repository.
pub(super) const SOURCES: [&str; 6] =
    ["README.md", "docs", "examples", "tests", "vethpath/src", "vethpath/Cargo.toml"];

/// The results of a guest.
#[derive(Default)]
pub(super) struct Results {
    /// `uname -r`, and Debian's version in `uname -v`.
    pub(super) release: String,
    pub(super) outcomes: Vec<Outcome>,
    /// Warnings in the kernel log.
    pub(super) complaints: Vec<String>,
}

impl Results {
    /// How many passed, lack a feature, and failed.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let lacking = self.outcomes.iter().filter(|outcome| outcome.lacks().is_some()).count();
        let failed = self.outcomes.iter().filter(|outcome| outcome.has_failed()).count();
        (self.outcomes.len() - lacking - failed, lacking, failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::root;

    fn selected(names: &[&str]) -> Vec<&'static str> {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        named(&names).into_iter().map(|kernel| kernel.name).collect()
    }

    #[test]
    fn kernels_are_named_once_and_in_order() {
        assert_eq!(selected(&["arm64", "6.1", "6.1"]), ["6.1", "arm64"]);
        assert_eq!(selected(&["6.12"]), ["6.12"]);
        for every in [&["all"][..], &[], &["6.1", "all"]] {
            assert_eq!(selected(every), ["6.1", "6.12", "arm64"]);
        }
        assert_eq!(names(), ["6.1", "6.12", "arm64", "all"]);
    }

    #[test]
    fn only_the_other_cpu_asks_for_a_compiler() {
        let needs = |name| named(&[String::from(name)])[0].needs();
        assert!(!needs("6.12").contains(&Need::OtherGuest) && needs("arm64").contains(&Need::OtherGuest));
    }

    #[test]
    fn the_sources_that_tests_read_are_there() {
        for path in SOURCES {
            assert!(root().join(path).exists(), "{path}");
        }
    }
}
