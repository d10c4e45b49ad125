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
pub(crate) fn packages() -> PathBuf {
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

    /// What begins a command of the client.
    fn client(&self) -> String {
        format!("{}/usr/bin/docker --host unix:///run/docker.sock", packages().display())
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
            let version = format!("{} version", self.client());
            let is_there = self.host.path("/run/docker.sock").exists() && self.host.run(version).succeeded();
            if is_there { Ok(()) } else { Err("dockerd does not come up".to_owned()) }
        });
        self.daemon = Some(daemon);
    }

    /// Restarts the daemon without its chains, and with forwarding off, so that it sets the policy of FORWARD again. Waits
    /// until the rules are the same as before.
    fn start_anew(&mut self, before: &str) {
        self.stop();
        run_all(self.host, &["nft delete table ip filter", "sysctl -q -w net.ipv4.ip_forward=0"]);
        self.run();
        wait_until(SLACK, || match rules(self.host) {
            now if sorted(&now) == sorted(before) => Ok(()),
            now => Err(format!("the rules do not come back:\n{now}\nbut there were:\n{before}")),
        });
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
    docker.start_anew(&during);
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

    docker.start_anew(&during);
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

/// Debian's podman, with its files in a folder that is mounted for it.
struct Podman<'h> {
    host: &'h Host,
    folder: String,
}

impl<'h> Podman<'h> {
    fn new(host: &'h Host) -> Self {
        let (packages, folder) = (packages().display().to_string(), "/run/podman".to_owned());
        let configuration = format!(
            "[network]\nnetwork_backend = \"netavark\"\n[engine]\ncgroup_manager = \"cgroupfs\"\n\
             events_logger = \"file\"\nconmon_path = [\"{packages}/usr/bin/conmon\"]\n\
             helper_binaries_dir = [\"{packages}/usr/lib/podman\"]\nruntime = \"runc\"\n\
             [engine.runtimes]\nrunc = [\"{packages}/usr/sbin/runc\"]\n\
             [containers]\npids_limit = 0\nseccomp_profile = \"{packages}/usr/share/containers/seccomp.json\"\n\
             default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n"
        );
        run_all(
            host,
            &[
                "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
                &format!("mkdir -p {folder} /run/lock /run/containers"),
                &format!("mount -t tmpfs podman {folder}"),
                &format!("mkdir -p {folder}/.config/containers"),
                &format!("cp {packages}/etc/containers/policy.json {folder}/.config/containers/policy.json"),
            ],
        );
        let _ = host
            .run_with_input(["sh", "-c", &format!("cat > {folder}/containers.conf")], &configuration)
            .ok();
        image(host, &format!("{folder}/image"));
        let podman = Self { host, folder };
        let import = format!("tar -C {}/image -c . | {}", podman.folder, podman.command("import - image"));
        let _ = host.run(["sh", "-c", &import]).ok();
        podman
    }

    fn command(&self, arguments: &str) -> String {
        let (packages, folder) = (packages().display().to_string(), &self.folder);
        format!(
            "env HOME={folder} CONTAINERS_CONF={folder}/containers.conf LD_LIBRARY_PATH={packages}/usr/lib/x86_64-linux-gnu \
             {packages}/usr/bin/podman --root {folder}/data --runroot {folder}/run --storage-driver vfs {arguments}"
        )
    }

    fn run(&self, arguments: &str) -> String {
        self.host.run(self.command(arguments)).ok().stdout.trim().to_owned()
    }

    /// Removes what podman leaves.
    fn remove(self) {
        let _ = self.host.run("ip link del podman0");
        for command in [
            "nft flush ruleset",
            &format!("umount {}", self.folder),
            "umount /sys/fs/cgroup",
            "sysctl -q -w net.ipv4.ip_forward=0",
            &format!("rm -rf {} /run/containers /run/lock /run/libpod /run/crun /run/runc", self.folder),
        ] {
            let _ = self.host.run(command).ok();
        }
    }
}

/// The root of an image that has `sleep`, in a new folder.
fn image(host: &Host, folder: &str) {
    run_all(
        host,
        &[
            &format!("mkdir -p {folder}/bin"),
            &format!("cp {}/bin/busybox {folder}/bin/busybox", packages().display()),
            &format!("ln -s busybox {folder}/bin/sleep"),
        ],
    );
}

/// Adopts a container with a default route by `gateway` as a host of a lab, and checks that it is as it was after
/// `down`.
#[track_caller]
fn is_a_host_of_a_lab(host: &Host, pid: &str, gateway: &str, top: &str) {
    let inside = |command: &str| host.run(format!("nsenter --net=/proc/{pid}/ns/net {command}"));
    let network = || {
        ["ip -4 addr", "ip -6 addr", "ip -4 route", "ip -6 route"].map(|show| {
            let shown = inside(show).ok().stdout;
            shown.lines().filter(|line| !line.contains("valid_lft")).collect::<Vec<_>>().join("\n")
        })
    };
    let _ = inside(&format!("ping -n -q -c 1 -W 5 {gateway}")).ok();
    let before = wait_until(SLACK, || match network() {
        now if now.concat().contains("tentative") || now.concat().contains("linkdown") => Err(now.concat()),
        now => Ok(now),
    });
    let rules_before = rules(host);
    assert!(before[2].contains(&format!("default via {gateway}")), "{before:?}");
    let text = format!(
        "{top}{LAB}[namespace.web]\nadopt = {{ pid = {pid} }}\ngateway = \"10.66.0.1\"\n\
         [namespace.web.interface.lab0]\nlink = \"labbr\"\naddresses = [\"10.66.0.9/24\"]\n"
    );
    let up = host.vethpath(format!("up {}", host.topology("beside", &text))).ok();
    assert!(!up.stderr.contains("dropped"), "{}", up.stderr);
    wait_for_pings(host);
    for to in ["10.66.0.2", "10.66.0.1", gateway] {
        let _ = inside(&format!("ping -n -q -c 1 -W 5 {to}")).ok();
    }
    assert!(network()[2].contains("default via 10.66.0.1"), "{:?}", network());
    let _ = host.vethpath("exec web -- ping -n -q -c 1 -W 5 10.66.0.3").ok();
    let _ = host.vethpath("down").ok();
    assert_eq!(network(), before, "the container has what its engine gave it");
    assert_eq!(sorted(&rules(host)), sorted(&rules_before));
}

#[test]
fn a_container_of_podman_is_a_host_of_a_lab() {
    let mut host = Host::new();
    let podman = Podman::new(&host);
    let _ = podman.run("run --detach --name web image sleep 600");
    let pid = podman.run("inspect web --format {{.State.Pid}}");
    is_a_host_of_a_lab(&host, &pid, "10.88.0.1", "");
    let _ = podman.run("rm --force --time 0 web");
    podman.remove();
    host.set_baseline_when_stable();
    host.finish();
}

#[test]
fn a_container_of_docker_is_a_host_of_a_lab() {
    let mut host = Host::new();
    let docker = Docker::start(&host);
    image(&host, "/run/image");
    let client = docker.client();
    let _ = host.run(["sh", "-c", &format!("tar -C /run/image -c . | {client} import - image")]).ok();
    let container =
        "run --detach --name web --ulimit nofile=1024:1024 --security-opt seccomp=unconfined image";
    let _ = host.run(format!("{client} {container} sleep 600")).ok();
    let pid = host.run(format!("{client} inspect web --format {{{{.State.Pid}}}}")).ok().stdout;
    // Docker's rules drop what the machine's bridges forward.
    is_a_host_of_a_lab(&host, pid.trim(), "172.17.0.1", "fabric = true\n");
    let _ = host.run(format!("{client} rm --force web")).ok();
    docker.remove();
    let _ = host.run("rm -rf /run/image").ok();
    host.set_baseline_when_stable();
    host.finish();
}
