//! The units of systemd in `dist/`. No systemd runs as init here: `systemd-analyze` checks them, and their commands are
//! run.

use std::fs;

use crate::{harness::Host, hazards::B};

const UNIT: &str = include_str!("../dist/vethpath@.service");
const ACCELERATE: &str = include_str!("../dist/vethpath-accelerate@.service");
const METRICS: &str = include_str!("../dist/vethpath-metrics.service");

/// Settings by which systemd gives a service a mount namespace of its own (systemd.exec(5)).
const OWN_MOUNTS: [&str; 14] = [
    "BindPaths",
    "BindReadOnlyPaths",
    "DynamicUser",
    "InaccessiblePaths",
    "MountFlags",
    "PrivateDevices",
    "PrivateMounts",
    "PrivateTmp",
    "PrivateUsers",
    "Protect",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "Root",
    "TemporaryFileSystem",
];

/// The unit as it is for a file of this host.
fn unit(host: &Host, file: &str) -> String {
    let unit = UNIT.replace("/usr/local/bin/vethpath", &host.exe()).replace("/etc/vethpath/%i.toml", file);
    unit.replace("%i", "three-hosts")
}

/// The values of a key.
fn values<'u>(unit: &'u str, key: &str) -> Vec<&'u str> {
    let value = |line: &'u str| line.split_once('=').filter(|(name, _)| *name == key).map(|(_, value)| value);
    unit.lines().filter_map(value).collect()
}

#[test]
fn systemd_finds_no_fault_in_the_unit() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("vethpath@three-hosts.service");
    fs::write(&path, unit(&host, &file)).expect("it is written");
    let verify = host.run(["systemd-analyze", "verify", "--man=no", &path.display().to_string()]).ok();
    assert_eq!(verify.stderr, "", "a warning");
    // A fault is found.
    fs::write(&path, unit(&host, "relative").replace(&host.exe(), "/no/such/program"))
        .expect("it is written");
    let _ = host.run(["systemd-analyze", "verify", "--man=no", &path.display().to_string()]).fails(1);
    for (name, unit) in
        [("vethpath-accelerate@docker0.service", ACCELERATE), ("vethpath-metrics.service", METRICS)]
    {
        let path = folder.path().join(name);
        fs::write(&path, unit.replace("/usr/local/bin/vethpath", &host.exe())).expect("it is written");
        let verify = host.run(["systemd-analyze", "verify", "--man=no", &path.display().to_string()]).ok();
        assert_eq!(verify.stderr, "", "a warning");
    }
    // It makes a folder for its generators.
    host.remove("/run/systemd");
    host.finish();
}

/// The names of namespaces that are bound in another mount namespace never reach the machine.
#[test]
fn the_unit_stays_in_the_mount_namespace_of_the_machine() {
    for line in
        [UNIT, ACCELERATE, METRICS].iter().flat_map(|unit| unit.lines()).filter(|line| !line.starts_with('#'))
    {
        assert!(!OWN_MOUNTS.iter().any(|key| line.starts_with(key)), "{line}");
    }
}

#[test]
fn the_commands_of_the_unit_bring_a_lab_up_and_down() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    let unit = unit(&host, &file);
    let run = |key: &str| {
        let [command] = values(&unit, key)[..] else { panic!("one {key}") };
        host.run(command).ok()
    };
    let _ = run("ExecStart");
    let _ = host.run(format!("ip netns exec ns0 ping -q -c 1 -W 3 {B}")).ok();
    let _ = run("ExecReload").stderr_has("nothing to change");
    let _ = run("ExecStop").stderr_has("lab three-hosts is down");
    host.finish();
}
