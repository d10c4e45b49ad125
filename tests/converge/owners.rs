//! Ownership: labs beside each other, files with other names, and objects that no lab owns.

use super::labs::{address, becomes, hosts, is_as_its_file_says, up};
use crate::harness::{Host, TIMEOUT, wait_for};

/// A lab without `name` is named after its file. A renamed file is another lab, which wants what the first has.
#[test]
fn a_renamed_file_is_another_lab_and_that_is_said() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..2));
    let renamed = host.lab("empty").named("renamed").and(&hosts(0..2)).write();
    for verb in ["plan", "up"] {
        let done = host.vethpath(format!("{verb} {renamed}")).fails(1);
        let done = done.says("namespace `h0` already exists and is lab `changing`'s");
        let _ = done
            .says("hint: lab `changing` is up")
            .says("name = \"changing\"")
            .says("vethpath down changing");
    }
    let _ = host.vethpath("down renamed").fails(1).says("no lab `renamed` is up");
    // With the name in it, the file itself may have any name.
    let text = "name = \"changing\"\n".to_owned() + &hosts(0..3);
    let renamed = host.lab("empty").named("renamed").and(&text).write();
    let _ = host.vethpath(format!("up {renamed}")).ok();
    is_as_its_file_says(&host, &renamed);
    lab.down();
    host.finish();
}

/// Two `up` of different files for one lab run at once. One is refused or runs second, and in the end the lab is one
/// of the two.
#[test]
fn two_up_at_once_of_a_lab_that_changes() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..2));
    let texts = [hosts(0..6), hosts([0, 1, 7, 8])];
    let files: Vec<String> = ["one", "two"]
        .iter()
        .zip(&texts)
        .map(|(name, text)| {
            host.lab("empty").named(name).and(&("name = \"changing\"\n".to_owned() + text)).write()
        })
        .collect();
    let both: Vec<_> = files.iter().map(|file| host.spawn_vethpath(format!("up {file}"))).collect();
    let both: Vec<_> = both.into_iter().map(|up| up.wait(TIMEOUT)).collect();
    assert!(both.iter().any(|done| done.succeeded()), "{}\n{}", both[0], both[1]);
    for done in both.iter().filter(|done| !done.succeeded()) {
        assert!(done.code() == Some(1) && done.stderr.contains("another vethpath is working on"), "{done}");
    }
    let plans: Vec<_> = files.iter().map(|file| host.vethpath(format!("plan {file}")).ok().stdout).collect();
    assert!(plans.iter().any(|plan| plan.contains("nothing to change")), "{plans:#?}");
    lab.down();
    host.finish();
}

/// A change that collides with objects of others is refused as a whole, and the lab stays as it was.
#[test]
fn a_change_that_collides_changes_nothing() {
    let mut host = Host::new();
    let _ = host.run("ip netns add h2").ok();
    let _ = host.run("ip link add br1 type bridge").ok();
    host.remember();
    let lab = up(&host, &hosts(0..2));
    let file = host.lab("empty").named("changing").and(&(hosts([0, 2]) + "[bridge.br1]\n")).write();
    let done = host.vethpath(format!("up {file}")).fails(1);
    let _ = done
        .says("namespace `h2` already exists")
        .says("interface `br1` already exists in host")
        .says("hint:");
    let file = host.lab("empty").named("changing").and(&hosts(0..2)).write();
    is_as_its_file_says(&host, &file);
    lab.down();
    host.finish();
}

/// A file in `/run/netns` on which no namespace is mounted may belong to anyone. If only the user's file names it, it
/// is not touched.
#[test]
fn a_file_that_is_no_namespace_is_somebody_elses() {
    let mut host = Host::new();
    let _ = host.run("mkdir -p /run/netns").ok();
    let _ = host.run("touch /run/netns/h2").ok();
    host.remember();
    let file = host.lab("empty").named("changing").and(&hosts(0..3)).write();
    let refused = |host: &Host| {
        for verb in ["plan", "up"] {
            let done = host.vethpath(format!("{verb} {file}")).fails(1);
            let _ = done.says("namespace `h2` already exists and is not this lab's");
        }
        assert!(host.path("/run/netns/h2").exists());
    };
    refused(&host);
    let _ = host.vethpath(format!("down {file}")).fails(1).says("no lab `changing` is up");
    assert_eq!(host.changes(), None);
    // A file that adds the name to a lab that is up.
    let lab = up(&host, &hosts(0..2));
    let _ = host.lab("empty").named("changing").and(&hosts(0..3)).write();
    refused(&host);
    lab.down();
    host.finish();
}

/// What the lab itself has left is removed by `up`, but not by `plan`.
#[test]
fn a_namespace_that_was_unmounted_is_made_again() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..2));
    let unmount = |name: &str| {
        let port = lab.port(&format!("{name}:eth0"));
        let _ = host.run(format!("umount /run/netns/{name}")).ok();
        // The kernel removes the namespace, and its end of the pair, asynchronously.
        wait_for(TIMEOUT, "the port stays", || !host.run(format!("ip link show {port}")).succeeded());
    };
    unmount("h1");
    let inode = || host.run("stat -c %i /run/netns/h1").ok().stdout;
    let before = inode();
    let plan = host.vethpath(format!("plan {}", lab.file)).ok();
    let _ = plan.prints("- delete namespace h1\n").prints("+ create namespace h1\n");
    assert_eq!(inode(), before);
    let _ = becomes(&host, &hosts(0..2));
    lab.reaches("h0", &address(1));
    // If the file no longer has the namespace, what is left of it is removed.
    unmount("h1");
    assert!(becomes(&host, &hosts(0..1)).contains(&"- delete namespace h1".to_owned()));
    assert!(!host.path("/run/netns/h1").exists());
    unmount("h0");
    lab.down();
    host.finish();
}

#[test]
fn down_all_takes_down_labs_and_nothing_else() {
    let mut host = Host::new();
    for command in [
        "ip netns add theirs",
        "ip link add vpaaaaaaaaaa type bridge",
        "ip link add vpbbbbbbbbbb type veth peer name vpcccccccccc",
        "ip link set vpbbbbbbbbbb alias vethpath-like",
        "nft add table inet vethpath-not-ours",
        "mkdir -p /run/other/vethpath",
    ] {
        let _ = host.run(command).ok();
    }
    host.remember();
    up(&host, &hosts(0..2)).forget();
    host.lab("fabric").with("namespace.ns", "namespace.f").up().forget();
    let _ = host.vethpath("down --all").ok().says("lab changing is down").says("lab fabric is down");
    host.is_as_it_was("all are down");
    let _ = host.vethpath("down --all").ok();
    host.finish();
}
