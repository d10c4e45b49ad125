//! The processes that serve metrics: when they run, with which privileges, and that their counts are those of the kernel.

use std::{sync::atomic::AtomicBool, sync::atomic::Ordering::SeqCst, thread, time::Duration};

use serde_json::{Value, json};

use super::{ADDRESS, KEY, Samples, pid, samples, shown};
use crate::harness::{Host, Lab, LabFile, SLACK, TIMEOUT, wait_for, wait_until};

fn file(host: &Host) -> LabFile<'_> {
    host.lab("three-hosts").with("[bridge.docker0]", &format!("{KEY}[bridge.docker0]"))
}

/// The counter of a pair, summed over both paths.
fn both(samples: &Samples, metric: &str, pair: &str) -> f64 {
    let is_it = |name: &str| {
        name.starts_with(&format!("vethpath_pair_{metric}_total{{"))
            && name.contains(&format!("pair=\"{pair}\""))
    };
    samples.iter().filter(|(name, _)| is_it(name)).map(|(_, value)| value).sum()
}

/// Some traffic of several kinds.
fn traffic(lab: &Lab<'_>) {
    for (from, to) in [("ns0", "172.17.0.102"), ("ns1", "172.17.0.101"), ("ns2", "172.17.0.101")] {
        lab.reaches(from, to);
    }
    let _ = lab.run("ns0", "ping -n -q -c 20 -i 0.01 -s 1200 172.17.0.102").ok();
    let _ = lab.run("ns0", "ping -n -q -c 2 -i 0.01 -b -W 1 172.17.255.255");
}

#[test]
fn the_counts_are_those_of_stats_and_of_the_kernel() {
    let host = Host::new();
    let lab = file(&host).up();
    traffic(&lab);
    // Whatever passes between two readings is in the later one alone.
    wait_until(TIMEOUT, || {
        let before = lab.assert_counters_match();
        let samples = samples(&host, ADDRESS);
        let after = lab.assert_counters_match();
        for pair in &before.pairs {
            let name = &pair.name;
            let of =
                |count: crate::harness::Pair| (count.tx, count.rx, count.fast.tx, count.fast.rx, count.slow);
            if of(pair.clone()) != of(after.pair(name).clone()) {
                return Err(format!("{name} has sent something meanwhile"));
            }
            for (metric, count) in [
                ("transmit_frames", pair.tx.frames),
                ("transmit_packets", pair.tx.packets),
                ("transmit_bytes", pair.tx.bytes),
                ("receive_frames", pair.rx.frames),
                ("receive_packets", pair.rx.packets),
                ("receive_bytes", pair.rx.bytes),
                ("slow_packets", pair.slow.values().sum()),
            ] {
                assert_eq!(both(&samples, metric, name), count as f64, "{metric} of {name}: {samples:#?}");
            }
            let labels = format!("lab=\"three-hosts\",pair=\"{name}\",bridge=\"{}\"", pair.bridge);
            let fast = format!("vethpath_pair_transmit_packets_total{{{labels},path=\"fast\"}}");
            assert_eq!(samples[&fast], pair.fast.tx.packets as f64, "{name}");
            for (reason, packets) in &pair.slow {
                let slow = format!("vethpath_pair_slow_packets_total{{{labels},reason=\"{reason}\"}}");
                assert_eq!(samples[&slow], *packets as f64, "{name}");
            }
            assert_eq!(samples[&format!("vethpath_pair_armed{{{labels},reason=\"\"}}")], 1.0);
            // And those of another tool, at the inner end.
            let namespace = name.split(':').next().expect("a namespace");
            let link = &host.json(format!("ip -n {namespace} -s -j link show eth0"))[0]["stats64"];
            for (metric, count) in [
                ("transmit_frames", &link["tx"]["packets"]),
                ("transmit_bytes", &link["tx"]["bytes"]),
                ("receive_frames", &link["rx"]["packets"]),
                ("receive_bytes", &link["rx"]["bytes"]),
            ] {
                if count.as_f64() != Some(both(&samples, metric, name)) {
                    return Err(format!("{metric} of {name} has grown meanwhile: {link}"));
                }
            }
        }
        assert_eq!(samples["vethpath_agent_up{lab=\"three-hosts\"}"], 1.0);
        assert_eq!(samples["vethpath_lab_read_success{lab=\"three-hosts\"}"], 1.0);
        let lease = samples["vethpath_lease_remaining_seconds{lab=\"three-hosts\"}"];
        assert!(lease > 0.0 && lease <= 3.0, "{lease}");
        Ok(())
    });
    lab.down();
    host.finish();
}

#[test]
fn a_pair_that_is_not_armed_has_the_reason_as_a_word() {
    let host = Host::new();
    let lab = file(&host).up();
    let _ = host.run(format!("bridge link set dev {} learning off", lab.port("ns0:eth0"))).ok();
    lab.wait_for_state("ns0:eth0", "port flag");
    let armed = "vethpath_pair_armed{lab=\"three-hosts\",pair=\"ns0:eth0\",bridge=\"docker0\",reason=";
    assert_eq!(samples(&host, ADDRESS)[&format!("{armed}\"port-flag\"}}")], 0.0);
    let agent = lab.pid();
    let _ = host.run(format!("kill -KILL {agent}")).ok();
    host.wait_for_exit(agent);
    let samples = samples(&host, ADDRESS);
    assert_eq!(samples["vethpath_agent_up{lab=\"three-hosts\"}"], 0.0);
    assert_eq!(samples[&format!("{armed}\"no-agent\"}}")], 0.0);
    lab.down();
    host.finish();
}

/// The changes of metrics that `plan` or `up` lists.
fn changes(host: &Host, command: &str) -> Vec<(String, String)> {
    let report = host.vethpath(format!("{command} --json")).ok().json();
    let changes = report["changes"].as_array().expect("a list").iter();
    let text = |change: &Value, key: &str| change[key].as_str().expect("a text").to_owned();
    let of_metrics = changes.filter(|change| change["kind"] == "metrics");
    of_metrics.map(|change| (text(change, "action"), text(change, "name"))).collect()
}

#[test]
fn metrics_follow_the_file() {
    let host = Host::new();
    let file = file(&host).write();
    let create = vec![("create".to_owned(), "127.0.0.1:9466 of three-hosts".to_owned())];
    assert_eq!(changes(&host, &format!("plan {file}")), create);
    assert_eq!(changes(&host, &format!("up {file}")), create);
    let first = shown(&host, "three-hosts");
    assert_eq!(first["listen"], ADDRESS);
    let _ = host.vethpath("show three-hosts").ok().stdout_has(&format!("metrics at {ADDRESS} (pid "));
    let listed = host.vethpath("list --json").ok().json();
    assert_eq!(listed[0]["metrics"], first);
    let _ = host.vethpath("list").ok().stdout_has(&format!("metrics at {ADDRESS} (pid "));
    // The process that listens, by another tool.
    let sockets = host.run("ss -Hltnp sport = :9466").ok().stdout;
    assert!(sockets.contains(&format!("pid={},", pid(&first, "pid"))), "{sockets}");
    assert!(!sockets.contains(&format!("pid={},", pid(&first, "reader"))), "{sockets}");

    assert_eq!(host.vethpath(format!("up {file} --json")).ok().json()["changes"], json!([]));
    assert_eq!(shown(&host, "three-hosts"), first, "it goes on");

    // Another address, then none, then one again.
    let moved =
        host.lab("three-hosts").with("[bridge.docker0]", "metrics = \"[::1]:9500\"\n[bridge.docker0]");
    let moved = moved.write();
    let change = vec![("change".to_owned(), "three-hosts".to_owned())];
    assert_eq!(changes(&host, &format!("plan {moved}")), change);
    assert_eq!(changes(&host, &format!("up {moved}")), change);
    host.wait_for_exit(pid(&first, "pid"));
    let second = shown(&host, "three-hosts");
    assert!(second["listen"] == "[::1]:9500" && second["pid"] != first["pid"], "{second}");
    assert!(!samples(&host, "[::1]:9500").is_empty());
    let none = host.lab("three-hosts").write();
    let delete = vec![("delete".to_owned(), "[::1]:9500 of three-hosts".to_owned())];
    assert_eq!(changes(&host, &format!("up {none}")), delete);
    host.wait_for_exit(pid(&second, "pid"));
    assert_eq!(shown(&host, "three-hosts"), Value::Null);
    let file = self::file(&host).write();
    let _ = host.vethpath(format!("up {file}")).ok();
    assert!(!samples(&host, ADDRESS).is_empty());
    let last = shown(&host, "three-hosts");
    let _ = host.vethpath("down --all").ok();
    for of in ["pid", "reader"] {
        host.wait_for_exit(pid(&last, of));
    }
    host.finish();
}

#[test]
fn whichever_process_dies_the_next_up_starts_both() {
    let host = Host::new();
    let lab = file(&host).up();
    for of in ["pid", "reader"] {
        let before = shown(&host, "three-hosts");
        if of == "reader" {
            // It does not notice that the other has ended.
            let _ = host.run(format!("kill -STOP {}", pid(&before, "pid"))).ok();
        }
        let _ = host.run(format!("kill -KILL {}", pid(&before, of))).ok();
        for of in ["pid", "reader"] {
            host.wait_for_exit(pid(&before, of));
        }
        let _ = host.vethpath("show three-hosts").ok().stdout_has("metrics dead");
        let up = changes(&host, &format!("up {}", lab.file));
        assert_eq!(up, [("create".to_owned(), format!("{ADDRESS} of three-hosts"))]);
        assert!(!samples(&host, ADDRESS).is_empty());
    }
    // The state folder goes, as by hand: so do the processes.
    let before = shown(&host, "three-hosts");
    let _ = host.run("rm /run/vethpath/three-hosts/metrics.lock").ok();
    host.wait_for_exit(pid(&before, "pid"));
    lab.down();
    host.finish();
}

#[test]
fn the_process_that_listens_has_no_privilege() {
    let host = Host::new();
    let lab = file(&host).up();
    let shown = shown(&host, "three-hosts");
    let field = |pid: i32, name: &str| {
        let status = host.run(format!("cat /proc/{pid}/status")).ok().stdout;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name}")).trim().to_owned()
    };
    let mask = |pid: i32, name: &str| u64::from_str_radix(&field(pid, name), 16).expect("hexadecimal");
    let server = pid(&shown, "pid");
    // It has given up all once it answers.
    assert!(!samples(&host, ADDRESS).is_empty());
    for set in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
        assert_eq!(mask(server, set), 0, "{set}");
    }
    assert_eq!(field(server, "NoNewPrivs"), "1");
    for ids in ["Uid", "Gid"] {
        assert_eq!(field(server, ids).split_whitespace().collect::<Vec<_>>(), ["65534"; 4], "{ids}");
    }
    assert_eq!(field(server, "Groups"), "");
    // The reader: CAP_NET_ADMIN and CAP_SYS_ADMIN of linux/capability.h.
    let reader = pid(&shown, "reader");
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(mask(reader, set), 1 << 12 | 1 << 21, "{set}");
    }
    let agent = host.run(format!("ls -l /proc/{}/fd", lab.pid())).ok().stdout;
    let server = host.run(format!("ls -l /proc/{server}/fd")).ok().stdout;
    assert!(!agent.contains("9466") && !server.contains("bpf") && !server.contains("journal"), "{server}");
    lab.down();
    host.finish();
}

/// What an `up` that fails may not have changed.
fn state(host: &Host) -> String {
    let outputs =
        ["ip -o link", "ip netns", "find /run/vethpath /sys/fs/bpf"].map(|command| host.run(command).stdout);
    outputs.concat()
}

#[test]
fn an_address_that_cannot_be_had_is_an_error_before_any_change() {
    let host = Host::new();
    let lab = file(&host).up();
    let text = format!("{KEY}[bridge.otherbr]\n[namespace.x.interface.eth0]\nlink = \"otherbr\"\n");
    let other = host.topology("other", &text);
    let refuses = |command: &str, cause: &str| {
        let before = state(&host);
        let _ = host
            .vethpath(format!("{command} {other}"))
            .fails(1)
            .stderr_has(&format!("cannot serve metrics at {ADDRESS}: {cause}"))
            .stderr_has("give `metrics` another port");
        assert_eq!(state(&host), before);
    };
    for command in ["plan", "up"] {
        refuses(command, "lab `three-hosts` has it");
    }
    // Also while that lab's processes are dead.
    let _ = host.run(format!("kill -KILL {}", pid(&shown(&host, "three-hosts"), "reader"))).ok();
    wait_for(SLACK, "it serves", || shown(&host, "three-hosts")["pid"].is_null());
    refuses("up", "lab `three-hosts` has it");
    lab.down();
    // Another program, or `vethpath metrics`.
    let all = host.spawn_vethpath(format!("metrics --listen {ADDRESS}"));
    wait_for(SLACK, "it listens", || all.output().contains("until Ctrl-C"));
    refuses("up", "Address already in use");
    let _ =
        host.vethpath(format!("metrics --listen {ADDRESS}")).fails(1).stderr_has("Address already in use");
    // A lab that is up stays as it is.
    let lab = host.lab("three-hosts").up();
    let with_metrics = file(&host).named("with-metrics").with(KEY, &format!("name = \"three-hosts\"\n{KEY}"));
    let with_metrics = with_metrics.write();
    let before = state(&host);
    let _ = host.vethpath(format!("up {with_metrics}")).fails(1).stderr_has("Address already in use");
    assert_eq!(state(&host), before);
    let _ = host.vethpath(format!("up {}", lab.file)).ok().stderr_has("nothing to change");
    lab.down();
    all.interrupt();
    let _ = all.wait(TIMEOUT).ok();
    host.finish();
}

#[test]
fn all_labs_are_served_as_they_come_and_go() {
    let host = Host::new();
    let address = "0.0.0.0:9467";
    let all = host.spawn_vethpath(format!("metrics --listen {address}"));
    wait_for(SLACK, "it listens", || all.output().contains("until Ctrl-C"));
    let labs = || {
        let samples = samples(&host, "127.0.0.1:9467");
        let labs = samples
            .keys()
            .filter_map(|name| name.strip_prefix("vethpath_agent_up{lab=\"")?.strip_suffix("\"}"));
        labs.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(labs(), [""; 0]);
    let first = host.lab("three-hosts").up();
    let text = "[bridge.labbr]\n[namespace.a.interface.eth0]\nlink = \"labbr\"\n";
    let file = host.topology("small", text);
    let _ = host.vethpath(format!("up {file}")).ok();
    let second = Lab::existing(&host, "small", file);
    assert_eq!(labs(), ["small", "three-hosts"]);
    first.down();
    assert_eq!(labs(), ["small"]);
    let damaged = "/run/vethpath/damaged";
    let _ = host.run(["sh", "-c", &format!("mkdir -m 700 {damaged}; echo x > {damaged}/journal")]).ok();
    let text = samples(&host, "127.0.0.1:9467");
    assert_eq!(text["vethpath_lab_read_success{lab=\"damaged\"}"], 0.0);
    assert_eq!(text["vethpath_lab_read_success{lab=\"small\"}"], 1.0);
    let _ = host.run(["rm", "-r", damaged]).ok();
    second.down();
    assert_eq!(labs(), [""; 0]);
    all.interrupt();
    let _ = all.wait(TIMEOUT).ok();
    host.finish();
}

/// A lab that was brought up in another network namespace.
#[test]
fn a_lab_elsewhere_is_served_too() {
    let host = Host::new();
    let _ = host.run("ip netns add elsewhere").ok();
    let file = host.lab("three-hosts").write();
    let up = format!("nsenter --net=/run/netns/elsewhere {} up {file}", host.exe());
    let _ = host.run(up).ok();
    let all = host.spawn_vethpath(format!("metrics --listen {ADDRESS}"));
    wait_for(SLACK, "it listens", || all.output().contains("until Ctrl-C"));
    let samples = samples(&host, ADDRESS);
    assert_eq!(samples["vethpath_lab_read_success{lab=\"three-hosts\"}"], 1.0);
    let armed =
        samples.iter().filter(|(name, value)| name.starts_with("vethpath_pair_armed") && **value == 1.0);
    assert_eq!(armed.count(), 3, "{samples:#?}");
    all.terminate();
    let _ = all.wait(TIMEOUT).ok();
    let _ = host.vethpath("down three-hosts").ok();
    let _ = host.run("ip netns del elsewhere").ok();
    host.finish();
}

/// Under traffic, while the agent is killed, comes back, and pairs change.
#[test]
fn no_counter_decreases() {
    let host = Host::new();
    let lab = file(&host).up();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _flood = lab.spawn("ns0", "ping -n -q -f -i 0.002 172.17.0.102");
        let _other = lab.spawn("ns2", "ping -n -q -i 0.002 -s 1400 172.17.0.101");
        let reading = scope.spawn(|| {
            let (mut last, mut readings) = (Samples::new(), 0);
            while !over.load(SeqCst) {
                let now = samples(&host, ADDRESS);
                for (name, then) in last.iter().filter(|(name, _)| name.contains("_total{")) {
                    let now = now.get(name).unwrap_or_else(|| panic!("{name} is gone"));
                    assert!(now >= then, "{name}: {then}, then {now}");
                }
                last = now;
                readings += 1;
            }
            readings
        });
        for round in 0..3 {
            let agent = lab.pid();
            let _ = host.run(format!("kill -KILL {agent}")).ok();
            host.wait_for_exit(agent);
            let _ =
                host.run(format!("ip link set {} type bridge_slave hairpin on", lab.port("ns0:eth0"))).ok();
            let _ = host.vethpath(format!("up {}", lab.file)).ok();
            let _ =
                host.run(format!("ip link set {} type bridge_slave hairpin off", lab.port("ns0:eth0"))).ok();
            assert!(!reading.is_finished(), "round {round}");
        }
        thread::sleep(Duration::from_millis(500));
        over.store(true, SeqCst);
        let readings = reading.join().expect("no counter decreased");
        assert!(readings > 10, "{readings} readings");
    });
    lab.down();
    host.finish();
}
