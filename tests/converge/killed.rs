//! `up` and `down` are killed after each line of the journal, and within steps that are done together. Both end in
//! the right state.
//!
//! A debug build kills itself where `VETHPATH_STOP_AFTER` says. These tests need a debug build.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::{address, chain, host_on, hosts, lab_file, up};
use crate::harness::{Host, in_parallel, seed, sized};

/// Hosts of the lab that is killed at each step. A lab of four has each kind of step and each transition from one to
/// the next.
fn host_count() -> usize {
    sized(4, 20)
}

/// The command that has to end in the right state after a kill.
#[derive(Clone, Copy, Debug)]
enum Followup {
    Down,
    Up,
}

/// Runs `vethpath` and kills it after this many lines of the journal and parts of steps. Returns whether it was
/// killed: there may be fewer.
#[track_caller]
fn run_and_kill(host: &Host, line: usize, command: &str) -> bool {
    let exe = host.exe();
    let output = host.run(format!("env VETHPATH_STOP_AFTER={line} {exe} {command}"));
    assert!(matches!(output.code(), None | Some(0)), "line {line}: {output}");
    assert!(line < 1000, "it is never killed: is this a debug build? {output}");
    !output.succeeded()
}

/// Checks that the lab is gone, or that it is complete and can be removed.
#[track_caller]
fn assert_completes(host: &Host, followup: Followup, file: &str, line: usize) {
    match followup {
        Followup::Down => {
            // Before the first line there is no lab yet, and after the last there is none any more.
            let down = host.vethpath("down changing");
            assert!(matches!(down.code(), Some(0 | 1)), "line {line}: {down}");
        }
        Followup::Up => {
            let _ = host.vethpath(format!("up {file}")).ok();
            let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
            let to = address(1);
            let _ = host.run(format!("ip netns exec h0 ping -n -q -c 1 -W 5 {to}")).ok();
            let _ = host.vethpath("down changing").ok();
        }
    }
    host.assert_restored(&format!("line {line}, then {followup:?}"));
}

/// The commands to run after a kill at this line: one of the two, or both in the long suite.
fn followups(line: usize) -> Vec<Followup> {
    let command = if line.is_multiple_of(2) { Followup::Down } else { Followup::Up };
    sized(vec![command], vec![Followup::Down, Followup::Up])
}

/// Lines that are tested in parallel, each on its own host: most of the time is spent waiting for the kernel.
const LANES: usize = 3;

/// Calls `work` for each line from `first` on, until it returns that nothing was killed. Returns that line. The full
/// suite takes every second line: which of the two depends on the commit. The long suite takes all.
#[track_caller]
fn at_each_line(first: usize, work: impl Fn(&Host, usize) -> bool + Sync) -> usize {
    let stride = sized(2, 1);
    let offset = usize::try_from(seed(0) % stride).expect("it is less than the stride");
    let stride = usize::try_from(stride).expect("it is small");
    let (next, end) = (AtomicUsize::new(first + offset), AtomicUsize::new(usize::MAX));
    let lane = |_| {
        let host = Host::new();
        loop {
            let line = next.fetch_add(stride, SeqCst);
            if line > end.load(SeqCst) {
                return host.finish();
            }
            if !work(&host, line) {
                end.fetch_min(line, SeqCst);
            }
        }
    };
    let _ = in_parallel(0..LANES, lane);
    end.load(SeqCst)
}

#[test]
fn up_at_each_step() {
    let last = at_each_line(1, |host, line| {
        let file = lab_file(host, &hosts(0..host_count()));
        followups(line).into_iter().fold(false, |_, followup| {
            let killed = run_and_kill(host, line, &format!("up {file}"));
            assert_completes(host, followup, &file, line);
            killed
        })
    });
    assert!(last > 4 * host_count(), "`up` wrote {last} lines only");
}

#[test]
fn down_at_each_step() {
    let last = at_each_line(1, |host, line| {
        let file = lab_file(host, &hosts(0..host_count()));
        followups(line).into_iter().fold(false, |_, followup| {
            let _ = host.vethpath(format!("up {file}")).ok();
            let killed = run_and_kill(host, line, "down changing");
            assert_completes(host, followup, &file, line);
            killed
        })
    });
    assert!(last > host_count(), "`down` wrote {last} lines only");
}

/// Changes the MAC of an inner end that a killed `up` may not have marked yet.
#[test]
fn a_mac_is_changed_after_each_step() {
    let last = at_each_line(1, |host, line| {
        let file = lab_file(host, &hosts(0..2));
        let killed = run_and_kill(host, line, &format!("up {file}"));
        // The interface may not exist yet.
        let _ = host.run("ip -n h0 link set eth0 address 02:00:00:00:00:99");
        assert_completes(host, Followup::Up, &file, line);
        killed
    });
    assert!(last > 8, "`up` wrote {last} lines only");
}

/// With the host's forwarding, which is restored whenever `up` or `down` is killed.
#[test]
fn nat_at_each_step() {
    let last = at_each_line(1, |host, line| {
        let file = lab_file(host, "[bridge.br0]\nnat = true\naddresses = [\"10.7.0.1/24\"]\n");
        let killed_up = run_and_kill(host, line, &format!("up {file}"));
        assert_completes(host, Followup::Down, &file, line);
        let _ = host.vethpath(format!("up {file}")).ok();
        let killed_down = run_and_kill(host, line, "down changing");
        assert_completes(host, Followup::Down, &file, line);
        killed_up || killed_down
    });
    assert!(last > 6, "{last} lines only");
}

/// With bridges in a fabric: the machine has an uplink and routes, and masquerades.
fn with_fabric() -> String {
    let bridge = "[bridge.br0]\nnat = true\n";
    "fabric = true\n".to_owned() + &hosts(0..2).replace("[bridge.br0]\n", bridge)
}

#[test]
fn a_fabric_at_each_step() {
    let last = at_each_line(1, |host, line| {
        let file = lab_file(host, &with_fabric());
        let killed_up = run_and_kill(host, line, &format!("up {file}"));
        let followup = if line.is_multiple_of(2) { Followup::Down } else { Followup::Up };
        assert_completes(host, followup, &file, line);
        let _ = host.vethpath(format!("up {file}")).ok();
        let _ = host.run(format!("ping -n -q -c 1 -W 5 {}", address(1))).ok();
        let killed_down = run_and_kill(host, line, "down changing");
        let followup = if line.is_multiple_of(2) { Followup::Up } else { Followup::Down };
        assert_completes(host, followup, &file, line);
        killed_up || killed_down
    });
    assert!(last > 20, "{last} lines only");
}

/// Bridges move to the fabric, or back to the machine.
#[test]
fn a_move_to_a_fabric_at_each_step() {
    let with = |host: &Host, fabric: bool| {
        lab_file(host, &with_fabric().replace("fabric = true", &format!("fabric = {fabric}")))
    };
    let last = at_each_line(1, |host, line| {
        let to = line.is_multiple_of(2);
        let _ = host.vethpath(format!("up {}", with(host, !to))).ok();
        let killed = run_and_kill(host, line, &format!("up {}", with(host, to)));
        match line / 2 % 3 {
            0 => assert_completes(host, Followup::Down, "", line),
            1 => assert_completes(host, Followup::Up, &with(host, to), line),
            _ => assert_completes(host, Followup::Up, &with(host, !to), line),
        }
        killed
    });
    assert!(last > 20, "`up` wrote {last} lines only");
}

/// A lab with something of everything becomes another. Then the other is applied, or the first again, or `down`.
#[test]
fn a_change_at_each_step() {
    let first = "[bridge.br1]\nnat = true\naddresses = [\"10.7.0.1/24\"]\ntrunks = [\"br0\"]\n".to_owned()
        + &hosts(0..5)
        + "[namespace.h1.interface.c0]\nlink = \"h4:c0\"\n";
    let second = "[namespace.fabric]\n[bridge.br2]\nnamespace = \"fabric\"\nstp = true\n".to_owned()
        + &hosts([0, 1, 3]).replace("[bridge.br0]\n", "[bridge.br0]\nageing_time = 30\nmtu = 1400\n")
        + &host_on(7, "br2")
        + "[namespace.h1.interface.c0]\nlink = \"h3:c0\"\n";
    let last = at_each_line(1, |host, line| {
        let _ = host.vethpath(format!("up {}", lab_file(host, &first))).ok();
        let killed = run_and_kill(host, line, &format!("up {}", lab_file(host, &second)));
        match line % 3 {
            0 => assert_completes(host, Followup::Down, "", line),
            1 => assert_completes(host, Followup::Up, &lab_file(host, &second), line),
            _ => assert_completes(host, Followup::Up, &lab_file(host, &first), line),
        }
        killed
    });
    assert!(last > 20, "`up` wrote {last} lines only");
}

/// To XDP and back: programs are attached and detached, and offloads of inner ends are set and restored.
#[test]
fn a_change_of_the_datapath_at_each_step() {
    let with = |host: &Host, datapath: &str| {
        let bridge = format!("[bridge.br0]\ndatapath = \"{datapath}\"\n");
        lab_file(host, &hosts(0..3).replace("[bridge.br0]\n", &bridge))
    };
    for (from, to) in [("tc", "xdp"), ("xdp", "tc"), ("xdp", "bridge")] {
        let last = at_each_line(1, |host, line| {
            let offloads =
                || (0..3).map(|number| super::datapaths::offloads(host, number)).collect::<Vec<_>>();
            let _ = host.vethpath(format!("up {}", with(host, "tc"))).ok();
            let as_made = offloads();
            let _ = host.vethpath(format!("up {}", with(host, from))).ok();
            let killed = run_and_kill(host, line, &format!("up {}", with(host, to)));
            if line % 3 == 1 {
                // Whatever was done by then, the journal still has the offloads that the inner ends had.
                let _ = host.vethpath(format!("up {}", with(host, "tc"))).ok();
                assert_eq!(offloads(), as_made, "{from} to {to}, line {line}");
            }
            match line % 3 {
                0 => assert_completes(host, Followup::Down, "", line),
                1 => assert_completes(host, Followup::Up, &with(host, to), line),
                _ => assert_completes(host, Followup::Up, &with(host, from), line),
            }
            killed
        });
        assert!(last > 6, "{from} to {to}: `up` wrote {last} lines only");
    }
}

/// Larger maps are created and used, and the old ones retired: what was counted before is still counted after.
#[test]
fn growth_at_each_step() {
    // The paths across this many bridges are more than the maps of a small lab have room for.
    const BRIDGES: usize = 10;
    let (small, large) = (chain(2), chain(BRIDGES));
    // Begins where the programs are attached: the steps before are those of any other change.
    let attach = 1 + 2 * (BRIDGES - 2) + 1;
    let last = at_each_line(attach, |host, line| {
        let lab = up(host, &small);
        lab.is_fast("h0:eth0", &address(1));
        let before = lab.assert_counters_match();
        let killed = run_and_kill(host, line, &format!("up {}", lab_file(host, &large)));
        let _ = host.vethpath(format!("up {}", lab_file(host, &large))).ok();
        lab.assert_counters_match().not_less_than(&before);
        lab.is_fast("h0:eth0", &address(1));
        lab.assert_counters_match().not_less_than(&before);
        lab.down();
        host.assert_restored(&format!("line {line}"));
        killed
    });
    assert!(last > attach + 15, "`up` wrote {last} lines only");
}
