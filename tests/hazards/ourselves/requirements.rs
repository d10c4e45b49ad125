//! A kernel that lacks something, and a user without privileges. Features are found by probing, never from the version.

use crate::{
    harness::{Host, SLACK, wait_for},
    security::NOBODY,
};

/// Programs see 2.6 as the version here. The kernel itself is the same.
#[test]
fn features_are_probed_whatever_the_version() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    let exe = host.public_exe();
    let old = format!("setarch {} --uname-2.6", std::env::consts::ARCH);
    let _ = host.run(format!("{old} uname -r")).ok().stdout_has("2.6.");
    let reports: Vec<_> = [String::new(), old.clone()]
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
    assert_eq!(reports[0], reports[1]);
    let _ = host.run(format!("{old} {exe} up {file}")).ok().stderr_has("3 of 3 pairs armed");
    let _ = host.vethpath("down three-hosts").ok();
    host.finish();
}

/// Without tcx, or on request, programs are attached under clsact: the lab is the same.
#[test]
fn clsact_makes_the_same_lab_as_tcx() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    let _ = host.vethpath(format!("up {file} --hook clsact")).ok().stderr_has("3 of 3 pairs armed");
    let fast = || {
        let stats = host.vethpath("stats three-hosts --json").ok().json();
        stats["pairs"][0]["fast"]["tx"]["packets"].as_u64().expect("a counter")
    };
    wait_for(SLACK, "nothing is fast", || {
        let before = fast();
        let _ = host.run("ip netns exec ns0 ping -n -q -c 3 -l 3 -W 5 172.17.0.102").ok();
        fast() >= before + 3
    });
    let _ = host.vethpath("down three-hosts").ok();
    host.finish();
}

/// Each feature that a kernel may lack has a check, and each missing one has advice.
#[test]
fn doctor_has_advice_for_each_missing_feature() {
    let host = Host::new();
    let report = host.vethpath("doctor --json").json();
    let checks = report["checks"].as_array().expect("a list");
    assert!(checks.len() > 12, "{report:#}");
    for check in checks {
        assert!(check["status"] == "ok" || check["advice"].is_string(), "{check:#}");
    }
    host.finish();
}

#[test]
fn without_rights_nothing_is_changed() {
    let host = Host::new();
    let exe = host.public_exe();
    let file = host.lab("three-hosts").write();
    let output = host.run(format!("{NOBODY} {exe} up {file}")).fails(2);
    let lines: Vec<_> = output.stderr.lines().collect();
    assert!(
        matches!(&lines[..], [error, hint] if error.starts_with("error: this needs CAP_")
        && *hint == "hint: run vethpath as root (sudo)"),
        "{output}"
    );
    assert_eq!(host.changes(), None);
    // Commands that need no privileges work without.
    let _ = host.run(format!("{NOBODY} {exe} validate {file}")).ok();
    let _ = host.run(format!("{NOBODY} {exe} --help")).ok();

    // A lab cannot be taken down or read without privileges either.
    let lab = host.lab("three-hosts").up();
    let _ = host.run(format!("{NOBODY} {exe} down three-hosts")).fails(2);
    let _ = host.run(format!("{NOBODY} ls /run/vethpath/three-hosts")).fails(2);
    assert!(!host.run(format!("{NOBODY} ls /sys/fs/bpf/vethpath/three-hosts")).succeeded());
    lab.reaches("ns0", "172.17.0.102");
    lab.down();
    host.finish();
}
