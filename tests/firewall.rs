//! Rules of the machine that drop packets of a lab: `up` reports them before it changes anything, or accepts the packets in
//! the chain that Docker leaves to its user.

use std::fs;

use crate::{
    harness::{Host, SLACK, TIMEOUT, wait_until},
    hazards::B,
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
        let _ = refused.stderr_has(dropped).stderr_has(hint).stderr_has("`up --allow-drops` continues");
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

/// A namespace that the machine's default routes lead to, over a cable. It has no route back to any lab.
pub(crate) const INTERNET: [&str; 10] = [
    "ip netns add internet",
    "ip link add up0 type veth peer name up0 netns internet",
    "ip addr add 192.0.2.1/24 dev up0",
    "ip addr add 2001:db8::1/64 dev up0 nodad",
    "ip link set up0 up",
    "ip -n internet addr add 192.0.2.2/24 dev up0",
    "ip -n internet addr add 2001:db8::2/64 dev up0 nodad",
    "ip -n internet link set up0 up",
    "ip route add default via 192.0.2.2",
    "ip -6 route add default via 2001:db8::2",
];

/// Removes it, and the lock of iptables-legacy.
pub(crate) const NO_INTERNET: [&str; 3] =
    ["ip link del up0", "ip netns del internet", "rm -f /run/xtables.lock"];

/// A host whose packets are masqueraded. There is no other on its bridge.
pub(crate) const MASQUERADED: &str = "name = \"beside\"\n[bridge.labbr]\naddresses = [\"10.66.0.1/24\", \"fd66::1/64\"]\nnat = true\n\
     [namespace.a]\nroutes = [{ to = \"0.0.0.0/0\", via = \"10.66.0.1\" }, { to = \"::/0\", via = \"fd66::1\" }]\n\
     [namespace.a.interface.eth0]\nlink = \"labbr\"\naddresses = [\"10.66.0.2/24\", \"fd66::2/64\"]\n";

/// What `iptables -S` shows of the rules for that lab.
pub(crate) const OURS: [&str; 2] = [
    "-A DOCKER-USER -i labbr -o up0 -m comment --comment \"vethpath:beside\" -j ACCEPT",
    "-A DOCKER-USER -i up0 -o labbr -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment \
     \"vethpath:beside\" -j ACCEPT",
];

pub(crate) fn run_all(host: &Host, commands: &[&str]) {
    commands.iter().for_each(|command| drop(host.run(*command).ok()));
}

/// All rules of iptables, as its tools print them. Both must be able to read every table.
pub(crate) fn rules(host: &Host) -> String {
    let read = |command: &str| {
        let output = host.run(command).ok();
        // `iptables-save` succeeds on a table that it cannot read, and says so in a comment.
        assert!(!output.to_string().contains("is incompatible"), "{output}");
        // Counters and dates differ.
        let lines = output.stdout.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.split(" [").next().unwrap_or(line).to_owned() + "\n").collect::<String>()
    };
    ["iptables-nft -S", "iptables-nft-save", "ip6tables-nft -S", "ip6tables-nft-save"].map(read).concat()
}

#[track_caller]
pub(crate) fn reaches(host: &Host, namespace: &str, to: &str) {
    wait_until(SLACK, || {
        let ping = host.run(format!("ip netns exec {namespace} ping -n -q -c 1 -W 1 {to}"));
        if ping.succeeded() { Ok(()) } else { Err(format!("{ping}\n{}", rules(host))) }
    });
}

/// A machine with the chains of Docker in both families, a policy that drops, and a way out.
fn host_beside_docker() -> Host {
    let host = Host::new();
    run_all(&host, &INTERNET);
    for tool in ["iptables-nft", "ip6tables-nft"] {
        for rule in [
            "-P FORWARD DROP",
            "-N DOCKER-USER",
            "-A DOCKER-USER -p sctp -j DROP",
            "-A DOCKER-USER -j RETURN",
            "-A FORWARD -j DOCKER-USER",
            "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
        ] {
            let _ = host.run(format!("{tool} {rule}")).ok();
        }
    }
    host
}

fn finish_beside_docker(host: Host) {
    run_all(&host, &NO_INTERNET);
    finish(host);
}

/// A rule for the uplink would also accept packets of a bridge without `nat`, which are not masqueraded.
#[test]
fn a_fabric_of_which_only_a_part_is_masqueraded_gets_no_rules() {
    let host = host_beside_docker();
    let before = rules(&host);
    let text = format!(
        "{}[bridge.labbr1]\naddresses = [\"192.0.2.129/25\"]\nhost = false\n",
        MASQUERADED.replacen('\n', "\nfabric = true\n", 1)
    );
    let file = host.topology("beside", &text);
    let refused =
        host.vethpath(format!("up {file}")).fails(1).stderr_has("packets from its hosts to other networks");
    let _ = refused.stderr_has("`iptables -I DOCKER-USER -i vp");
    assert_eq!(rules(&host), before);
    finish_beside_docker(host);
}

/// What is sent to other networks, and the replies, are accepted in Docker's chain in both families.
#[test]
fn routed_packets_are_accepted_in_dockers_chain() {
    let host = host_beside_docker();
    let (before, file) = (rules(&host), host.topology("beside", MASQUERADED));
    let plan = host.vethpath(format!("plan {file}")).ok();
    let plan =
        plan.stdout_has("+ create accept-rule -i labbr -o up0 -j ACCEPT in ip filter DOCKER-USER in host");
    let plan = plan.stdout_has("RELATED,ESTABLISHED -j ACCEPT in ip6 filter DOCKER-USER in host");
    // The user's own rule is first, and drops some.
    assert!(plan.stderr.contains("may be dropped") && !plan.stderr.contains("are dropped"), "{plan}");
    let _ = host.vethpath(format!("validate --host {file}")).ok();
    assert_eq!(rules(&host), before);

    let _ =
        host.vethpath(format!("up {file}")).ok().stderr_has("note: 4 rules in Docker's chain DOCKER-USER");
    reaches(&host, "a", "192.0.2.2");
    reaches(&host, "a", "2001:db8::2");
    let during = rules(&host);
    for rule in OURS {
        assert_eq!(during.lines().filter(|line| *line == rule).count(), 4, "{rule} in:\n{during}");
    }
    let theirs =
        |all: &str| all.lines().filter(|line| !line.contains("vethpath")).collect::<Vec<_>>().join("\n");
    assert_eq!(theirs(&during), theirs(&before), "nothing else has changed");
    // The user's own rules come first.
    let chain = host.run("iptables-nft -S DOCKER-USER").ok().stdout;
    let at = |text: &str| chain.lines().position(|line| line.contains(text));
    assert!(at("sctp") < at("vethpath") && at("vethpath") < at("RETURN"), "{chain}");
    let _ = host.vethpath(format!("up {file}")).ok().stderr_has("nothing to change");
    assert_eq!(rules(&host), during);
    let _ = host.vethpath("doctor").stdout_has("packets of lab beside");
    for command in ["stats", "show", "events"] {
        let shown = host.vethpath(command).ok().stdout;
        assert!(!shown.contains("are dropped by"), "{shown}");
    }

    // Only what comes by the lab's bridge is accepted.
    let _ = host.run("ip netns exec internet ip route add 10.66.0.0/24 via 192.0.2.1").ok();
    let _ = host.run("ip netns exec internet ping -n -q -c 1 -W 1 10.66.0.2").fails(1);
    let _ = host.run("ip netns exec internet ip route del 10.66.0.0/24").ok();

    // A file without `nat` needs none.
    let other = host.topology("beside", &MASQUERADED.replace("nat = true\n", ""));
    let _ = host
        .vethpath(format!("plan {other}"))
        .ok()
        .stdout_has("- delete accept-rule -i labbr -o up0 -j ACCEPT in ip filter DOCKER-USER in host");
    let _ = host.vethpath(format!("up {other}")).ok();
    assert_eq!(rules(&host), before);
    let file = host.topology("beside", MASQUERADED);
    let _ = host.vethpath(format!("up {file}")).ok();
    assert_eq!(rules(&host), during);
    let _ = host.vethpath("down").ok();
    assert_eq!(rules(&host), before);
    finish_beside_docker(host);
}

/// Each lab has its own rules, which the agent keeps.
#[test]
fn two_labs_keep_their_own_rules_in_dockers_chain() {
    let host = host_beside_docker();
    let before = rules(&host);
    let _ = host.vethpath(format!("up {}", host.topology("beside", MASQUERADED))).ok();
    let other = MASQUERADED.replace("beside", "beside2").replace("labbr", "labbr2").replace(".66.", ".67.");
    let other = other.replace("fd66", "fd67").replace("namespace.a", "namespace.b");
    let _ = host.vethpath(format!("up {}", host.topology("beside2", &other))).ok();
    let both = rules(&host);
    ["a", "b"].into_iter().for_each(|namespace| reaches(&host, namespace, "192.0.2.2"));

    // As after a restart of Docker.
    let _ = host.run("iptables-nft -F DOCKER-USER").ok();
    for rule in ["-p sctp -j DROP", "-j RETURN"] {
        let _ = host.run(format!("iptables-nft -A DOCKER-USER {rule}")).ok();
    }
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    wait_until(SLACK, || match rules(&host) {
        now if sorted(&now) == sorted(&both) => Ok(()),
        now => Err(format!("the rules do not come back:\n{now}")),
    });
    let written = "rules written by the agent to ip filter DOCKER-USER in host: -i labbr -o up0 -j ACCEPT; ";
    wait_until(SLACK, || match host.vethpath("events beside").ok().stdout {
        events if events.contains(written) => Ok(()),
        events => Err(events),
    });

    // Another default route, which an event of nftables lets the agent look for at once.
    let _ = host.run("ip link add up1 type bridge").ok();
    let _ = host.run("ip link set up1 up").ok();
    let _ = host.run("ip addr add 198.51.100.1/24 dev up1").ok();
    let _ = host.run("ip route replace default via 198.51.100.2").ok();
    let _ = host.run("iptables-nft -A DOCKER-USER -p sctp -j DROP").ok();
    wait_until(SLACK, || {
        let now = host.run("iptables-nft -S DOCKER-USER").ok().stdout;
        let count = |text: &str| now.matches(text).count();
        match (count("up0"), count("up1")) {
            (0, 4) => Ok(()),
            _ => Err(now),
        }
    });
    let _ = host.run("ip route replace default via 192.0.2.2").ok();
    let _ = host.run("iptables-nft -D DOCKER-USER -p sctp -j DROP").ok();
    reaches(&host, "a", "192.0.2.2");
    reaches(&host, "b", "192.0.2.2");

    let _ = host.vethpath("down beside").ok();
    let left = rules(&host);
    assert!(!left.contains("\"vethpath:beside\"") && left.contains("\"vethpath:beside2\""), "{left}");
    reaches(&host, "b", "192.0.2.2");
    let _ = host.vethpath("down beside2").ok();
    let rest = sorted(&rules(&host)).into_iter().filter(|line| !line.contains("sctp")).collect::<Vec<_>>();
    let expected = sorted(&before).into_iter().filter(|line| !line.contains("sctp")).collect::<Vec<_>>();
    assert_eq!(rest, expected);
    let _ = host.run("ip link del up1").ok();
    finish_beside_docker(host);
}

/// Neither a kill at any step of `up` or `down` nor Ctrl-C leaves a rule.
#[test]
fn nothing_is_left_in_dockers_chain_after_a_kill_or_an_interrupt() {
    let host = host_beside_docker();
    let (before, file) = (rules(&host), host.topology("beside", MASQUERADED));
    let run = |line: usize, command: &str| {
        let exe = host.exe();
        host.run(format!("env VETHPATH_STOP_AFTER={line} {exe} {command}")).code().is_none()
    };
    let has_ours = || rules(&host).contains("vethpath:beside");
    let down = |when: &str| {
        let down = host.vethpath_after_a_kill("down beside");
        assert!(matches!(down.code(), Some(0 | 1)), "{when}: {down}");
        assert_eq!(rules(&host), before, "{when}");
    };
    // The lines of the journal before and after the rules are written. Others are those of any lab.
    let mut lines = (1..200).step_by(5).map(|line| {
        let is_killed = run(line, &format!("up {file}"));
        assert!(is_killed, "it is not killed: is this a debug build?");
        let has_ours = has_ours();
        down(&format!("line {line} of up"));
        (line, has_ours)
    });
    let (with_rules, _) = lines.find(|(_, has_ours)| *has_ours).expect("they are written");
    let mut seen = [false; 2];
    for line in with_rules - 5..with_rules + 5 {
        let is_killed = run(line, &format!("up {file}"));
        seen[usize::from(has_ours())] = true;
        down(&format!("line {line} of up"));
        if !is_killed {
            break;
        }
    }
    assert_eq!(seen, [true; 2]);
    let mut after = 0;
    for line in 1.. {
        let _ = host.vethpath_after_a_kill(&format!("up {file}")).ok();
        assert!(has_ours());
        assert!(run(line, "down beside"), "line {line}");
        after += usize::from(!has_ours());
        down(&format!("line {line} of down"));
        if after == 3 {
            break;
        }
    }
    let up = host.spawn(format!("env VETHPATH_WAIT_AT=introduce {} up {file}", host.exe()));
    wait_until(SLACK, || if has_ours() { Ok(()) } else { Err(up.output()) });
    up.interrupt();
    let _ = up.wait(TIMEOUT).fails(130);
    assert_eq!(rules(&host), before);
    // By its mark, too.
    let _ = host.vethpath(format!("up {file}")).ok();
    fs::write(host.path("/run/vethpath/beside/journal"), "x\n").expect("root may write it");
    let _ = host.vethpath("down beside").ok();
    assert_eq!(rules(&host), before);
    finish_beside_docker(host);
}

/// Docker may start only after the lab, and the machine may get its default route later.
#[test]
fn the_agent_accepts_routed_packets_when_docker_starts_after_the_lab() {
    let host = Host::new();
    run_all(&host, &INTERNET[..8]);
    let _ = host.vethpath(format!("up {}", host.topology("beside", MASQUERADED))).ok();
    let chain =
        ["-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-I FORWARD -j DOCKER-USER", "-P FORWARD DROP"];
    for tool in ["iptables-nft", "ip6tables-nft"] {
        chain.iter().for_each(|rule| drop(host.run(format!("{tool} {rule}")).ok()));
    }
    let before = rules(&host);
    let plan = host.vethpath(format!("plan {}", host.topology("beside", MASQUERADED))).ok();
    assert!(!plan.stdout.contains("accept-rule"), "there is no default route: {plan}");
    run_all(&host, &INTERNET[8..]);
    // An event of nftables, so that routes are read at once.
    for tool in ["iptables-nft", "ip6tables-nft"] {
        let _ = host.run(format!("{tool} -P FORWARD DROP")).ok();
    }
    reaches(&host, "a", "192.0.2.2");
    reaches(&host, "a", "2001:db8::2");
    let _ = host.vethpath("events").ok().stdout_has("written by the agent to ip6 filter DOCKER-USER in host");
    let _ = host
        .vethpath(format!("up {}", host.topology("beside", MASQUERADED)))
        .ok()
        .stderr_has("nothing to change");
    // A killed agent does not keep `down` from removing what it wrote.
    let pid = host.vethpath("stats --json").ok().json()["agent"]["pid"].to_string();
    let _ = host.run(format!("kill -KILL {pid}")).ok();
    let _ = host.vethpath("down").ok();
    assert_eq!(rules(&host), before);
    finish_beside_docker(host);
}

/// A default route may lead to a bridge of a container engine.
#[test]
fn no_rule_accepts_packets_towards_an_engines_bridge() {
    let host = host_beside_docker();
    // Known by its name, or by Docker's rules.
    for (bridge, net) in [("br-0123456789ab", 1), ("custom", 2)] {
        for command in [
            format!("ip link add {bridge} type bridge"),
            format!("ip addr add 198.51.{net}.1/24 dev {bridge}"),
            format!("ip link set {bridge} up"),
            format!("ip route add default via 198.51.{net}.2 metric {net}00"),
        ] {
            let _ = host.run(command).ok();
        }
    }
    for rule in ["-N DOCKER", "-A FORWARD -o custom -j DOCKER"] {
        let _ = host.run(format!("iptables-nft {rule}")).ok();
    }
    let before = rules(&host);
    let up = host.vethpath(format!("up {}", host.topology("beside", MASQUERADED))).ok();
    let _ = up.stderr_has("IPv4 packets from its hosts to other networks may be dropped");
    let ours: Vec<_> =
        rules(&host).lines().filter(|line| line.contains("vethpath")).map(str::to_owned).collect();
    assert!(ours.len() == 8 && ours.iter().all(|rule| OURS.contains(&rule.as_str())), "{ours:#?}");
    let _ = host.vethpath("down").ok();
    assert_eq!(rules(&host), before);
    run_all(&host, &["ip link del br-0123456789ab", "ip link del custom"]);
    finish_beside_docker(host);
}

/// A namespace that a lab adopts may have a Docker of its own. What the lab has there goes with the lab.
#[test]
fn rules_in_an_adopted_namespace_are_removed_when_it_is_left() {
    let host = Host::new();
    let inside = |command: &str| host.run(format!("ip netns exec theirs {command}")).ok().stdout;
    let _ = host.run("ip netns add theirs").ok();
    for command in [
        "ip link add up0 type bridge",
        "ip addr add 192.0.2.1/24 dev up0",
        "ip link set up0 up",
        "ip route add default via 192.0.2.2",
        "iptables-nft -P FORWARD DROP",
        "iptables-nft -N DOCKER-USER",
        "iptables-nft -I FORWARD -j DOCKER-USER",
    ] {
        let _ = inside(command);
    }
    let rules = || inside("iptables-nft -S");
    let before = rules();
    let text = |bridge: &str| {
        format!(
            "name = \"beside\"\n[namespace.theirs]\nadopt = {{ path = \"/run/netns/theirs\" }}\n\
             [bridge.labbr]\naddresses = [\"10.66.0.1/24\"]\nnat = true\n{bridge}"
        )
    };
    let there = text("namespace = \"theirs\"\n");
    let elsewhere = "name = \"beside\"\n[bridge.labbr]\naddresses = [\"10.66.0.1/24\"]\nnat = true\n";
    // The bridge moves out, the namespace is left, the lab goes down.
    for next in [Some(text("")), Some(elsewhere.to_owned()), None] {
        let plan = host.vethpath(format!("plan {}", host.topology("there", &there))).ok();
        let _ = plan.stdout_has("-i labbr -o up0 -j ACCEPT in ip filter DOCKER-USER in theirs");
        let _ = host.vethpath(format!("up {}", host.topology("there", &there))).ok();
        assert!(OURS.iter().all(|rule| rules().contains(rule)), "{}", rules());
        if let Some(next) = next {
            let _ = host.vethpath(format!("up {}", host.topology("next", &next))).ok();
            assert_eq!(rules(), before, "{next}");
        }
        let _ = host.vethpath("down beside").ok();
        assert_eq!(rules(), before);
    }
    let _ = host.run("ip netns del theirs").ok();
    host.finish();
}

/// Where it is not Docker's chain that decides, nothing is touched, and the commands are printed.
#[test]
fn other_firewalls_are_left_alone() {
    let ours = |chain: &str, tool: &str| {
        [
            format!("`{tool} -I {chain} -i labbr -o up0 -j ACCEPT`"),
            format!(
                "`{tool} -I {chain} -i up0 -o labbr -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`"
            ),
        ]
    };
    // What the machine has, and the commands that are printed.
    let docker = ["-P FORWARD DROP", "-N DOCKER-USER", "-I FORWARD -j DOCKER-USER"]
        .map(|r| format!("iptables-nft {r}"));
    let with = |more: &[&str]| {
        let more = more.iter().map(|command| (*command).to_owned());
        docker.iter().cloned().chain(more).collect::<Vec<_>>()
    };
    let cases = [
        ("plain", vec!["iptables-nft -P FORWARD DROP".to_owned()], ours("FORWARD", "iptables")),
        ("no jump", with(&["iptables-nft -F FORWARD"]), ours("FORWARD", "iptables")),
        ("a rule", with(&["iptables-nft -A FORWARD -j REJECT"]), ours("DOCKER-USER", "iptables")),
        (
            "the user's",
            with(&["iptables-nft -I DOCKER-USER -i labbr -j DROP"]),
            ours("DOCKER-USER", "iptables"),
        ),
        ("half a rule", with(&["iptables-nft -A FORWARD -i up0 -j REJECT"]), ours("DOCKER-USER", "iptables")),
        ("ufw", with(&["iptables-nft -N ufw-before-forward"]), ours("DOCKER-USER", "iptables")),
        (
            "Docker's own nftables",
            with(&["nft add table ip docker-bridges", "nft add chain ip docker-bridges filter-FORWARD"]),
            ours("DOCKER-USER", "iptables"),
        ),
        ("legacy beside", with(&["iptables-legacy -P FORWARD ACCEPT"]), ours("DOCKER-USER", "iptables-nft")),
    ];
    for (name, commands, hints) in cases {
        let host = Host::new();
        run_all(&host, &INTERNET);
        commands.iter().for_each(|command| drop(host.run(command.as_str()).ok()));
        let before = rules(&host);
        let file = host.topology("beside", MASQUERADED);
        let refused = host.vethpath(format!("up {file}")).fails(1);
        let _ = hints
            .iter()
            .fold(refused, |refused, hint| refused.stderr_has(hint))
            .stderr_has("`up --allow-drops` continues");
        assert_eq!(rules(&host), before, "{name}");
        let _ = host.vethpath(format!("up --allow-drops {file}")).ok();
        assert_eq!(rules(&host), before, "{name}");
        let _ = host.vethpath("down").ok();
        if name == "plain" {
            // They are the exact ones.
            for hint in &hints {
                let _ = host.run(hint.trim_matches('`')).ok();
            }
            let _ = host.vethpath(format!("up {file}")).ok();
            reaches(&host, "a", "192.0.2.2");
            let _ = host.vethpath("down").ok();
        }
        finish_beside_docker(host);
    }
}

/// Rules of iptables-legacy are read, and left alone.
#[test]
fn legacy_iptables_is_left_alone() {
    let host = Host::new();
    run_all(&host, &INTERNET);
    for rule in ["-P FORWARD DROP", "-N DOCKER-USER", "-I FORWARD -j DOCKER-USER"] {
        let _ = host.run(format!("iptables-legacy {rule}")).ok();
    }
    let saved = || host.run("iptables-legacy -S").ok().stdout;
    let before = (saved(), rules(&host));
    let file = host.topology("beside", MASQUERADED);
    let dropped = "bridge labbr in host: IPv4 packets from its hosts to other networks are dropped by iptables-legacy \
                   table filter, chain FORWARD (policy drop)";
    let refused = host.vethpath(format!("up {file}")).fails(1).stderr_has(dropped);
    let commands = [
        "iptables-legacy -I DOCKER-USER -i labbr -o up0 -j ACCEPT",
        "iptables-legacy -I DOCKER-USER -i up0 -o labbr -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ];
    let _ = commands
        .iter()
        .fold(refused, |refused, command| refused.stderr_has(&format!("`{command}` accepts them")));
    let _ = host.vethpath(format!("up --allow-drops {file}")).ok();
    assert_eq!((saved(), rules(&host)), before);
    let _ = host.run("ip netns exec a ping -n -q -c 1 -W 1 192.0.2.2").fails(1);
    run_all(&host, &commands);
    reaches(&host, "a", "192.0.2.2");
    let up = host.vethpath(format!("up {file}")).ok();
    assert!(!up.stderr.contains("dropped"), "{up}");
    // There are no events for its changes, so that the agent reads it from time to time.
    let shows = |does| {
        wait_until(SLACK, || match host.vethpath("stats").ok().stdout {
            stats if stats.contains(dropped) == does => Ok(()),
            stats => Err(stats),
        });
    };
    shows(false);
    let _ = host.run("iptables-legacy -F DOCKER-USER").ok();
    shows(true);
    let _ = host.vethpath("down").ok();
    finish_beside_docker(host);
}

/// Packets between two bridges of a lab are forwarded by the machine: a warning, since they may have been kept apart on
/// purpose.
#[test]
fn packets_between_two_bridges_are_followed() {
    let host = Host::new();
    let other =
        MASQUERADED.replace("name = \"beside\"\n", "").replace("labbr", "labbr2").replace(".66.", ".67.");
    let other = other.replace("fd66", "fd67").replace("namespace.a", "namespace.b");
    let file = host.topology("beside", &format!("{MASQUERADED}{other}"));
    let _ = host.vethpath(format!("up {file}")).ok();
    reaches(&host, "a", "10.67.0.2");
    let _ = host.vethpath("down").ok();
    iptables(&host, "-P FORWARD DROP");
    let dropped = "bridge labbr in host: IPv4 packets between its hosts and those of bridge labbr2 are dropped by nft \
                   table ip filter, chain FORWARD (policy drop)";
    let up = host.vethpath(format!("up {file}")).ok().stderr_has(dropped);
    let commands = [
        "iptables -I FORWARD -i labbr -o labbr2 -j ACCEPT",
        "iptables -I FORWARD -i labbr2 -o labbr -j ACCEPT",
    ];
    let _ = up.stderr_has(&format!("hint: `{}`, `{}` accept them", commands[0], commands[1]));
    let _ = host.run("ip netns exec a ping -n -q -c 1 -W 1 10.67.0.2").fails(1);
    run_all(&host, &commands);
    reaches(&host, "a", "10.67.0.2");
    let up = host.vethpath(format!("up {file}")).ok();
    assert!(!up.stderr.contains("dropped"), "{up}");
    let _ = host.vethpath("down").ok();
    finish(host);
}

/// On a machine without a route, `nat` leads nowhere.
#[test]
fn a_bridge_with_nat_from_which_nothing_leads_out_is_warned_of() {
    let host = Host::new();
    let file = host.topology("beside", MASQUERADED);
    let closed = "warning: bridge labbr in host has `nat`, but no route of host leads out for its hosts";
    let _ = host.vethpath(format!("plan {file}")).ok().stderr_has(closed);
    let _ = host.vethpath(format!("up {file}")).ok().stderr_has(closed);
    let _ = host.vethpath("down").ok();
    let _ = host
        .vethpath(format!("plan --fabric {file}"))
        .ok()
        .stderr_has(closed.split(" in host").next().unwrap());
    // A neighbour is enough, in one of the families.
    run_all(&host, &INTERNET[..5]);
    let open = host.vethpath(format!("up {file}")).ok();
    assert!(!open.stderr.contains("leads out"), "{open}");
    let _ = host.vethpath("down").ok();
    run_all(&host, &NO_INTERNET);
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
    let _ = refused.stderr_has("write `fabric = true` at the top of the file, or use `--fabric`");
    let lab = host.lab("fabric").up();
    lab.down();
    finish(host);
}
