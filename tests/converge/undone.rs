//! A change that fails or is interrupted is rolled back.

use std::time::Duration;

use super::labs::{address, hosts, identity, is_as_its_file_says, up};
use crate::harness::{Host, Process, SLACK, TIMEOUT, wait_for};

#[test]
fn a_change_that_fails_goes_back() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..3));
    let before = identity(&host, "h0");
    // The last of its steps is refused: the sysctl does not exist.
    let bad = hosts([0, 1, 4, 5]).replace("ageing", "") + "sysctls = { \"net.ipv4.conf.eth0.nosuch\" = 1 }\n";
    let file = host.lab("empty").named("changing").and(&bad).write();
    let _ = host.vethpath(format!("up {file}")).fails(1).says("cannot set sysctl").says("nosuch");
    let file = host.lab("empty").named("changing").and(&hosts(0..3)).write();
    is_as_its_file_says(&host, &file);
    assert_eq!(identity(&host, "h0"), before);
    lab.is_fast("h2:eth0", &address(0));
    lab.down();
    host.finish();
}

#[test]
fn an_interrupted_change_goes_back() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..3));
    let first = host.lab("empty").named("changing").and(&hosts(0..3)).write();
    for pause in [0, 20, 60, 150] {
        let text = "name = \"changing\"\n".to_owned() + &hosts([0, 1].into_iter().chain(10..40));
        let file = host.lab("empty").named("other").and(&text).write();
        let change = host.spawn_vethpath(format!("up {file}"));
        wait_for(SLACK, "`up` does not start", || host.namespaces().len() != 3);
        std::thread::sleep(Duration::from_millis(pause));
        change.interrupt();
        let done = change.wait(TIMEOUT);
        match done.code() {
            Some(130) => is_as_its_file_says(&host, &first),
            Some(0) => {
                is_as_its_file_says(&host, &file);
                let _ = host.vethpath(format!("up {first}")).ok();
            }
            _ => panic!("{done}"),
        }
    }
    lab.is_fast("h2:eth0", &address(0));
    lab.down();
    host.finish();
}

/// Starts a `vethpath` that waits at these places, and returns it when it is at the first. Only a debug build waits.
#[track_caller]
fn waiting(host: &Host, places: &str, command: &str) -> Process {
    let exe = host.exe();
    let process = host.spawn(format!("env VETHPATH_WAIT_AT={places} {exe} {command}"));
    is_waiting(&process, places.split(',').next().expect("a place"));
    process
}

#[track_caller]
fn is_waiting(process: &Process, place: &str) {
    wait_for(TIMEOUT, "it does not get there", || process.output().contains(&format!("waiting at {place}")));
}

/// Also where an earlier run that was killed has left an empty folder of the lab.
#[test]
fn an_interrupted_first_up_leaves_nothing() {
    let host = Host::new();
    let file = host.lab("empty").named("changing").and(&hosts(0..3)).write();
    for is_there in [false, true] {
        if is_there {
            let _ = host.run("mkdir -p -m 700 /run/vethpath/changing").ok();
        }
        let up = waiting(&host, "agent", &format!("up {file}"));
        assert_eq!(host.namespaces().len(), 3);
        up.interrupt();
        let _ = up.wait(TIMEOUT).fails(130).says("interrupted; what had been done is undone");
        host.is_as_it_was(&format!("the folder was there: {is_there}"));
    }
    host.finish();
}

/// The second Ctrl-C stops at once and reports what is left. `up` or `down` can go on from there.
#[test]
fn a_second_interrupt_stops_and_says_so() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..3));
    let first = host.lab("empty").named("changing").and(&hosts(0..3)).write();
    let text = "name = \"changing\"\n".to_owned() + &hosts(10..60);
    let file = host.lab("empty").named("other").and(&text).write();
    // It leaves neither place by itself, however late the interrupt is sent.
    let change = waiting(&host, "agent,undo", &format!("up {file}"));
    change.interrupt();
    is_waiting(&change, "undo");
    change.interrupt();
    let done = change.wait(TIMEOUT).fails(130).says("interrupted again, with this left: ");
    let _ = done.says("namespace h10").says("hint: `vethpath down` tries again");
    let _ = host.vethpath(format!("up {first}")).ok();
    is_as_its_file_says(&host, &first);
    lab.is_fast("h2:eth0", &address(0));
    lab.down();
    host.finish();
}

#[test]
fn an_interrupted_down_says_what_is_left_and_goes_on() {
    let host = Host::new();
    up(&host, &hosts(0..30)).forget();
    // `down --all` does not start with the other lab.
    host.lab("fabric").with("namespace.ns", "namespace.f").up().forget();
    let others = || host.namespaces().iter().filter(|name| name.starts_with('f')).count();
    let before = others();
    let down = waiting(&host, "down", "down --all");
    down.interrupt();
    let done = down.wait(TIMEOUT).fails(130).says("interrupted, with this left: namespace h0");
    let _ = done.says("and 25 more").says("hint: `vethpath down` goes on");
    assert_eq!(others(), before);
    let _ = host.vethpath("down --all").ok();
    host.finish();
}
