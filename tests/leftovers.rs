//! What `down --all` leaves on a machine and in adopted namespaces: nothing of vethpath, and everything of others.

use std::collections::BTreeMap;

use crate::{
    firewall::{INTERNET, MASQUERADED, NO_INTERNET, reaches, run_all},
    harness::{Host, SLACK, wait_until},
};

/// What is compared, by commands that print it.
const STATE: [&str; 13] = [
    "ip -d -o link",
    "ip -o addr",
    "ip route show table all",
    "ip -6 route show table all",
    "ip rule",
    "ip -6 rule",
    "ip neigh show nud permanent",
    "bridge fdb",
    "nft -s list ruleset",
    "iptables -S",
    "ip6tables -S",
    "iptables -t nat -S",
    "sysctl -a --pattern ^net.",
];

/// Settings that are not the machine's but say what it does at the moment.
const MOVING: [&str; 2] = ["nf_conntrack_count", "lifetime"];

/// The state of the machine, or of a named namespace, by command.
fn state(host: &Host, namespace: Option<&str>) -> BTreeMap<String, Vec<String>> {
    let enter = namespace.map_or(String::new(), |name| format!("ip netns exec {name} "));
    let read = |command: &str| {
        let output = host.run(format!("{enter}{command}"));
        let lines = output.stdout.lines().filter(|line| !MOVING.iter().any(|word| line.contains(word)));
        // The lifetimes of addresses count down.
        let mut lines: Vec<_> =
            lines.map(|line| line.split("valid_lft").next().unwrap_or(line).to_owned()).collect();
        lines.sort();
        (command.to_owned(), lines)
    };
    STATE.into_iter().map(read).collect()
}

/// Files and processes of vethpath.
fn own(host: &Host) -> String {
    let find = "find /run /sys/fs/bpf -path /run/netns -prune -o -print";
    host.run(find).stdout + &host.run("pgrep -a vethpath").stdout + &host.run("ls /run/netns").stdout
}

/// A lab with rules in Docker's chain, one in a fabric that is masqueraded, and one with an adopted namespace whose default
/// route it replaces.
#[test]
fn down_all_leaves_the_machine_and_adopted_namespaces_as_they_were() {
    let host = Host::new();
    run_all(&host, &INTERNET);
    run_all(
        &host,
        &[
            "ip netns add theirs",
            "ip link add t0 type veth peer name eth0 netns theirs",
            "ip addr add 198.51.100.1/24 dev t0",
            "ip link set t0 up",
            "ip -n theirs link set lo up",
            "ip -n theirs addr add 198.51.100.2/24 dev eth0",
            "ip -n theirs addr add 2001:db8:1::2/64 dev eth0 nodad",
            "ip -n theirs link set eth0 up",
            "ip -n theirs route add default via 198.51.100.1",
            "ip -n theirs -6 route add default via 2001:db8:1::1",
        ],
    );
    for tool in ["iptables", "ip6tables"] {
        for rule in [
            "-P FORWARD DROP",
            "-N DOCKER-USER",
            "-A DOCKER-USER -j RETURN",
            "-A FORWARD -j DOCKER-USER",
            "-t nat -A POSTROUTING -o docker0 -j ACCEPT",
        ] {
            let _ = host.run(format!("{tool} {rule}")).ok();
        }
    }
    // Their own addresses settle, and vethpath leaves the folder of names and the file system of BPF, as others do.
    let _ = host.run("mkdir -p /sys/fs/bpf").ok();
    let before = wait_until(SLACK, || {
        let all = [state(&host, None), state(&host, Some("theirs")), state(&host, Some("internet"))];
        let is_settled = !format!("{all:?}").contains("tentative");
        if is_settled { Ok(all) } else { Err("an address is tentative".to_owned()) }
    });
    let own_before = own(&host);

    let second = MASQUERADED.replace("beside", "fabrics").replace("labbr", "labbr2").replace(".66.", ".67.");
    let second = second.replace("fd66", "fd67").replace("namespace.a", "namespace.b");
    let third = "name = \"adopts\"\n[bridge.labbr3]\naddresses = [\"10.68.0.1/24\", \"fd68::1/64\"]\n\
                 namespace = \"inner\"\n[namespace.inner]\n\
                 [namespace.c.interface.eth0]\nlink = \"labbr3\"\naddresses = [\"10.68.0.2/24\"]\n\
                 [namespace.theirs]\nadopt = { path = \"/run/netns/theirs\" }\nroutes = [{ to = \"0.0.0.0/0\", via = \
                 \"10.68.0.1\" }, { to = \"::/0\", via = \"fd68::1\" }]\n\
                 [namespace.theirs.interface.lab0]\nlink = \"labbr3\"\naddresses = [\"10.68.0.3/24\", \"fd68::3/64\"]\n";
    let _ = host.vethpath(format!("up {}", host.topology("beside", MASQUERADED))).ok();
    let _ = host.vethpath(format!("up --fabric {}", host.topology("fabrics", &second))).ok();
    let _ = host.vethpath(format!("up {}", host.topology("adopts", third))).ok();
    reaches(&host, "a", "192.0.2.2");
    reaches(&host, "b", "192.0.2.2");
    reaches(&host, "c", "10.68.0.3");
    let rules = host.run("iptables -S DOCKER-USER").ok().stdout;
    assert_eq!(rules.matches("vethpath:").count(), 4, "{rules}");
    let list = host.vethpath("list --json").ok().stdout;
    assert!(["beside", "fabrics", "adopts"].iter().all(|lab| list.contains(lab)), "{list}");

    let _ = host.vethpath("down --all").ok();
    let all = [(None, "the machine"), (Some("theirs"), "theirs"), (Some("internet"), "internet")];
    for ((namespace, name), before) in all.into_iter().zip(&before) {
        let after = state(&host, namespace);
        for (command, lines) in before {
            assert_eq!(lines, &after[command], "{command} of {name}");
        }
    }
    wait_until(SLACK, || match own(&host) {
        now if now == own_before => Ok(()),
        now => Err(format!("before:\n{own_before}\nand after:\n{now}")),
    });
    run_all(&host, &["ip link del t0", "ip netns del theirs"]);
    run_all(&host, &NO_INTERNET);
    let _ = host.run("nft flush ruleset").ok();
    host.finish();
}
