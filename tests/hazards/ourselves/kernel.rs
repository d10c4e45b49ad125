//! A kernel that lacks something: features are found by probing, never from the version.

use crate::harness::{Host, wait_for};

/// Programs see 2.6 as the version here. The kernel itself is the same.
#[test]
fn a_version_that_is_too_old_keeps_nobody_from_anything() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    let exe = host.public_exe();
    let old = format!("setarch {} --uname-2.6", std::env::consts::ARCH);
    let _ = host.run(format!("{old} uname -r")).ok().prints("2.6.");
    let told: Vec<_> = [String::new(), old.clone()]
        .iter()
        .map(|with| host.run(format!("{with} {exe} doctor --json")).json())
        .map(|report| {
            report["checks"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|c| (c["name"].clone(), c["status"].clone()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(told[0], told[1]);
    let _ = host.run(format!("{old} {exe} up {file}")).ok().says("3 of 3 pairs armed");
    let _ = host.vethpath("down three-hosts").ok();
    host.finish();
}

/// Without tcx, or on request, programs are attached under clsact: the lab is the same.
#[test]
fn the_next_best_mechanism_makes_the_same_lab() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    let _ = host.vethpath(format!("up {file} --hook clsact")).ok().says("3 of 3 pairs armed");
    let fast = || {
        let stats = host.vethpath("stats three-hosts --json").ok().json();
        stats["pairs"][0]["fast"]["tx"]["packets"].as_u64().expect("a counter")
    };
    wait_for(crate::harness::SLACK, "nothing is fast", || {
        let before = fast();
        let _ = host.run("ip netns exec ns0 ping -n -q -c 3 -l 3 -W 5 172.17.0.102").ok();
        fast() >= before + 3
    });
    let _ = host.vethpath("down three-hosts").ok();
    host.finish();
}

/// Each feature that a kernel may lack has a check, and each missing one has advice.
#[test]
fn doctor_says_what_is_missing_and_what_that_means() {
    let host = Host::new();
    let report = host.vethpath("doctor --json").json();
    let checks = report["checks"].as_array().expect("a list");
    assert!(checks.len() > 12, "{report:#}");
    for check in checks {
        assert!(check["status"] == "ok" || check["advice"].is_string(), "{check:#}");
    }
    host.finish();
}
