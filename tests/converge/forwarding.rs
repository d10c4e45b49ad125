//! The host's forwarding, which labs with `nat` share, and the labs' nft tables.

use super::labs::up;
use crate::harness::{Host, Lab, TIMEOUT};

/// A bridge with `nat` on the host, in a subnet of its lab.
fn nat(number: usize) -> String {
    format!("[bridge.br{number}]\nnat = true\naddresses = [\"10.{number}.0.1/24\"]\n")
}

fn lab<'h>(host: &'h Host, number: usize) -> Lab<'h> {
    host.lab("empty").named(&format!("lab{number}")).and(&nat(number)).up()
}

fn is_on(host: &Host) -> bool {
    host.run("sysctl -n net.ipv4.ip_forward").ok().stdout.trim() == "1"
}

#[test]
fn the_last_lab_puts_it_back() {
    let host = Host::new();
    assert!(!is_on(&host), "a new machine forwards");
    let (first, second) = (lab(&host, 1), lab(&host, 2));
    first.down();
    assert!(is_on(&host), "the second lab needs it");
    second.down();
    assert!(!is_on(&host), "nobody needs it");
    host.finish();
}

/// Neither may count the other as a lab that still needs forwarding.
#[test]
fn two_that_go_at_once_put_it_back() {
    let host = Host::new();
    for _ in 0..5 {
        lab(&host, 1).forget();
        lab(&host, 2).forget();
        let both = [1, 2].map(|number| host.spawn_vethpath(format!("down lab{number}")));
        for down in both {
            let _ = down.wait(TIMEOUT).ok();
        }
        host.is_as_it_was("both are down");
    }
    host.finish();
}

/// An existing table of the lab's name is found before anything is changed, whether the lab is up or not.
#[test]
fn a_table_of_somebody_else_is_found_first() {
    let mut host = Host::new();
    let _ = host.run("nft add table inet vethpath-changing").ok();
    host.remember();
    let with = host.lab("empty").named("changing").and(&nat(7)).write();
    for verb in ["plan", "up"] {
        let done = host.vethpath(format!("{verb} {with}")).fails(1);
        let done = done.says("nft table inet vethpath-changing already exists in host");
        let _ = done.says("hint: remove it (`nft delete table inet vethpath-changing`)");
        assert_eq!(host.changes(), None);
    }
    let lab = up(&host, "[bridge.br7]\n");
    let journal = || std::fs::read(host.path("/run/vethpath/changing/journal")).expect("it is up");
    let before = journal();
    let with = host.lab("empty").named("changing").and(&nat(7)).write();
    let _ = host.vethpath(format!("up {with}")).fails(1).says("already exists in host");
    assert_eq!(journal(), before);
    lab.down();
    host.finish();
}
