//! Names and aliases that are not UTF-8, and a renamed loopback device. The kernel accepts nearly any bytes.

use crate::harness::Host;

/// Commands that run on the host, or as root in a namespace.
const ODD: [&str; 7] = [
    "ip link add $'n\\xff' type veth peer name q0",
    "ip -n ns0 link set lo alias $'x\\xff'",
    "ip -n ns0 link add $'n\\xff' type veth peer name q1",
    "ip -n ns0 link set eth0 alias $'x\\xff'",
    "ip -n ns1 link property add dev eth0 altname $'q\\xff'",
    "ip -n ns2 link set lo down && ip -n ns2 link set lo name foo && ip -n ns2 link set foo up",
    "ip link set PORT alias $'\\xff'",
];

#[test]
fn names_that_are_no_text_keep_no_lab_from_anything() {
    let mut host = Host::new();
    for odd in ODD {
        host.remember();
        let lab = host.lab("three-hosts").up();
        let pid = lab.pid();
        let odd = odd.replace("PORT", &lab.port("ns2:eth0"));
        let _ = host.run(["bash", "-c", &odd]).ok();
        let _ = lab.heard();
        assert_eq!(lab.pid(), pid, "{odd}");
        lab.is_fast("ns1:eth0", "172.17.0.103");
        let _ = host.vethpath(format!("up {}", lab.file)).ok();
        let _ = host.vethpath("show").ok();
        lab.down();
        let _ = host.run("ip link del q0");
        host.is_as_it_was(&odd);
    }
    host.finish();
}
