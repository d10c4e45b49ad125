//! Labs beside real container engines. `cargo xtask setup` unpacks them below `target/`.

use std::{env, path::PathBuf};

use crate::{
    firewall::{INTERNET, MASQUERADED, NO_INTERNET, OURS, reaches, rules, run_all},
    harness::{Host, Process, SLACK, TIMEOUT, wait_until},
};

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
            // It answers once its networks are made, with their rules.
            let client =
                format!("{}/usr/bin/docker --host unix:///run/docker.sock version", packages.display());
            let is_there = self.host.path("/run/docker.sock").exists() && self.host.run(client).succeeded();
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

/// The fabric has none of Docker's rules, and the machine reaches its hosts, whatever Docker does meanwhile.
#[test]
fn a_lab_in_a_fabric_is_fast_beside_docker() {
    let host = Host::new();
    let mut docker = Docker::start(&host);
    let _ = host.run("sysctl -q -w net.bridge.bridge-nf-call-iptables=1").ok();
    let gateways = ["a", "b"].map(|name| format!("[namespace.{name}]\ngateway = \"10.66.0.1\"\n")).concat();
    let text = format!("fabric = true\n{LAB}{gateways}");
    let _ = host.vethpath(format!("up {}", host.topology("beside", &text))).ok();
    wait_for_pings(&host);
    let fast = || host.vethpath("stats --json").ok().json()["pairs"][0]["fast"]["tx"]["packets"].as_u64();
    wait_until(SLACK, || match (pings(&host), fast()) {
        (true, Some(1..)) => Ok(()),
        other => Err(format!("nothing is fast: {other:?}")),
    });
    docker.stop();
    docker.run();
    wait_for_pings(&host);
    let _ = host.run("ping -n -q -c 1 -W 5 10.66.0.2").ok();
    let _ = host.run("ip netns exec b ping -n -q -c 1 -W 5 172.17.0.1").ok();
    let _ = host.vethpath("down").ok();
    docker.remove();
    host.finish();
}

/// What a fabric's bridges send to other networks comes by its uplink, and meets Docker's rules there.
#[test]
fn a_fabric_with_nat_reaches_other_networks_beside_docker() {
    let host = Host::new();
    run_all(&host, &INTERNET);
    let mut docker = Docker::start(&host);
    let before = rules(&host);
    let file = host.topology("beside", &MASQUERADED.replacen('\n', "\nfabric = true\n", 1));
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("accept-rule");
    let _ = host.vethpath(format!("up {file}")).ok();
    reaches(&host, "a", "192.0.2.2");
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
    let during = rules(&host);
    docker.stop();
    run_all(&host, &["nft delete table ip filter", "sysctl -q -w net.ipv4.ip_forward=0"]);
    docker.run();
    wait_until(SLACK, || match rules(&host) {
        now if sorted(&now) == sorted(&during) => Ok(()),
        now => Err(format!("the rules do not come back:\n{now}\nbut there were:\n{during}")),
    });
    reaches(&host, "a", "192.0.2.2");
    let _ = host.vethpath("down beside").ok();
    assert_eq!(sorted(&rules(&host)), sorted(&before));
    run_all(&host, &NO_INTERNET);
    docker.remove();
    host.finish();
}

/// A host behind `docker0`, as a container is.
const CONTAINER: [&str; 7] = [
    "ip netns add container",
    "ip link add c0 type veth peer name eth0 netns container",
    "ip link set c0 master docker0",
    "ip link set c0 up",
    "ip -n container addr add 172.17.0.2/16 dev eth0",
    "ip -n container link set eth0 up",
    "ip -n container route add default via 172.17.0.1",
];

/// All rules, in any order: Docker makes its chains in another order each time.
fn sorted(rules: &str) -> Vec<String> {
    let mut lines: Vec<_> = rules.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[track_caller]
fn pings_container(host: &Host, does: bool) {
    let ping = || host.run("ip netns exec a ping -n -q -c 1 -W 1 172.17.0.2");
    if does {
        wait_until(SLACK, || if ping().succeeded() { Ok(()) } else { Err(rules(host)) });
    } else {
        let _ = ping().fails(1);
    }
}

/// Docker drops what is routed, and `up` accepts what the lab sends to other networks in the chain made for that.
#[test]
fn labs_with_nat_reach_other_networks_beside_docker() {
    let host = Host::new();
    run_all(&host, &INTERNET);
    let mut docker = Docker::start(&host);
    let before = rules(&host);
    assert!(before.contains("-P FORWARD DROP"), "{before}");
    let _ = host.vethpath(format!("up {}", host.topology("beside", MASQUERADED))).ok();
    let other = MASQUERADED.replace("beside", "beside2").replace("labbr", "labbr2").replace(".66.", ".67.");
    let other = other.replace("fd66", "fd67").replace("namespace.a", "namespace.b");
    let _ = host.vethpath(format!("up {}", host.topology("beside2", &other))).ok();
    ["a", "b"].into_iter().for_each(|namespace| reaches(&host, namespace, "192.0.2.2"));
    let during = rules(&host);
    assert!(OURS.iter().all(|rule| during.contains(rule)), "{during}");
    let theirs =
        |all: &str| all.lines().filter(|line| !line.contains("vethpath")).collect::<Vec<_>>().join("\n");
    assert_eq!(theirs(&during), theirs(&before));

    // A container is not reached because of these rules.
    run_all(&host, &CONTAINER);
    let _ = host.run("ping -n -q -c 1 -W 5 172.17.0.2").ok();
    pings_container(&host, false);
    let accepted = "DOCKER-USER -i labbr -o docker0 -j ACCEPT";
    let _ = host.run(format!("iptables -I {accepted}")).ok();
    pings_container(&host, true);
    let _ = host.run(format!("iptables -D {accepted}")).ok();
    pings_container(&host, false);

    // dockerd starts anew, without its chains, and sets the policy since forwarding is off.
    docker.stop();
    run_all(&host, &["nft delete table ip filter", "sysctl -q -w net.ipv4.ip_forward=0"]);
    docker.run();
    wait_until(SLACK, || match rules(&host) {
        now if sorted(&now) == sorted(&during) => Ok(()),
        now => Err(format!("the rules do not come back:\n{now}\nbut there were:\n{during}")),
    });
    ["a", "b"].into_iter().for_each(|namespace| reaches(&host, namespace, "192.0.2.2"));
    pings_container(&host, false);
    let written = "rules written by the agent to ip filter DOCKER-USER in host: -i labbr -o up0 -j ACCEPT; ";
    let _ = host.vethpath("events beside").ok().stdout_has(written);
    let kinds = host.vethpath("events beside --json").ok().stdout;
    assert!(kinds.contains("\"kind\":\"rules-put-back\""), "{kinds}");

    let _ = host.vethpath("down beside").ok();
    reaches(&host, "b", "192.0.2.2");
    let _ = host.vethpath("down beside2").ok();
    assert_eq!(sorted(&rules(&host)), sorted(&before));
    let _ = host.run("ip netns del container").ok();
    run_all(&host, &NO_INTERNET);
    docker.remove();
    host.finish();
}
