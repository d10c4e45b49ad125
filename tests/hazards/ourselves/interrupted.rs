//! `up` is interrupted half-way: the next `down` or `up` completes the work.

use std::{fmt::Write, time::Duration};

use crate::harness::{Host, Process, SLACK, TIMEOUT, wait_for, wait_until};

const HOSTS: usize = 8;

/// When the signal is sent: once this much exists.
#[derive(Clone, Copy, Debug)]
enum Moment {
    AtOnce,
    FirstTrace,
    Namespaces(usize),
    LastNamespaceAnd(Duration),
}

const MOMENTS: [Moment; 8] = [
    Moment::AtOnce,
    Moment::FirstTrace,
    Moment::Namespaces(1),
    Moment::Namespaces(HOSTS / 2),
    Moment::Namespaces(HOSTS),
    Moment::LastNamespaceAnd(Duration::from_millis(10)),
    Moment::LastNamespaceAnd(Duration::from_millis(40)),
    Moment::LastNamespaceAnd(Duration::from_millis(120)),
];

#[test]
fn sigint_then_down() {
    let mut undone = 0;
    // All moments once, and again if every signal came too early or too late.
    for (turn, moment) in MOMENTS.into_iter().cycle().enumerate().take(5 * MOMENTS.len()) {
        if turn >= MOMENTS.len() && undone > 0 {
            break;
        }
        let host = Host::new();
        let file = many_hosts(&host);
        let up = interrupt(&host, &file, moment, Process::interrupt);
        // None: the signal came before its handler was installed. A shell reports that as 130.
        assert!(matches!(up, Some(0 | 130) | None), "{moment:?}: `up` ended with {up:?}");
        if up == Some(130) {
            // An agent may still be exiting.
            wait_until(SLACK, || host.changes().map_or(Ok(()), |left| Err(format!("{moment:?}: {left}"))));
            undone += 1;
        }
        // An interrupted `up` has cleaned up by itself. A complete one has made a lab.
        let down = host.vethpath("down many");
        let expected: &[i32] = if up == Some(0) { &[0] } else { &[0, 1] };
        assert!(down.code().is_some_and(|code| expected.contains(&code)), "{moment:?}, {up:?}: {down}");
        host.finish();
    }
    assert!(undone > 0, "no signal came in time");
}

#[test]
fn sigkill_then_down() {
    for moment in MOMENTS {
        let host = Host::new();
        let file = many_hosts(&host);
        let up = interrupt(&host, &file, moment, Process::kill);
        let left = host.changes();
        let down = host.vethpath_after_a_kill("down many");
        // Before the lab's folder exists, there is no lab to take down.
        let nothing = down.code() == Some(1) && !left.as_ref().is_some_and(|left| left.contains("vethpath/"));
        assert!(down.succeeded() || nothing, "{moment:?}, {up:?}: {down}\nleft before: {left:?}");
        host.finish();
    }
}

/// An `up` that is killed between its first two system calls leaves the folder of all labs.
#[test]
fn the_folder_of_all_labs_goes_with_a_lab_that_is_not_up() {
    let host = Host::new();
    let _ = host.run("mkdir -m 700 /run/vethpath").ok();
    let down = host.vethpath("down many");
    assert_eq!(down.code(), Some(1), "{down}");
    host.finish();
}

#[test]
fn sigkill_then_up() {
    for moment in MOMENTS {
        let host = Host::new();
        let file = many_hosts(&host);
        let _ = interrupt(&host, &file, moment, Process::kill);
        let _ = host.vethpath_after_a_kill(&format!("up {file}")).ok();
        let last = HOSTS - 1;
        let _ = host.run(format!("ip netns exec ns0 ping -n -q -c 3 -l 3 -W 5 10.8.0.{}", 10 + last)).ok();
        assert_eq!(host.namespaces().len(), HOSTS);
        let _ = host.vethpath("down many").ok();
        host.finish();
    }
}

#[test]
fn sigkill_of_down_then_down() {
    for namespaces in [HOSTS - 1, HOSTS / 2, 0] {
        let host = Host::new();
        let file = many_hosts(&host);
        let _ = host.vethpath(format!("up {file}")).ok();
        let down = host.spawn_vethpath("down many");
        wait_for(TIMEOUT, "`down` does not start", || host.namespaces().len() <= namespaces);
        down.kill();
        let _ = down.wait(TIMEOUT);
        let again = host.vethpath_after_a_kill("down many");
        assert!(matches!(again.code(), Some(0 | 1)), "{again}");
        host.finish();
    }
}

/// Starts `up`, sends it a signal, and returns its exit status.
fn interrupt(host: &Host, file: &str, moment: Moment, signal: fn(&Process)) -> Option<i32> {
    let up = host.spawn_vethpath(format!("up {file}"));
    match moment {
        Moment::AtOnce => {}
        Moment::FirstTrace => {
            wait_for(SLACK, "`up` does nothing", || host.path("/run/vethpath").exists());
        }
        Moment::Namespaces(n) => wait_for(SLACK, "`up` does not go on", || host.namespaces().len() >= n),
        Moment::LastNamespaceAnd(pause) => {
            wait_for(SLACK, "`up` does not go on", || host.namespaces().len() >= HOSTS);
            std::thread::sleep(pause);
        }
    }
    signal(&up);
    up.wait(TIMEOUT).code()
}

/// A lab that takes a while to bring up.
fn many_hosts(host: &Host) -> String {
    let mut text = "[bridge.br0]\naddresses = [\"10.8.0.1/24\"]\n".to_owned();
    for n in 0..HOSTS {
        let address = format!("10.8.0.{}/24", 10 + n);
        write!(text, "[namespace.ns{n}.interface.eth0]\nlink = \"br0\"\naddresses = [\"{address}\"]\n")
            .expect("a string takes anything");
    }
    host.topology("many", &text)
}
