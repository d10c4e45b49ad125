//! Errors are reported clearly, with the right exit code, before anything is changed.

use crate::harness::{Host, SLACK, wait_for};

#[test]
fn a_missing_file_is_named() {
    let host = Host::new();
    for verb in ["up", "plan", "validate"] {
        let _ = host.vethpath(format!("{verb} /nowhere/lab.toml")).fails(1).says("/nowhere/lab.toml");
    }
    host.finish();
}

#[test]
fn an_unknown_lab_is_the_users_fault() {
    let host = Host::new();
    for command in ["down nosuch", "show nosuch", "stats nosuch", "stats", "down", "exec ns0 -- true"] {
        let done = host.vethpath(command).fails(1);
        assert!(!done.stderr.trim().is_empty(), "{done}");
    }
    let _ = host.vethpath("down nosuch").fails(1).says("nosuch");
    for path in ["down ../../etc", "down ..", "down /", "stats a/b"] {
        let _ = host.vethpath(path).fails(1);
    }
    host.finish();
}

#[test]
fn a_setting_that_does_not_exist_is_the_files_fault() {
    let host = Host::new();
    for (at, key) in [
        ("[namespace.ns0]\n", "net.ipv4.nosuch"),
        ("[namespace.ns0.interface.eth0]\n", "net.ipv4.conf.eth0.nosuch"),
    ] {
        let file = host.lab("three-hosts").with(at, &format!("{at}sysctls = {{ \"{key}\" = 1 }}\n")).write();
        let done = host.vethpath(format!("up {file}")).fails(1).says("hint:");
        let _ = done.says(&format!("cannot set sysctl {key} = 1 in namespace ns0: No such file"));
        assert_eq!(host.changes(), None, "{key}");
    }
    host.finish();
}

#[test]
fn a_single_thing_has_no_plural() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let counted = "3 namespaces, 1 bridge, 3 pairs";
    let _ = host.vethpath(format!("validate {}", lab.file)).ok().says(counted);
    let _ = host.vethpath("list").ok().prints("3 namespaces, 1 bridge, 3 of 3 pairs armed");
    lab.down();
    host.finish();
}

#[test]
fn bpffs_is_mounted_and_unmounted() {
    let host = Host::new();
    let is_there = || host.run("stat -f -c %T /sys/fs/bpf").ok().stdout.trim() == "bpf_fs";
    assert!(!is_there());
    let lab = host.lab("three-hosts").up();
    assert!(is_there() && host.path("/sys/fs/bpf/vethpath/three-hosts").exists());
    lab.down();
    wait_for(SLACK, "bpffs stays", || !is_there());
    host.finish();
}

#[test]
fn somebodys_bpffs_stays() {
    let mut host = Host::new();
    let _ = host.run("mount -t bpf bpf /sys/fs/bpf").ok();
    let _ = host.run("mkdir /sys/fs/bpf/other").ok();
    host.remember();
    let lab = host.lab("three-hosts").up();
    lab.down();
    host.finish();
}

/// A bpffs that we mounted and that another program uses now is not unmounted.
#[test]
fn bpffs_that_somebody_uses_meanwhile_stays() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let _ = host.run("mkdir /sys/fs/bpf/other").ok();
    lab.down();
    let _ = host.run("rmdir /sys/fs/bpf/other").ok();
    assert!(!host.path("/sys/fs/bpf/vethpath").exists());
    let _ = host.run("umount /sys/fs/bpf").ok();
    host.finish();
}
