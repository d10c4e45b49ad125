//! `up` and `down` that fail, are interrupted, or meet another program or a hanging agent.

use std::time::{Duration, Instant};

use super::{address, assert_up_to_date, hosts, identity, lab_file, up};
use crate::harness::{Host, Lab, Process, SLACK, TIMEOUT, wait_for};

#[test]
fn a_change_that_fails_goes_back() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..3));
    let before = identity(&host, "h0");
    // The last of its steps is refused: the sysctl does not exist.
    let bad = hosts([0, 1, 4, 5]).replace("ageing", "") + "sysctls = { \"net.ipv4.conf.eth0.nosuch\" = 1 }\n";
    let file = lab_file(&host, &bad);
    let _ = host.vethpath(format!("up {file}")).fails(1).stderr_has("cannot set sysctl").stderr_has("nosuch");
    let file = lab_file(&host, &hosts(0..3));
    assert_up_to_date(&host, &file);
    assert_eq!(identity(&host, "h0"), before);
    lab.is_fast("h2:eth0", &address(0));
    lab.down();
    host.finish();
}

#[test]
fn an_interrupted_change_goes_back() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..3));
    let first = lab_file(&host, &hosts(0..3));
    for pause in [0, 20, 60, 150] {
        let text = "name = \"changing\"\n".to_owned() + &hosts([0, 1].into_iter().chain(10..40));
        let file = host.lab("empty").named("other").and(&text).write();
        let change = host.spawn_vethpath(format!("up {file}"));
        wait_for(SLACK, "`up` does not start", || host.namespaces().len() != 3);
        std::thread::sleep(Duration::from_millis(pause));
        change.interrupt();
        let output = change.wait(TIMEOUT);
        match output.code() {
            Some(130) => assert_up_to_date(&host, &first),
            Some(0) => {
                assert_up_to_date(&host, &file);
                let _ = host.vethpath(format!("up {first}")).ok();
            }
            _ => panic!("{output}"),
        }
    }
    lab.is_fast("h2:eth0", &address(0));
    lab.down();
    host.finish();
}

/// Starts a `vethpath` that waits at these places, and returns it when it is at the first. Only a debug build waits.
#[track_caller]
fn spawn_paused(host: &Host, places: &str, command: &str) -> Process {
    let exe = host.exe();
    let process = host.spawn(format!("env VETHPATH_WAIT_AT={places} {exe} {command}"));
    wait_for_pause(&process, places.split(',').next().expect("a place"));
    process
}

#[track_caller]
fn wait_for_pause(process: &Process, place: &str) {
    wait_for(TIMEOUT, "it does not get there", || process.output().contains(&format!("waiting at {place}")));
}

/// Also where an earlier run that was killed has left an empty folder of the lab.
#[test]
fn an_interrupted_first_up_leaves_nothing() {
    let host = Host::new();
    let file = lab_file(&host, &hosts(0..3));
    for is_there in [false, true] {
        if is_there {
            let _ = host.run("mkdir -p -m 700 /run/vethpath/changing").ok();
        }
        let up = spawn_paused(&host, "agent", &format!("up {file}"));
        assert_eq!(host.namespaces().len(), 3);
        up.interrupt();
        let _ = up.wait(TIMEOUT).fails(130).stderr_has("interrupted; what had been done is undone");
        host.assert_restored(&format!("the folder was there: {is_there}"));
    }
    host.finish();
}

/// The second Ctrl-C stops at once and reports what is left. `up` or `down` can go on from there.
#[test]
fn a_second_interrupt_stops_and_reports_what_is_left() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..3));
    let first = lab_file(&host, &hosts(0..3));
    let text = "name = \"changing\"\n".to_owned() + &hosts(10..60);
    let file = host.lab("empty").named("other").and(&text).write();
    // It leaves neither place by itself, however late the interrupt is sent.
    let change = spawn_paused(&host, "agent,undo", &format!("up {file}"));
    change.interrupt();
    wait_for_pause(&change, "undo");
    change.interrupt();
    let output = change.wait(TIMEOUT).fails(130).stderr_has("interrupted again, with this left: ");
    let _ = output.stderr_has("namespace h10").stderr_has("hint: `vethpath down` tries again");
    let _ = host.vethpath(format!("up {first}")).ok();
    assert_up_to_date(&host, &first);
    lab.is_fast("h2:eth0", &address(0));
    lab.down();
    host.finish();
}

#[test]
fn an_interrupted_down_reports_what_is_left_and_can_be_repeated() {
    let host = Host::new();
    up(&host, &hosts(0..30)).forget();
    // `down --all` does not start with the other lab.
    host.lab("fabric").with("namespace.ns", "namespace.f").up().forget();
    let others = || host.namespaces().iter().filter(|name| name.starts_with('f')).count();
    let before = others();
    let down = spawn_paused(&host, "down", "down --all");
    down.interrupt();
    let output = down.wait(TIMEOUT).fails(130).stderr_has("interrupted, with this left: namespace h0");
    let _ = output.stderr_has("and 25 more").stderr_has("hint: `vethpath down` continues");
    assert_eq!(others(), before);
    let _ = host.vethpath("down --all").ok();
    host.finish();
}

/// A port of a bridge.
fn first_port(host: &Host, bridge: &str) -> String {
    let ports = host.json(format!("ip -j link show master {bridge}"));
    ports[0]["ifname"].as_str().expect("the bridge has a port").to_owned()
}

/// Runs `up`, which waits for `/run/go-introduce` before it adds FDB entries of hosts, and for `/run/go-agent` once it
/// has started the agent. Only a debug build waits.
#[track_caller]
fn paused_up(host: &Host, file: &str) -> Process {
    let exe = host.exe();
    let up =
        host.spawn(format!("env VETHPATH_WAIT_AT=introduce,agent VETHPATH_WAIT_FOR=/run/go {exe} up {file}"));
    wait_for_pause(&up, "introduce");
    up
}

/// Lets `up` go on at all places.
#[track_caller]
fn resume(host: &Host) {
    let _ = host.run("touch /run/go-introduce /run/go-agent").ok();
}

#[track_caller]
fn remove_go_files(host: &Host) {
    let _ = host.run("rm /run/go-introduce /run/go-agent").ok();
}

#[test]
fn a_port_that_was_taken_off_once_is_put_back() {
    let host = Host::new();
    let file = lab_file(&host, &hosts(0..3));
    let up = paused_up(&host, &file);
    let port = first_port(&host, "br0");
    let _ = host.run(format!("ip link set {port} nomaster")).ok();
    resume(&host);
    let output = up.wait(TIMEOUT).ok().stderr_has("3 of 3 pairs armed");
    let _ = output.stderr_has(&format!("another program took {port} off its bridge meanwhile; reattached"));
    remove_go_files(&host);
    let _ = host.run(format!("ip netns exec h0 ping -n -q -c 3 -l 3 -W 5 {}", address(1))).ok();
    let _ = host.vethpath("down changing").ok();
    host.finish();
}

#[test]
fn a_port_that_is_taken_off_again_is_an_error() {
    let host = Host::new();
    let file = lab_file(&host, &hosts(0..3));
    let up = paused_up(&host, &file);
    let port = first_port(&host, "br0");
    for place in ["introduce", "agent"] {
        wait_for_pause(&up, place);
        let _ = host.run(format!("ip link set {port} nomaster")).ok();
        let _ = host.run(format!("touch /run/go-{place}")).ok();
    }
    let output = up
        .wait(TIMEOUT)
        .fails(2)
        .stderr_has(&format!("another program releases port {port} from bridge br0"));
    let _ = output.stderr_has("hint: have network managers leave the lab's ports alone");
    assert_eq!(host.namespaces(), [""; 0], "what had been done is undone");
    remove_go_files(&host);
    host.finish();
}

#[test]
fn a_bridge_that_is_removed_meanwhile_is_named() {
    let host = Host::new();
    let file = lab_file(&host, &hosts(0..3));
    let up = paused_up(&host, &file);
    let _ = host.run("ip link del br0").ok();
    resume(&host);
    let _ = up
        .wait(TIMEOUT)
        .fails(2)
        .stderr_has("another program has removed or renamed br0 in host while `up` ran");
    assert_eq!(host.namespaces(), [""; 0], "what had been done is undone");
    remove_go_files(&host);
    host.finish();
}

#[test]
fn down_continues_after_errors_and_reports_each() {
    let host = Host::new();
    up(&host, &hosts(0..6)).forget();
    // A file with another mount besides ours cannot be removed, nor can a folder with a mount in it.
    let pins = "/sys/fs/bpf/vethpath/changing/theirs";
    for command in [
        "mount --bind /run/netns/h1 /run/netns/h1",
        "mount --bind /run/netns/h4 /run/netns/h4",
        &format!("mkdir {pins}"),
        &format!("mount -t tmpfs tmpfs {pins}"),
    ] {
        let _ = host.run(command).ok();
    }
    let down = host.vethpath("down changing").fails(2);
    let down = down
        .stderr_has("remove namespace h1")
        .stderr_has("remove namespace h4")
        .stderr_has("changing: Device or resource");
    let _ = down.stderr_has("hint: everything else is removed; `vethpath down` tries again");
    assert_eq!(host.namespaces(), ["h1", "h4"]);
    let links = host.run("ip -o link").ok().stdout;
    assert_eq!(links.lines().count(), 1, "{links}");
    for namespace in ["h1", "h4"] {
        let inside = host.run(format!("ip -n {namespace} -o link")).ok().stdout;
        assert!(!inside.contains("eth0"), "{inside}");
    }
    let _ = host.run(format!("umount {pins}")).ok();
    let _ = host.vethpath("down changing").ok();
    host.finish();
}

fn pid(lab: &Lab<'_>) -> i32 {
    lab.stats().agent.pid.expect("the agent is there")
}

/// It does not answer until it is continued. `plan` and `up` must not wait for that.
#[test]
fn a_stopped_agent_is_replaced_soon() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let first = pid(&lab);
    let _ = host.run(format!("kill -STOP {first}")).ok();
    let start = Instant::now();
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("+ create agent three-hosts");
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    assert!(start.elapsed() < Duration::from_secs(10) + SLACK, "{:?}", start.elapsed());
    assert_ne!(pid(&lab), first);
    wait_for(SLACK, "the first agent is there", || host.agents("three-hosts") == 1);
    lab.is_fast("ns0:eth0", "172.17.0.102");
    lab.down();
    host.finish();
}

/// Only the agent has been ended, to be replaced. The lab gets an agent again.
#[test]
fn an_interrupted_up_leaves_no_lab_without_its_agent() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let _ = host.run(format!("kill -STOP {}", pid(&lab))).ok();
    let up = spawn_paused(&host, "no-agent", &format!("up {}", lab.file));
    assert_eq!(host.agents("three-hosts"), 0);
    up.interrupt();
    let _ = up.wait(TIMEOUT).fails(130).stderr_has("interrupted; what had been done is undone");
    assert_eq!(host.agents("three-hosts"), 1);
    lab.is_fast("ns0:eth0", "172.17.0.102");
    lab.down();
    host.finish();
}

/// An agent that a killed `up` has started may begin at any moment of the next `up` or `down`.
#[test]
fn a_late_agent_does_not_block_up_or_down() {
    let host = Host::new();
    let exe = host.exe();
    for pause in [0, 5, 10, 20, 40] {
        let lab = host.lab("three-hosts").up();
        let _ = host.run(format!("kill -KILL {}", pid(&lab))).ok();
        wait_for(SLACK, "the agent is there", || host.agents("three-hosts") == 0);
        let late = |command: &str| {
            let seconds = f64::from(pause) / 1000.0;
            let late = host.spawn(["sh", "-c", &format!("sleep {seconds}; exec {exe} agent three-hosts")]);
            let output = host.vethpath(command);
            (late, output)
        };
        let (first, output) = late(&format!("up {}", lab.file));
        let _ = output.ok();
        wait_for(SLACK, "there is not one agent", || host.agents("three-hosts") == 1);
        lab.is_fast("ns0:eth0", "172.17.0.102");
        let _ = host.run(format!("kill -KILL {}", pid(&lab))).ok();
        drop(first);
        let (second, output) = late("down three-hosts");
        let _ = output.ok();
        let _ = second.wait(TIMEOUT);
        lab.forget();
        assert_eq!(host.changes(), None, "{pause}");
    }
    host.finish();
}
