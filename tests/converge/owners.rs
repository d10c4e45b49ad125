//! Ownership: labs beside each other and what they share of the host, files with other names, and objects that no lab
//! owns.

use super::{address, assert_up_to_date, change_to, hosts, lab_file, up};
use crate::harness::{Host, Lab, TIMEOUT, wait_for};

/// A lab without `name` is named after its file. A renamed file is another lab, which wants what the first has.
#[test]
fn a_renamed_file_is_another_lab_and_up_reports_that() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..2));
    let renamed = host.lab("empty").named("renamed").and(&hosts(0..2)).write();
    for verb in ["plan", "up"] {
        let output = host.vethpath(format!("{verb} {renamed}")).fails(1);
        let output = output.stderr_has("namespace `h0` already exists and is lab `changing`'s");
        let _ = output
            .stderr_has("hint: lab `changing` is up")
            .stderr_has("name = \"changing\"")
            .stderr_has("vethpath down changing");
    }
    let _ = host.vethpath("down renamed").fails(1).stderr_has("no lab `renamed` is up");
    // With the name in it, the file itself may have any name.
    let text = "name = \"changing\"\n".to_owned() + &hosts(0..3);
    let renamed = host.lab("empty").named("renamed").and(&text).write();
    let _ = host.vethpath(format!("up {renamed}")).ok();
    assert_up_to_date(&host, &renamed);
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
    assert!(both.iter().any(|output| output.succeeded()), "{}\n{}", both[0], both[1]);
    for output in both.iter().filter(|output| !output.succeeded()) {
        assert!(
            output.code() == Some(1) && output.stderr.contains("another vethpath is working on"),
            "{output}"
        );
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
    host.set_baseline();
    let lab = up(&host, &hosts(0..2));
    let file = lab_file(&host, &(hosts([0, 2]) + "[bridge.br1]\n"));
    let output = host.vethpath(format!("up {file}")).fails(1);
    let _ = output
        .stderr_has("namespace `h2` already exists")
        .stderr_has("interface `br1` already exists in host")
        .stderr_has("hint:");
    let file = lab_file(&host, &hosts(0..2));
    assert_up_to_date(&host, &file);
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
    host.set_baseline();
    let file = lab_file(&host, &hosts(0..3));
    let refused = |host: &Host| {
        for verb in ["plan", "up"] {
            let output = host.vethpath(format!("{verb} {file}")).fails(1);
            let _ = output.stderr_has("namespace `h2` already exists and is not this lab's");
        }
        assert!(host.path("/run/netns/h2").exists());
    };
    refused(&host);
    let _ = host.vethpath(format!("down {file}")).fails(1).stderr_has("no lab `changing` is up");
    assert_eq!(host.changes(), None);
    // A file that adds the name to a lab that is up.
    let lab = up(&host, &hosts(0..2));
    let _ = lab_file(&host, &hosts(0..3));
    refused(&host);
    lab.down();
    host.finish();
}

/// What the lab itself has left is removed by `up`, but not by `plan`.
#[test]
fn an_unmounted_namespace_is_created_again() {
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
    let _ = plan.stdout_has("- delete namespace h1\n").stdout_has("+ create namespace h1\n");
    assert_eq!(inode(), before);
    let _ = change_to(&host, &hosts(0..2));
    lab.reaches("h0", &address(1));
    // If the file no longer has the namespace, what is left of it is removed.
    unmount("h1");
    assert!(change_to(&host, &hosts(0..1)).contains(&"- delete namespace h1".to_owned()));
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
    host.set_baseline();
    up(&host, &hosts(0..2)).forget();
    host.lab("fabric").with("namespace.ns", "namespace.f").up().forget();
    let _ =
        host.vethpath("down --all").ok().stderr_has("lab changing is down").stderr_has("lab fabric is down");
    host.assert_restored("all are down");
    let _ = host.vethpath("down --all").ok();
    host.finish();
}

/// A bridge with `nat` on the host, in a subnet of its lab.
fn nat(number: usize) -> String {
    format!("[bridge.br{number}]\nnat = true\naddresses = [\"10.{number}.0.1/24\"]\n")
}

fn lab<'h>(host: &'h Host, number: usize) -> Lab<'h> {
    host.lab("empty").named(&format!("lab{number}")).and(&nat(number)).up()
}

fn forwards(host: &Host) -> bool {
    host.run("sysctl -n net.ipv4.ip_forward").ok().stdout.trim() == "1"
}

#[test]
fn the_last_lab_restores_forwarding() {
    let host = Host::new();
    assert!(!forwards(&host), "a new machine forwards");
    let (first, second) = (lab(&host, 1), lab(&host, 2));
    first.down();
    assert!(forwards(&host), "the second lab needs it");
    second.down();
    assert!(!forwards(&host), "nobody needs it");
    host.finish();
}

/// Neither may count the other as a lab that still needs forwarding.
#[test]
fn two_labs_removed_at_once_restore_forwarding() {
    let host = Host::new();
    for _ in 0..5 {
        lab(&host, 1).forget();
        lab(&host, 2).forget();
        let both = [1, 2].map(|number| host.spawn_vethpath(format!("down lab{number}")));
        for down in both {
            let _ = down.wait(TIMEOUT).ok();
        }
        host.assert_restored("both are down");
    }
    host.finish();
}

/// An existing table of the lab's name is found before anything is changed, whether the lab is up or not.
#[test]
fn a_table_of_somebody_else_is_found_first() {
    let mut host = Host::new();
    let _ = host.run("nft add table inet vethpath-changing").ok();
    host.set_baseline();
    let with = lab_file(&host, &nat(7));
    for verb in ["plan", "up"] {
        let output = host.vethpath(format!("{verb} {with}")).fails(1);
        let output = output.stderr_has("nft table inet vethpath-changing already exists in host");
        let _ = output.stderr_has("hint: remove it (`nft delete table inet vethpath-changing`)");
        assert_eq!(host.changes(), None);
    }
    let lab = up(&host, "[bridge.br7]\n");
    let journal = || std::fs::read(host.path("/run/vethpath/changing/journal")).expect("it is up");
    let before = journal();
    let with = lab_file(&host, &nat(7));
    let _ = host.vethpath(format!("up {with}")).fails(1).stderr_has("already exists in host");
    assert_eq!(journal(), before);
    lab.down();
    host.finish();
}
