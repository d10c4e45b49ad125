//! Machines that others use too: devices that are not the lab's, subnets that the machine has already, and settings that
//! a lab's hosts must not inherit.

use std::fs;

use crate::{
    harness::{Host, Output, SLACK, wait_until},
    hazards::{A, B},
    namespaces::with_nat,
};

const PORT: &str = "tap9 in host is a port of bridge docker0, and not the lab's";
const DEVICE: &str = "in0 in namespace ns0 is connected to what is outside the lab";

fn run_each<const N: usize>(host: &Host, commands: [&str; N]) {
    for command in commands {
        let _ = host.run(command).ok();
    }
}

/// Makes another's device a port of the lab's bridge.
fn plug_in(host: &Host) {
    run_each(host, ["ip link add tap9 type veth peer name tap8", "ip link set tap9 master docker0"]);
}

fn has_way_out(refused: Output) {
    let _ = refused.stderr_has("`vethpath down three-hosts --force`");
}

#[test]
fn a_bridge_with_a_port_of_another_is_not_deleted_without_force() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    plug_in(&host);
    let before = host.changes();
    has_way_out(host.vethpath("down three-hosts").fails(1).stderr_has(PORT));
    let _ = host.vethpath("down --all").fails(1).stderr_has(PORT);
    assert_eq!(host.changes(), before);
    lab.is_fast("ns0:eth0", B);
    let _ = host.vethpath("down three-hosts --force").ok();
    lab.forget();
    let _ = host.run("ip -o link show tap9").ok();
    let _ = host.run("ip link del tap9").ok();
    host.assert_restored("after `down --force`");

    let lab = host.lab("three-hosts").up();
    plug_in(&host);
    let _ = host.vethpath("down --all --force").ok();
    lab.forget();
    let _ = host.run("ip link del tap9").ok();
    host.finish();
}

/// The kernel deletes them with what is below them.
#[test]
fn a_bridge_below_a_device_of_another_is_not_deleted_without_force() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let _ = host.run("ip link add link docker0 name mv0 type macvlan").ok();
    let stacked = "mv0 in host is on top of docker0, and not the lab's";
    has_way_out(host.vethpath("down three-hosts").fails(1).stderr_has(stacked));
    let _ = host.run("ip link del mv0").ok();
    lab.down();
    host.finish();
}

/// What the lab has in a namespace that it adopted goes, and what is on top of it.
#[test]
fn a_device_on_top_of_the_labs_in_an_adopted_namespace_counts() {
    let host = Host::new();
    let _ = host.run("ip netns add theirs").ok();
    let text = "[bridge.br0]\n[namespace.theirs]\nadopt = { path = \"/run/netns/theirs\" }\n\
                [namespace.theirs.interface.eth0]\nlink = \"br0\"\n";
    let _ = host.vethpath(format!("up {}", host.topology("adopting", text))).ok();
    let _ = host.run("ip -n theirs link add link eth0 name mv0 type macvlan").ok();
    let refused =
        host.vethpath("down").fails(1).stderr_has("mv0 in theirs is on top of eth0, and not the lab's");
    let _ = refused.stderr_has("`ip -n theirs link del mv0` detaches the first one");
    let _ = host.run("ip -n theirs link del mv0").ok();
    let _ = host.vethpath("down").ok();
    let _ = host.run("ip netns del theirs").ok();
    host.finish();
}

/// A lab that another one depends on goes after that one.
#[test]
fn down_all_takes_labs_down_in_an_order_that_works() {
    let host = Host::new();
    let lab = |name: &str, namespace: &str| {
        let text =
            format!("[bridge.br{name}]\n[namespace.{namespace}.interface.eth0]\nlink = \"br{name}\"\n");
        let _ = host.vethpath(format!("up {}", host.topology(name, &text))).ok();
    };
    lab("aaa", "below");
    lab("bbb", "above");
    // A user connects the one with the bridge of the other.
    run_each(&host, ["ip link add up0 netns below type veth peer name port0 netns above"]);
    let _ = host
        .vethpath("down aaa")
        .fails(1)
        .stderr_has("up0 in namespace below is connected to what is outside");
    let _ = host.vethpath("down bbb").fails(1).stderr_has("port0 in namespace above");
    // Neither can be first without force. A macvlan on the bridge of one, in the namespace of the other, can.
    let both = host.vethpath("down --all").fails(1);
    assert_eq!(both.stderr.matches("error: foreign devices").count(), 2, "{}", both.stderr);
    run_each(&host, ["ip -n below link del up0", "ip link add link brbbb name mv0 type macvlan"]);
    run_each(&host, ["ip link set mv0 netns below"]);
    let _ = host.vethpath("down aaa").fails(1).stderr_has("mv0 in namespace below");
    let all = host.vethpath("down --all").ok();
    assert!(!all.stderr.contains("error"), "{}", all.stderr);
    host.finish();
}

/// Also where the record is damaged, so that the lab's objects are found by their marks.
#[test]
fn a_port_of_another_is_seen_without_a_record() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    plug_in(&host);
    let journal = host.path("/run/vethpath/three-hosts/journal");
    fs::write(journal, "x\n").expect("root may write it");
    has_way_out(host.vethpath("down three-hosts").fails(1).stderr_has(PORT));
    let _ = host.run("ip link add out0 type veth peer name in0 netns ns0").ok();
    has_way_out(host.vethpath("down three-hosts").fails(1).stderr_has(DEVICE));
    run_each(&host, ["ip link del tap9", "ip link del out0"]);
    let _ = host.vethpath("down three-hosts").ok();
    lab.forget();
    host.finish();
}

/// Root of a namespace may change what its interfaces are marked and known by.
#[test]
fn a_changed_end_of_the_labs_own_is_no_device_of_another() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    run_each(
        &host,
        [
            "ip -n ns0 link set eth0 alias uplink",
            "ip -n ns0 link set eth0 address 02:00:00:00:77:01",
            "ip -n ns1 link set eth0 alias vethpath:another",
        ],
    );
    lab.down();
    host.finish();
}

#[test]
fn a_namespace_with_a_device_from_outside_is_not_deleted_without_force() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    // These begin and end in the lab.
    run_each(
        &host,
        [
            "ip -n ns1 link add inner type bridge",
            "ip -n ns1 link add one type veth peer name two",
            "ip -n ns1 link set two master inner",
            "ip -n ns1 link add there type veth peer name back netns ns2",
        ],
    );
    let _ = host.run("ip link add out0 type veth peer name in0 netns ns0").ok();
    has_way_out(host.vethpath("down three-hosts").fails(1).stderr_has(DEVICE));
    let _ = host.run("ip -n ns0 link set in0 up").ok();
    lab.is_fast("ns0:eth0", B);
    let _ = host.run("ip -n ns0 link set in0 netns 1").ok();
    lab.down();
    run_each(&host, ["ip link del out0"]);
    host.finish();
}

/// The same holds where `up` would delete them.
#[test]
fn up_does_not_delete_what_has_devices_of_others_either() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let _ = host.run("ip link add out0 type veth peer name in0 netns ns2").ok();
    let without = "[bridge.docker0]\naddresses = [\"172.17.0.1/16\"]\ndatapath = \"tc\"\n\
                   [namespace.ns0.interface.eth0]\nlink = \"docker0\"\naddresses = [\"172.17.0.101/16\"]\n";
    let file = host.topology("three-hosts-later", &format!("name = \"three-hosts\"\n{without}"));
    let before = host.changes();
    let refusal = "in0 in namespace ns2 is connected to what is outside the lab";
    has_way_out(host.vethpath(format!("up {file}")).fails(1).stderr_has(refusal));
    let _ = host
        .vethpath(format!("plan {file}"))
        .ok()
        .stdout_has("- delete namespace ns2")
        .stderr_has("warning: `up` refuses this file")
        .stderr_has(refusal);
    assert_eq!(host.changes(), before);
    lab.reaches("ns2", A);
    let _ = host.run("ip link del out0").ok();
    let _ = host.vethpath(format!("up {file}")).ok();
    assert!(!host.namespaces().contains(&"ns2".to_owned()));
    lab.down();
    host.finish();
}

#[test]
fn a_subnet_that_the_machine_has_already_is_warned_of() {
    let host = Host::new();
    run_each(&host, ["ip link add taken type bridge", "ip address add 172.17.9.1/24 dev taken"]);
    let warning = "warning: subnet 172.17.0.0/16 of docker0 overlaps with 172.17.9.1/24 on taken";
    let file = host.lab("three-hosts").write();
    for command in ["plan", "validate --host", "up"] {
        let _ = host.vethpath(format!("{command} {file}")).ok().stderr_has(warning);
    }
    let _ = host.run("ip link del taken").ok();
    let again = host.vethpath(format!("up {file}")).ok();
    assert!(!again.stderr.contains("overlaps"), "{}", again.stderr);
    let _ = host.vethpath("down three-hosts").ok();
    host.finish();
}

/// By its name, in `ps` and `pgrep`, and in `list`.
#[test]
fn the_agent_is_found_by_its_name() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let pid = lab.pid();
    let _ = host.run("pgrep -x vethpath").ok().stdout_has(&pid.to_string());
    let _ = host.run("ps -o args= -C vethpath").ok().stdout_has("vethpath agent three-hosts");
    // A busy agent may answer too late.
    wait_until(SLACK, || match host.vethpath("list").ok().stdout {
        list if list.contains(&format!("agent alive (pid {pid}, ")) => Ok(()),
        list => Err(list),
    });
    let list = || host.vethpath("list --json").ok().json();
    wait_until(SLACK, || if list()[0]["pid"] == pid { Ok(()) } else { Err("it does not answer".to_owned()) });
    let line = &list()[0];
    let kib = line["memory_kib"].as_u64().expect("a number");
    assert!((500..1 << 20).contains(&kib), "{kib}");
    let since = line["since"].as_str().expect("a text");
    let now = host.run("date -u +%Y-%m-%dT%H").ok().stdout;
    // The test may pass a full hour.
    assert!(since.starts_with(&now[..10]) || now.trim_end().ends_with("T00"), "{since} and {now}");
    let _ = host.run(format!("kill -9 {pid}")).ok();
    host.wait_for_exit(pid);
    let dead = host.vethpath("list --json").ok().json();
    assert!(dead[0]["pid"].is_null() && dead[0]["agent"] == false, "{dead}");
    lab.down();
    host.finish();
}

/// Settings, rules, routes and the rest of the machine, beyond what each test compares.
fn state(host: &Host) -> String {
    let read = |command: &str| host.run(["sh", "-c", command]).ok().stdout;
    [
        "ip -d link; ip address; ip rule; ip -6 rule; ip route show table all | sort; ip netns; ip neigh",
        // Others' traffic counts in these.
        "sysctl -a 2>/dev/null | grep '^net\\.' | grep -v 'netfilter.nf_conntrack_count\\|random\\|stable_secret'",
        "nft list ruleset; iptables-nft-save 2>/dev/null; tc qdisc",
        "find /run /sys/fs/bpf -name '*veth*'; cut -d' ' -f3- /proc/self/mountinfo; ps -e -o args= | grep '^vethpath' || true",
    ]
    .map(read)
    .concat()
}

#[test]
fn down_all_leaves_nothing_of_vethpath() {
    let host = Host::new();
    // The kernel may load modules for NAT, which have settings of their own.
    with_nat(&host).up().down();
    let before = state(&host);
    with_nat(&host).up().forget();
    let xdp = "[bridge.brx]\ndatapath = \"xdp\"\n[namespace.x0.interface.eth0]\nlink = \"brx\"\n\
               [namespace.x1.interface.eth0]\nlink = \"brx\"\n";
    let _ = host.vethpath(format!("up {}", host.topology("other", xdp))).ok();
    assert_ne!(state(&host), before);
    let _ = host.vethpath("down --all").ok();
    let only = |these: &str, those: &str| -> Vec<String> {
        these.lines().filter(|line| !those.lines().any(|other| other == *line)).map(str::to_owned).collect()
    };
    // The agents release their locks a moment before they are gone.
    wait_until(SLACK, || {
        let after = state(&host);
        match (only(&before, &after), only(&after, &before)) {
            (gone, new) if gone.is_empty() && new.is_empty() => Ok(()),
            (gone, new) => Err(format!("gone: {gone:#?}\nnew: {new:#?}")),
        }
    });
    host.finish();
}

/// Settings of the machine that a new namespace would inherit, and other values than the kernel's own.
const INHERITED: [(&str, &str, &str); 4] = [
    ("default/forwarding", "1", "0"),
    ("default/rp_filter", "2", "0"),
    ("default/accept_source_route", "0", "1"),
    ("all/send_redirects", "0", "1"),
];

/// Settings of the machine's first namespace, where tests start. They are set back when this is dropped.
struct Machine(Vec<(String, String)>);

impl Machine {
    fn with(settings: &[(&str, &str, &str)]) -> Self {
        let set = |&(name, value, _): &(&str, &str, &str)| {
            let path = format!("/proc/sys/net/ipv4/conf/{name}");
            let was = fs::read_to_string(&path).expect("every kernel has it");
            fs::write(&path, value).expect("root may write it");
            (path, was)
        };
        Self(settings.iter().map(set).collect())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.0.iter().for_each(|(path, value)| fs::write(path, value).expect("it was writable"));
    }
}

/// Changes settings of the machine, so it runs alone.
#[test]
fn hosts_start_with_the_kernels_own_defaults() {
    let host = Host::new();
    let machine = Machine::with(&INHERITED);
    let value = |command: &str, name: &str| {
        host.run(format!("{command} cat /proc/sys/net/ipv4/conf/{name}")).ok().stdout.trim().to_owned()
    };
    let text = "[namespace.ns0]\n[namespace.ns1]\nsysctls = { \"net.ipv4.conf.default.rp_filter\" = 1 }\n";
    let file = host.topology("defaults", text);
    let _ = host.vethpath(format!("up {file}")).ok();
    for (name, of_machine, own) in INHERITED {
        assert_eq!(value("unshare -n", name), of_machine, "void: a new namespace does not inherit {name}");
        assert_eq!(value("ip netns exec ns0", name), own, "{name}");
    }
    assert_eq!(value("ip netns exec ns0", "lo/rp_filter"), "0");
    assert_eq!(value("ip netns exec ns0", "lo/forwarding"), "0");
    assert_eq!(value("ip netns exec ns1", "default/rp_filter"), "1");
    let _ = host.vethpath(format!("up {file}")).ok().stderr_has("nothing to change");
    drop(machine);
    let _ = host.vethpath("down defaults").ok();
    host.finish();
}
