//! Labs beside real container engines. `cargo xtask setup` unpacks them below `target/`.

use std::{env, path::PathBuf};

use crate::harness::{Host, Process, SLACK, TIMEOUT, wait_until};

/// Two hosts whose bridge has no name or subnet of Docker's.
const LAB: &str = "name = \"beside\"\n[bridge.labbr]\naddresses = [\"10.66.0.1/24\"]\n\
                   [namespace.a.interface.eth0]\nlink = \"labbr\"\naddresses = [\"10.66.0.2/24\"]\n\
                   [namespace.b.interface.eth0]\nlink = \"labbr\"\naddresses = [\"10.66.0.3/24\"]\n";

/// What Docker's rules do to the lab's packets.
const DROPPED: &str = "bridge labbr in host: IPv4 packets between its hosts are dropped by nft table ip filter, chain \
                       FORWARD (policy drop)";

/// The folder of the unpacked packages.
fn packages() -> PathBuf {
    let folder = env::var_os("VETHPATH_PACKAGES").expect("VETHPATH_PACKAGES: `cargo xtask test` sets it");
    PathBuf::from(folder)
}

/// A running dockerd of Debian's docker.io.
struct Docker<'h> {
    host: &'h Host,
    daemon: Option<Process>,
    data: tempfile::TempDir,
}

impl<'h> Docker<'h> {
    fn start(host: &'h Host) -> Self {
        // The /sys of a private machine has none.
        let _ = host.run("mount -t cgroup2 cgroup2 /sys/fs/cgroup").ok();
        let mut docker = Self { host, daemon: None, data: tempfile::tempdir().expect("a folder") };
        docker.run();
        docker
    }

    /// Starts the daemon, and waits for its rules.
    fn run(&mut self) {
        let (packages, data) = (packages(), self.data.path().display().to_string());
        let search =
            format!("PATH={0}/usr/bin:{0}/usr/sbin:/usr/sbin:/usr/bin:/sbin:/bin", packages.display());
        let command = [
            "env".to_owned(),
            search,
            format!("{}/usr/sbin/dockerd", packages.display()),
            "--storage-driver=vfs".to_owned(),
            "--exec-opt=native.cgroupdriver=cgroupfs".to_owned(),
            "--userland-proxy=false".to_owned(),
            format!("--data-root={data}/data"),
            "--exec-root=/run/docker".to_owned(),
            "--pidfile=/run/docker.pid".to_owned(),
            "--host=unix:///run/docker.sock".to_owned(),
        ];
        let mut daemon = self.host.spawn(command.to_vec());
        wait_until(TIMEOUT, || {
            assert!(!daemon.has_ended(), "dockerd has ended: {}", daemon.output());
            // It listens once its networks are made.
            let is_there = self.host.path("/run/docker.sock").exists()
                && self.host.run("ip link show docker0").succeeded();
            if is_there { Ok(()) } else { Err("dockerd does not come up".to_owned()) }
        });
        self.daemon = Some(daemon);
    }

    fn stop(&mut self) {
        let daemon = self.daemon.take().expect("it runs");
        daemon.terminate();
        let _ = daemon.wait(TIMEOUT);
    }

    /// Removes what dockerd leaves.
    fn remove(mut self) {
        self.stop();
        for command in [
            "umount /sys/fs/cgroup",
            "ip link del docker0",
            "nft flush ruleset",
            "sysctl -q -w net.ipv4.ip_forward=0",
            "rm -rf /run/docker /run/docker.sock /run/docker.pid /run/containerd",
        ] {
            let _ = self.host.run(command).ok();
        }
    }
}

fn pings(host: &Host) -> bool {
    host.run("ip netns exec a ping -q -c 1 -W 1 10.66.0.3").succeeded()
}

#[track_caller]
fn wait_for_pings(host: &Host) {
    wait_until(SLACK, || if pings(host) { Ok(()) } else { Err("b does not answer".to_owned()) });
}

#[track_caller]
fn shows_the_drop(host: &Host, command: &str) {
    wait_until(SLACK, || match host.vethpath(command).ok().stdout {
        shown if shown.contains(DROPPED) => Ok(()),
        shown => Err(format!("the drop is not shown: {shown}")),
    });
}

/// Docker sets the policy of FORWARD to drop, and br_netfilter sends bridged frames there.
#[test]
fn a_lab_whose_packets_docker_drops_is_refused_until_a_rule_accepts_them() {
    let host = Host::new();
    let mut docker = Docker::start(&host);
    let _ = host.run("sysctl -q -w net.bridge.bridge-nf-call-iptables=1").ok();
    let file = host.topology("beside", LAB);
    let refused = host.vethpath(format!("up {file}")).fails(1).stderr_has(DROPPED);
    let _ = refused.stderr_has("`iptables -I DOCKER-USER -i labbr -o labbr -j ACCEPT` accepts them");
    assert!(host.namespaces().is_empty() && !host.path("/run/vethpath").exists());
    assert!(!host.run("ip link show labbr").succeeded());

    let _ = host.run("iptables -I DOCKER-USER -i labbr -o labbr -j ACCEPT").ok();
    let up = host.vethpath(format!("up {file}")).ok();
    assert!(!up.stderr.contains("dropped"), "{}", up.stderr);
    wait_for_pings(&host);
    // The hosts do not forward because the machine does.
    assert_eq!(host.run("sysctl -n net.ipv4.ip_forward").ok().stdout, "1\n");
    assert_eq!(host.run("ip netns exec a sysctl -n net.ipv4.ip_forward").ok().stdout, "0\n");

    // dockerd creates its chains again and keeps the rules in DOCKER-USER.
    docker.stop();
    docker.run();
    wait_for_pings(&host);
    let stats = host.vethpath("stats").ok().stdout;
    assert!(!stats.contains("are dropped by"), "{stats}");

    let _ = host.run("iptables -F DOCKER-USER").ok();
    assert!(!pings(&host), "it is dropped for certain");
    ["stats", "show", "events"].into_iter().for_each(|command| shows_the_drop(&host, command));
    let _ = host.vethpath("doctor").stdout_has(DROPPED);
    let _ = host.vethpath("down").ok();
    docker.remove();
    host.finish();
}

/// A bridge in a namespace of the lab's has none of Docker's rules.
#[test]
fn a_lab_with_a_namespace_for_its_bridge_is_fast_beside_docker() {
    let host = Host::new();
    let docker = Docker::start(&host);
    let text =
        LAB.replace("[bridge.labbr]\n", "[bridge.labbr]\nnamespace = \"fabric\"\n") + "[namespace.fabric]\n";
    let _ = host.vethpath(format!("up {}", host.topology("beside", &text))).ok();
    wait_for_pings(&host);
    let fast = || host.vethpath("stats --json").ok().json()["pairs"][0]["fast"]["tx"]["packets"].as_u64();
    wait_until(SLACK, || match (pings(&host), fast()) {
        (true, Some(1..)) => Ok(()),
        other => Err(format!("nothing is fast: {other:?}")),
    });
    let _ = host.vethpath("down").ok();
    docker.remove();
    host.finish();
}
