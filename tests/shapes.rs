//! Labs of other shapes: cables, a bridge in a namespace, NAT, VLAN filtering, adopted namespaces, groups, meshes and
//! chains.

use std::time::Duration;

use crate::{
    harness::{Host, SLACK, TIMEOUT, holds_for, iperf, received, wait_for, wait_until},
    hazards::wait_for_tcpdump,
};

#[test]
fn cables() {
    let host = Host::new();
    let lab = host.lab("cable").up();
    lab.reaches("ns0", "10.1.0.2");
    lab.reaches("ns1", "10.1.0.1");
    let _ = host.run("ip addr add 10.1.1.1/30 dev v0").ok();
    wait_for(SLACK, "ns1 cannot reach the host", || lab.pings("ns1", "10.1.1.1"));
    let _ = host.vethpath("show").ok().stdout_has("v0");
    lab.down();
    host.finish();
}

#[test]
fn the_two_ends_of_a_cable_must_agree() {
    let host = Host::new();
    let file = host.lab("cable").with("\"ns0:eth0\"", "\"ns0:eth1\"").write();
    let _ = host.vethpath(format!("validate {file}")).fails(1).stderr_has(&format!("{file}:"));
    host.finish();
}

#[test]
fn a_bridge_in_a_namespace_of_its_own() {
    let host = Host::new();
    let lab = host.lab("fabric").up();
    lab.reaches("ns0", "10.2.0.11");
    lab.reaches("ns1", "10.2.0.1");
    lab.reaches("fabric", "10.2.0.10");
    // None of its links is on the host.
    assert_eq!(host.run("ip -br link").ok().stdout.lines().count(), 1);
    let ports = host.json("ip -n fabric -j link show master br0");
    assert_eq!(ports.as_array().map(Vec::len), Some(2), "{ports:#}");
    lab.is_fast("ns0:eth0", "10.2.0.11");
    assert!(received(&iperf(&lab, "ns0", ("ns1", "10.2.0.11"), "--time 1")) > 1_000_000);
    let _ = lab.assert_counters_match();

    // The host's rules do not apply to the fabric; its own do.
    for (at, works) in [("", true), ("ip netns exec fabric ", false)] {
        for command in [
            "nft add table bridge g",
            "nft add chain bridge g f { type filter hook forward priority filter ; policy drop ; }",
        ] {
            let _ = host.run(format!("{at}{command}")).ok();
        }
        if works {
            lab.is_fast("ns0:eth0", "10.2.0.11");
        } else {
            lab.loses_within(SLACK, "ns0", "10.2.0.11");
        }
        let _ = host.run(format!("{at}nft delete table bridge g")).ok();
    }
    lab.reaches_within(SLACK, "ns0", "10.2.0.11");
    lab.down();
    host.finish();
}

#[test]
fn nat_lets_hosts_out_and_is_undone() {
    let mut host = Host::new();
    for command in [
        "ip netns add wan",
        "ip link add wan0 type veth peer name eth0 netns wan",
        "ip addr add 192.0.2.1/24 dev wan0",
        "ip link set wan0 up",
        "ip -n wan link set eth0 up",
        "ip -n wan addr add 192.0.2.2/24 dev eth0",
    ] {
        let _ = host.run(command).ok();
    }
    wait_for(SLACK, "wan is not up", || host.run("ping -n -q -c 1 -W 1 192.0.2.2").succeeded());
    host.wait_for_link("wan0");
    host.set_baseline();
    let lab = host.lab("three-hosts").with("datapath = \"tc\"", "nat = true").up();
    // wan has no route back to the lab: only a translated address is answered.
    lab.reaches("ns0", "192.0.2.2");
    lab.is_fast("ns0:eth0", "172.17.0.102");
    // Between hosts of the lab nothing is translated.
    let server = wait_for_tcpdump(lab.spawn("ns1", "tcpdump -l -n --immediate-mode -i eth0 icmp"));
    lab.reaches("ns0", "172.17.0.102");
    wait_for(SLACK, "tcpdump sees nothing", || server.output().contains("172.17.0.101 > 172.17.0.102"));
    drop(server);
    lab.down();
    host.finish();
}

/// If the kernel has no VLAN filtering, `up` reports that and leaves nothing. If it has, the ports take the slow path,
/// and the network works.
#[test]
fn vlan_filtering() {
    let host = Host::new();
    let has_it = host.run("ip link add probe type bridge vlan_filtering 1").succeeded();
    // Some kernels refuse the setting and leave the bridge.
    let _ = host.run("ip link del probe");
    let file = host.lab("three-hosts").with("datapath = \"tc\"", "vlan_filtering = true");
    if has_it {
        let lab = file.up();
        lab.reaches("ns0", "172.17.0.102");
        let stats = lab.stats();
        assert!(stats.fast() == 0 && stats.pairs.iter().all(|p| p.state != "armed"), "{stats:#?}");
        lab.down();
    } else {
        let path = file.write();
        let _ = host.vethpath(format!("up {path}")).fails(2).stderr_has("docker0").stderr_has("hint:");
        assert_eq!(host.changes(), None);
    }
    host.finish();
}

const ADOPTING: &str = "[namespace.ns2]\nadopt = ";

/// `down` removes the lab and leaves the namespace, whatever its pid refers to by then.
#[test]
fn a_namespace_whose_process_is_gone_or_moved_is_left() {
    for moved in [false, true] {
        let mut host = Host::new();
        let _ = host.run("ip netns add theirs").ok();
        let _ = host.run("ip netns add elsewhere").ok();
        // Its own name keeps the namespace. The lab adopts it by the guest's pid.
        let script = "echo $$; read line; exec nsenter --net=/run/netns/elsewhere sleep infinity";
        let fifo = host.topology("go", "");
        let _ = host.run(format!("rm {fifo}")).ok();
        let _ = host.run(format!("mkfifo {fifo}")).ok();
        let script = format!("exec < <(exec cat {fifo}); {script}");
        let guest = host.spawn(["ip", "netns", "exec", "theirs", "bash", "-c", &script]);
        wait_for(SLACK, "the guest does not start", || guest.output().ends_with('\n'));
        let pid = guest.output().trim().to_owned();
        let lab =
            host.lab("three-hosts").with("[namespace.ns2]", &format!("{ADOPTING}{{ pid = {pid} }}")).up();
        lab.is_fast("ns0:eth0", "172.17.0.103");
        if moved {
            let _ = host.run(["bash", "-c", &format!("echo go > {fifo}")]).ok();
            let theirs = host.run("stat -L -c %i /run/netns/elsewhere").ok().stdout;
            let there = || host.run(format!("stat -L -c %i /proc/{pid}/ns/net")).ok().stdout;
            wait_for(SLACK, "the guest does not move", || there() == theirs);
        } else {
            let _ = host.run(format!("kill -9 {pid}")).ok();
            wait_for(SLACK, "the guest lives", || !host.path(&format!("/proc/{pid}/ns/net")).exists());
        }
        let changes = host.vethpath(format!("plan {}", lab.file)).ok();
        let _ = match moved {
            true => changes.stdout_has("- delete namespace ns2").stdout_has("+ create namespace ns2"),
            false => changes.stdout_has("nothing to change"),
        };
        lab.down();
        assert_eq!(host.namespaces(), ["elsewhere", "theirs"]);
        assert_eq!(host.run("ip -n theirs -br link").ok().stdout.lines().count(), 1);
        drop(guest);
        // The `cat` that it read from may end later.
        host.set_baseline_when_stable();
        host.finish();
    }
}

/// The address of a container that is gone must not go on answering.
#[test]
fn the_ports_of_a_namespace_without_processes_go_down() {
    let mut host = Host::new();
    let start = || {
        let guest = host.spawn(["unshare", "--net", "bash", "-c", "echo $$; exec sleep infinity"]);
        wait_for(SLACK, "the guest does not start", || guest.output().ends_with('\n'));
        let pid = guest.output().trim().to_owned();
        (guest, pid)
    };
    let adopting = |pid: &str| {
        let text = IN_CONTAINER.replace("path = \"/run/netns/theirs\"", &format!("pid = {pid}"));
        host.topology("adopting", &text)
    };
    let (guest, pid) = start();
    let second = host.spawn(format!("nsenter --net=/proc/{pid}/ns/net sleep infinity"));
    wait_for(SLACK, "the second does not start", || second.name() == "sleep");
    let file = adopting(&pid);
    let up = || host.vethpath(format!("up {file}")).ok();
    let _ = up().stderr_has("1 of 1 pair armed");
    let answers = || host.run("ping -n -q -c 1 -W 1 10.9.0.2").succeeded();
    wait_for(SLACK, "it does not answer", answers);
    // One is left.
    let _ = host.run(format!("kill -9 {pid}")).ok();
    drop(guest);
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
    assert!(answers(), "a process is left");
    drop(second);
    wait_for(SLACK, "it goes on answering", || !answers());
    let stats = host.vethpath("stats --json").ok().json();
    assert_eq!(stats["pairs"][0]["state"], "no process is left in the namespace");
    let _ = host
        .vethpath("events --json")
        .ok()
        .stdout_has("\"kind\":\"processes-gone\",\"namespace\":\"theirs\"");
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
    let _ = up();
    assert!(!answers(), "up leaves it down");
    // A process that lives there again, and then another namespace.
    let back = host.spawn("ip netns exec theirs sleep infinity");
    wait_for(SLACK, "it does not start", || back.name() == "sleep");
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("down -> up");
    let _ = up();
    wait_for(SLACK, "it does not answer again", answers);
    drop(back);
    wait_for(SLACK, "it goes on answering again", || !answers());
    let (guest, pid) = start();
    let _ = adopting(&pid);
    let _ = up().stderr_has("1 of 1 pair armed");
    wait_for(SLACK, "the next one does not answer", answers);
    let _ = host.vethpath("down adopting").ok();
    drop(guest);
    host.set_baseline_when_stable();
    host.finish();
}

/// A port that leads to another namespace by now stays up when the processes of the one before end.
#[test]
fn the_end_of_a_replaced_namespace_does_not_concern_the_next_one() {
    let mut host = Host::new();
    let start = || {
        let guest = host.spawn(["unshare", "--net", "bash", "-c", "echo $$; exec sleep infinity"]);
        wait_for(SLACK, "the guest does not start", || guest.output().ends_with('\n'));
        let pid = guest.output().trim().to_owned();
        let _ =
            host.run(["sh", "-c", &format!("umount /run/x; mount --bind /proc/{pid}/ns/net /run/x")]).ok();
        guest
    };
    let _ = host.run("touch /run/x").ok();
    let first = start();
    let file = host.topology("adopting", &IN_CONTAINER.replace("/run/netns/theirs", "/run/x"));
    let _ = host.vethpath(format!("up {file}")).ok();
    let namespace = || host.run("stat -L -c %i /run/netns/theirs").ok().stdout;
    let before = namespace();
    let second = start();
    let wait = "VETHPATH_WAIT_AT=introduce VETHPATH_WAIT_FOR=/run/undone";
    let interrupted = host.spawn(format!("env {wait} {} up {file}", host.exe()));
    let waits = || interrupted.output().matches("waiting at introduce").count();
    wait_for(SLACK, "it does not get there", || waits() == 1);
    assert_ne!(namespace(), before);
    interrupted.interrupt();
    // What undoes it comes there too.
    wait_for(SLACK, "it does not undo it", || waits() == 2);
    let _ = host.run("touch /run/undone-introduce").ok();
    let _ = interrupted.wait(TIMEOUT).fails(130);
    assert_eq!(namespace(), before, "the lab has what it had");
    let _ = host.run("ping -n -q -c 1 -W 5 10.9.0.2").ok();
    let wait = "VETHPATH_WAIT_AT=introduce VETHPATH_WAIT_FOR=/run/go";
    let up = host.spawn(format!("env {wait} {} up {file}", host.exe()));
    wait_for(SLACK, "it does not get there", || up.output().contains("waiting at introduce"));
    drop(first);
    // The agent looks once a second.
    holds_for(Duration::from_secs(3), "the port is down", || {
        let ports = host.run("ip -o link show type veth").ok().stdout;
        ports.lines().all(|port| port.contains("state UP"))
    });
    let _ = host.run("touch /run/go-introduce").ok();
    let _ = up.wait(TIMEOUT).ok().stderr_has("1 of 1 pair armed");
    let _ = host.run("ping -n -q -c 1 -W 5 10.9.0.2").ok();
    let _ = host.vethpath("down adopting").ok();
    drop(second);
    let _ = host.run("umount /run/x").ok();
    let _ = host.run("rm /run/x /run/go-introduce /run/undone-introduce").ok();
    host.set_baseline_when_stable();
    host.finish();
}

/// A bridge with `nat` in a namespace that `adopt` leads to no longer.
#[test]
fn a_namespace_that_up_leaves_keeps_nothing_of_the_lab() {
    let mut host = Host::new();
    let is_on = |name: &str| {
        let _ = host.run(["sh", "-c", &format!("umount /run/x; mount --bind /run/netns/{name} /run/x")]);
    };
    for command in
        ["ip netns add one", "ip netns add two", "touch /run/x", "mount --bind /run/netns/one /run/x"]
    {
        let _ = host.run(command).ok();
    }
    let text = "[namespace.c]\nadopt = { path = \"/run/x\" }\n[bridge.br0]\nnamespace = \"c\"\nnat = true\n\
                addresses = [\"10.9.0.1/24\"]\n[namespace.h.interface.eth0]\nlink = \"br0\"\n\
                addresses = [\"10.9.0.2/24\"]\n";
    let file = host.topology("adopting", text);
    let up = || host.vethpath(format!("up {file}")).ok();
    let state = |name: &str| {
        let shown = ["nft list ruleset", "sysctl -n net.ipv4.ip_forward", "ip -br link"];
        shown.map(|show| host.run(format!("ip netns exec {name} {show}")).ok().stdout).join("")
    };
    let before = state("two");
    let _ = up();
    assert!(state("one").contains("masquerade"));
    is_on("two");
    let _ = up();
    assert!(state("two").contains("masquerade"));
    assert_eq!(state("one"), before);
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
    let _ = host.vethpath("down adopting").ok();
    assert_eq!(state("two"), before);
    for command in ["umount /run/x", "rm /run/x", "ip netns del one", "ip netns del two"] {
        let _ = host.run(command).ok();
    }
    host.set_baseline_when_stable();
    host.finish();
}

/// A restarted container has another namespace.
#[test]
fn up_plugs_in_the_namespace_that_has_the_adopted_name_now() {
    let mut host = Host::new();
    let _ = host.run("ip netns add theirs").ok();
    host.set_baseline();
    let text = IN_CONTAINER.replace("[namespace.theirs", "[namespace.guest");
    let file = host.topology("adopting", &text);
    let _ = host.vethpath(format!("up {file}")).ok();
    for number in 0..3 {
        let _ = host.run("ip netns del theirs").ok();
        let _ = host.run("ip netns add theirs").ok();
        let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("+ create pair guest:lab0");
        let _ = host.vethpath(format!("up {file}")).ok().stderr_has("1 of 1 pair armed");
        let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
        let _ = host.run("ip netns exec theirs ping -n -q -c 1 -W 5 10.9.0.1").ok();
        assert_eq!(host.namespaces(), ["guest", "theirs"], "{number}");
    }
    let _ = host.vethpath("down adopting").ok();
    assert_eq!(host.run("ip -n theirs -br link").ok().stdout.lines().count(), 1);
    let _ = host.run("ip netns del theirs").ok();
    host.set_baseline_when_stable();
    host.finish();
}

#[test]
fn what_cannot_be_adopted_is_refused() {
    let host = Host::new();
    for (adopt, named) in [
        ("{ pid = 4194303 }", "/proc/4194303/ns/net as namespace `ns2`: no such process"),
        ("{ path = \"/run/netns/nosuch\" }", "/run/netns/nosuch as namespace `ns2`: no such file"),
        ("{ path = \"/etc/passwd\" }", "/etc/passwd as namespace `ns2`: it is not a namespace"),
        ("{ path = \"/proc/1/ns/mnt\" }", "it is not a network namespace"),
        ("{ pid = 1 }", "it is the host's own namespace"),
    ] {
        let file = host.lab("three-hosts").with("[namespace.ns2]", &format!("{ADOPTING}{adopt}")).write();
        for verb in ["plan", "up"] {
            let _ = host.vethpath(format!("{verb} {file}")).fails(1).stderr_has(named).stderr_has("hint:");
        }
        assert_eq!(host.changes(), None, "{adopt}");
        let _ = host.vethpath(format!("down {file}")).fails(1).stderr_has("no lab");
    }
    host.finish();
}

#[test]
fn a_namespace_of_somebody_else_is_joined_and_left() {
    let mut host = Host::new();
    let _ = host.run("ip netns add theirs").ok();
    let guest = host.spawn("ip netns exec theirs sleep infinity");
    // The process is `ip` until it executes `sleep`.
    wait_for(SLACK, "the guest does not start", || guest.name() == "sleep");
    host.set_baseline();
    let lab = host.lab("three-hosts");
    let lab = lab.with("[namespace.ns2]", "[namespace.ns2]\nadopt = { path = \"/run/netns/theirs\" }").up();
    lab.is_fast("ns0:eth0", "172.17.0.103");
    let _ = lab.run("theirs", "ip -o -4 addr").ok().stdout_has("172.17.0.103/16");
    lab.down();
    assert_eq!(host.run("ip -n theirs -br link").ok().stdout.lines().count(), 1);
    host.assert_restored("the lab is down");
    // The host cannot end before the guest's end has been seen.
    drop(guest);
    host.set_baseline();
    host.finish();
}

/// A namespace with default routes of its own, as a container engine makes it.
fn container(host: &Host) {
    for command in [
        "ip netns add theirs",
        "ip link add eth0 netns theirs type veth peer name theirs0",
        "ip addr add 10.88.0.1/16 dev theirs0",
        "ip link set theirs0 up",
        "ip -n theirs addr add 10.88.0.2/16 dev eth0",
        "ip -n theirs addr add fd88::2/64 dev eth0 nodad",
        "ip -n theirs link set eth0 up",
        "ip -n theirs route add default via 10.88.0.1 dev eth0 src 10.88.0.2 mtu 1400",
        "ip -n theirs -6 route add default via fd88::1 dev eth0 metric 1024",
    ] {
        let _ = host.run(command).ok();
    }
}

/// The default routes of the container as `ip` prints them, once its link has a carrier.
fn defaults(host: &Host) -> [String; 2] {
    ["-4", "-6"].map(|family| {
        wait_until(SLACK, || {
            let routes = host.run(format!("ip -n theirs {family} route show default")).ok().stdout;
            if routes.contains("linkdown") { Err(routes) } else { Ok(routes) }
        })
    })
}

/// What would fail in the middle of `up` is found before it changes anything.
#[test]
fn names_that_an_adopted_namespace_has_already_are_refused() {
    let mut host = Host::new();
    container(&host);
    host.set_baseline_when_stable();
    let taken = IN_CONTAINER.replace("lab0", "eth0");
    let file = host.topology("adopting", &taken);
    for verb in ["plan", "up"] {
        let _ = host
            .vethpath(format!("{verb} {file}"))
            .fails(1)
            .stderr_has("interface `eth0` already exists in theirs")
            .stderr_has("hint:");
        assert_eq!(host.changes(), None, "{verb}");
    }
    let file = host.topology("adopting", IN_CONTAINER);
    let _ = host.vethpath(format!("up {file}")).ok();
    // A second name for a namespace that the lab has adopted before.
    let guest = host.spawn(["ip", "netns", "exec", "theirs", "bash", "-c", "echo $$; exec sleep infinity"]);
    wait_for(SLACK, "the guest does not start", || guest.output().ends_with('\n'));
    let pid = guest.output().trim().to_owned();
    let twice = format!("{IN_CONTAINER}[namespace.again]\nadopt = {{ pid = {pid} }}\n");
    let file = host.topology("adopting", &twice);
    let _ =
        host.vethpath(format!("up {file}")).fails(1).stderr_has("it is the one that is adopted as `theirs`");
    drop(guest);
    let _ = host.vethpath("down adopting").ok();
    let _ = host.run("ip netns del theirs").ok();
    let _ = host.run("ip link del theirs0");
    host.set_baseline_when_stable();
    host.finish();
}

const IN_CONTAINER: &str = "
[bridge.br0]
addresses = [\"10.9.0.1/24\", \"fd09::1/64\"]
[namespace.theirs]
adopt = { path = \"/run/netns/theirs\" }
gateway = [\"10.9.0.1\", \"fd09::1\"]
[namespace.theirs.interface.lab0]
link = \"br0\"
addresses = [\"10.9.0.2/24\", \"fd09::2/64\"]
";

#[test]
fn default_routes_that_the_labs_gateways_replaced_come_back() {
    let mut host = Host::new();
    container(&host);
    host.set_baseline_when_stable();
    let before = defaults(&host);
    assert!(before[0].contains("via 10.88.0.1") && before[1].contains("via fd88::1"), "{before:?}");
    let file = host.topology("adopting", IN_CONTAINER);
    let up = || host.vethpath(format!("up {file}")).ok();
    let are_the_labs = || {
        let now = defaults(&host);
        assert!(now[0].contains("via 10.9.0.1") && now[1].contains("via fd09::1"), "{now:?}");
    };
    let _ = up();
    are_the_labs();
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
    // Its own routes are not what was there before.
    let _ = host
        .topology("adopting", &IN_CONTAINER.replace("gateway = [\"10.9.0.1\"", "gateway = [\"10.9.0.3\""));
    let _ = up();
    let _ = host.vethpath("down adopting").ok();
    assert_eq!(defaults(&host), before, "after down");
    // A file without the gateways.
    let _ = host.topology("adopting", IN_CONTAINER);
    let _ = up();
    let without = IN_CONTAINER.replace("gateway = [\"10.9.0.1\", \"fd09::1\"]\n", "");
    let _ = host.topology("adopting", &without);
    let _ = up();
    assert_eq!(defaults(&host), before, "after another up");
    // Also where the lab's routes are gone already.
    let _ = host.topology("adopting", IN_CONTAINER);
    let _ = up();
    for family in ["-4", "-6"] {
        let _ = host.run(format!("ip -n theirs {family} route del default")).ok();
    }
    let _ = host.topology("adopting", &without);
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("as it was before the lab");
    let _ = up();
    assert_eq!(defaults(&host), before, "after the routes were deleted");
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
    // Routes that were added while the lab was up are restored in place of the first ones.
    let _ = host.topology("adopting", IN_CONTAINER);
    let _ = up();
    let _ = host.run("ip -n theirs route replace default via 10.88.0.7").ok();
    let _ = host.run("ip -n theirs route append default via 10.88.0.8").ok();
    let _ = up();
    are_the_labs();
    let _ = host.vethpath("down adopting").ok();
    let now = defaults(&host);
    assert_eq!(now[0].matches("default via 10.88.0.").count(), 2, "{now:?}");
    let _ = host.run("ip -n theirs route flush default").ok();
    let _ = host.run("ip -n theirs route add default tos 0x10 via 10.88.0.1 dev eth0").ok();
    let _ = host.run("ip -n theirs route add default via 10.88.0.1 dev eth0 src 10.88.0.2 mtu 1400").ok();
    let with_tos = defaults(&host);
    let _ = up();
    let _ = host.vethpath("down adopting").ok();
    assert_eq!(defaults(&host), with_tos);
    let _ = host.run("ip -n theirs route del default tos 0x10").ok();
    let _ = up();
    are_the_labs();
    // A route that was added after the last up stays. One without a usable gateway is reported.
    let _ = host.run("ip -n theirs route replace default via 10.88.0.9").ok();
    let _ = host.run("ip -n theirs -6 addr del fd88::2/64 dev eth0").ok();
    let _ = host.vethpath("down adopting").ok().stderr_has("restore route to ::/0").stderr_has("theirs");
    let now = defaults(&host);
    assert!(now[0].contains("via 10.88.0.9") && now[1].is_empty(), "{now:?}");
    let _ = host.run("ip netns del theirs").ok();
    let _ = host.run("ip link del theirs0");
    host.set_baseline_when_stable();
    host.finish();
}

#[test]
fn default_routes_of_an_adopted_namespace_survive_a_killed_or_undone_up() {
    let mut host = Host::new();
    container(&host);
    host.set_baseline_when_stable();
    let before = defaults(&host);
    let file = host.topology("adopting", IN_CONTAINER);
    let mut replaced = 0;
    for line in 1.. {
        let output = host.run(format!("env VETHPATH_STOP_AFTER={line} {} up {file}", host.exe()));
        replaced += usize::from(defaults(&host) != before);
        // Before the first line there is no lab yet.
        let down = host.vethpath("down adopting");
        assert!(matches!(down.code(), Some(0 | 1)), "line {line}: {down}");
        assert_eq!(defaults(&host), before, "line {line}");
        assert!(line < 200, "it is never killed: is this a debug build? {output}");
        if output.succeeded() {
            break;
        }
    }
    assert!(replaced > 2, "it was killed before and after the routes were replaced, {replaced} times");
    let up = host.spawn(format!("env VETHPATH_WAIT_AT=agent {} up {file}", host.exe()));
    wait_for(SLACK, "it does not start the agent", || up.output().contains("waiting at agent"));
    assert_ne!(defaults(&host), before);
    up.interrupt();
    let _ = up.wait(TIMEOUT).fails(130);
    assert_eq!(defaults(&host), before, "after an interrupt");
    host.assert_restored("after an interrupt");
    let _ = host.run("ip netns del theirs").ok();
    let _ = host.run("ip link del theirs0");
    host.set_baseline_when_stable();
    host.finish();
}

const GROUP_AND_MESH: &str = "
[bridge.br0]
addresses = [\"10.0.0.1/16\"]

[group.h]
count = 10
bridge = \"br0\"
subnet = \"10.0.0.0/16\"

[mesh.r]
count = 4
subnet = [\"10.1.0.0/24\", \"fd00:1::/64\"]
";

#[test]
fn a_group_and_a_mesh() {
    let host = Host::new();
    let lab = host.lab("empty").and(GROUP_AND_MESH).up();
    assert_eq!(host.namespaces().len(), 14);
    for to in ["10.0.0.1", "10.0.0.3", "10.0.0.11"] {
        lab.reaches("h0", to);
    }
    // Each of the six cables, in both families.
    for (from, to) in [
        ("r0", 1),
        ("r0", 3),
        ("r0", 5 + 2),
        ("r1", 5),
        ("r1", 9),
        ("r2", 11),
        ("r3", 6),
        ("r3", 8),
        ("r3", 10),
    ] {
        lab.reaches(from, &format!("10.1.0.{to}"));
        lab.reaches(from, &format!("fd00:1::{to:x}"));
    }
    let _ = lab.run("r0", "ip -o link show r3").ok().stdout_has("r3@");
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
    let _ = host.vethpath("show").ok().stdout_has("h9");
    lab.down();
    host.finish();
}

#[test]
fn plan_shows_an_expanded_shorthand_and_its_growth() {
    let host = Host::new();
    let plan = |text: &str| {
        let file = host.lab("empty").and(text).write();
        host.vethpath(format!("plan {file}")).ok().stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let first = plan(GROUP_AND_MESH);
    for line in [
        "+ create namespace h9",
        "+ create pair h9:eth0",
        "+ create cable r2:r3 - r3:r2",
        "+ create address 10.0.0.11/16 on h9:eth0",
    ] {
        assert!(first.iter().any(|change| change == line), "no {line:?} in {first:#?}");
    }
    let grown = plan(&GROUP_AND_MESH.replace("count = 10", "count = 11"));
    assert!(first.iter().all(|line| grown.contains(line)), "{grown:#?}");
    let more: Vec<_> = grown.iter().filter(|line| !first.contains(line)).collect();
    assert!(!more.is_empty() && more.iter().all(|line| line.contains("h10")), "{more:#?}");
    host.finish();
}

#[test]
fn a_group_spread_over_a_chain_is_one_segment() {
    let host = Host::new();
    let text = "[chain.sw]\nbridges = 4\naddresses = [\"10.0.0.1/24\"]\n[group.h]\ncount = 6\nchain = \"sw\"\nsubnet = \"10.0.0.0/24\"\n";
    let lab = host.lab("empty").and(text).up();
    let _ = host.run("bridge link show").ok().stdout_has("master sw3");
    lab.reaches("h3", "10.0.0.1");
    lab.reaches("h0", "10.0.0.5");
    lab.is_fast("h0:eth0", "10.0.0.5");
    lab.down();
    host.finish();
}

#[test]
fn validate_expands_a_shorthand() {
    let host = Host::new();
    let file = host.lab("empty").and(GROUP_AND_MESH).write();
    let written =
        host.vethpath(format!("validate --expand {file}")).ok().stdout_has("[namespace.h9.interface.eth0]");
    let plain = host.topology("empty", &written.stdout);
    let again = host.vethpath(format!("validate --expand {plain}")).ok();
    assert_eq!(again.stdout, written.stdout);
    host.finish();
}
