//! The warnings of `validate` match what the kernel does.

use crate::harness::Host;

/// A namespace `n` with two devices in 10.0.0.0/24 and fd00::/64, in many combinations.
#[test]
fn the_device_named_in_a_warning_has_the_route() {
    let host = Host::new();
    let pair = |name: &str, n: u32| {
        format!(
            "[namespace.n.interface.{name}]\nlink = \"br0\"\naddresses = [\"10.0.0.{n}/24\", \"fd00::{n}/64\"]\n"
        )
    };
    let cable = |name: &str, n: u32| {
        format!(
            "[namespace.n.interface.{name}]\nlink = \"m:{name}\"\naddresses = [\"10.0.0.{n}/24\", \"fd00::{n}/64\"]\n"
        )
    };
    let bridge = "[bridge.own]\nnamespace = \"n\"\naddresses = [\"10.0.0.9/24\", \"fd00::9/64\"]\n";
    let rest = "[bridge.br0]\n[namespace.m]\n";
    for (case, devices, wins) in [
        ("pairs", pair("zz", 1) + &pair("aa", 2), "zz"),
        ("pairs-backwards", pair("aa", 1) + &pair("zz", 2), "aa"),
        ("cable-first", cable("c", 1) + &pair("p", 2), "p"),
        ("two-cables", cable("z", 1) + &cable("a", 2), "z"),
        ("bridge-last", pair("p", 1) + bridge, "own"),
        ("bridge-and-cable", cable("c", 1) + bridge, "own"),
    ] {
        let file = host.lab("empty").named(case).and(&devices).and(rest);
        let expected = format!("its route uses `n:{wins}`");
        let output = host.vethpath(format!("validate {}", file.write())).ok();
        assert_eq!(output.stderr.matches(&expected).count(), 2, "{case}: {output}");
        let lab = file.up();
        for to in ["10.0.0.77", "fd00::77"] {
            let route = lab.run("n", format!("ip route get {to}")).ok();
            assert!(route.stdout.contains(&format!("dev {wins} ")), "{case}: {route}");
        }
        lab.down();
    }
    host.finish();
}

const ROUTED: &str = "
[namespace.a]
gateway = \"10.0.0.254\"
[namespace.a.interface.e]
link = \"router:e0\"
addresses = [\"10.0.0.2/24\"]
[namespace.router]
[namespace.router.interface.e0]
link = \"a:e\"
addresses = [\"10.0.0.254/24\"]
[namespace.router.interface.e1]
link = \"b:e\"
addresses = [\"10.1.0.254/24\"]
[namespace.b]
[namespace.b.interface.e]
link = \"router:e1\"
addresses = [\"10.1.0.2/24\"]
";

#[test]
fn following_a_hint_repairs_the_lab() {
    let host = Host::new();
    let hints = |lab: &str| {
        let output = host.vethpath(format!("validate {lab}")).ok();
        output
            .stderr
            .lines()
            .filter_map(|line| line.split_once("= hint: ").map(|(_, hint)| hint.to_owned()))
            .collect::<Vec<_>>()
    };
    let forward = "sysctls = { \"net.ipv4.ip_forward\" = 1 }";
    let back = "routes = [{ to = \"10.0.0.0/24\", via = \"10.1.0.254\" }]";
    let forwarding = ROUTED.replace("[namespace.router]\n", &format!("[namespace.router]\n{forward}\n"));
    let both = forwarding.replace("[namespace.b]\n", &format!("[namespace.b]\n{back}\n"));
    for (text, hint) in [(ROUTED, Some(forward)), (&forwarding, Some(back)), (&both, None)] {
        let file = host.lab("empty").and(text);
        let hints = hints(&file.write());
        assert_eq!(hints.len(), usize::from(hint.is_some()), "{hints:?}");
        assert!(hint.is_none_or(|hint| hints[0].contains(hint)), "{hints:?}");
        let lab = file.up();
        if hint.is_none() {
            lab.reaches("a", "10.1.0.2");
        } else {
            assert!(!lab.pings("a", "10.1.0.2"));
        }
        lab.down();
    }
    host.finish();
}

#[test]
fn frames_that_are_too_large_for_one_host_are_lost() {
    let host = Host::new();
    let large = "addresses = [\"10.0.0.10/24\", \"fd00::10/64\"]";
    let file = host.lab("two-families").with(large, &format!("mtu = 4000\n{large}"));
    let _ = host
        .vethpath(format!("validate {}", file.write()))
        .ok()
        .stderr_has("may send packets of 4000 bytes, and `ns1:eth0`");
    let lab = file.up();
    lab.reaches("ns0", "10.0.0.11");
    let ping = |size| lab.run("ns0", format!("ping -n -q -c 1 -W 2 -M do -s {size} 10.0.0.11")).succeeded();
    assert!(ping(1400) && !ping(3000));
    lab.down();
    host.finish();
}

#[test]
fn warnings_go_to_stderr_and_are_no_error() {
    let host = Host::new();
    let file = host.lab("empty").and(ROUTED).write();
    for verb in ["validate", "plan", "up", "down"] {
        let output = host.vethpath(format!("{verb} {file}")).ok();
        assert_eq!(output.stderr.contains("warning: `a` sends"), verb != "down", "{output}");
        assert!(!output.stdout.contains("warning"), "{output}");
    }
    host.finish();
}

#[test]
fn errors_and_warnings_are_printed_as_json() {
    let host = Host::new();
    let report =
        host.json(format!("{} validate --json {}", host.public_exe(), host.lab("empty").and(ROUTED).write()));
    let [warning] = report.as_array().expect("a list").as_slice() else { panic!("{report:#}") };
    assert_eq!(warning["level"], "warning");
    assert_eq!(warning["key"], "namespace.a.gateway");
    assert_eq!((warning["line"].as_u64(), warning["column"].as_u64()), (Some(4), Some(11)));
    let wrong = host.lab("three-hosts").with("gateway", "gatway").named("wrong").write();
    let output = host.vethpath(format!("validate --json {wrong}")).fails(1);
    let report = output.json();
    assert_eq!(
        (report[0]["level"].as_str(), report[0]["key"].as_str()),
        (Some("error"), Some("namespace.ns0.gatway"))
    );
    assert!(report[0]["hint"].as_str().is_some_and(|hint| hint.contains("`gateway`")), "{report:#}");
    let fine = host.lab("three-hosts").write();
    assert_eq!(host.vethpath(format!("validate --json {fine}")).ok().stdout, "[]\n");
    host.finish();
}

#[test]
fn the_schema_is_printed() {
    let host = Host::new();
    let schema = host.vethpath("schema").ok().json();
    assert_eq!(schema["properties"]["bridge"]["type"], "object");
    host.finish();
}
