//! `bench`: what it prints, and that the lab is restored afterwards. Figures are not checked: they depend on the
//! machine.

mod bridges;
mod broken;
mod judges;
mod xdp;

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Host, Lab, Process, TIMEOUT, wait_for, wait_until};

#[test]
fn json_is_complete_and_the_lab_is_armed_again() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let report = host.vethpath("bench --cores same --seconds 2 --json").ok().json();
    assert_eq!(
        (&report["lab"], &report["from"], &report["to"]),
        (&lab.name.as_str().into(), &"ns0".into(), &"ns1".into())
    );
    assert!(report["rounds"].as_u64().is_some_and(|rounds| rounds > 0), "{report:#}");
    assert!(report["warnings"].is_array() && report["version"] == 3 && report["bridges"] == 1, "{report:#}");
    for fact in ["kernel", "vethpath", "date", "command", "congestion_control"] {
        assert!(report["machine"][fact].as_str().is_some_and(|text| !text.is_empty()), "{fact}: {report:#}");
    }
    for (work, mode) in [("udp_rr", "cable"), ("udp_rr", "bridge"), ("udp_rr", "fast"), ("tcp_rr", "fast")] {
        let distribution = &report[work][mode];
        for figure in ["p50_us", "p90_us", "p99_us", "p99_9_us", "mean_us", "max_us"] {
            assert!(distribution[figure].as_f64().is_some_and(|us| us > 0.0), "{mode} {figure}: {report:#}");
        }
        assert!(distribution["n"].as_u64().is_some_and(|n| n > 0), "{mode}: {report:#}");
    }
    // Null where noise hides the bridge's overhead, and then there is a warning.
    let removed = &report["overhead_removed"];
    if removed.is_null() {
        assert!(has_warning(&report, "no-overhead"), "{report:#}");
    } else {
        let [value, low, high] =
            ["value", "low", "high"].map(|part| removed[part].as_f64().expect("a number"));
        assert!(low <= high && value.is_finite(), "{report:#}");
    }
    assert_eq!(armed(&host), 3);
    lab.reaches("ns0", "172.17.0.102");
    lab.down();
    host.finish();
}

#[test]
fn each_case_names_its_unit_and_cpus() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    // Each case is measured once at least, however long that takes.
    let bench = host.spawn_vethpath("bench --all --size 64,9000 --seconds 10 --seed 7 --json");
    let report = bench.wait(Duration::from_secs(300)).ok().json();
    let cases = report["cases"].as_array().expect("a list");
    let of = |work: &str| cases.iter().filter(|case| case["work"] == work).collect::<Vec<_>>();
    for work in ["udp_rr", "tcp_rr"] {
        assert!(of(work).iter().any(|case| case["size"] == 9000 && case["better"] == "lower"), "{report:#}");
    }
    for (work, unit) in [("tcp_connect", "1/s"), ("tcp_stream", "bit/s"), ("udp_rate", "1/s")] {
        let case = of(work).first().copied().unwrap_or_else(|| panic!("no {work}: {report:#}"));
        assert_eq!((&case["unit"], &case["better"]), (&unit.into(), &"higher".into()));
        for mode in ["cable", "bridge", "fast"] {
            let rate = &case["rate"][mode];
            assert!(rate["median"].as_f64().is_some_and(|rate| rate > 0.0), "{work} {mode}: {report:#}");
            let [sent, received] = ["sent", "received"].map(|part| rate[part].as_u64().expect("a number"));
            assert!(
                received <= sent && (work == "udp_rate" || received == sent),
                "{work} {mode}: {report:#}"
            );
        }
        let [from, to] = ["from_cpu", "to_cpu"].map(|cpu| case["placement"][cpu].as_u64());
        assert_eq!(from == to, case["placement"]["cores"] == "same", "{report:#}");
    }
    lab.down();
    host.finish();
}

#[test]
fn text_output_begins_with_the_result() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let output = host.vethpath("bench three-hosts --from ns2 --to ns0 --cores same --seconds 1").ok();
    let first = output.stdout.lines().next().unwrap_or_default();
    assert!(first.starts_with("fast path: ") && first.contains("plain bridge"), "{output}");
    assert!(!output.stderr.contains('\r'), "lines are overwritten on terminals only: {output}");
    let _ = output.stdout_has("from ns2 to ns0").stderr_has("measuring, round 1, at most ");
    lab.down();
    host.finish();
}

#[test]
fn an_interrupted_bench_reattaches_the_programs() {
    for signal in [Process::interrupt, Process::terminate] {
        let host = Host::new();
        let lab = host.lab("three-hosts").up();
        let bench = spawn_stopped_while_detached(&host, &lab);
        signal(&bench);
        bench.resume();
        let _ = bench.wait(TIMEOUT).fails(130).stderr_has("interrupted");
        assert_eq!(armed(&host), 3);
        lab.down();
        host.finish();
    }
}

/// Checked against the kernel's counters: everything that is claimed has crossed the interfaces.
#[test]
fn claimed_traffic_is_in_the_kernels_counters() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    for (work, unit) in [("udp-rate", "packets"), ("tcp-stream", "bytes"), ("udp-rr", "packets")] {
        let count = |namespace: &str, direction: &str| {
            let link = lab.run(namespace, "ip -s -j link show eth0").ok().json();
            link[0]["stats64"][direction][unit].as_u64().expect("a number")
        };
        let (sent, received) = (count("ns0", "tx"), count("ns1", "rx"));
        let report =
            host.vethpath(format!("bench --work {work} --cores same --seconds 1 --json")).ok().json();
        let case = &report["cases"][0];
        let claimed = |part: &str| {
            let of = |mode: &str| match &case["rate"][mode] {
                Value::Null => case["latency"][mode]["n"].as_u64().expect("a number"),
                rate => rate[part].as_u64().expect("a number"),
            };
            of("bridge") + of("fast")
        };
        assert!(claimed("sent") <= count("ns0", "tx") - sent, "{work}: {report:#}");
        assert!(claimed("received") <= count("ns1", "rx") - received, "{work}: {report:#}");
        assert!(claimed("received") > 0, "{work}: {report:#}");
    }
    lab.down();
    host.finish();
}

#[test]
fn the_agent_reattaches_programs_after_a_killed_bench() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let bench = spawn_stopped_while_detached(&host, &lab);
    bench.kill();
    let _ = bench.wait(TIMEOUT);
    let expected = "bench was killed; 3 programs reattached by the agent";
    wait_until(TIMEOUT, || {
        let events = host.vethpath("events").ok();
        if events.stdout.contains(expected) { Ok(()) } else { Err(events.to_string()) }
    });
    wait_for(TIMEOUT, "the lab is armed again", || armed(&host) == 3);
    lab.reaches("ns0", "172.17.0.102");
    // Once only: the next bench ends normally.
    let _ = host.vethpath("bench --work udp-rr --cores same --seconds 1").ok();
    let events = host.vethpath("events").ok();
    assert_eq!(events.stdout.matches("was killed").count(), 1, "{events}");
    lab.down();
    host.finish();
}

#[test]
fn up_reattaches_programs_after_bench_and_agent_are_killed() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let agent = lab.pid();
    let _ = host.run(format!("kill -9 {agent}")).ok();
    let bench = spawn_stopped_while_detached(&host, &lab);
    bench.kill();
    let _ = bench.wait(TIMEOUT);
    lab.reaches("ns0", "172.17.0.102");
    let _ = host.vethpath(format!("up {}", lab.file)).ok().stderr_has("3 of 3 pairs armed");
    assert_eq!(armed(&host), 3);
    lab.down();
    host.finish();
}

#[test]
fn a_bench_after_a_killed_one_has_a_fast_path() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let bench = spawn_stopped_while_detached(&host, &lab);
    bench.kill();
    let _ = bench.wait(TIMEOUT);
    // Either this bench or the agent puts the programs back. The agent holds the lab's lock while it does.
    let report = wait_until(TIMEOUT, || {
        let output = host.vethpath("bench --work udp-rr --cores same --seconds 1 --json");
        if output.stderr.contains("another vethpath is working on lab `three-hosts`") {
            return Err(output.fails(1).to_string());
        }
        Ok(output.ok().json())
    });
    assert!(report["udp_rr"]["fast"]["n"].as_u64().is_some_and(|n| n > 0), "{report:#}");
    assert_eq!(armed(&host), 3);
    lab.down();
    host.finish();
}

#[test]
fn a_lab_of_its_own_is_gone_afterwards() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    for (shape, bridges) in [("--chain 3", 3), ("--hosts 4", 1)] {
        let report =
            host.vethpath(format!("bench {shape} --work udp-rr --cores same --seconds 1 --json")).ok().json();
        assert_eq!(report["bridges"], bridges, "{report:#}");
        assert!(report["udp_rr"]["fast"]["n"].as_u64().is_some_and(|n| n > 0), "{report:#}");
    }
    let _ = host.vethpath("bench --chain 65").fails(1).stderr_has("1..=64");
    let _ = host.vethpath("bench three-hosts --chain 2").fails(1).stderr_has("cannot be used with");
    lab.down();
    host.finish();
}

#[test]
fn a_lab_of_its_own_is_gone_when_it_is_interrupted() {
    let host = Host::new();
    let bench = host.spawn_vethpath("bench --chain 2 --seconds 60");
    let labs = host.path("/run/vethpath");
    let measuring = || {
        let labs = std::fs::read_dir(&labs).into_iter().flatten().flatten();
        labs.map(|lab| lab.path().join("bench.lock")).any(|lock| lock.exists())
    };
    wait_for(TIMEOUT, "it measures", measuring);
    bench.interrupt();
    let _ = bench.wait(TIMEOUT).fails(130).stderr_has("interrupted");
    assert_eq!(host.vethpath("list --json").ok().json(), serde_json::json!([]));
    host.finish();
}

#[test]
fn a_disarmed_fast_path_is_not_measured() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    // A packet socket on the port disarms it: every frame takes the bridge.
    let tap = host.spawn("tcpdump --immediate-mode -n -i any -w /dev/null");
    // The agent must have replied: without its reply, the number of armed pairs is 0 too.
    wait_for(TIMEOUT, "the pairs step aside", || {
        let labs = host.vethpath("list --json").ok().json();
        labs[0]["agent"] == true && labs[0]["armed"] == 0
    });
    let report = host.vethpath("bench --work udp-rr --cores same --seconds 1 --json").ok().json();
    assert!(report["udp_rr"].get("fast").is_none() && report["overhead_removed"].is_null(), "{report:#}");
    drop(tap);
    lab.down();
    host.finish();
}

#[test]
fn the_lab_is_locked_meanwhile() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    // The stopped bench does not end, however long the others take.
    let bench = spawn_stopped_while_detached(&host, &lab);
    // Each waits ten seconds for the lock.
    let others = ["bench three-hosts --seconds 1", "down three-hosts", &format!("up {}", lab.file)];
    for other in others.map(|other| host.spawn_vethpath(other)) {
        let _ = other.wait(TIMEOUT).fails(1).stderr_has("another vethpath is working on lab `three-hosts`");
    }
    bench.interrupt();
    bench.resume();
    let _ = bench.wait(TIMEOUT).fails(130);
    lab.down();
    host.finish();
}

#[test]
fn without_a_fast_path_the_other_paths_are_measured() {
    let host = Host::new();
    let lab = host.lab("three-hosts").with("datapath = \"tc\"", "datapath = \"bridge\"").up();
    let report = host.vethpath("bench --work udp-rr --cores same --seconds 1 --json").ok().json();
    assert!(report["udp_rr"]["bridge"]["n"].as_u64().is_some_and(|n| n > 0), "{report:#}");
    assert!(report["udp_rr"].get("fast").is_none() && report["overhead_removed"].is_null(), "{report:#}");
    assert!(has_warning(&report, "not-armed"), "{report:#}");
    let _ = host
        .vethpath("bench --work udp-rr --cores same --seconds 1")
        .ok()
        .stderr_has("ns0:eth0 is not armed");
    lab.down();
    host.finish();
}

#[test]
fn impossible_requests_are_errors() {
    let host = Host::new();
    let _ = host.vethpath("bench").fails(1).stderr_has("no lab is up");
    let lab = host.lab("three-hosts").up();
    let _ = host.vethpath("bench --from ns0 --to ns7").fails(1).stderr_has("no namespace `ns7`");
    let _ = host.vethpath("bench --from ns0 --to ns0").fails(1).stderr_has("on one bridge");
    let _ = host.vethpath("bench --from ns0").fails(1).stderr_has("--to");
    let spinning = "bench --wait spinning --cores same";
    let _ = host
        .vethpath(spinning)
        .fails(1)
        .stderr_has("waits for the other's time slice")
        .stderr_has("--cores cross");
    lab.down();
    host.finish();
}

#[test]
fn a_host_that_does_not_answer_is_named() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let _ = lab.run("ns1", "ip route add blackhole 172.17.0.101/32").ok();
    let _ = host.vethpath("bench --work udp-rr --cores same --seconds 1").fails(2).stderr_has("172.17.0.10");
    assert_eq!(armed(&host), 3);
    lab.down();
    host.finish();
}

/// Starts a long run and stops it while the programs are detached.
#[track_caller]
fn spawn_stopped_while_detached(host: &Host, lab: &Lab<'_>) -> Process {
    let bench = host.spawn_vethpath(format!("bench {} --seconds 60", lab.name));
    stop_while_detached(host, lab, &bench);
    bench
}

/// Stops a run while the programs are detached. They are detached for a fraction of a second only, which a test that
/// polls could miss.
#[track_caller]
fn stop_while_detached(host: &Host, lab: &Lab<'_>, bench: &Process) {
    let pins = host.path(&format!("/sys/fs/bpf/vethpath/{}", lab.name));
    let are_detached = || {
        let pins = std::fs::read_dir(&pins).expect("the lab is up").flatten();
        pins.filter(|pin| pin.file_name().to_string_lossy().starts_with("link_")).count() == 0
    };
    wait_for(TIMEOUT, "the programs stay attached", || {
        if !are_detached() {
            return false;
        }
        bench.stop();
        let are_detached = are_detached();
        if !are_detached {
            bench.resume();
        }
        are_detached
    });
}

fn has_warning(report: &Value, kind: &str) -> bool {
    report["warnings"].as_array().is_some_and(|warnings| warnings.iter().any(|w| w["kind"] == kind))
}

/// How many pairs of the only lab are armed.
fn armed(host: &Host) -> u64 {
    let labs = host.vethpath("list --json").ok().json();
    labs[0]["armed"].as_u64().expect("a number")
}

#[test]
fn a_page_is_written_and_runs_are_compared() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let refused = host.vethpath(format!("bench --html {}", at("none/page.html")));
    let _ = refused.fails(1).stderr_has("cannot write").stderr_has("hint: give --html a file");
    let refused = host.vethpath(format!("bench --compare {}", at("old.json")));
    let _ = refused
        .fails(1)
        .stderr_has("cannot read")
        .stderr_has("hint: `vethpath bench --json > FILE` writes one");
    let command = "bench --work udp-rr --cores same --seconds 1";
    let old = host.vethpath(format!("{command} --json")).ok().stdout;
    std::fs::write(at("old.json"), old).expect("a file");
    let (old, page) = (at("old.json"), at("page.html"));
    let mut other: Value =
        serde_json::from_str(&std::fs::read_to_string(&old).expect("the file")).expect("JSON");
    other["version"] = 1.into();
    std::fs::write(at("older.json"), other.to_string()).expect("a file");
    let refused = host.vethpath(format!("bench --compare {}", at("older.json")));
    let _ = refused
        .fails(1)
        .stderr_has("a report of version 1, and this vethpath knows version 3")
        .stderr_has("hint: measure once");
    let report = host.vethpath(format!("{command} --json --compare {old} --html {page}")).ok().json();
    let change = &report["compare"]["cases"][0]["paths"]["fast"];
    assert!(change["verdict"].is_string() && change["ratio"].as_f64().is_some(), "{report:#}");
    let page = std::fs::read_to_string(page).expect("the page");
    let ratio = report["cases"][0]["fast_to_bridge"]["value"].as_f64().expect("a number");
    assert!(
        page.contains(&format!("fast/bridge {ratio:.3}")) && page.contains("Compared with the run of"),
        "{page}"
    );
    let _ = host.vethpath(format!("{command} --compare {old}")).ok().stdout_has("compared with the run of");
    assert_eq!(armed(&host), 3);
    lab.down();
    host.finish();
}
