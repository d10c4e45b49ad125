//! Labs that are started in a time namespace, in which the monotonic clocks of user space are shifted.

use crate::harness::{Host, SLACK, wait_for};

/// A lease of another clock would hold for a day, or would have expired before it begins.
#[test]
fn the_lease_is_of_the_clock_that_programs_read() {
    let host = Host::new();
    // A clock cannot be set to before boot.
    let back = (booted_for() / 2).min(100);
    for shift in ["86400".to_owned(), format!("-{back}")] {
        let file = host.lab("three-hosts").write();
        let shifted = format!("unshare --time --monotonic={shift} --fork {}", host.exe());
        let _ = host.run(format!("{shifted} up {file}")).ok();
        let lease = |command: &str| {
            let stats = host.run(format!("{command} stats --json")).ok().json();
            stats["agent"]["lease_left_ms"].as_u64().expect("a number")
        };
        for command in [host.exe(), shifted] {
            let left = lease(&command);
            assert!(left <= 3000, "{shift}: {left} ms are left");
        }
        let fast = || {
            let stats = host.vethpath("stats --json").ok().json();
            stats["pairs"][0]["fast"]["tx"]["packets"].as_u64().expect("a number")
        };
        let ping = || host.vethpath("exec ns0 -- ping -n -q -c 1 -W 5 172.17.0.102").ok();
        wait_for(SLACK, "nothing is fast", || {
            let before = fast();
            let _ = ping();
            fast() > before
        });
        let agent = host.vethpath("stats --json").ok().json()["agent"]["pid"].to_string();
        let _ = host.run(format!("kill -KILL {agent}")).ok();
        wait_for(SLACK, "the lease does not end", || lease(&host.exe()) == 0);
        let before = fast();
        let _ = ping();
        assert_eq!(fast(), before, "{shift}: without an agent it is a plain bridge");
        let _ = host.vethpath("down three-hosts").ok();
    }
    host.finish();
}

/// How many seconds ago the machine was booted.
fn booted_for() -> u64 {
    let uptime = std::fs::read_to_string("/proc/uptime").expect("it is there");
    uptime.split('.').next().and_then(|seconds| seconds.parse().ok()).expect("a number")
}
