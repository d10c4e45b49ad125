//! Bridges of real container engines, as they are and accelerated. The same containers do the same each time, and the
//! network must do the same.

use std::{collections::BTreeMap, sync::Mutex};

use serde_json::Value;

use crate::{
    accelerate::configuration,
    engines::{Docker, Podman, image, packages},
    firewall::{INTERNET, NO_INTERNET, run_all},
    guests::use_of,
    harness::{Host, Output, SLACK, TIMEOUT, in_parallel, sized, wait_for, wait_until},
};

/// An engine's containers.
struct Containers<'h> {
    host: &'h Host,
    /// What begins a command of the engine.
    client: String,
    /// Options of each container.
    options: &'static str,
    /// The process of each, by its name.
    pids: Mutex<BTreeMap<&'static str, String>>,
}

impl<'h> Containers<'h> {
    fn new(host: &'h Host, client: String, options: &'static str) -> Self {
        Self { host, client, options, pids: Mutex::default() }
    }

    #[track_caller]
    fn engine(&self, arguments: &str) -> String {
        self.host.run(format!("{} {arguments}", self.client)).ok().stdout.trim().to_owned()
    }

    /// Starts a container that sleeps, or serves a page at port 80.
    #[track_caller]
    fn start(&self, name: &'static str, options: &str, serves: bool) {
        let command = if serves { "/bin/busybox httpd -f -p 80 -h /www" } else { "sleep 600" };
        let own = self.options;
        let _ = self.engine(&format!("run --detach --name {name} {own} {options} image {command}"));
        let _ = self.find(name);
    }

    /// Asks the engine for the process of a container.
    #[track_caller]
    fn find(&self, name: &'static str) -> String {
        let pid = self.engine(&format!("inspect {name} --format {{{{.State.Pid}}}}"));
        let _ = self.pids.lock().expect("no test goes on after a panic").insert(name, pid.clone());
        pid
    }

    fn pid(&self, name: &str) -> String {
        self.pids.lock().expect("no test goes on after a panic")[name].clone()
    }

    /// Runs a command in the network of a container, or on the machine.
    fn inside(&self, name: &str, command: &str) -> Output {
        match name {
            "machine" => self.host.run(command),
            "internet" => self.host.run(format!("ip netns exec internet {command}")),
            name => self.host.run(format!("nsenter --net=/proc/{}/ns/net {command}", self.pid(name))),
        }
    }

    /// The IPv4 address of a container on its first network.
    #[track_caller]
    fn address(&self, name: &str) -> String {
        self.interface(name, "0.0.0.0/0").1
    }

    /// The interface of a container that has an address in a subnet, and that address. Docker numbers interfaces anew
    /// each time.
    #[track_caller]
    fn interface(&self, name: &str, subnet: &str) -> (String, String) {
        let shown = self.inside(name, &format!("ip -4 -br addr show to {subnet} scope global")).ok().stdout;
        let mut words = shown.split_whitespace();
        let (device, address) = (words.next(), words.nth(1));
        let found = device.zip(address).and_then(|(device, address)| {
            Some((device.split('@').next()?.to_owned(), address.split('/').next()?.to_owned()))
        });
        found.unwrap_or_else(|| panic!("{name} has no address in {subnet}: {shown}"))
    }

    fn pings(&self, from: &str, to: &str) -> bool {
        self.inside(from, &format!("ping -n -q -c 1 -W 1 {to}")).succeeded()
    }

    fn gets(&self, from: &str, address: &str) -> bool {
        let busybox = format!("{}/bin/busybox", packages().display());
        let get = format!("{busybox} timeout 1 {busybox} wget -q -O - http://{address}/");
        self.inside(from, &get).stdout.contains("Linux")
    }

    #[track_caller]
    fn is_reached(&self, from: &str, to: &str) {
        wait_for(SLACK, &format!("{from} cannot ping {to}"), || self.pings(from, to));
    }

    #[track_caller]
    fn is_served(&self, from: &str, address: &str) {
        wait_for(SLACK, &format!("{from} gets nothing from {address}"), || self.gets(from, address));
    }

    /// Expects that none of these pings, and no request for a page, gets a reply. All are sent at the same time.
    #[track_caller]
    fn are_refused(&self, pings: &[(&str, &str)], pages: &[(&str, &str)]) {
        let all = pings.iter().map(|ping| (ping, false)).chain(pages.iter().map(|page| (page, true)));
        let answered = in_parallel(all, |((from, to), is_page)| match is_page {
            true => self.gets(from, to).then(|| format!("{from} gets something from {to}")),
            false => self.pings(from, to).then(|| format!("{from} pings {to}")),
        });
        let answered: Vec<_> = answered.into_iter().flatten().collect();
        assert!(answered.is_empty(), "{answered:?}");
    }

    /// The packets that the interfaces of containers have sent, by the kernel's counters.
    #[track_caller]
    fn sent(&self, name: &str, interface: &str) -> u64 {
        let shown = self.inside(name, &format!("ip -s -j link show {interface}")).ok().json();
        shown[0]["stats64"]["tx"]["packets"].as_u64().expect("a number")
    }
}

/// A bridge that is accelerated.
struct Bridge<'h> {
    host: &'h Host,
    name: &'static str,
}

impl Bridge<'_> {
    #[track_caller]
    fn accelerate(&self) -> Output {
        self.host.vethpath(format!("accelerate {}", self.name)).ok()
    }

    fn stats(&self) -> Value {
        self.host.vethpath(format!("stats accelerate-{} --json", self.name)).ok().json()
    }

    /// Its ports.
    fn ports(&self) -> Vec<Value> {
        self.stats()["pairs"].as_array().cloned().expect("a list")
    }

    /// Waits until all of so many ports have a state.
    #[track_caller]
    fn has_ports(&self, count: usize, state: &str) {
        wait_until(TIMEOUT, || match self.ports() {
            ports if ports.len() == count && ports.iter().all(|port| is_in(port, state)) => Ok(()),
            ports => Err(format!("{}: not {count} ports with {state:?}: {ports:#?}", self.name)),
        });
    }

    /// The port of a container, by the process behind it.
    fn port(&self, pid: &str) -> Option<Value> {
        let is_its = |port: &Value| {
            let behind = port["behind"].as_str().unwrap_or_default();
            behind.contains(&format!("pid {pid} ")) || behind.starts_with("netns-")
        };
        self.ports().into_iter().find(is_its)
    }

    /// What it has sent in all, and what of that was fast.
    fn sent(&self) -> (u64, u64) {
        let sum = |of: fn(&Value) -> &Value| {
            self.ports().iter().map(|port| of(port)["packets"].as_u64().expect("a number")).sum::<u64>()
        };
        (sum(|port| &port["tx"]), sum(|port| &port["fast"]["tx"]))
    }

    /// Waits until pings between two containers are fast, and counted as the kernel counts them.
    #[track_caller]
    fn is_fast(&self, containers: &Containers<'_>, from: &str, to: &str, interfaces: &[(&str, &str)]) {
        let kernel = || interfaces.iter().map(|(name, interface)| containers.sent(name, interface)).sum();
        wait_until(SLACK, || {
            let (sent, fast): (u64, u64) = self.sent();
            let before: u64 = kernel();
            if self.sent().0 != sent {
                return Err("other frames pass".to_owned());
            }
            let pings = containers.inside(from, &format!("ping -n -q -c 10 -i 0.01 -W 5 {to}")).ok();
            let after = wait_until(SLACK, || match (self.sent(), kernel()) {
                (now, all) if now.0 - sent == all - before => Ok(now),
                other => Err(format!("counted {other:?}, from {sent} and {before}: {pings}")),
            });
            match after.1 - fast {
                20.. => Ok(()),
                some => Err(format!("{some} of 20 packets were fast: {:#}", self.stats())),
            }
        });
    }

    #[track_caller]
    fn stop(&self) {
        let _ = self.host.vethpath(format!("accelerate {} --stop", self.name)).ok();
    }
}

fn is_in(port: &Value, state: &str) -> bool {
    port["state"].as_str().is_some_and(|now| now.contains(state))
}

fn set_bridge_netfilter(host: &Host, on: bool) {
    for family in ["iptables", "ip6tables", "arptables"] {
        let _ = host.run(format!("sysctl -q -w net.bridge.bridge-nf-call-{family}={}", u8::from(on))).ok();
    }
}

/// The published port, at the machine's own address.
const PUBLISHED: &str = "192.0.2.1:8080";
const OUTSIDE: &str = "192.0.2.2";

/// What containers of Docker may do, and may not. `client`, `web` and `shares` are on `docker0`, `web` with a published port; `other`
/// is alone on another network; `left` and `right` are on one without ICC, which Docker enforces by rules for bridged frames.
/// `is_open`: the machine's bridges call no rules.
#[track_caller]
fn behaves_as_docker_wants(containers: &Containers<'_>, is_open: bool) {
    let [a, b, other, f] = ["client", "web", "other", "right"].map(|name| containers.address(name));
    containers.is_reached("client", &b);
    containers.is_reached("shares", &b);
    containers.is_served("client", &b);
    let namespace = |name: &str| containers.inside(name, "readlink /proc/self/ns/net").ok().stdout;
    assert_eq!(namespace("shares"), namespace("client"));
    // Outside access, and a published port: from outside, and from its own container (hairpin mode).
    containers.is_reached("client", OUTSIDE);
    for from in ["internet", "machine", "web"] {
        containers.is_served(from, PUBLISHED);
    }
    containers.is_reached("machine", &a);
    containers.is_reached("client", "172.17.0.1");
    // Networks are isolated from each other. Without its proxy, Docker needs rules for bridged frames where a container
    // asks for a port that another one on its network publishes: the reply passes the bridge alone.
    let apart = [("client", &*other), ("other", &*b)];
    if is_open {
        containers.is_reached("left", &f);
        containers.are_refused(&apart, &[("client", PUBLISHED)]);
    } else {
        containers.is_served("client", PUBLISHED);
        containers.are_refused(&[&apart[..], &[("left", &*f)]].concat(), &[]);
    }
    // Another network for a running container, and away again.
    let _ = containers.engine("network connect two client");
    containers.is_reached("client", &other);
    let there = containers.interface("client", &format!("{other}/16")).1;
    containers.is_reached("other", &there);
    let _ = containers.engine("network disconnect two client");
    containers.are_refused(&[("client", &*other), ("other", &*there)], &[]);
    // The kernel answers for a paused container, and its processes do not.
    let _ = containers.engine("pause web");
    containers.is_reached("client", &b);
    containers.are_refused(&[], &[("client", &*b)]);
    let _ = containers.engine("unpause web");
    containers.is_served("client", &b);
}

#[test]
fn docker_behaves_the_same_with_its_bridges_accelerated() {
    let mut host = Host::new();
    run_all(&host, &INTERNET);
    let mut docker = Docker::start_with(&host, &["--live-restore"]);
    image(&host, "/run/image");
    let client = docker.client();
    let _ = host.run(["sh", "-c", &format!("tar -C /run/image -c . | {client} import - image")]).ok();
    let options = "--ulimit nofile=1024:1024 --security-opt seccomp=unconfined";
    let containers = Containers::new(&host, client, options);
    let named = "network create --opt com.docker.network.bridge.name";
    let _ = containers.engine(&format!("{named}=br-two two"));
    let _ = containers
        .engine(&format!("{named}=br-closed --opt com.docker.network.bridge.enable_icc=false closed"));
    containers.start("client", "", false);
    containers.start("web", "--publish 8080:80", true);
    containers.start("shares", "--network container:client", false);
    containers.start("other", "--network two", false);
    containers.start("left", "--network closed", false);
    containers.start("right", "--network closed", false);
    let bridges = ["docker0", "br-two", "br-closed"].map(|name| Bridge { host: &host, name });
    let [docker0, two, closed] = &bridges;

    // With rules for bridged frames, as before Docker 27.3, no port is armed.
    set_bridge_netfilter(&host, true);
    behaves_as_docker_wants(&containers, false);
    let settings = || bridges.each_ref().map(|bridge| configuration(&host, bridge.name));
    let before = settings();
    let report = docker0.accelerate().stdout_has("0 of 2 ports armed");
    let rule = "not armed: nft table ip filter, chain FORWARD";
    assert_eq!(report.stdout.matches(rule).count(), 2, "{report}");
    let _ = report.stderr_has("bridge-nf-call-iptables=0");
    let _ = closed.accelerate().stdout_has("0 of 2 ports armed");
    let _ = two.accelerate().stdout_has("0 of 1 port armed");
    behaves_as_docker_wants(&containers, false);
    assert_eq!(bridges.each_ref().map(|bridge| bridge.sent().1), [0; 3]);
    bridges.iter().for_each(Bridge::stop);

    set_bridge_netfilter(&host, false);
    behaves_as_docker_wants(&containers, true);
    assert_eq!(settings(), before);
    let _ = docker0.accelerate().stdout_has("2 of 2 ports armed");
    let _ = closed.accelerate().stdout_has("2 of 2 ports armed");
    let _ = two.accelerate().stdout_has("1 of 1 port armed");
    let [b, f] = ["web", "right"].map(|name| containers.address(name));
    let all = [("client", "eth0"), ("web", "eth0")];
    docker0.is_fast(&containers, "client", &b, &all);
    docker0.is_fast(&containers, "shares", &b, &all);
    closed.is_fast(&containers, "left", &f, &[("left", "eth0"), ("right", "eth0")]);
    behaves_as_docker_wants(&containers, true);
    // A container is fast on each of its networks.
    let _ = containers.engine("network connect two client");
    two.has_ports(2, "armed");
    let other = containers.address("other");
    let second = containers.interface("client", &format!("{other}/16")).0;
    two.is_fast(&containers, "client", &other, &[("client", &second), ("other", "eth0")]);
    docker0.is_fast(&containers, "client", &b, &all);
    let _ = containers.engine("network disconnect two client");
    two.has_ports(1, "armed");

    // Docker starts anew, while its containers live.
    docker.stop();
    docker0.is_fast(&containers, "client", &b, &all);
    docker.run();
    set_bridge_netfilter(&host, false);
    docker0.has_ports(2, "armed");
    behaves_as_docker_wants(&containers, true);
    docker0.is_fast(&containers, "client", &b, &all);
    // A container has another namespace and another port.
    let _ = containers.engine("restart --time 0 web");
    let pid = containers.find("web");
    docker0.has_ports(2, "armed");
    let port = docker0.port(&pid).unwrap_or_else(|| panic!("{:#}", docker0.stats()));
    assert_eq!(port["behind"], format!("eth0 in pid {pid} (busybox)"));
    let b = containers.address("web");
    docker0.is_fast(&containers, "client", &b, &all);
    containers.is_served("internet", PUBLISHED);

    // Rules for bridged frames are in force at once.
    set_bridge_netfilter(&host, true);
    closed.has_ports(2, "chain FORWARD");
    behaves_as_docker_wants(&containers, false);
    let after = settings();
    bridges.iter().for_each(Bridge::stop);
    assert_eq!(settings(), after);
    containers.is_reached("client", &b);

    let _ = containers.engine("rm --force client web shares other left right");
    let _ = containers.engine("network rm two closed");
    run_all(&host, &NO_INTERNET);
    docker.remove();
    let _ = host.run("rm -rf /run/image").ok();
    host.set_baseline_when_stable();
    host.finish();
}

#[test]
fn containers_of_docker_come_and_go_many_at_once() {
    let mut host = Host::new();
    let docker = Docker::start(&host);
    image(&host, "/run/image");
    let client = docker.client();
    let _ = host.run(["sh", "-c", &format!("tar -C /run/image -c . | {client} import - image")]).ok();
    let containers = Containers::new(&host, client, "");
    set_bridge_netfilter(&host, false);
    let docker0 = Bridge { host: &host, name: "docker0" };
    let _ = docker0.accelerate();
    let pid = docker0.stats()["agent"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.expect("it is alive");
    let empty = use_of(&host, "accelerate-docker0", pid);
    let run = "run --detach --ulimit nofile=1024:1024 --security-opt seccomp=unconfined --name";
    let (at_once, rounds) = sized((6, 2), (50, 4));
    for round in 0..rounds {
        let names: Vec<String> = (0..at_once).map(|number| format!("many{round}-{number}")).collect();
        let pids = in_parallel(&names, |name| {
            let _ = containers.engine(&format!("{run} {name} image sleep 600"));
            containers.engine(&format!("inspect {name} --format {{{{.State.Pid}}}}"))
        });
        docker0.has_ports(at_once, "armed");
        let enter = |pid: &str| format!("nsenter --net=/proc/{pid}/ns/net");
        let address = |pid: &str| {
            let shown = host.run(format!("{} ip -4 -br addr show eth0", enter(pid))).ok().stdout;
            let address = shown.split_whitespace().nth(2).and_then(|address| address.split('/').next());
            address.expect("it has an address").to_owned()
        };
        let fast = docker0.sent().1;
        wait_until(SLACK, || {
            for (at, pid) in pids.iter().enumerate() {
                let next = address(&pids[(at + 1) % at_once]);
                let _ = host.run(format!("{} ping -n -q -c 3 -i 0.01 -W 5 {next}", enter(pid))).ok();
            }
            match docker0.sent().1 - fast {
                some if some >= 3 * at_once as u64 => Ok(()),
                some => Err(format!("{some} packets were fast: {:#}", docker0.stats())),
            }
        });
        let former = || docker0.stats()["former"]["fast"]["tx"]["packets"].as_u64().expect("a number");
        let fast = former() + docker0.sent().1;
        let _ = containers.engine(&format!("rm --force {}", names.join(" ")));
        docker0.has_ports(0, "armed");
        assert_eq!(former(), fast);
    }
    wait_until(TIMEOUT, || match use_of(&host, "accelerate-docker0", pid) {
        // One cell of the traffic matrix for what former guests sent to each other.
        (descriptors, elements) if descriptors <= empty.0 && elements <= empty.1 + 1 => Ok(()),
        after => Err(format!("(descriptors, elements) were {empty:?}, and are {after:?}")),
    });
    docker0.stop();
    docker.remove();
    let _ = host.run("rm -rf /run/image").ok();
    host.set_baseline_when_stable();
    host.finish();
}

/// The same for podman's containers: `client`, `web` and `shares` on `podman0`, `other` on another network.
#[track_caller]
fn behaves_as_podman_wants(containers: &Containers<'_>) {
    let [a, b, other] = ["client", "web", "other"].map(|name| containers.address(name));
    containers.is_reached("client", &b);
    containers.is_reached("shares", &b);
    containers.is_served("client", &b);
    containers.is_reached("client", OUTSIDE);
    for from in ["internet", "machine", "client", "web"] {
        containers.is_served(from, PUBLISHED);
    }
    containers.is_reached("machine", &a);
    containers.is_reached("client", "10.88.0.1");
    containers.is_reached("other", "10.88.0.1");
    let _ = containers.engine("network connect two client");
    containers.is_reached("client", &other);
    let there = containers.interface("client", &format!("{other}/16")).1;
    containers.is_reached("other", &there);
    let _ = containers.engine("network disconnect two client");
    containers.are_refused(&[("other", &*there)], &[]);
    let _ = containers.engine("pause web");
    containers.is_reached("client", &b);
    containers.are_refused(&[], &[("client", &*b)]);
    let _ = containers.engine("unpause web");
    containers.is_served("client", &b);
}

#[test]
fn podman_behaves_the_same_with_its_bridges_accelerated() {
    let mut host = Host::new();
    run_all(&host, &INTERNET);
    let podman = Podman::new(&host);
    let containers = Containers::new(&host, podman.command("").trim().to_owned(), "");
    let _ = containers.engine("network create --disable-dns two");
    containers.start("client", "", false);
    containers.start("web", "--publish 8080:80", true);
    containers.start("shares", "--network container:client", false);
    containers.start("other", "--network two", false);
    let bridges = ["podman0", "podman1"].map(|name| Bridge { host: &host, name });
    let [podman0, two] = &bridges;
    set_bridge_netfilter(&host, false);
    behaves_as_podman_wants(&containers);
    let settings = || bridges.each_ref().map(|bridge| configuration(&host, bridge.name));
    let before = settings();
    let _ = podman0.accelerate().stdout_has("2 of 2 ports armed");
    let _ = two.accelerate().stdout_has("1 of 1 port armed");
    assert_eq!(settings(), before);
    let b = containers.address("web");
    podman0.is_fast(&containers, "client", &b, &[("client", "eth0"), ("web", "eth0")]);
    behaves_as_podman_wants(&containers);
    let _ = containers.engine("network connect two client");
    two.has_ports(2, "armed");
    let other = containers.address("other");
    let second = containers.interface("client", &format!("{other}/16")).0;
    two.is_fast(&containers, "client", &other, &[("client", &second), ("other", "eth0")]);
    let _ = containers.engine("network disconnect two client");
    podman0.is_fast(&containers, "shares", &b, &[("client", "eth0"), ("web", "eth0")]);

    bridges.iter().for_each(Bridge::stop);
    behaves_as_podman_wants(&containers);
    let _ = containers.engine("rm --force --time 0 shares");
    let _ = containers.engine("rm --force --time 0 client web other");
    let _ = containers.engine("network rm two");
    run_all(&host, &NO_INTERNET);
    podman.remove();
    host.set_baseline_when_stable();
    host.finish();
}
