//! Offload sizes: set on both ends and on the port, put back, and reset.

use crate::harness::Host;

const LAB: &str = r#"
[bridge.br0]
trunks = ["br1"]
gso_max_size = 196608
gro_max_size = 196608

[bridge.br1]
gso_max_size = 131072

[namespace.a.interface.eth0]
link = "br0"
addresses = ["10.0.0.1/24"]

[namespace.a.interface.c]
link = "b:c"
gso_max_size = 32768

[namespace.b.interface.eth0]
link = "br0"
addresses = ["10.0.0.2/24"]
gso_max_size = 131072
"#;

/// `gso_max_size` and `gro_max_size` of a device.
fn sizes(host: &Host, namespace: Option<&str>, device: &str) -> (u64, u64) {
    let inside = namespace.map_or_else(String::new, |name| format!("-n {name} "));
    let link = host.json(format!("ip {inside}-d -j link show dev {device}"));
    let size = |key: &str| link[0][key].as_u64().unwrap_or_else(|| panic!("{device} has no {key}"));
    (size("gso_max_size"), size("gro_max_size"))
}

#[test]
fn sizes_are_set_on_both_ends_and_on_the_port_and_put_back() {
    const USUAL: u64 = 65_536;
    let host = Host::new();
    let lab = host.lab("empty").named("sizes").and(LAB).up();
    let large = (196_608, 196_608);
    let expected = [
        (None, "br0".to_owned(), large),
        (None, lab.port("a:eth0"), large),
        (Some("a"), "eth0".to_owned(), large),
        (None, lab.port("b:eth0"), (131_072, 196_608)),
        (Some("b"), "eth0".to_owned(), (131_072, 196_608)),
        (Some("a"), "c".to_owned(), (32_768, USUAL)),
        (Some("b"), "c".to_owned(), (32_768, USUAL)),
        (None, "br0-br1".to_owned(), (131_072, USUAL)),
        (None, "br1-br0".to_owned(), (131_072, USUAL)),
    ];
    let assert_all = || {
        for (namespace, device, sizes) in &expected {
            assert_eq!(self::sizes(&host, *namespace, device), *sizes, "{namespace:?} {device}");
        }
    };
    assert_all();
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
    let port = lab.port("a:eth0");
    let _ = host.run(format!("ip link set dev {port} gso_max_size 65536 gro_max_size 65536")).ok();
    let _ = host.run("ip -n b link set dev c gso_max_size 65536").ok();
    let planned = host.vethpath(format!("plan {}", lab.file)).ok();
    let changed = format!(
        "~ change offload-sizes host:{port}: gso_max_size 65536, gro_max_size 65536 -> gso_max_size 196608, \
         gro_max_size 196608"
    );
    let _ = planned
        .stdout_has(&changed)
        .stdout_has("~ change offload-sizes b:c: gso_max_size 65536 -> gso_max_size 32768");
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
    assert_all();
    // What the file no longer has becomes the kernel's default.
    let less = LAB.replace("gro_max_size = 196608\n", "").replace("gso_max_size = 32768\n", "");
    let less = host.lab("empty").named("sizes").and(&less).write();
    let _ = host.vethpath(format!("up {less}")).ok();
    let _ = host.vethpath(format!("plan {less}")).ok().stdout_has("nothing to change");
    assert_eq!(sizes(&host, Some("a"), "eth0"), (196_608, USUAL));
    assert_eq!(sizes(&host, Some("a"), "c"), (USUAL, USUAL));
    lab.down();
    host.finish();
}

/// Hosts with the same large sizes are on the fast path.
#[test]
fn large_frames_are_fast_where_all_hosts_have_the_same_sizes() {
    let host = Host::new();
    let text = LAB.replace("gso_max_size = 131072\n", "gso_max_size = 196608\n");
    let lab = host.lab("empty").named("sizes").and(&text).up();
    for pair in ["a:eth0", "b:eth0"] {
        lab.wait_for_state(pair, "armed");
    }
    lab.is_fast("a:eth0", "10.0.0.2");
    lab.down();
    host.finish();
}

#[test]
fn ends_of_a_cable_with_different_sizes_are_refused() {
    let host = Host::new();
    let text = LAB.replace(
        "[namespace.b.interface.eth0]",
        "[namespace.b.interface.c]\nlink = \"a:c\"\ngso_max_size = 16384\n[namespace.b.interface.eth0]",
    );
    let file = host.lab("empty").named("sizes").and(&text).write();
    let refused = host.vethpath(format!("up {file}")).fails(1);
    let _ = refused
        .stderr_has("the ends of a cable differ in `gso_max_size`")
        .stderr_has("hint: write the same at both ends");
    host.finish();
}
