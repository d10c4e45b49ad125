//! The requirements of building, testing, the demo and the figures: what, why, how to detect and how to install.

use super::probe::Probe;
use crate::test::OTHER_CPU;

/// The purpose of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Checking the format.
    Format,
    /// Linting.
    Lint,
    /// Building vethpath and its programs.
    Build,
    /// Compiling for another CPU.
    OtherCpu,
    /// Testing the build.
    Judge,
    /// Testing it on other kernels.
    Guest,
    /// Testing it on another CPU.
    OtherGuest,
    /// Fuzzing.
    Fuzz,
    /// The demo.
    Demo,
    /// Measuring the documents' figures.
    Figures,
    /// Taking the documents' pictures.
    Screenshots,
}

impl Need {
    /// All except the emulators, which take hundreds of megabytes and which only the long suite needs.
    pub(crate) const USUAL: [Self; 9] = [
        Self::Format,
        Self::Lint,
        Self::Build,
        Self::OtherCpu,
        Self::Judge,
        Self::Fuzz,
        Self::Demo,
        Self::Figures,
        Self::Screenshots,
    ];
}

/// How a requirement is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Install {
    /// A component of the toolchain in use, by rustup.
    Component(&'static str),
    /// The standard library for a target, by rustup.
    Target(&'static str),
    /// A program on crates.io, by `cargo install`.
    Crate(&'static str, &'static str),
    /// A Debian package, by apt-get.
    Package(&'static str),
    /// A Debian package that would start daemons: it is unpacked in [`tools::packages_dir`](crate::tools::packages_dir).
    Unpacked(&'static str),
}

/// One requirement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requirement {
    /// Its name for people.
    pub(super) name: &'static str,
    /// Completes "needed ...".
    pub(super) why: &'static str,
    /// Its purposes.
    pub(super) needs: &'static [Need],
    /// How to detect it.
    pub(super) probe: Probe,
    /// How to install it.
    pub(super) install: Install,
}

impl Requirement {
    /// Whether it serves any of `needs`.
    pub(super) fn serves(&self, needs: &[Need]) -> bool {
        self.needs.iter().any(|need| needs.contains(need))
    }
}

/// The version that uses the Rust toolchain's LLVM; later ones need a system LLVM.
const BPF_LINKER: &str = "0.10.4";

/// All requirements.
pub(super) const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        name: "rustfmt",
        why: "to check the format of the code",
        needs: &[Need::Format],
        probe: Probe::Cargo("fmt"),
        install: Install::Component("rustfmt"),
    },
    Requirement {
        name: "clippy",
        why: "to lint the code",
        needs: &[Need::Lint],
        probe: Probe::Cargo("clippy"),
        install: Install::Component("clippy"),
    },
    Requirement {
        name: "rust-src",
        why: "to build `core` for the eBPF target",
        needs: &[Need::Build],
        probe: Probe::Sysroot("lib/rustlib/src/rust/library/core/src/lib.rs"),
        install: Install::Component("rust-src"),
    },
    Requirement {
        name: "the standard library for aarch64",
        why: "to see that vethpath compiles for it",
        needs: &[Need::OtherCpu, Need::OtherGuest],
        probe: Probe::Sysroot("lib/rustlib/aarch64-unknown-linux-gnu/lib"),
        install: Install::Target(OTHER_CPU),
    },
    Requirement {
        name: "bpf-linker",
        why: "to link the eBPF programs (takes a minute or two)",
        needs: &[Need::Build],
        probe: Probe::Version("bpf-linker", BPF_LINKER),
        install: Install::Crate("bpf-linker", BPF_LINKER),
    },
    package(
        "iproute2",
        "ip",
        "to judge namespaces, links and bridges with `ip`, `bridge` and `tc`",
        &[Need::Judge, Need::Figures, Need::Screenshots],
    ),
    package("iputils-ping", "ping", "to send the first frames", &[Need::Judge, Need::Demo]),
    package("ethtool", "ethtool", "to judge the offloads of veth ends", &[Need::Judge]),
    package(
        "tmux",
        "tmux",
        "to show the view of `stats --watch` in a terminal",
        &[Need::Judge, Need::Screenshots],
    ),
    package("tcpdump", "tcpdump", "to see the frames that hosts see", &[Need::Judge]),
    package("nftables", "nft", "to put filter rules in the way of the fast path", &[Need::Judge]),
    package("iptables", "iptables-nft", "to drop packets as Docker and firewalls do", &[Need::Judge]),
    package("systemd", "systemd-analyze", "to check the units in dist/", &[Need::Judge]),
    unpacked("docker.io", "usr/sbin/dockerd", "to run labs beside Docker", &[Need::Judge]),
    unpacked("containerd", "usr/bin/containerd", "to run Docker", &[Need::Judge]),
    unpacked("runc", "usr/sbin/runc", "to run containers", &[Need::Judge]),
    unpacked("podman", "usr/bin/podman", "to run labs beside podman", &[Need::Judge]),
    unpacked("conmon", "usr/bin/conmon", "to run podman", &[Need::Judge]),
    unpacked("netavark", "usr/lib/podman/netavark", "to run podman", &[Need::Judge]),
    unpacked(
        "golang-github-containers-common",
        "usr/share/containers/seccomp.json",
        "to run podman",
        &[Need::Judge],
    ),
    unpacked("golang-github-containers-image", "etc/containers/policy.json", "to run podman", &[Need::Judge]),
    unpacked("libgpgme11", "usr/share/doc/libgpgme11/copyright", "to run podman", &[Need::Judge]),
    unpacked("libassuan0", "usr/share/doc/libassuan0/copyright", "to run podman", &[Need::Judge]),
    unpacked("libsubid4", "usr/share/doc/libsubid4/copyright", "to run podman", &[Need::Judge]),
    unpacked("busybox-static", "bin/busybox", "to make an image of a container", &[Need::Judge]),
    unpacked("ufw", "usr/sbin/ufw", "to run labs beside ufw", &[Need::Judge]),
    unpacked("firewalld", "usr/sbin/firewalld", "to run labs beside firewalld", &[Need::Judge]),
    unpacked(
        "python3-firewall",
        "usr/lib/python3/dist-packages/firewall/client.py",
        "to run firewalld",
        &[Need::Judge],
    ),
    unpacked(
        "python3-nftables",
        "usr/lib/python3/dist-packages/nftables/nftables.py",
        "to run firewalld",
        &[Need::Judge],
    ),
    unpacked(
        "python3-dbus",
        "usr/lib/python3/dist-packages/dbus/__init__.py",
        "to run firewalld",
        &[Need::Judge],
    ),
    unpacked(
        "python3-gi",
        "usr/lib/python3/dist-packages/gi/__init__.py",
        "to run firewalld",
        &[Need::Judge],
    ),
    unpacked(
        "gir1.2-glib-2.0",
        "usr/share/doc/gir1.2-glib-2.0/copyright",
        "to run firewalld",
        &[Need::Judge],
    ),
    unpacked(
        "libgirepository-1.0-1",
        "usr/share/doc/libgirepository-1.0-1/copyright",
        "to run firewalld",
        &[Need::Judge],
    ),
    unpacked("prometheus", "usr/bin/promtool", "to scrape metrics", &[Need::Judge]),
    Requirement {
        name: "python3",
        why: "to run ufw and firewalld",
        needs: &[Need::Judge],
        probe: Probe::File("/usr/bin/python3"),
        install: Install::Package("python3"),
    },
    package("dbus-daemon", "dbus-daemon", "to run firewalld", &[Need::Judge]),
    package("perl-base", "perl", "to ask the agent's socket as another user", &[Need::Judge]),
    package("iperf3", "iperf3", "to load a path with TCP", &[Need::Judge]),
    package("chromium", "chromium", "to draw the page of `bench`", &[Need::Judge]),
    package("qemu-system-x86", "qemu-system-x86_64", "to boot other kernels", &[Need::Guest]),
    package(
        "qemu-system-arm",
        "qemu-system-aarch64",
        "to boot a kernel for another CPU",
        &[Need::OtherGuest],
    ),
    package("cpio", "cpio", "to pack the root of a guest", &[Need::Guest, Need::OtherGuest]),
    package("kmod", "depmod", "to index the modules of a guest", &[Need::Guest, Need::OtherGuest]),
    package(
        "gcc-aarch64-linux-gnu",
        "aarch64-linux-gnu-gcc",
        "to link programs for aarch64",
        &[Need::OtherGuest],
    ),
    Requirement {
        name: "libc6-dev-arm64-cross",
        why: "to link programs for aarch64 with its C library",
        needs: &[Need::OtherGuest],
        probe: Probe::File("/usr/aarch64-linux-gnu/lib/crt1.o"),
        install: Install::Package("libc6-dev-arm64-cross"),
    },
    package("g++", "c++", "to build libFuzzer", &[Need::Fuzz]),
    package("gcc", "cc", "to hold `bench` against a ping-pong in C", &[Need::Figures]),
    package("sockperf", "sockperf", "to hold `bench` against it", &[Need::Figures]),
];

/// A Debian package, detected by one of its programs.
const fn package(
    name: &'static str,
    program: &'static str,
    why: &'static str,
    needs: &'static [Need],
) -> Requirement {
    Requirement { name, why, needs, probe: Probe::Program(program), install: Install::Package(name) }
}

/// A Debian package that is not installed, detected by one of its files.
const fn unpacked(
    name: &'static str,
    file: &'static str,
    why: &'static str,
    needs: &'static [Need],
) -> Requirement {
    Requirement { name, why, needs, probe: Probe::Unpacked(file), install: Install::Unpacked(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_is_served_and_every_requirement_is_needed() {
        let needs = Need::USUAL.into_iter().chain([Need::Guest, Need::OtherGuest]);
        for need in needs.clone().filter(|&need| need != Need::Demo) {
            assert!(REQUIREMENTS.iter().any(|requirement| requirement.serves(&[need])), "{need:?}");
        }
        for one in REQUIREMENTS {
            assert!(needs.clone().any(|need| one.serves(&[need])), "{}", one.name);
            assert!(one.why.starts_with("to "), "{}", one.name);
        }
    }

    #[test]
    fn the_demo_asks_for_no_more_than_it_shows() {
        let names: Vec<_> = REQUIREMENTS
            .iter()
            .filter(|requirement| requirement.serves(&[Need::Demo]))
            .map(|requirement| requirement.name)
            .collect();
        assert_eq!(names, ["iputils-ping"]);
    }
}
