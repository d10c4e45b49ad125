//! `down` where things cannot be removed: it removes all the rest, and reports each failure.

use super::labs::{hosts, up};
use crate::harness::Host;

#[test]
fn down_goes_on_after_faults_and_tells_all() {
    let host = Host::new();
    up(&host, &hosts(0..6)).forget();
    // A file with another mount besides ours cannot be removed, nor can a folder with a mount in it.
    let pins = "/sys/fs/bpf/vethpath/changing/theirs";
    for command in [
        "mount --bind /run/netns/h1 /run/netns/h1",
        "mount --bind /run/netns/h4 /run/netns/h4",
        &format!("mkdir {pins}"),
        &format!("mount -t tmpfs tmpfs {pins}"),
    ] {
        let _ = host.run(command).ok();
    }
    let down = host.vethpath("down changing").fails(2);
    let down =
        down.says("remove namespace h1").says("remove namespace h4").says("changing: Device or resource");
    let _ = down.says("hint: everything else is removed; `vethpath down` tries again");
    assert_eq!(host.namespaces(), ["h1", "h4"]);
    let links = host.run("ip -o link").ok().stdout;
    assert_eq!(links.lines().count(), 1, "{links}");
    for namespace in ["h1", "h4"] {
        let inside = host.run(format!("ip -n {namespace} -o link")).ok().stdout;
        assert!(!inside.contains("eth0"), "{inside}");
    }
    let _ = host.run(format!("umount {pins}")).ok();
    let _ = host.vethpath("down changing").ok();
    host.finish();
}
