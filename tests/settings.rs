//! Settings under `/proc/sys/net`: what a file may set, where it is set, and what is restored.

use std::fmt::Write as _;

use crate::harness::{Host, LabFile};

/// All settings of the namespace that a command enters.
fn settings_of(host: &Host, enter: &str) -> String {
    let output = host.run(format!("{enter} sysctl -a -r ^net\\.(ipv4|ipv6)\\.(conf|ip_forward)"));
    output.stdout.lines().filter(|line| !line.contains(".stable_secret")).fold(
        String::new(),
        |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        },
    )
}

#[track_caller]
fn assert_sysctl(host: &Host, enter: &str, key: &str, value: &str) {
    let output = host.run(format!("{enter} sysctl -n {key}")).ok();
    assert_eq!(output.stdout.trim(), value, "{key}");
}

fn lab<'h>(host: &'h Host, text: &str) -> LabFile<'h> {
    host.lab("empty").named("settings").and(text)
}

/// Interfaces with the names of folders under `/proc/sys/net`, in an adopted namespace and on the host.
#[test]
fn interface_settings_apply_to_that_interface_alone() {
    let mut host = Host::new();
    let _ = host.run("ip netns add theirs").ok();
    host.set_baseline();
    let theirs = "ip netns exec theirs";
    let before = (settings_of(&host, ""), settings_of(&host, theirs));
    let names = ["net", "ipv4", "ipv6", "conf", "core"];
    let file = |keys: &dyn Fn(&str) -> String| {
        names.iter().fold(
            "[namespace.theirs]\nadopt = { path = \"/run/netns/theirs\" }\n".to_owned(),
            |mut text, name| {
                let keys = keys(name);
                let _ = write!(
                    text,
                    "[namespace.theirs.interface.{name}]\nlink = \"host:{name}\"\nsysctls = {{ {keys} }}\n\
                 [namespace.host.interface.{name}]\nlink = \"theirs:{name}\"\nsysctls = {{ {keys} }}\n"
                );
                text
            },
        )
    };
    for key in [
        "net.ipv4.ip_forward",
        "net.ipv4.conf.all.rp_filter",
        "net.ipv6.conf.default.accept_ra",
        "net.core.somaxconn",
    ] {
        let bad = lab(&host, &file(&|_| format!("\"{key}\" = 1"))).write();
        let output = host.vethpath(format!("up {bad}")).fails(1);
        assert_eq!(
            output.stderr.matches(&format!("`{key}` would change")).count(),
            2 * names.len(),
            "{output}"
        );
    }
    let own = |name: &str| {
        format!("\"net.ipv4.conf.{name}.rp_filter\" = 2, \"net.ipv4.neigh.{name}.app_solicit\" = 3")
    };
    let up = lab(&host, &file(&own)).up();
    for name in names {
        for enter in ["", theirs] {
            assert_sysctl(&host, enter, &format!("net.ipv4.conf.{name}.rp_filter"), "2");
            assert_sysctl(&host, enter, &format!("net.ipv4.neigh.{name}.app_solicit"), "3");
        }
    }
    let _ = host.vethpath(format!("plan {}", up.file)).ok().stdout_has("nothing to change");
    // A manual change on the host is drift. A setting that the file no longer has is restored.
    let _ = host.run("sysctl -w net.ipv4.conf.core.rp_filter=0").ok();
    let _ = host.vethpath(format!("up {}", up.file)).ok();
    assert_sysctl(&host, "", "net.ipv4.conf.core.rp_filter", "2");
    let less = lab(&host, &file(&|name| format!("\"net.ipv4.neigh.{name}.app_solicit\" = 3"))).write();
    let _ = host.vethpath(format!("up {less}")).ok();
    assert_sysctl(&host, "", "net.ipv4.conf.core.rp_filter", "0");
    up.down();
    assert_eq!(host.namespaces(), ["theirs"]);
    assert_eq!((settings_of(&host, ""), settings_of(&host, theirs)), before);
    host.finish();
}

/// Two labs masquerade in one adopted namespace, in which forwarding was on for one interface only.
#[test]
fn an_adopted_namespace_forwards_until_the_last_lab_with_nat_goes() {
    let mut host = Host::new();
    let theirs = "ip netns exec theirs";
    for command in [
        "ip netns add theirs",
        "ip -n theirs link add d0 type veth peer name d1",
        "ip netns exec theirs sysctl -w net.ipv4.conf.d0.forwarding=1 net.ipv6.conf.d1.forwarding=1",
        "ip netns exec theirs sysctl -w net.ipv4.conf.all.accept_redirects=0",
    ] {
        let _ = host.run(command).ok();
    }
    host.set_baseline();
    let before = settings_of(&host, theirs);
    let file = |n: u8| {
        host.lab("empty").named(&format!("nat{n}")).and(&format!(
            "[namespace.w{n}]\nadopt = {{ path = \"/run/netns/theirs\" }}\n[bridge.br{n}]\nnamespace = \"w{n}\"\n\
             nat = true\naddresses = [\"10.0.{n}.1/24\", \"fd00:{n}::1/64\"]\n"
        ))
    };
    let (first, second) = (file(1).up(), file(2).up());
    first.down();
    assert_sysctl(&host, theirs, "net.ipv4.ip_forward", "1");
    assert_sysctl(&host, theirs, "net.ipv6.conf.all.forwarding", "1");
    // Without `nat` it is restored, too.
    let plain = file(2).with("nat = true\n", "").write();
    let _ = host.vethpath(format!("up {plain}")).ok();
    assert_sysctl(&host, theirs, "net.ipv4.ip_forward", "0");
    let _ = host.vethpath(format!("up {}", file(2).write())).ok();
    assert_sysctl(&host, theirs, "net.ipv6.conf.all.forwarding", "1");
    second.down();
    assert_eq!(settings_of(&host, theirs), before);
    host.finish();
}

/// There is nothing to restore in a namespace that its owner has removed.
#[test]
fn settings_of_a_deleted_adopted_namespace_are_discarded() {
    let host = Host::new();
    let _ = host.run("ip netns add theirs").ok();
    let text = "[namespace.theirs]\nadopt = { path = \"/run/netns/theirs\" }\n\
        [bridge.br0]\nnamespace = \"theirs\"\nnat = true\naddresses = [\"10.0.0.1/24\"]\n";
    let up = lab(&host, text).up();
    let _ = host.run("ip netns del theirs").ok();
    up.down();
    let left: Vec<_> =
        std::fs::read_dir(host.path("/run/vethpath")).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    host.finish();
}

/// Settings that the kernel changes on the host together with forwarding are restored as well.
#[test]
fn settings_changed_by_forwarding_are_restored_on_the_host() {
    let mut host = Host::new();
    for command in [
        "ip link add d0 type veth peer name d1",
        "sysctl -w net.ipv4.conf.d0.forwarding=1 net.ipv6.conf.d1.forwarding=1",
        "sysctl -w net.ipv4.conf.all.accept_redirects=0",
    ] {
        let _ = host.run(command).ok();
    }
    host.set_baseline();
    let before = settings_of(&host, "");
    let up = lab(&host, "[bridge.br0]\nnat = true\naddresses = [\"10.0.0.1/24\", \"fd00::1/64\"]\n").up();
    assert_sysctl(&host, "", "net.ipv4.conf.d1.forwarding", "1");
    up.down();
    assert_eq!(settings_of(&host, ""), before);
    host.finish();
}

/// In a namespace's own table, in a group's, and for a bridge, which has none: in a new lab, in one that is up, and
/// after `down`.
#[test]
fn a_setting_of_an_interface_may_stand_with_its_namespace() {
    let host = Host::new();
    let text = "[bridge.br0]\nnamespace = \"r\"\n[namespace.r.sysctls]\n\"net/ipv4/conf/eth0.100/rp_filter\" = 2\n\
        \"net.ipv4.conf.br0.rp_filter\" = 2\n\"net.ipv4.conf.lo.rp_filter\" = 2\n\
        [namespace.r.interface.\"eth0.100\"]\nlink = \"br0\"\n\
        [group.g]\ncount = 2\nbridge = \"br0\"\nsysctls = { \"net.ipv4.conf.eth0.rp_filter\" = 2 }\n";
    let plain = text.replace("rp_filter\" = 2", "rp_filter\" = 0");
    let keys = [("r", "eth0/100"), ("r", "br0"), ("r", "lo"), ("g0", "eth0"), ("g1", "eth0")];
    for first in [text, &plain] {
        let up = lab(&host, first).up();
        let _ = host.vethpath(format!("up {}", lab(&host, text).write())).ok();
        for (namespace, interface) in keys {
            let enter = format!("ip netns exec {namespace}");
            assert_sysctl(&host, &enter, &format!("net.ipv4.conf.{interface}.rp_filter"), "2");
        }
        let _ = host.vethpath(format!("plan {}", up.file)).ok().stdout_has("nothing to change");
        up.down();
    }
    let missing = text.replace("conf.br0", "conf.br1");
    let _ = host
        .vethpath(format!("validate {}", lab(&host, &missing).write()))
        .fails(1)
        .stderr_has("does not have: `br1`");
    host.finish();
}

/// The kernel lists addresses without duplicate address detection as `nodad`.
#[test]
fn duplicate_address_detection_is_where_the_file_has_it() {
    let host = Host::new();
    let (plain, dad) = ("fd00::2", "fd00::3");
    let text = "[bridge.br0]\naddresses = [\"fd00::1/64\"]\n[namespace.a.interface.eth0]\nlink = \"br0\"\naddresses = [\"fd00::2/64\"]\n\
        [namespace.b]\n[namespace.b.interface.eth0]\nlink = \"br0\"\naddresses = [\"fd00::3/64\"]\n";
    let default = text.replace(
        "[namespace.b]\n",
        "[namespace.b]\nsysctls = { \"net.ipv6.conf.default.accept_dad\" = 1 }\n",
    );
    let key = text.to_owned() + "dad = true\n";
    let lab_wide =
        "dad = true\n".to_owned() + &text.replace("fd00::2/64\"]\n", "fd00::2/64\"]\ndad = false\n");
    for text in [default, key, lab_wide] {
        let up = lab(&host, &text).up();
        let nodad = |namespace: &str, address: &str| {
            let output = up.run(namespace, format!("ip -o -6 addr show to {address}")).ok();
            assert!(output.stdout.contains(address), "{output}");
            output.stdout.contains("nodad")
        };
        assert!(nodad("a", plain) && !nodad("b", dad), "{text}");
        assert_sysctl(&host, "ip netns exec a", "net.ipv6.conf.eth0.accept_dad", "0");
        assert_sysctl(&host, "ip netns exec b", "net.ipv6.conf.eth0.accept_dad", "1");
        let _ = host.vethpath(format!("plan {}", up.file)).ok().stdout_has("nothing to change");
        up.down();
    }
    let up = lab(&host, text).up();
    let _ = host.vethpath(format!("up {}", lab(&host, &("dad = true\n".to_owned() + text)).write())).ok();
    for (enter, key) in [("", "br0"), ("ip netns exec a", "eth0"), ("ip netns exec b", "default")] {
        assert_sysctl(&host, enter, &format!("net.ipv6.conf.{key}.accept_dad"), "1");
    }
    let _ = host.vethpath(format!("up {}", lab(&host, text).write())).ok();
    assert_sysctl(&host, "ip netns exec a", "net.ipv6.conf.eth0.accept_dad", "0");
    up.down();
    host.finish();
}

/// The kernel shows an empty list as an empty value.
#[test]
fn an_empty_value_is_a_value() {
    let host = Host::new();
    let text =
        |value: &str| format!("[namespace.h.sysctls]\n\"net.ipv4.ip_local_reserved_ports\" = \"{value}\"\n");
    let up = lab(&host, &text("8080")).up();
    assert_sysctl(&host, "ip netns exec h", "net.ipv4.ip_local_reserved_ports", "8080");
    for without in ["[namespace.h]\n".to_owned(), text("")] {
        let file = lab(&host, &without).write();
        let _ = host.vethpath(format!("up {file}")).ok();
        assert_sysctl(&host, "ip netns exec h", "net.ipv4.ip_local_reserved_ports", "");
        let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
        let file = lab(&host, &text("8080")).write();
        let _ = host.vethpath(format!("up {file}")).ok();
    }
    up.down();
    host.finish();
}

/// `nat` switches forwarding on for all interfaces, and an interface gets its IPv6 MTU when it comes up.
#[test]
fn settings_that_the_kernel_writes_itself_are_written_after_it() {
    let host = Host::new();
    let text = |settings: &str, nat: bool| {
        format!(
            "[bridge.br0]\nnamespace = \"r\"\naddresses = [\"10.7.0.1/24\"]\nnat = {nat}\n\
             [namespace.r.interface.eth0]\nlink = \"h:eth0\"\n{settings}\
             [namespace.h.interface.eth0]\nlink = \"r:eth0\"\n"
        )
    };
    let with = |mtu: u32, forwarding: u8, nat| {
        let settings = format!(
            "sysctls = {{ \"net.ipv6.conf.eth0.mtu\" = {mtu}, \"net.ipv4.conf.eth0.forwarding\" = {forwarding} }}\n"
        );
        lab(&host, &text(&settings, nat)).write()
    };
    let enter = "ip netns exec r";
    let assert_applied = |file: &str, mtu: u32, forwarding: u8| {
        assert_sysctl(&host, enter, "net.ipv6.conf.eth0.mtu", &mtu.to_string());
        assert_sysctl(&host, enter, "net.ipv4.conf.eth0.forwarding", &forwarding.to_string());
        let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
    };
    // In a new lab, with a change of the file, and where another step of a later run writes them.
    for (mtu, forwarding, nat) in [(1400, 0, true), (1300, 1, true), (1300, 0, false), (1300, 0, true)] {
        let file = with(mtu, forwarding, nat);
        let _ = host.vethpath(format!("up {file}")).ok();
        assert_applied(&file, mtu, forwarding);
    }
    let _ = host.run(format!("{enter} ip link set eth0 down")).ok();
    let file = with(1300, 0, true);
    let _ = host.vethpath(format!("up {file}")).ok();
    assert_applied(&file, 1300, 0);
    let _ = host.vethpath("down settings").ok();
    host.finish();
}

/// What another step writes, in the namespace or through another device, and what comes with IPv6.
#[test]
fn one_up_writes_all_settings() {
    let host = Host::new();
    let redirects = "[namespace.r.sysctls]\n\"net.ipv4.conf.all.accept_redirects\" = 1\n\
        \"net.ipv4.conf.default.forwarding\" = 0\n";
    let bridge =
        |more: &str| format!("[bridge.br0]\nnamespace = \"r\"\naddresses = [\"10.7.0.1/24\"]\n{more}");
    let mtu = "[namespace.r.sysctls]\n\"net.ipv6.conf.br0.mtu\" = 1400\n";
    let member = "[namespace.h.interface.eth0]\nlink = \"br0\"\n";
    let small = |mtu: u32, more: &str| format!("{member}mtu = {mtu}\n{more}");
    let ra = "sysctls = { \"net.ipv6.conf.eth0.accept_ra\" = 0 }\n";
    let scripts = [
        vec![format!("{}{redirects}", bridge("nat = true\n")), format!("{}{redirects}", bridge(""))],
        // The first port gives a bridge its carrier.
        vec![bridge(mtu), format!("{}{member}", bridge(mtu))],
        vec![format!("{}{}", bridge(""), small(1200, "")), format!("{}{}", bridge(""), small(1400, ra))],
    ];
    for script in scripts {
        for text in &script {
            let text =
                if text.contains("namespace.r") { text.clone() } else { format!("{text}[namespace.r]\n") };
            let file = lab(&host, &text).write();
            let _ = host.vethpath(format!("up {file}")).ok();
            let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
        }
        let _ = host.vethpath("down settings").ok();
    }
    host.finish();
}

#[test]
fn a_setting_that_does_not_exist_is_an_error_of_the_file() {
    let host = Host::new();
    for (at, key) in [
        ("[namespace.ns0]\n", "net.ipv4.nosuch"),
        ("[namespace.ns0.interface.eth0]\n", "net.ipv4.conf.eth0.nosuch"),
    ] {
        let file = host.lab("three-hosts").with(at, &format!("{at}sysctls = {{ \"{key}\" = 1 }}\n")).write();
        let output = host.vethpath(format!("up {file}")).fails(1).stderr_has("hint:");
        let _ = output.stderr_has(&format!("cannot set sysctl {key} = 1 in namespace ns0: No such file"));
        assert_eq!(host.changes(), None, "{key}");
    }
    host.finish();
}

#[test]
fn a_setting_that_does_not_exist_is_an_error_in_a_lab_that_is_up_too() {
    let host = Host::new();
    let text = "[namespace.h]\nsysctls = { \"net.ipv4.vethpath_has_none\" = 1 }\n";
    let bad = lab(&host, text).write();
    let _ = host.vethpath(format!("up {bad}")).fails(1).stderr_has("net.ipv4.vethpath_has_none");
    let up = lab(&host, "[namespace.h]\n").up();
    let bad = lab(&host, text).write();
    let _ = host.vethpath(format!("up {bad}")).fails(1).stderr_has("net.ipv4.vethpath_has_none");
    let file = lab(&host, "[namespace.h]\n").write();
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
    up.down();
    host.finish();
}

/// A killed `up` has recorded the file without having written its settings.
#[test]
fn a_setting_that_does_not_exist_is_an_error_after_a_killed_up_too() {
    let host = Host::new();
    for (table, key) in [
        ("[namespace.h]\n", "net.ipv4.vethpath_has_none"),
        ("[namespace.h.interface.eth0]\nlink = \"br0\"\n", "net.ipv6.conf.eth0.vethpath_has_none"),
    ] {
        let text = format!("[bridge.br0]\n{table}sysctls = {{ \"{key}\" = 1 }}\n");
        let bad = lab(&host, &text).write();
        for line in 1.. {
            let output = host.run(format!("env VETHPATH_STOP_AFTER={line} {} up {bad}", host.exe()));
            let _ = host.vethpath(format!("up {bad}")).fails(1).stderr_has(key);
            // A first run that was not killed has left nothing.
            let _ = host.vethpath(format!("down {bad}"));
            assert!(line < 100, "it is never killed: is this a debug build? {output}");
            if output.code().is_some() {
                assert!(line > 3, "it was hardly ever killed: {output}");
                break;
            }
        }
    }
    host.finish();
}

/// The kernel destroys an interface's IPv6 state below an MTU of 1280 bytes, and creates it with defaults at 1280.
#[test]
fn settings_are_written_again_where_ipv6_comes_back() {
    let host = Host::new();
    let text = |mtu: u32| {
        format!(
            "[bridge.br0]\n[namespace.e.interface.eth0]\nlink = \"br0\"\nmtu = {mtu}\n\
             [namespace.e.interface.eth2]\nlink = \"host:v0\"\nmtu = {mtu}\n\
             [namespace.host.interface.v0]\nlink = \"e:eth2\"\n"
        )
    };
    let up = lab(&host, &text(1000)).up();
    let file = lab(&host, &text(1400)).write();
    let _ = host.vethpath(format!("up {file}")).ok();
    for device in ["br0", "v0"] {
        assert_sysctl(&host, "env", &format!("net.ipv6.conf.{device}.accept_ra"), "0");
    }
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
    up.down();
    host.finish();
}
