//! The reason why a port is not armed: `stats` and `show` report the same, as text and as JSON.

use serde_json::Value;

use crate::harness::{Host, SLACK, TIMEOUT, wait_for, wait_until};

/// For every kind of port, both `stats` and `show` report why it is not armed, as text and as JSON.
#[test]
fn each_port_that_is_not_armed_says_why() {
    let host = Host::new();
    let more = "
[bridge.plain]
datapath = \"bridge\"
[namespace.ns0.interface.eth1]
link = \"plain\"
[namespace.ns1.interface.eth1]
link = \"ns2:eth1\"
";
    let lab = host.lab("trunk").and(more).named("three-hosts").up();
    let _ = host.run("ip link add stranger master left type veth peer name beyond").ok();
    let port = lab.port("ns0:eth0");
    let _ = host.run(format!("bridge link set dev {port} hairpin on")).ok();
    wait_for(SLACK, "the pair is not armed", || lab.stats().pair("ns0:eth0").state == "port flag hairpin");
    let trunk = "port flag learning off";
    let trunks = || host.vethpath("stats --json").ok().json()["trunks"].clone();
    let port = trunks()[0]["port"].as_str().expect("a port").to_owned();
    let _ = host.run(format!("bridge link set dev {port} learning off")).ok();
    wait_for(SLACK, "the trunk is not armed", || trunks()[0]["state"] == trunk);
    // If the agent answers one of them too late, that is all it reports.
    let [stats, show] = wait_until(TIMEOUT, || {
        let both = ["stats --json", "show --json"].map(|command| host.vethpath(command).ok());
        match both.iter().find(|told| told.stdout.contains("does not answer")) {
            Some(silent) => Err(silent.to_string()),
            None => Ok(both.map(|told| told.json())),
        }
    });
    let list = |list: &Value| list.as_array().cloned().expect("a list");
    let of_stats = [list(&stats["pairs"]), list(&stats["trunks"])].concat();
    let of_show: Vec<_> = list(&show["bridges"]).iter().flat_map(|bridge| list(&bridge["ports"])).collect();
    assert_eq!((of_stats.len(), of_show.len()), (4 + 2, 4 + 4 + 1), "{stats:#}\n{show:#}");
    for told in &of_stats {
        let shown = of_show.iter().find(|shown| shown["name"] == told["port"]).expect("each port is shown");
        assert_eq!(told["state"], shown["state"]);
    }
    let states: Vec<_> = of_show.iter().map(|shown| shown["state"].as_str().expect("a state")).collect();
    let count = |state: &str| states.iter().filter(|other| **other == state).count();
    // Two pairs, and both ends of one trunk.
    assert_eq!([count("armed"), count("port flag hairpin"), count("datapath is \"bridge\"")], [4, 1, 1]);
    assert_eq!((count(trunk), count("it is not of the lab")), (2, 1), "{states:?}");
    for (command, words) in
        [("stats", "hairpin"), ("stats", "learning off"), ("show", "hairpin"), ("show", "not of")]
    {
        wait_until(TIMEOUT, || {
            let told = host.vethpath(command).ok();
            if told.stdout.contains(words) { Ok(()) } else { Err(format!("{words:?}: {told}")) }
        });
    }
    let _ = host.run("ip link del stranger").ok();
    lab.down();
    host.finish();
}
