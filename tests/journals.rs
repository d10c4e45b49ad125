//! State files that are damaged, lost or replaced, and the mounted bpffs that holds the pins.

use std::fs;

use crate::harness::{Host, Lab, SLACK, wait_for};

const OTHER: &str = "name = \"other\"\n[bridge.br0]\nnamespace = \"b\"\n[namespace.b]\n[namespace.h0.interface.eth0]\nlink = \"br0\"\n";

fn two_labs(host: &Host) -> Lab<'_> {
    let file = host.topology("other", OTHER);
    let _ = host.vethpath(format!("up {file}")).ok();
    host.lab("three-hosts").with("[bridge.docker0]\n", "[bridge.docker0]\nnat = true\n").up()
}

fn damage(host: &Host, file: &str, how: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let path = host.path(file);
    let bytes = fs::read(&path).expect("it is there");
    fs::write(&path, how(bytes)).expect("it can be written");
}

const JOURNAL: &str = "/run/vethpath/three-hosts/journal";

/// A line of the journal that is not a record is ignored.
#[test]
fn a_line_of_garbage_is_ignored() {
    let host = Host::new();
    let lab = two_labs(&host);
    damage(&host, JOURNAL, |journal| [journal, b"x\n\xff\n".to_vec()].concat());
    let _ =
        host.vethpath("list").ok().stdout_has("three-hosts: 3 namespaces").stdout_has("other: 2 namespaces");
    let _ = host.vethpath("exec h0 -- true").ok();
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
    let _ = host.vethpath(format!("up {}", lab.file)).ok().stderr_has("nothing to change");
    damage(&host, JOURNAL, |journal| [journal, b"x\n\xff\n".to_vec()].concat());
    let _ = host.vethpath("down --all").ok();
    lab.forget();
    host.finish();
}

#[test]
fn a_lab_without_a_record_is_removed_by_its_marks() {
    let host = Host::new();
    for bad in [b"x\xff\n".as_slice(), b"{\"version\":2}\n", b"{\xff\n"] {
        for all in [false, true] {
            let lab = two_labs(&host);
            damage(&host, JOURNAL, |_| bad.to_vec());
            let listed = host.vethpath("list").ok().stdout_has("other: 2 namespaces");
            let _ = listed.stdout_has("three-hosts: cannot read /run/vethpath/three-hosts/journal: line 1");
            let json = host.vethpath("list --json").ok().json();
            assert!(json[1]["error"].is_string() && json[0].get("error").is_none(), "{json:#}");
            let _ = host.vethpath("exec h0 -- true").ok();
            for command in
                [format!("up {}", lab.file), format!("plan {}", lab.file), "show three-hosts".to_owned()]
            {
                let _ = host.vethpath(command).fails(2).stderr_has("hint: `vethpath down three-hosts`");
            }
            if all {
                let _ = host.vethpath("down --all").ok().stderr_has("objects with the mark of lab");
            } else {
                let _ = host.vethpath("down three-hosts").ok().stderr_has("objects with the mark of lab");
                let _ = host.vethpath("down other").ok();
            }
            lab.forget();
            assert_eq!(host.changes(), None, "{}", String::from_utf8_lossy(bad));
        }
    }
    host.finish();
}

/// A full disk or an editor may leave an empty, truncated or missing journal.
#[test]
fn a_lab_whose_record_is_lost_is_not_forgotten() {
    let host = Host::new();
    let empty: &[u8] = b"";
    for lost in [Some(empty), Some(b"{\"version\":2"), None] {
        let lose = || match lost {
            Some(bytes) => damage(&host, JOURNAL, |_| bytes.to_vec()),
            None => fs::remove_file(host.path(JOURNAL)).expect("it is there"),
        };
        let lab = two_labs(&host);
        lose();
        let _ = host.vethpath("list").ok().stdout_has("other: 2 namespaces").stdout_has(
            "three-hosts: cannot read /run/vethpath/three-hosts/journal: there is no record in it",
        );
        let _ = host.vethpath("exec h0 -- true").ok();
        let _ = host.vethpath("show three-hosts").fails(2).stderr_has("hint: `vethpath down three-hosts`");
        let _ = host
            .vethpath("down three-hosts")
            .ok()
            .stderr_has("objects with the mark of lab")
            .stderr_has("lab three-hosts is down");
        let _ = host.vethpath("down other").ok();
        lab.forget();
        assert_eq!(host.changes(), None, "{lost:?}");

        // `up` reads the lab's definition from the topology file.
        let lab = two_labs(&host);
        lose();
        let _ = host.vethpath(format!("up {}", lab.file)).ok().stderr_has("3 of 3 pairs armed");
        lab.is_fast("ns0:eth0", "172.17.0.102");
        let _ = host.vethpath("down --all").ok();
        lab.forget();
        assert_eq!(host.changes(), None, "{lost:?}");
    }
    // Without the state folder, the pins and the marks remain.
    let lab = two_labs(&host);
    host.remove("/run/vethpath/three-hosts");
    let _ = host
        .vethpath("down three-hosts")
        .ok()
        .stderr_has("objects with the mark of lab")
        .stderr_has("lab three-hosts is down");
    let _ = host.vethpath("down other").ok();
    lab.forget();
    host.finish();
}

/// With a journal that was copied from another lab, `down` must not destroy that lab.
#[test]
fn the_record_of_another_lab_is_rejected() {
    let host = Host::new();
    let lab = two_labs(&host);
    let others = fs::read(host.path("/run/vethpath/other/journal")).expect("it is up");
    damage(&host, JOURNAL, |_| others);
    let _ = host.vethpath("list").ok().stdout_has("line 1: it is the record of lab `other`");
    let _ =
        host.vethpath(format!("up {}", lab.file)).fails(2).stderr_has("hint: `vethpath down three-hosts`");
    let _ = host.vethpath("down three-hosts").ok().stderr_has("objects with the mark of lab");
    lab.forget();
    assert_eq!(host.namespaces(), ["b", "h0"]);
    let _ = host
        .vethpath("list")
        .ok()
        .stdout_has("other: 2 namespaces, 1 bridge, 1 of 1 pair armed, agent alive");
    let _ = host.vethpath("down other").ok();
    host.finish();
}

#[test]
fn other_damaged_state_files_do_not_block_down() {
    let host = Host::new();
    let lab = two_labs(&host);
    damage(&host, "/run/vethpath/three-hosts/agent.lock", |_| b"\xff".to_vec());
    let memory = fs::read_dir(host.path("/run/vethpath")).expect("labs are up").flatten();
    let mut memory = memory.map(|entry| entry.file_name().into_string().expect("a plain name"));
    let memory = memory.find(|name| name.starts_with(".host-sysctls")).expect("nat is on");
    damage(&host, &format!("/run/vethpath/{memory}"), |_| b"\xff".to_vec());
    let _ = host.vethpath("list").ok();
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    let _ = host.vethpath("down three-hosts").ok().stderr_has("stays as it is");
    let _ = host.vethpath("down other").ok();
    lab.forget();
    // The saved value is lost, so `down` cannot restore the setting.
    let _ = host.run("sysctl -w net.ipv4.ip_forward=0").ok();
    host.finish();
}

/// The name may belong to the namespace's owner, and be the only reference that keeps the namespace.
#[test]
fn an_adopted_namespace_of_a_lab_without_a_record_keeps_its_name() {
    let mut host = Host::new();
    let _ = host.run("ip netns add theirs").ok();
    host.set_baseline();
    let text = "[namespace.theirs]\nadopt = { path = \"/run/netns/theirs\" }\n\
        [bridge.br0]\nnamespace = \"theirs\"\nnat = true\naddresses = [\"10.0.0.1/24\"]\n";
    host.lab("empty").named("damaged").and(text).up().forget();
    damage(&host, "/run/vethpath/damaged/journal", |_| b"{\xff\n".to_vec());
    let _ = host.vethpath("down damaged").ok().stderr_has("adopted namespace theirs keeps its name");
    let forwarding = host.run("ip netns exec theirs sysctl -n net.ipv4.ip_forward").ok();
    assert_eq!(forwarding.stdout, "0\n");
    host.finish();
}

/// An object that only the topology file attributes to the lab may belong to another user.
#[test]
fn down_of_a_file_touches_nothing_without_a_mark() {
    let mut host = Host::new();
    let _ = host.run("ip link add br9 address 02:00:00:00:00:99 type bridge").ok();
    host.set_baseline();
    let text = "[bridge.br9]\nmac = \"02:00:00:00:00:99\"\n[namespace.q.interface.eth0]\nlink = \"br9\"\n";
    let file = host.lab("empty").named("x").and(text).write();
    let _ = host.vethpath(format!("down {file}")).fails(1).stderr_has("no lab `x` is up");
    assert_eq!(host.changes(), None);
    // The same holds if another lab of that name had only a marked namespace.
    let _ = host.run("ip netns add q").ok();
    let _ = host.run("ip -n q link set lo alias vethpath:x").ok();
    let _ =
        host.vethpath(format!("down {file}")).ok().stderr_has("interface host:br9 does not belong to lab x");
    assert_eq!(host.changes(), None);
    host.finish();
}

/// Root in a namespace can set any mark on it.
#[test]
fn a_mark_from_within_gives_a_namespace_to_no_other_lab() {
    let host = Host::new();
    let lab = two_labs(&host);
    damage(&host, "/run/vethpath/other/journal", |_| b"x\n".to_vec());
    let _ = host.run("ip netns exec ns0 ip link set lo alias vethpath:other").ok();
    let _ = host
        .vethpath("down other")
        .ok()
        .stderr_has("namespace ns0 carries the mark of lab other, and belongs to another lab");
    let _ = host.vethpath("exec ns0 -- ping -n -q -c 1 -W 5 172.17.0.102").ok();
    lab.down();
    host.finish();
}

/// Whatever has replaced the journal, `list` reports it and `down` works.
#[test]
fn a_journal_that_is_no_file_does_not_block_down() {
    let host = Host::new();
    for replace in ["mkdir", "ln -s /run/nowhere", "mkfifo"] {
        let lab = two_labs(&host);
        let _ = host.run(format!("rm {JOURNAL}")).ok();
        let _ = host.run(format!("{replace} {JOURNAL}")).ok();
        let _ = host
            .vethpath("list")
            .ok()
            .stdout_has("three-hosts: cannot read /run/vethpath/three-hosts/journal");
        let _ = host.vethpath("down three-hosts").ok().stderr_has("objects with the mark of lab");
        let _ = host.vethpath("down other").ok();
        lab.forget();
        assert_eq!(host.changes(), None, "{replace}");
    }
    host.finish();
}

#[test]
fn labs_without_state_are_listed_and_removed_by_down_all() {
    let host = Host::new();
    let lab = two_labs(&host);
    let _ = host.run("rm -r /run/vethpath").ok();
    let list =
        host.vethpath("list").ok().stdout_has("three-hosts: cannot read").stdout_has("other: cannot read");
    let _ = list.stdout_has(
        "there is no record in it; `vethpath down other` removes all objects with the lab's mark",
    );
    let _ = host.vethpath("exec ns0 -- true").fails(2).stderr_has("there is no record in it");
    let _ = host
        .vethpath("down --all")
        .ok()
        .stderr_has("lab other is down")
        .stderr_has("lab three-hosts is down");
    lab.forget();
    // The saved value of the setting is lost with the state.
    let _ = host.run("sysctl -q -w net.ipv4.ip_forward=0").ok();
    host.finish();
}

/// A killed `up` leaves an empty folder, which is not a lab.
#[test]
fn an_empty_folder_is_no_lab() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let _ = host.run("mkdir -m 700 /run/vethpath/junk").ok();
    let _ = host.vethpath("show").ok().stdout_has("lab three-hosts");
    let _ = host.vethpath("down junk").ok();
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
fn a_foreign_bpffs_stays() {
    let mut host = Host::new();
    let _ = host.run("mount -t bpf bpf /sys/fs/bpf").ok();
    let _ = host.run("mkdir /sys/fs/bpf/other").ok();
    host.set_baseline();
    let lab = host.lab("three-hosts").up();
    lab.down();
    host.finish();
}

/// A bpffs that we mounted and that another program uses now is not unmounted.
#[test]
fn a_bpffs_that_another_program_uses_stays() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let _ = host.run("mkdir /sys/fs/bpf/other").ok();
    lab.down();
    let _ = host.run("rmdir /sys/fs/bpf/other").ok();
    assert!(!host.path("/sys/fs/bpf/vethpath").exists());
    let _ = host.run("umount /sys/fs/bpf").ok();
    host.finish();
}
