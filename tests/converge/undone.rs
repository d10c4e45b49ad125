//! A change that fails, or is interrupted, goes back to what the lab was.

use std::time::Duration;

use super::labs::{address, hosts, identity, is_as_its_file_says, up};
use crate::harness::{Host, PATIENCE, SLACK, wait_for};

#[test]
fn a_change_that_fails_goes_back() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..3));
    let before = identity(&host, "h0");
    // The last of its steps is refused: the setting does not exist.
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
        let done = change.wait(PATIENCE);
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

/// The second Ctrl-C stops at once, says what is left, and `up` or `down` go on from there.
#[test]
fn a_second_interrupt_stops_and_says_so() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..3));
    let first = host.lab("empty").named("changing").and(&hosts(0..3)).write();
    let text = "name = \"changing\"\n".to_owned() + &hosts(10..60);
    let file = host.lab("empty").named("other").and(&text).write();
    let change = host.spawn_vethpath(format!("up {file}"));
    wait_for(SLACK, "`up` does not start", || host.namespaces().len() > 10);
    change.interrupt();
    std::thread::sleep(Duration::from_millis(15));
    change.interrupt();
    let done = change.wait(PATIENCE);
    // It may have been done with the first before the second came.
    assert!(!done.succeeded(), "{done}");
    if done.code() != Some(130) {
        let _ = done.says("interrupted again, with this left:").says("hint:");
    }
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
    let down = host.spawn_vethpath("down changing");
    wait_for(SLACK, "`down` does not start", || host.namespaces().len() < 30);
    down.interrupt();
    let done = down.wait(PATIENCE);
    if !done.succeeded() {
        let _ = done.fails(130).says("interrupted, with this left: ").says("hint: `vethpath down` goes on");
        let _ = host.vethpath("down changing").ok();
    }
    host.finish();
}
