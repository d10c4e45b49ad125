//! A user without privileges.

use crate::harness::Host;

#[test]
fn without_rights_nothing_is_changed() {
    let host = Host::new();
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
    // Commands that need no privileges work without.
    let _ = host.run(format!("{nobody} {exe} validate {file}")).ok();
    let _ = host.run(format!("{nobody} {exe} --help")).ok();

    // A lab cannot be taken down or read without privileges either.
    let lab = host.lab("three-hosts").up();
    let _ = host.run(format!("{nobody} {exe} down three-hosts")).fails(2);
    let _ = host.run(format!("{nobody} ls /run/vethpath/three-hosts")).fails(2);
    assert!(!host.run(format!("{nobody} ls /sys/fs/bpf/vethpath/three-hosts")).succeeded());
    lab.reaches("ns0", "172.17.0.102");
    lab.down();
    host.finish();
}
