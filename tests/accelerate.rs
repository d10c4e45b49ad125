//! `vethpath accelerate`, and `adopt = true` on a bridge: bridges that other programs made.

use std::{
    io,
    os::unix::net::{UnixDatagram, UnixListener},
    time::Duration,
};

use serde_json::Value;

use crate::{
    guests::has_program,
    harness::{Host, SLACK, TIMEOUT, holds_for, wait_for, wait_until},
};

/// Makes a bridge with two hosts, as a container engine does.
pub(crate) fn engine(host: &Host) {
    let _ = host.run("ip link add docker0 type bridge").ok();
    let _ = host.run("ip addr add 172.17.0.1/16 dev docker0").ok();
    let _ = host.run("ip link set docker0 up").ok();
    for number in [1, 2] {
        plug(host, number);
    }
}

/// Removes what [`engine`] makes.
pub(crate) fn remove_engine(host: &Host) {
    for command in [
        "ip link del docker0",
        "ip link del veth1",
        "ip link del veth2",
        "ip netns del c1",
        "ip netns del c2",
    ] {
        let _ = host.run(command).ok();
    }
}

/// Makes one more host on the bridge.
pub(crate) fn plug(host: &Host, number: usize) {
    let inside = format!("c{number}");
    for command in [
        format!("ip netns add {inside}"),
        format!("ip link add veth{number} type veth peer name eth0 netns {inside}"),
        format!("ip link set veth{number} master docker0 up"),
        format!("ip -n {inside} addr add 172.17.0.{}/16 dev eth0", number + 1),
        format!("ip -n {inside} link set eth0 up"),
    ] {
        let _ = host.run(command).ok();
    }
}

/// What the owner of the bridge could compare: everything of its devices but counters and timers.
#[track_caller]
pub(crate) fn configuration(host: &Host, bridge: &str) -> String {
    let settled = || {
        let addresses = host.run("ip addr").ok();
        !addresses.stdout.contains("tentative")
    };
    wait_for(SLACK, "addresses stay tentative", settled);
    let commands = [
        format!("ip -d link show master {bridge}"),
        format!("ip -d link show {bridge}"),
        "ip addr".to_owned(),
        "ip route".to_owned(),
        "ip -6 route".to_owned(),
    ];
    let all = commands.map(|command| host.run(command).ok().stdout).concat();
    let mut words = all.split_whitespace();
    let mut kept = String::new();
    while let Some(word) = words.next() {
        if word.ends_with("_timer") {
            let _ = words.next();
        } else {
            kept += word;
            kept.push(' ');
        }
    }
    kept
}

fn pings(host: &Host, from: usize, to: usize) -> bool {
    let to = format!("172.17.0.{}", to + 1);
    host.run(format!("ip netns exec c{from} ping -n -q -c 3 -i 0.01 -W 5 {to}")).succeeded()
}

fn stats(host: &Host) -> Value {
    host.vethpath("stats accelerate-docker0 --json").ok().json()
}

/// Waits until pings from one host to the other are fast.
#[track_caller]
fn is_fast(host: &Host) {
    let fast = || {
        let pairs = stats(host)["pairs"].as_array().cloned().expect("a list");
        let one = pairs.iter().find(|pair| pair["name"] == "docker0/veth1").cloned().unwrap_or_default();
        one["fast"]["tx"]["packets"].as_u64().unwrap_or_default()
    };
    wait_until(SLACK, || {
        let before = fast();
        assert!(pings(host, 1, 2), "c1 cannot reach c2");
        match fast() - before {
            3.. => Ok(()),
            some => Err(format!("{some} of 3 pings were fast: {:#}", stats(host))),
        }
    });
}

#[test]
fn a_bridge_of_others_becomes_fast_and_is_left_as_it_was() {
    let mut host = Host::new();
    engine(&host);
    wait_for(SLACK, "the hosts are not up", || pings(&host, 1, 2));
    host.set_baseline_when_stable();
    let before = configuration(&host, "docker0");
    let report = host.vethpath("accelerate docker0").ok();
    let report = report.stdout_has("2 of 2 ports armed").stdout_has("veth1 (c1:eth0): armed");
    drop(report);
    assert_eq!(configuration(&host, "docker0"), before);
    is_fast(&host);
    // Again changes nothing, and reports the same.
    let report = host.vethpath("accelerate docker0 --json").ok().json();
    assert_eq!(report["ports"].as_array().map(Vec::len), Some(2), "{report:#}");
    assert_eq!(report["ports"][0]["behind"], "c1:eth0", "{report:#}");
    let _ = host.vethpath("list").ok().stdout_has("accelerate-docker0");
    let show = host.vethpath("show accelerate-docker0 --json").ok().json();
    assert_eq!(show["bridges"][0]["adopted"], true, "{show:#}");

    // What is plugged in later is accelerated too, and named.
    plug(&host, 3);
    wait_until(TIMEOUT, || {
        let stats = stats(&host);
        let pairs = stats["pairs"].as_array().expect("a list");
        let three = pairs.iter().find(|pair| pair["name"] == "docker0/veth3");
        match three {
            Some(three) if three["state"] == "armed" && three["behind"] == "c3:eth0" => Ok(()),
            _ => Err(format!("{stats:#}")),
        }
    });
    let _ = host.run("ip link del veth3").ok();
    let _ = host.run("ip netns del c3").ok();

    let _ = host.vethpath("accelerate docker0 --stop").ok();
    assert_eq!(configuration(&host, "docker0"), before);
    assert!(pings(&host, 1, 2));
    // At once again. What it reports is true, whatever the kernel has yet to release.
    for _ in 0..5 {
        let _ = host.vethpath("accelerate docker0").ok().stdout_has("2 of 2 ports armed");
        let _ = host.vethpath("accelerate docker0 --stop").ok();
    }
    host.assert_restored("after --stop");
    remove_engine(&host);
    host.set_baseline_when_stable();
    host.finish();
}

#[test]
fn a_bridge_that_cannot_be_adopted_is_refused() {
    let mut host = Host::new();
    let missing = host.vethpath("accelerate docker0").fails(1);
    drop(missing.stderr_has("it does not exist").stderr_has("--follow"));
    let _ = host.run("ip link add v0 type veth peer name v1").ok();
    let _ = host.vethpath("accelerate v0").fails(1).stderr_has("it is no bridge").stderr_has("hint:");
    let _ = host.run("ip link del v0").ok();
    let _ = host.vethpath("accelerate no/bridge").fails(1).stderr_has("hint:");
    assert_eq!(host.changes(), None);
    let lab = host.lab("three-hosts").up();
    let made = host.vethpath("accelerate docker0").fails(1);
    drop(made.stderr_has("lab `three-hosts` has made it").stderr_has("guests = true"));
    lab.down();

    engine(&host);
    host.set_baseline_when_stable();
    let _ = host.vethpath("accelerate docker0").ok();
    let file = host.topology("other", "name = \"other\"\n[bridge.docker0]\nadopt = true\n");
    let taken = host.vethpath(format!("up {file}")).fails(1);
    drop(
        taken
            .stderr_has("lab `accelerate-docker0` has adopted it")
            .stderr_has("vethpath down accelerate-docker0"),
    );
    let _ = host.vethpath("accelerate docker0 --stop").ok();
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("+ create acceleration host:docker0");
    let _ = host.vethpath(format!("up {file}")).ok();
    let _ = host.vethpath("accelerate docker0").fails(1).stderr_has("lab `other` has adopted it");
    let _ = host.vethpath("down other").ok();

    for (text, fault) in [
        ("adopt = true\naddresses = [\"10.0.0.1/24\"]", "`addresses` of bridge `docker0`, which is adopted"),
        ("adopt = true\nstp = true", "`stp` of bridge `docker0`"),
        ("adopt = true\nguests = false", "`guests` is off"),
        ("adopt = true\ndatapath = \"xdp\"", "\"xdp\""),
        (
            "adopt = true\n[namespace.ns0.interface.eth0]\nlink = \"docker0\"",
            "`docker0` is another program's bridge",
        ),
    ] {
        let file = host.topology("wrong", &format!("[bridge.docker0]\n{text}\n"));
        let _ = host.vethpath(format!("validate {file}")).fails(1).stderr_has(fault).stderr_has("hint:");
    }
    host.assert_restored("after down");
    host.set_baseline_when_stable();
    host.finish();
}

/// `--follow` waits for the bridge, accelerates it again when it was made again, and replaces an agent that was killed.
#[test]
fn a_bridge_is_followed() {
    let mut host = Host::new();
    let socket = host.path("/run/notify");
    let notified = UnixDatagram::bind(&socket).expect("the folder exists");
    notified.set_read_timeout(Some(TIMEOUT)).expect("a time-out");
    let exe = host.exe();
    let follower =
        host.spawn(["env", "NOTIFY_SOCKET=/run/notify", &exe, "accelerate", "docker0", "--follow"]);
    let mut message = [0; 64];
    let length: io::Result<usize> = notified.recv(&mut message);
    let length = length.expect("the service manager is notified");
    assert!(message[..length].starts_with(b"READY=1"), "{:?}", &message[..length]);
    wait_for(TIMEOUT, "it does not wait", || follower.output().contains("waiting for bridge docker0"));
    holds_for(Duration::from_millis(300), "it is up", || {
        host.vethpath("list").ok().stdout.contains("no lab")
            || !host.vethpath("list").ok().stdout.contains("docker0")
    });
    engine(&host);
    wait_for(TIMEOUT, "it is not accelerated", || {
        follower.output().contains("bridge docker0 is accelerated")
    });
    wait_for(TIMEOUT, "the ports are not armed", || {
        let pairs = stats(&host)["pairs"].as_array().cloned().unwrap_or_default();
        pairs.len() == 2 && pairs.iter().all(|pair| pair["state"] == "armed")
    });
    is_fast(&host);

    // As after a restart of the engine.
    remove_engine(&host);
    engine(&host);
    is_fast(&host);
    let agent = stats(&host)["agent"]["pid"].as_i64().expect("it is alive");
    let _ = host.run(format!("kill -KILL {agent}")).ok();
    wait_for(TIMEOUT, "there is no other agent", || {
        stats(&host)["agent"]["pid"].as_i64().is_some_and(|pid| pid != agent)
    });
    is_fast(&host);
    follower.terminate();
    let ended = follower.wait(TIMEOUT).ok();
    drop(ended.stderr_has("stays accelerated"));
    is_fast(&host);
    let _ = host.vethpath("accelerate docker0 --stop").ok();
    drop(notified);
    let _ = std::fs::remove_file(socket);
    host.set_baseline_when_stable();
    host.finish();
}

/// Two labs that look for the bridge before either has written its record.
#[test]
fn of_two_labs_that_adopt_a_bridge_at_the_same_time_one_is_refused() {
    let mut host = Host::new();
    engine(&host);
    host.set_baseline_when_stable();
    let file = |lab: &str| host.topology(lab, &format!("name = \"{lab}\"\n[bridge.docker0]\nadopt = true\n"));
    let wait = "VETHPATH_WAIT_AT=adopt VETHPATH_WAIT_FOR=/run/both";
    let up = |lab: &str| host.spawn(format!("env {wait} {} up {}", host.exe(), file(lab)));
    let both = ["one", "two"].map(|lab| (lab, up(lab)));
    for (lab, up) in &both {
        wait_for(TIMEOUT, &format!("{lab} does not wait"), || up.output().contains("waiting at adopt"));
    }
    let _ = host.run("touch /run/both-adopt").ok();
    let both = both.map(|(lab, up)| (lab, up.wait(TIMEOUT)));
    let (first, second) = match &both {
        [(first, done), (_, refused)] if done.succeeded() => (first, refused),
        [(_, refused), (first, _)] => (first, refused),
    };
    assert_eq!(second.code(), Some(1), "{second}");
    assert!(second.stderr.contains(&format!("lab `{first}` has adopted it")), "{second}");
    let _ = host.vethpath("list").ok().stdout_has(first);
    wait_until(TIMEOUT, || {
        let stats = host.vethpath(format!("stats {first} --json")).ok().json();
        let pairs = stats["pairs"].as_array().expect("a list");
        let are_armed = pairs.len() == 2 && pairs.iter().all(|pair| pair["state"] == "armed");
        if are_armed { Ok(()) } else { Err(format!("{stats:#}")) }
    });
    let _ = host.vethpath(format!("down {first}")).ok();
    let _ = host.run("rm /run/both-adopt").ok();
    host.assert_restored("after down");
    remove_engine(&host);
    host.set_baseline_when_stable();
    host.finish();
}

/// A new agent does not follow the ports of a bridge that is no longer the lab's, and a filter outlives its agent.
#[test]
fn a_bridge_that_is_no_longer_adopted_keeps_no_program_whether_an_agent_lives_or_not() {
    let mut host = Host::new();
    engine(&host);
    host.set_baseline_when_stable();
    let own = "name = \"both\"\n[namespace.sw]\n[bridge.br1]\nnamespace = \"sw\"\nguests = true\n";
    let both = host.topology("both", &format!("{own}[bridge.docker0]\nadopt = true\n"));
    let less = host.topology("less", own);
    for options in ["", "--hook clsact"] {
        for lives in [true, false] {
            let _ = host.vethpath(format!("up {both} {options}")).ok();
            assert!(["veth1", "veth2"].iter().all(|port| has_program(&host, port)));
            if !lives {
                let stats = host.vethpath("stats both --json").ok().json();
                let agent = stats["agent"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
                let agent = agent.expect("it is alive");
                let _ = host.run(format!("kill -KILL {agent}")).ok();
                host.wait_for_exit(agent);
            }
            let _ = host.vethpath(format!("up {less}")).ok();
            for port in ["veth1", "veth2"] {
                // An agent that lives does it after `up` has ended, and the kernel some time later.
                wait_for(SLACK, "the program stays", || !has_program(&host, port));
                let qdiscs = host.run(format!("tc qdisc show dev {port}")).ok().stdout;
                assert!(!qdiscs.contains("clsact"), "{qdiscs}");
            }
            let _ = host.vethpath("down both").ok();
            host.assert_restored("after down");
        }
    }
    remove_engine(&host);
    host.set_baseline_when_stable();
    host.finish();
}

/// An engine that does not answer delays what asks it for names, and no more.
#[test]
fn an_engine_that_hangs_leaves_ports_with_the_names_of_their_namespaces() {
    let mut host = Host::new();
    engine(&host);
    let _ = host.run("mkdir -p /run/podman").ok();
    let sockets = ["/run/docker.sock", "/run/podman/podman.sock"];
    let silent = sockets.map(|socket| UnixListener::bind(host.path(socket)).expect("the folder exists"));
    let _ = host.vethpath("accelerate docker0").ok().stdout_has("veth1 (c1:eth0): armed");
    let _ = host.vethpath("stats accelerate-docker0").ok().stdout_has("c1:eth0 (docker0/veth1)");
    let _ = host.vethpath("show accelerate-docker0").ok().stdout_has("guest c1:eth0");
    let _ = host.vethpath("events accelerate-docker0").ok().stdout_has("c1:eth0 (docker0/veth1)  armed");
    let _ = host.vethpath("accelerate docker0 --stop").ok();
    drop(silent);
    let _ = host.run("rm -r /run/docker.sock /run/podman").ok();
    remove_engine(&host);
    host.set_baseline_when_stable();
    host.finish();
}
