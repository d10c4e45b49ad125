//! Large labs: hundreds of hosts on one bridge.

use std::time::Duration;

use super::harness::{Host, Stats, sized, wait_until, with_a_lease};

/// Timeout for a large lab where tests share the machine, in a build that is not optimised.
const LONG: Duration = Duration::from_secs(300);

/// The number of hosts.
fn hosts() -> usize {
    sized(200, 1000)
}

fn address(number: usize) -> String {
    format!("10.77.{}.{}", 1 + number / 200, 1 + number % 200)
}

fn topology(hosts: usize) -> String {
    let mut text = "[bridge.br0]\naddresses = [\"10.77.0.1/16\"]\n".to_owned();
    for number in 0..hosts {
        text += &format!(
            "[namespace.h{number}]\ngateway = \"10.77.0.1\"\n[namespace.h{number}.interface.eth0]\n\
             link = \"br0\"\naddresses = [\"{}/16\"]\n",
            address(number)
        );
    }
    text
}

#[test]
fn a_lab_of_hundreds_of_hosts_comes_up_armed_and_goes_without_a_trace() {
    let (host, hosts) = (Host::new(), hosts());
    let file = host.topology("large", &topology(hosts));
    let up = host.spawn_vethpath(format!("up {file}")).wait(LONG).ok();
    assert!(up.stderr.contains(&format!("fast path: {hosts} of {hosts} pairs armed")), "{up}");

    let stats = || {
        let done = host.spawn_vethpath("stats large --json").wait(LONG).ok();
        serde_json::from_str::<Stats>(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done}"))
    };
    let before = stats();
    assert_eq!(before.pairs.len(), hosts);
    let unarmed: Vec<_> = before.pairs.iter().filter(|pair| pair.state != "armed").collect();
    assert!(unarmed.is_empty(), "{unarmed:#?}");

    let fast = with_a_lease(stats, || {
        let before = stats();
        for round in 0..10 {
            let (from, to) = (round * 7919 % hosts, (round * 104_729 + 1) % hosts);
            if from != to {
                let ping = format!("ip netns exec h{from} ping -n -q -c 3 -l 3 -W 5 {}", address(to));
                let _ = host.run(ping).ok().prints(" 0% packet loss");
            }
        }
        stats().fast() - before.fast()
    });
    assert!(fast >= 30, "{fast}: {:#?}", stats());

    let again = host.spawn_vethpath(format!("up {file} --json")).wait(LONG).ok();
    assert_eq!(again.json()["changes"], serde_json::json!([]), "{again}");

    let _ = host.spawn_vethpath("down large").wait(LONG).ok();
    assert_eq!(host.namespaces(), [""; 0]);
    let links = host.run("ip -o link").ok().stdout;
    assert_eq!(links.lines().count(), 1, "{links}");
    host.finish();
}

#[test]
fn links_that_are_not_the_labs_survive_the_removal_of_many_that_are() {
    let host = Host::new();
    let file = host.topology("many", &topology(20));
    let _ = host.vethpath(format!("up {file}")).ok();
    // One on the lab's own bridge, one in a group, one of another kind.
    for command in [
        "ip link add foreign0 type veth peer name beyond0",
        "ip link set foreign0 master br0",
        "ip link add foreign1 group 77 type veth peer name beyond1",
        "ip link add foreign2 type bridge",
    ] {
        let _ = host.run(command).ok();
    }
    let _ = host.vethpath("down many").ok();
    for link in ["foreign0", "foreign1", "foreign2"] {
        let _ = host.run(format!("ip link show {link}")).ok();
    }
    let _ = host.run("ip -o link show foreign1").ok().prints("group 77");
    for link in ["foreign0", "foreign1", "foreign2"] {
        let _ = host.run(format!("ip link delete {link}")).ok();
    }
    host.finish();
}

#[test]
fn a_namespace_that_somebody_holds_open_keeps_nothing_of_the_lab() {
    let host = Host::new();
    let file = host.topology("held", &topology(12));
    let _ = host.vethpath(format!("up {file}")).ok();
    let sleeper = host.spawn("ip netns exec h3 sleep 1000");
    let netns = vethpath::kernel::Netns::open(&host.path("/run/netns/h3"), "h3").expect("it is up");
    let _ = host.vethpath("down held").ok();
    let left = netns.run(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
    assert!(!left.contains("eth0"), "{left}");
    drop((sleeper, netns));
    host.finish();
}

/// `up` sets a new bridge up last, but before it adds routes via that bridge.
#[test]
fn a_namespace_has_a_route_by_way_of_its_own_new_bridge() {
    let host = Host::new();
    let text = "[bridge.br0]\nnamespace = \"fabric\"\naddresses = [\"10.77.0.1/16\", \"2001:db8::1/64\"]\n\
                [namespace.fabric]\nroutes = [{ to = \"10.88.0.0/16\", via = \"10.77.1.1\" }, \
                { to = \"2001:db8:1::/64\", via = \"2001:db8::2\" }]\n"
        .to_owned()
        + &topology(12).split_once("/16\"]\n").expect("it has a bridge").1.replace("gateway", "# gateway");
    let file = host.topology("routed", &text);
    let _ = host.vethpath(format!("up {file}")).ok();
    let _ = host.run("ip -n fabric route show 10.88.0.0/16").ok().prints("via 10.77.1.1 dev br0");
    let _ = host.run("ip -n fabric -6 route show 2001:db8:1::/64").ok().prints("via 2001:db8::2 dev br0");
    let _ = host.vethpath(format!("plan {file}")).ok().prints("nothing to change");
    let _ = host.vethpath("down routed").ok();
    host.finish();
}

#[test]
fn a_killed_up_leaves_grace_periods_as_they_were() {
    const SWITCH: &str = "/sys/kernel/rcu_expedited";
    let switch = || std::fs::read_to_string(SWITCH).expect("the kernel has the switch");
    let host = Host::new();
    let file = host.topology("killed", &topology(60));
    for moment in [0, 20, 40, 60, 80, 100, 150, 200] {
        let up = host.spawn_vethpath(format!("up {file}"));
        std::thread::sleep(Duration::from_millis(moment));
        up.kill();
        let _ = up.wait(LONG);
        let _ = host.spawn_vethpath("down killed").wait(LONG);
        // Other labs on this machine set the switch too, for a moment.
        wait_until(LONG, || match switch().trim() {
            "0" => Ok(()),
            other => Err(format!("the switch is at {other}")),
        });
    }
    host.finish();
}
