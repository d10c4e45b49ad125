//! What goes wrong is said clearly, with the right exit code, before anything is changed.

use crate::harness::{Done, Host, SLACK, wait_for};

/// A file with three faults, and where each is.
const WRONG: &str = r#"name = "wrong"

[bridge.br0]
adresses = ["10.0.0.1/24"]

[namespace.ns0.interface.eth0]
link = "br1"
addresses = ["10.0.0.300/24"]
"#;

#[test]
fn every_fault_of_a_file_is_told_with_its_place() {
    let host = Host::new();
    let file = host.topology("wrong", WRONG);
    for verb in ["validate", "plan", "up"] {
        let done = host.vethpath(format!("{verb} {file}")).fails(1);
        // An unknown key, with the closest known one; a bad address; a link to nowhere.
        let done = done.says(&format!("{file}:4:1")).says("adresses").says("`addresses`").says("hint:");
        let _ =
            done.says(&format!("{file}:7:8")).says("br1").says(&format!("{file}:8:")).says("10.0.0.300/24");
    }
    assert_eq!(host.changes(), None);
    host.finish();
}

#[test]
fn broken_toml_is_told_with_its_place() {
    let host = Host::new();
    let file = host.topology("broken", "[bridge.br0]\naddresses = [\"10.0.0.1/24\"\n\n[namespace.ns0]\n");
    let _ = host.vethpath(format!("up {file}")).fails(1).says(&format!("{file}:"));
    assert_eq!(host.changes(), None);
    host.finish();
}

#[test]
fn a_missing_file_is_named() {
    let host = Host::new();
    for verb in ["up", "plan", "validate"] {
        let _ = host.vethpath(format!("{verb} /nowhere/lab.toml")).fails(1).says("/nowhere/lab.toml");
    }
    host.finish();
}

/// Nothing is waited for, and nothing is read without end.
#[test]
fn what_is_no_topology_file_is_refused_at_once() {
    let host = Host::new();
    let folder = host.topology("x", "").replace("/x.toml", "");
    let _ = host.run(format!("mkfifo {folder}/fifo.toml")).ok();
    let _ = host.run(format!("truncate --size 1048577 {folder}/long.toml")).ok();
    let (fifo, long) = (format!("{folder}/fifo.toml"), format!("{folder}/long.toml"));
    for file in ["/dev/zero", "/dev/null", "/", &fifo] {
        for verb in ["validate", "plan"] {
            let done = host.vethpath(format!("{verb} {file}")).fails(1);
            let _ = done.says(&format!("cannot read {file}: it is not a regular file")).says("hint:");
        }
    }
    let _ =
        host.vethpath(format!("validate {long}")).fails(1).says("longer than 1048576 bytes").says("hint:");
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
fn without_rights_nothing_is_changed() {
    let mut host = Host::new();
    let exe = host.public_exe();
    let file = host.lab("three-hosts").write();
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all";
    let done = host.run(format!("{nobody} {exe} up {file}")).fails(2);
    let lines: Vec<_> = done.stderr.lines().collect();
    assert!(
        matches!(&lines[..], [error, hint] if error.starts_with("error: this needs CAP_")
        && *hint == "hint: run vethpath as root (sudo)"),
        "{done}"
    );
    assert_eq!(host.changes(), None);
    // What needs no rights works without.
    let _ = host.run(format!("{nobody} {exe} validate {file}")).ok();
    let _ = host.run(format!("{nobody} {exe} --help")).ok();

    // Nor can a lab be taken down or read without rights.
    let lab = host.lab("three-hosts").up();
    let _ = host.run(format!("{nobody} {exe} down three-hosts")).fails(2);
    let _ = host.run(format!("{nobody} ls /run/vethpath/three-hosts")).fails(2);
    assert!(!host.run(format!("{nobody} ls /sys/fs/bpf/vethpath/three-hosts")).succeeded());
    lab.reaches("ns0", "172.17.0.102");
    lab.down();
    host.remember();
    host.finish();
}

#[test]
fn what_is_in_the_way_is_named_and_untouched() {
    for (name, commands) in [
        ("ns1", &["ip netns add ns1"][..]),
        ("docker0", &["ip link add docker0 type bridge"]),
        ("docker0", &["ip link add docker0 type veth peer name other0"]),
        // Somebody's own mark does not make it ours.
        ("docker0", &["ip link add docker0 type bridge", "ip link set docker0 alias vethpath:another"]),
    ] {
        let mut host = Host::new();
        for command in commands {
            let _ = host.run(*command).ok();
        }
        host.remember();
        let file = host.lab("three-hosts").write();
        refused(&host.vethpath(format!("up {file}")), name);
        assert_eq!(host.changes(), None, "{commands:?}");
        // Nor does `down` take away what `up` found.
        let _ = host.vethpath("down three-hosts").fails(1);
        host.finish();
    }
}

/// No file has the name of a port: "rename it" would lead nowhere.
#[test]
fn a_taken_port_name_says_whose_port_it_is() {
    let mut host = Host::new();
    let lab = host.lab("three-hosts").up();
    let port = lab.port("ns1:eth0");
    lab.down();
    let _ = host.run(format!("ip link add {port} type bridge")).ok();
    host.remember();
    let file = host.lab("three-hosts").write();
    let done = host.vethpath(format!("up {file}")).fails(1).says(&port).says("the port of pair ns1:eth0");
    assert!(done.stderr.contains("hint: remove what is there") && !done.stderr.contains("rename"), "{done}");
    assert_eq!(host.changes(), None);
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
fn a_second_lab_with_the_same_names_is_refused() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let before = lab.stats();
    let other = host.lab("three-hosts").named("other").write();
    let done = host.vethpath(format!("up {other}"));
    let names_one = ["docker0", "ns0", "ns1", "ns2"].iter().any(|name| done.stderr.contains(name));
    assert!(matches!(done.code(), Some(1 | 2)) && names_one, "{done}");
    assert!(!host.vethpath("list --json").ok().json().to_string().contains("other"));
    let _ = host.vethpath("down other").fails(1);
    lab.is_fast("ns0:eth0", "172.17.0.102");
    lab.stats().not_less_than(&before);
    lab.down();
    host.finish();
}

/// Two `up` of one file at once: one makes the lab, the other waits or says why not.
#[test]
fn two_up_at_once() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    let (one, two) = (host.spawn_vethpath(format!("up {file}")), host.spawn_vethpath(format!("up {file}")));
    let both = [one, two].map(|up| up.wait(crate::harness::PATIENCE));
    assert!(both.iter().any(Done::succeeded), "{}\n{}", both[0], both[1]);
    for done in both.iter().filter(|d| !d.succeeded()) {
        refused(done, "three-hosts");
    }
    assert!(host.run("ip netns exec ns0 ping -n -q -c 1 -W 5 172.17.0.103").succeeded());
    let agents = host.json("bridge -j link").as_array().map(Vec::len);
    assert_eq!(agents, Some(3));
    let _ = host.vethpath("down three-hosts").ok();
    host.finish();
}

#[test]
fn a_changed_file_for_a_running_lab() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let more = "[namespace.ns3.interface.eth0]\nlink = \"docker0\"\naddresses = [\"172.17.0.104/16\"]\n";
    let file = host.lab("three-hosts").and(more).write();
    // A running lab does not converge to another file: that is refused, and the way out is told.
    for verb in ["plan", "up"] {
        let _ =
            host.vethpath(format!("{verb} {file}")).fails(1).says("hint:").says("vethpath down three-hosts");
    }
    assert_eq!(host.namespaces().len(), 3);
    lab.is_fast("ns0:eth0", "172.17.0.102");
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

/// What we mounted and somebody else uses by now is not ours to unmount.
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

/// Refused, as the user's fault or the system's, and the thing is named.
#[track_caller]
fn refused(done: &Done, name: &str) {
    assert!(matches!(done.code(), Some(1 | 2)) && done.stderr.contains(name), "{done}");
}
