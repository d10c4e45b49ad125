//! Rules of the machine that drop packets of a lab: `up` reports them before it changes anything.

use crate::{
    harness::{Host, SLACK, wait_until},
    hazards::B,
    namespaces::with_nat,
};

/// The chains of a machine with Docker, which drops what is forwarded, also on bridges.
const RULES: [&str; 5] = [
    "-t nat -A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE",
    "-P FORWARD DROP",
    "-N DOCKER-USER",
    "-A FORWARD -j DOCKER-USER",
    "-A FORWARD -o br-0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
];

fn iptables(host: &Host, rule: &str) {
    let _ = host.run(format!("iptables-nft {rule}")).ok();
}

fn host_that_drops() -> Host {
    let host = Host::new();
    let _ = host.run("sysctl -q -w net.bridge.bridge-nf-call-iptables=1").ok();
    RULES.iter().for_each(|rule| iptables(&host, rule));
    host
}

fn finish(host: Host) {
    let _ = host.run("nft flush ruleset").ok();
    host.finish();
}

#[test]
fn a_lab_whose_packets_are_dropped_is_refused_and_the_hint_mends_it() {
    let host = host_that_drops();
    let (file, before) = (host.lab("three-hosts").write(), host.changes());
    let dropped = "bridge docker0 in host: IPv4 packets between its hosts are dropped by nft table ip filter, \
                   chain FORWARD (policy drop)";
    let hint = "`iptables -I DOCKER-USER -i docker0 -o docker0 -j ACCEPT`";
    for command in ["up", "validate --host"] {
        let refused = host.vethpath(format!("{command} {file}")).fails(1);
        let _ = refused.stderr_has(dropped).stderr_has(hint).stderr_has("`up --allow-drops` goes on");
        assert_eq!(host.changes(), before, "{command} has changed something");
    }
    let _ = host.vethpath(format!("validate {file}")).ok();
    let _ = host.vethpath(format!("plan {file}")).ok().stderr_has(dropped);
    iptables(&host, "-I DOCKER-USER -i docker0 -o docker0 -j ACCEPT");
    let lab = host.lab("three-hosts").up();
    lab.reaches("ns0", B);
    let output_of = |command: &str| host.vethpath(format!("{command} three-hosts")).ok().stdout;
    for command in ["stats", "show", "events"] {
        assert!(!output_of(command).contains("are dropped by"), "{}", output_of(command));
    }
    // What is accepted now may be dropped later: another `up` of the lab changes it all the same.
    iptables(&host, "-F DOCKER-USER");
    for command in ["stats", "show", "events"] {
        wait_until(SLACK, || match output_of(command) {
            shown if shown.contains(dropped) => Ok(()),
            shown => Err(format!("{command} does not show the drop: {shown}")),
        });
    }
    let _ = host.vethpath("doctor --json").stdout_has(dropped);
    assert_eq!(lab.state("ns0:eth0"), "nft table ip filter, chain FORWARD", "rather than the chain of NAT");
    let _ = host.vethpath(format!("up {file}")).ok().stderr_has(dropped);
    lab.down();
    finish(host);
}

#[test]
fn a_lab_comes_up_in_spite_of_drops_if_that_is_allowed() {
    let host = host_that_drops();
    let file = host.lab("three-hosts").write();
    let _ =
        host.vethpath(format!("up --allow-drops {file}")).ok().stderr_has("warning: bridge docker0 in host");
    let _ = host.run(format!("ip netns exec ns0 ping -q -c 1 -W 1 {B}")).fails(1);
    let _ = host.run("sysctl -q -w net.bridge.bridge-nf-call-iptables=0").ok();
    let _ = host.run(format!("ip netns exec ns0 ping -q -c 1 -W 5 {B}")).ok();
    let _ = host.vethpath("down").ok();
    finish(host);
}

#[test]
fn what_may_be_dropped_is_a_warning() {
    let host = host_that_drops();
    iptables(&host, "-I DOCKER-USER -i docker0 -o docker0 -p icmp -j ACCEPT");
    let file = host.lab("three-hosts").write();
    let up = host.vethpath(format!("up {file}")).ok();
    let _ = up.stderr_has("warning: bridge docker0 in host: IPv4 packets between its hosts may be dropped");
    let _ = host.run(format!("ip netns exec ns0 ping -q -c 1 -W 5 {B}")).ok();
    let _ = host.vethpath("down").ok();
    // Bridged packets do not pass the rules, so there is nothing to report.
    let _ = host.run("sysctl -q -w net.bridge.bridge-nf-call-iptables=0").ok();
    let up = host.vethpath(format!("up {file}")).ok();
    assert!(!up.stderr.contains("drop"), "{up}");
    let _ = host.vethpath("down").ok();
    finish(host);
}

/// Without bridged packets in the rules, a lab whose packets are masqueraded is still cut off from other networks.
#[test]
fn routed_packets_and_their_replies_are_reported() {
    let host = host_that_drops();
    let _ = host.run("sysctl -q -w net.bridge.bridge-nf-call-iptables=0").ok();
    for command in [
        "ip link add up0 type bridge",
        "ip addr add 192.0.2.1/24 dev up0",
        "ip link set up0 up",
        "ip route add default via 192.0.2.2",
    ] {
        let _ = host.run(command).ok();
    }
    let file = with_nat(&host).write();
    let refused = host.vethpath(format!("up {file}")).fails(1);
    let refused = refused.stderr_has("IPv4 packets from its hosts to other networks are dropped");
    let refused = refused.stderr_has("IPv4 replies to its hosts from other networks are dropped");
    let _ = refused.stderr_has("`iptables -I DOCKER-USER -i docker0 ! -o docker0 -j ACCEPT`");
    iptables(&host, "-I DOCKER-USER -i docker0 ! -o docker0 -j ACCEPT");
    let refused = host.vethpath(format!("up {file}")).fails(1);
    let replies = "-o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
    let _ = refused.stderr_has(&format!("`iptables -I DOCKER-USER {replies}`"));
    iptables(&host, &format!("-I DOCKER-USER {replies}"));
    let _ = host.vethpath(format!("up {file}")).ok();
    let _ = host.vethpath("down").ok();
    let _ = host.run("ip link del up0").ok();
    finish(host);
}

/// A chain of the bridge family is passed by every frame, and one of IP only if br_netfilter calls it.
#[test]
fn a_bridge_filter_is_reported_and_a_bridge_of_the_labs_own_namespace_is_not_concerned() {
    let host = Host::new();
    let _ = host.run("nft add table bridge guard").ok();
    let _ =
        host.run("nft add chain bridge guard f { type filter hook forward priority 0 ; policy drop ; }").ok();
    let file = host.lab("three-hosts").write();
    let refused = host.vethpath(format!("up {file}")).fails(1);
    let refused = refused.stderr_has("are dropped by nft table bridge guard, chain f (policy drop)");
    let _ = refused.stderr_has("a bridge with a `namespace` of the lab's has no such rules");
    let lab = host.lab("fabric").up();
    lab.down();
    finish(host);
}
