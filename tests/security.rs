//! Who may do what: the agent has few privileges, state and pins are root's alone.

use std::fs;

use crate::harness::Host;

/// CAP_NET_BROADCAST, CAP_NET_ADMIN, CAP_SYS_ADMIN of linux/capability.h.
const KEPT: u64 = 1 << 11 | 1 << 12 | 1 << 21;

#[test]
fn the_agent_keeps_three_capabilities_and_can_gain_none() {
    let host = Host::new();
    for hook in ["tcx", "clsact"] {
        let file = host.lab("three-hosts").write();
        let _ = host.vethpath(format!("up --hook {hook} {file}")).ok();
        let stats = host.vethpath("stats --json").ok().json();
        let pid = &stats["agent"]["pid"];
        let status = host.run(format!("cat /proc/{pid}/status")).ok().stdout;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("no {name}")).trim().to_owned()
        };
        let mask = |name: &str| u64::from_str_radix(&field(name), 16).expect("hexadecimal");
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(mask(set), KEPT, "{set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(mask(set), 0, "{set}");
        }
        assert_eq!(field("NoNewPrivs"), "1");
        // It says so itself, to whoever asks and in its log.
        let names = ["CAP_NET_ADMIN", "CAP_NET_BROADCAST", "CAP_SYS_ADMIN"];
        assert_eq!(stats["agent"]["capabilities"], serde_json::json!(names));
        let log = fs::read_to_string(host.path("/run/vethpath/three-hosts/agent.log")).expect("its log");
        assert!(log.contains(&names.join(", ")), "{log}");
        let _ = host.vethpath("down three-hosts").ok();
    }
    host.finish();
}
