//! `up` and `down` are killed after each line of the journal, and within steps that are done together. Both end in
//! the right state.
//!
//! A debug build kills itself where `VETHPATH_STOP_AFTER` says. These tests need a debug build.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::labs::{address, host as one, hosts};
use crate::harness::{Host, at_once, sized};

/// Hosts of the lab that is killed at each step. A lab of four has each kind of step and each transition from one to
/// the next.
fn host_count() -> usize {
    sized(4, 20)
}

/// The command that has to end in the right state after a kill.
#[derive(Clone, Copy, Debug)]
enum Then {
    Down,
    Up,
}

/// Runs `vethpath` and kills it after this many lines of the journal and parts of steps. Returns whether it was
/// killed: there may be fewer.
#[track_caller]
fn is_killed(host: &Host, line: usize, command: &str) -> bool {
    let exe = host.exe();
    let done = host.run(format!("env VETHPATH_STOP_AFTER={line} {exe} {command}"));
    assert!(matches!(done.code(), None | Some(0)), "line {line}: {done}");
    assert!(line < 1000, "it is never killed: is this a debug build? {done}");
    !done.succeeded()
}

/// Checks that the lab is gone, or that it is complete and can be removed.
#[track_caller]
fn ends_well(host: &Host, then: Then, file: &str, line: usize) {
    match then {
        Then::Down => {
            // Before the first line there is no lab yet, and after the last there is none any more.
            let down = host.vethpath("down changing");
            assert!(matches!(down.code(), Some(0 | 1)), "line {line}: {down}");
        }
        Then::Up => {
            let _ = host.vethpath(format!("up {file}")).ok();
            let _ = host.vethpath(format!("plan {file}")).ok().prints("nothing to change");
            let to = address(1);
            let _ = host.run(format!("ip netns exec h0 ping -n -q -c 1 -W 5 {to}")).ok();
            let _ = host.vethpath("down changing").ok();
        }
    }
    host.is_as_it_was(&format!("line {line}, then {then:?}"));
}

/// The commands to run after a kill at this line: one of the two, or both in the long suite.
fn thens(line: usize) -> Vec<Then> {
    let one = if line.is_multiple_of(2) { Then::Down } else { Then::Up };
    sized(vec![one], vec![Then::Down, Then::Up])
}

/// Lines that are tested in parallel, each on its own host: most of the time is spent waiting for the kernel.
const LANES: usize = 3;

/// Calls `work` for each line from `first` on, until it returns that nothing was killed. Returns that line.
#[track_caller]
fn at_each_line(first: usize, work: impl Fn(&Host, usize) -> bool + Sync) -> usize {
    let (next, end) = (AtomicUsize::new(first), AtomicUsize::new(usize::MAX));
    let lane = |_| {
        let host = Host::new();
        loop {
            let line = next.fetch_add(1, SeqCst);
            if line > end.load(SeqCst) {
                return host.finish();
            }
            if !work(&host, line) {
                end.fetch_min(line, SeqCst);
            }
        }
    };
    let _ = at_once(0..LANES, lane);
    end.load(SeqCst)
}

/// The file of the lab `changing` with this text.
fn file(host: &Host, text: &str) -> String {
    host.lab("empty").named("changing").and(text).write()
}

#[test]
fn up_at_each_step() {
    let last = at_each_line(1, |host, line| {
        let file = file(host, &hosts(0..host_count()));
        thens(line).into_iter().fold(false, |_, then| {
            let killed = is_killed(host, line, &format!("up {file}"));
            ends_well(host, then, &file, line);
            killed
        })
    });
    assert!(last > 4 * host_count(), "`up` wrote {last} lines only");
}

#[test]
fn down_at_each_step() {
    let last = at_each_line(1, |host, line| {
        let file = file(host, &hosts(0..host_count()));
        thens(line).into_iter().fold(false, |_, then| {
            let _ = host.vethpath(format!("up {file}")).ok();
            let killed = is_killed(host, line, "down changing");
            ends_well(host, then, &file, line);
            killed
        })
    });
    assert!(last > host_count(), "`down` wrote {last} lines only");
}

/// Changes the MAC of an inner end that a killed `up` may not have marked yet.
#[test]
fn a_mac_is_changed_after_each_step() {
    let last = at_each_line(1, |host, line| {
        let file = file(host, &hosts(0..2));
        let killed = is_killed(host, line, &format!("up {file}"));
        // The interface may not exist yet.
        let _ = host.run("ip -n h0 link set eth0 address 02:00:00:00:00:99");
        ends_well(host, Then::Up, &file, line);
        killed
    });
    assert!(last > 8, "`up` wrote {last} lines only");
}

/// With the host's forwarding, which is restored whenever `up` or `down` is killed.
#[test]
fn nat_at_each_step() {
    let last = at_each_line(1, |host, line| {
        let file = file(host, "[bridge.br0]\nnat = true\naddresses = [\"10.7.0.1/24\"]\n");
        let killed_up = is_killed(host, line, &format!("up {file}"));
        ends_well(host, Then::Down, &file, line);
        let _ = host.vethpath(format!("up {file}")).ok();
        let killed_down = is_killed(host, line, "down changing");
        ends_well(host, Then::Down, &file, line);
        killed_up || killed_down
    });
    assert!(last > 6, "{last} lines only");
}

/// A lab with something of everything becomes another. Then the other is applied, or the first again, or `down`.
#[test]
fn a_change_at_each_step() {
    let first = "[bridge.br1]\nnat = true\naddresses = [\"10.7.0.1/24\"]\ntrunks = [\"br0\"]\n".to_owned()
        + &hosts(0..5)
        + "[namespace.h1.interface.c0]\nlink = \"h4:c0\"\n";
    let second = "[namespace.fabric]\n[bridge.br2]\nnamespace = \"fabric\"\nstp = true\n".to_owned()
        + &hosts([0, 1, 3]).replace("[bridge.br0]\n", "[bridge.br0]\nageing_time = 30\nmtu = 1400\n")
        + &one(7, "br2")
        + "[namespace.h1.interface.c0]\nlink = \"h3:c0\"\n";
    let last = at_each_line(1, |host, line| {
        let _ = host.vethpath(format!("up {}", file(host, &first))).ok();
        let killed = is_killed(host, line, &format!("up {}", file(host, &second)));
        match line % 3 {
            0 => ends_well(host, Then::Down, "", line),
            1 => ends_well(host, Then::Up, &file(host, &second), line),
            _ => ends_well(host, Then::Up, &file(host, &first), line),
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
        file(host, &hosts(0..3).replace("[bridge.br0]\n", &bridge))
    };
    for (from, to) in [("tc", "xdp"), ("xdp", "tc"), ("xdp", "bridge")] {
        let last = at_each_line(1, |host, line| {
            let offloads =
                || (0..3).map(|number| super::datapaths::offloads(host, number)).collect::<Vec<_>>();
            let _ = host.vethpath(format!("up {}", with(host, "tc"))).ok();
            let as_made = offloads();
            let _ = host.vethpath(format!("up {}", with(host, from))).ok();
            let killed = is_killed(host, line, &format!("up {}", with(host, to)));
            if line % 3 == 1 {
                // Whatever was done by then, the journal still has the offloads that the inner ends had.
                let _ = host.vethpath(format!("up {}", with(host, "tc"))).ok();
                assert_eq!(offloads(), as_made, "{from} to {to}, line {line}");
            }
            match line % 3 {
                0 => ends_well(host, Then::Down, "", line),
                1 => ends_well(host, Then::Up, &with(host, to), line),
                _ => ends_well(host, Then::Up, &with(host, from), line),
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
    let ends = (one(0, "b0") + &one(1, "b1")).replace("gateway = \"10.9.0.1\"\n", "");
    let chain = |bridges: usize| {
        let trunk =
            |n: usize| if n + 1 < bridges { format!("trunks = [\"b{}\"]\n", n + 1) } else { String::new() };
        (0..bridges).map(|n| format!("[bridge.b{n}]\n{}", trunk(n))).collect::<String>() + &ends
    };
    let (small, large) = (chain(2), chain(BRIDGES));
    // Begins where the programs are attached: the steps before are those of any other change.
    let attach = 1 + 2 * (BRIDGES - 2) + 1;
    let last = at_each_line(attach, |host, line| {
        let lab = super::labs::up(host, &small);
        lab.is_fast("h0:eth0", &address(1));
        let before = lab.accounts_balance();
        let killed = is_killed(host, line, &format!("up {}", file(host, &large)));
        let _ = host.vethpath(format!("up {}", file(host, &large))).ok();
        lab.accounts_balance().not_less_than(&before);
        lab.is_fast("h0:eth0", &address(1));
        lab.accounts_balance().not_less_than(&before);
        lab.down();
        host.is_as_it_was(&format!("line {line}"));
        killed
    });
    assert!(last > attach + 15, "`up` wrote {last} lines only");
}
