//! Plans the commands that install what is missing. Pure: [`Host`] holds all relevant properties of the machine.

use super::requirements::{Install, Requirement};
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
    pub(super) command: Vec<&'static str>,
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

/// Unpacks packages below the current folder, without installing them.
const UNPACK: [&str; 4] = [
    "sh",
    "-c",
    "set -e; mkdir -p target/packages; cd target/packages; apt-get download \"$@\"; for package in *.deb; do dpkg --extract \
     \"$package\" .; rm \"$package\"; done",
    "unpack",
];

/// The commands that install `missing`, components first and packages together at the end.
pub(super) fn plan<'a>(missing: &[&'a Requirement], host: Host) -> Plan<'a> {
    let mut plan = Plan { steps: Vec::new(), refusal: None };
    let (mut components, mut targets) = (Vec::new(), Vec::new());
    let (mut packages, mut unpacked) = (Vec::new(), Vec::new());
    for &one in missing {
        match one.install {
            Install::Component(component) => components.push((one, component)),
            Install::Target(target) => targets.push((one, target)),
            Install::Package(package) => packages.push((one, package)),
            Install::Unpacked(package) => unpacked.push((one, package)),
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
            let command = ["cargo", "install", name, "--version", version, "--locked", "--force"];
            plan.steps.push(Step { serves: vec![one], command: command.to_vec(), may_fail: false });
        }
    }
    if packages.is_empty() && unpacked.is_empty() {
        return plan;
    }
    if host.apt && host.root {
        // A broken third-party source must not end the setup: the packages may still be available.
        plan.push(Vec::new(), &["apt-get", "update"], true);
        for (wanted, command) in [(packages, &APT_INSTALL[..]), (unpacked, &UNPACK)] {
            if !wanted.is_empty() {
                plan.push(wanted, command, false);
            }
        }
        return plan;
    }
    packages.extend(unpacked);
    let refusal = if host.apt { no_root(&packages) } else { no_apt(&packages) };
    plan.refusal = plan.refusal.or(Some(refusal));
    plan
}

impl<'a> Plan<'a> {
    /// Adds a command that installs all of `what` at once.
    fn push(&mut self, what: Vec<(&'a Requirement, &'static str)>, command: &[&'static str], may_fail: bool) {
        let (serves, names): (Vec<_>, Vec<_>) = what.into_iter().unzip();
        let command = command.iter().copied().chain(names).collect();
        self.steps.push(Step { serves, command, may_fail });
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

/// Installation plans by machine.
#[cfg(test)]
mod tests {
    use super::{
        super::requirements::{Need, REQUIREMENTS},
        *,
    };

    const DEBIAN_ROOT: Host = Host { rustup: true, apt: true, root: true };

    fn named(names: &[&str]) -> Vec<&'static Requirement> {
        REQUIREMENTS.iter().filter(|requirement| names.contains(&requirement.name)).collect()
    }

    fn lines(plan: &Plan<'_>) -> Vec<String> {
        plan.steps.iter().map(|step| step.command.join(" ")).collect()
    }

    fn refusal(plan: &Plan<'_>) -> String {
        let error = plan.refusal.as_ref();
        error.map(|error| format!("{error}; {}", error.hint().unwrap_or_default())).unwrap_or_default()
    }

    #[test]
    fn a_fresh_debian_gets_everything_in_six_commands() {
        let all: Vec<_> =
            REQUIREMENTS.iter().filter(|requirement| requirement.serves(&Need::USUAL)).collect();
        let plan = plan(&all, DEBIAN_ROOT);
        let [components, target, linker, update, packages, unpacked] =
            lines(&plan).try_into().expect("six commands");
        let engines = "docker.io containerd runc podman conmon netavark golang-github-containers-common \
                       golang-github-containers-image libgpgme11 libassuan0 libsubid4 busybox-static";
        let firewalls = "ufw firewalld python3-firewall python3-nftables python3-dbus python3-gi gir1.2-glib-2.0 \
                         libgirepository-1.0-1";
        assert!(unpacked.ends_with(&format!(" unpack {engines} {firewalls} prometheus")), "{unpacked}");
        assert_eq!(components, "rustup component add rustfmt clippy rust-src");
        assert_eq!(target, "rustup target add aarch64-unknown-linux-gnu");
        assert_eq!(linker, "cargo install bpf-linker --version 0.10.4 --locked --force");
        assert_eq!(update, "apt-get update");
        assert!(
            packages.ends_with(
                " iproute2 iputils-ping ethtool tmux tcpdump nftables iptables systemd python3 dbus-daemon perl-base iperf3 chromium g++ gcc \
                 sockperf"
            ),
            "{packages}"
        );
        assert!(plan.refusal.is_none());
    }

    #[test]
    fn package_lists_are_fetched_only_for_packages() {
        let plan = plan(&named(&["rust-src"]), DEBIAN_ROOT);
        assert_eq!(lines(&plan), ["rustup component add rust-src"]);
    }

    #[test]
    fn only_the_package_lists_may_fail() {
        let plan = plan(&named(&["clippy", "bpf-linker", "tcpdump"]), DEBIAN_ROOT);
        let may: Vec<_> =
            plan.steps.iter().filter(|step| step.may_fail).map(|step| step.command.join(" ")).collect();
        assert_eq!(may, ["apt-get update"]);
    }

    #[test]
    fn a_user_gets_the_rust_side_and_the_sudo_command() {
        let plan = plan(&named(&["bpf-linker", "tcpdump", "iperf3"]), Host { root: false, ..DEBIAN_ROOT });
        assert_eq!(lines(&plan).len(), 1);
        let message = refusal(&plan);
        assert!(message.contains("sudo apt-get update && sudo apt-get install"), "{message}");
        assert!(message.ends_with(" tcpdump iperf3"), "{message}");
    }

    #[test]
    fn another_distribution_gets_the_list() {
        let plan = plan(&named(&["tcpdump", "nftables"]), Host { apt: false, ..DEBIAN_ROOT });
        assert!(plan.steps.is_empty());
        assert!(refusal(&plan).contains("what Debian calls tcpdump nftables"), "{}", refusal(&plan));
    }

    #[test]
    fn a_toolchain_without_rustup_is_left_alone() {
        let plan = plan(&named(&["rust-src"]), Host { rustup: false, ..DEBIAN_ROOT });
        assert!(plan.steps.is_empty());
        assert!(refusal(&plan).contains("not managed by rustup"), "{}", refusal(&plan));
    }
}
