//! Killed after each line of the journal, and within steps that are done together: `up` and `down` both end
//! in the right state.
//!
//! A debug build kills itself where `VETHPATH_STOP_AFTER` says, and a test of another build is of no use.

use super::labs::{address, host as one, hosts};
use crate::harness::Host;

/// Hosts of the lab that is killed at each step.
const HOSTS: usize = 20;

/// What ends in the right state after a kill.
#[derive(Clone, Copy, Debug)]
enum Then {
    Down,
    Up,
}

/// Runs `vethpath` and kills it after this many lines of the journal and parts of steps. Returns whether it
/// was: there may be fewer.
#[track_caller]
fn is_killed(host: &Host, line: usize, command: &str) -> bool {
    let exe = std::env::var("VETHPATH_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_vethpath").to_owned());
    let done = host.run(format!("env VETHPATH_STOP_AFTER={line} {exe} {command}"));
    assert!(matches!(done.code(), None | Some(0)), "line {line}: {done}");
    assert!(line < 1000, "it is never killed: is this a debug build? {done}");
    !done.succeeded()
}

/// All is gone, or all is there, and then goes.
#[track_caller]
fn ends_well(host: &Host, then: Then, file: &str, line: usize) {
    match then {
        Then::Down => {
            // Before the first line there is no lab, and after the last none any more.
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

/// Which of the two after this line: each at every line only where there is time for it.
fn thens(line: usize) -> Vec<Then> {
    if std::env::var_os("VETHPATH_KILL_BOTH").is_some() {
        return vec![Then::Down, Then::Up];
    }
    vec![if line.is_multiple_of(2) { Then::Down } else { Then::Up }]
}

#[test]
fn up_at_each_step() {
    let host = Host::new();
    let file = host.lab("empty").named("changing").and(&hosts(0..HOSTS)).write();
    for line in 1.. {
        let mut killed = false;
        for then in thens(line) {
            killed = is_killed(&host, line, &format!("up {file}"));
            ends_well(&host, then, &file, line);
        }
        if !killed {
            assert!(line > 4 * HOSTS, "`up` wrote {line} lines only");
            break;
        }
    }
    host.finish();
}

#[test]
fn down_at_each_step() {
    let host = Host::new();
    let file = host.lab("empty").named("changing").and(&hosts(0..HOSTS)).write();
    for line in 1.. {
        let mut killed = false;
        for then in thens(line) {
            let _ = host.vethpath(format!("up {file}")).ok();
            killed = is_killed(&host, line, "down changing");
            ends_well(&host, then, &file, line);
        }
        if !killed {
            assert!(line > HOSTS, "`down` wrote {line} lines only");
            break;
        }
    }
    host.finish();
}

/// With the host's forwarding, which is put back whenever `up` or `down` is killed.
#[test]
fn nat_at_each_step() {
    let host = Host::new();
    let text = "[bridge.br0]\nnat = true\naddresses = [\"10.7.0.1/24\"]\n";
    let file = host.lab("empty").named("changing").and(text).write();
    for line in 1.. {
        let killed_up = is_killed(&host, line, &format!("up {file}"));
        ends_well(&host, Then::Down, &file, line);
        let _ = host.vethpath(format!("up {file}")).ok();
        let killed_down = is_killed(&host, line, "down changing");
        ends_well(&host, Then::Down, &file, line);
        if !killed_up && !killed_down {
            assert!(line > 6, "{line} lines only");
            break;
        }
    }
    host.finish();
}

/// A lab that becomes another, with something of everything: then the other, the first again, or none.
#[test]
fn a_change_at_each_step() {
    let host = Host::new();
    let file = |text: &str| host.lab("empty").named("changing").and(text).write();
    let first = "[bridge.br1]\nnat = true\naddresses = [\"10.7.0.1/24\"]\ntrunks = [\"br0\"]\n".to_owned()
        + &hosts(0..5)
        + "[namespace.h1.interface.c0]\nlink = \"h4:c0\"\n";
    let second = "[namespace.fabric]\n[bridge.br2]\nnamespace = \"fabric\"\nstp = true\n".to_owned()
        + &hosts([0, 1, 3]).replace("[bridge.br0]\n", "[bridge.br0]\nageing_time = 30\nmtu = 1400\n")
        + &one(7, "br2")
        + "[namespace.h1.interface.c0]\nlink = \"h3:c0\"\n";
    for line in 1.. {
        let _ = host.vethpath(format!("up {}", file(&first))).ok();
        let killed = is_killed(&host, line, &format!("up {}", file(&second)));
        match line % 3 {
            0 => ends_well(&host, Then::Down, "", line),
            1 => ends_well(&host, Then::Up, &file(&second), line),
            _ => ends_well(&host, Then::Up, &file(&first), line),
        }
        if !killed {
            assert!(line > 20, "`up` wrote {line} lines only");
            break;
        }
    }
    host.finish();
}

/// To XDP and back: programs come and go, and inner ends are made ready and put back.
#[test]
fn a_change_of_the_datapath_at_each_step() {
    let host = Host::new();
    let all = |datapath: &str| {
        hosts(0..3).replace("[bridge.br0]\n", &format!("[bridge.br0]\ndatapath = \"{datapath}\"\n"))
    };
    let file = |datapath: &str| host.lab("empty").named("changing").and(&all(datapath)).write();
    let offloads = || (0..3).map(|number| super::datapaths::offloads(&host, number)).collect::<Vec<_>>();
    for (from, to) in [("tc", "xdp"), ("xdp", "tc"), ("xdp", "bridge")] {
        for line in 1.. {
            let _ = host.vethpath(format!("up {}", file("tc"))).ok();
            let as_made = offloads();
            let _ = host.vethpath(format!("up {}", file(from))).ok();
            let killed = is_killed(&host, line, &format!("up {}", file(to)));
            if line % 3 == 1 {
                // Whatever was done by then, what is left of it knows what the inner ends had.
                let _ = host.vethpath(format!("up {}", file("tc"))).ok();
                assert_eq!(offloads(), as_made, "{from} to {to}, line {line}");
            }
            match line % 3 {
                0 => ends_well(&host, Then::Down, "", line),
                1 => ends_well(&host, Then::Up, &file(to), line),
                _ => ends_well(&host, Then::Up, &file(from), line),
            }
            if !killed {
                assert!(line > 6, "{from} to {to}: `up` wrote {line} lines only");
                break;
            }
        }
    }
    host.finish();
}

/// Larger maps are made and taken, and the old ones put aside: whatever was counted before is counted after.
#[test]
fn growth_at_each_step() {
    let host = Host::new();
    let file = |text: &str| host.lab("empty").named("changing").and(text).write();
    // Ways across this many bridges are more than the maps of a small lab have room for.
    const BRIDGES: usize = 10;
    let ends = (one(0, "b0") + &one(1, "b1")).replace("gateway = \"10.9.0.1\"\n", "");
    let chain = |bridges: usize| {
        let trunk =
            |n: usize| if n + 1 < bridges { format!("trunks = [\"b{}\"]\n", n + 1) } else { String::new() };
        (0..bridges).map(|n| format!("[bridge.b{n}]\n{}", trunk(n))).collect::<String>() + &ends
    };
    let (small, large) = (chain(2), chain(BRIDGES));
    // From where the programs are attached on: what is before is as for any other change.
    let attach = 1 + 2 * (BRIDGES - 2) + 1;
    for line in attach.. {
        let lab = super::labs::up(&host, &small);
        lab.is_fast("h0:eth0", &address(1));
        let before = lab.accounts_balance();
        let killed = is_killed(&host, line, &format!("up {}", file(&large)));
        let _ = host.vethpath(format!("up {}", file(&large))).ok();
        lab.accounts_balance().not_less_than(&before);
        lab.is_fast("h0:eth0", &address(1));
        lab.accounts_balance().not_less_than(&before);
        lab.down();
        host.is_as_it_was(&format!("line {line}"));
        if !killed {
            assert!(line > attach + 15, "`up` wrote {line} lines only");
            break;
        }
    }
    host.finish();
}
