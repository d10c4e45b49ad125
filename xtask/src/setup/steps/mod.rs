//! Plans the commands that install what is missing. Pure: [`Host`] holds all relevant properties of the machine.

use super::{Install, Requirement};
use crate::{error::Error, tools};

/// What can be installed on this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    /// rustup manages the toolchain.
    pub(super) rustup: bool,
    /// The machine has apt: Debian or a derivative.
    pub(super) apt: bool,
    /// The process runs as root.
    pub(super) root: bool,
}

impl Host {
    /// Detects the properties of this machine.
    pub(super) fn this() -> Self {
        Self {
            rustup: tools::find("rustup").is_some(),
            apt: tools::find("apt-get").is_some(),
            root: tools::is_root(),
        }
    }
}

/// One command to run.
#[derive(Debug)]
pub(super) struct Step<'a> {
    /// What it installs.
    pub(super) serves: Vec<&'a Requirement>,
    /// The command line.
    pub(super) words: Vec<&'static str>,
    /// Whether to continue if it fails.
    pub(super) may_fail: bool,
}

/// The steps, and the error for what the user must install.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// In order of execution.
    pub(super) steps: Vec<Step<'a>>,
    /// What cannot be installed here.
    pub(super) refusal: Option<Error>,
}

/// Waits up to 300 s for another apt-get, which a fresh machine often runs.
const APT_INSTALL: [&str; 6] =
    ["apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "--yes", "--no-install-recommends"];

/// The commands that install `missing`, components first and packages together at the end.
pub(super) fn plan<'a>(missing: &[&'a Requirement], host: Host) -> Plan<'a> {
    let mut plan = Plan { steps: Vec::new(), refusal: None };
    let (mut components, mut targets, mut packages) = (Vec::new(), Vec::new(), Vec::new());
    for &one in missing {
        match one.install {
            Install::Component(component) => components.push((one, component)),
            Install::Target(target) => targets.push((one, target)),
            Install::Package(package) => packages.push((one, package)),
            Install::Crate(..) => {}
        }
    }
    for (wanted, command) in [(components, "component"), (targets, "target")] {
        if !wanted.is_empty() && host.rustup {
            plan.push(wanted, &["rustup", command, "add"], false);
        } else if !wanted.is_empty() {
            plan.refusal = plan.refusal.or_else(|| Some(no_rustup(&wanted)));
        }
    }
    for &one in missing {
        if let Install::Crate(name, version) = one.install {
            let words = ["cargo", "install", name, "--version", version, "--locked", "--force"];
            plan.steps.push(Step { serves: vec![one], words: words.to_vec(), may_fail: false });
        }
    }
    if packages.is_empty() {
        return plan;
    }
    match (host.apt, host.root) {
        (true, true) => {
            // A broken third-party source must not end the setup: the packages may still be available.
            plan.push(Vec::new(), &["apt-get", "update"], true);
            plan.push(packages, &APT_INSTALL, false);
        }
        (true, false) => plan.refusal = plan.refusal.or_else(|| Some(no_root(&packages))),
        (false, _) => plan.refusal = plan.refusal.or_else(|| Some(no_apt(&packages))),
    }
    plan
}

impl<'a> Plan<'a> {
    /// Adds a command that installs all of `what` at once.
    fn push(&mut self, what: Vec<(&'a Requirement, &'static str)>, command: &[&'static str], may_fail: bool) {
        let (serves, names): (Vec<_>, Vec<_>) = what.into_iter().unzip();
        let words = command.iter().copied().chain(names).collect();
        self.steps.push(Step { serves, words, may_fail });
    }
}

/// The names, joined.
fn list(what: &[(&Requirement, &'static str)], between: &str) -> String {
    what.iter().map(|&(_, name)| name).collect::<Vec<_>>().join(between)
}

fn no_rustup(components: &[(&Requirement, &'static str)]) -> Error {
    Error::Lacking {
        names: list(components, ", "),
        obstacle: "its Rust is not managed by rustup",
        hint: "install them as you installed Rust, or install Rust with https://rustup.rs".to_owned(),
    }
}

fn no_root(packages: &[(&Requirement, &'static str)]) -> Error {
    let install = "sudo apt-get install --yes --no-install-recommends";
    Error::Lacking {
        names: list(packages, ", "),
        obstacle: "only root may install packages",
        hint: format!("sudo apt-get update && {install} {}", list(packages, " ")),
    }
}

fn no_apt(packages: &[(&Requirement, &'static str)]) -> Error {
    Error::Lacking {
        names: list(packages, ", "),
        obstacle: "it has no apt-get",
        hint: format!(
            "install with your package manager what Debian calls {} (elsewhere `iproute2` may be `iproute`, \
             and `iputils-ping` `iputils`)",
            list(packages, " ")
        ),
    }
}

#[cfg(test)]
mod tests;
