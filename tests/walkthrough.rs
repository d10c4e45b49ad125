//! The first example of the README, from `up` to `down`.

use serde_json::Value;

use crate::harness::{Host, Lab, SLACK, wait_until};

const HOSTS: [(&str, &str); 3] = [("ns0", "172.17.0.101"), ("ns1", "172.17.0.102"), ("ns2", "172.17.0.103")];
const GATEWAY: &str = "172.17.0.1";

#[test]
fn all_hosts_reach_each_other() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    for (from, _) in HOSTS {
        for (_, to) in HOSTS {
            lab.reaches(from, to);
        }
        lab.reaches(from, GATEWAY);
    }
    for (_, to) in HOSTS {
        let _ = host.run(format!("ping -n -q -c 3 -l 3 -W 5 {to}")).ok().stdout_has(" 0% packet loss");
    }
    lab.down();
    host.finish();
}

#[test]
fn other_tools_see_what_the_file_says() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();

    let listed = host.run("ip netns list").ok().stdout;
    let names: Vec<_> = listed.lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert_eq!(
        (names.len(), host.namespaces()),
        (3, vec!["ns0".into(), "ns1".into(), "ns2".into()]),
        "{listed}"
    );

    let bridge = &host.json("ip -j addr show dev docker0")[0];
    assert_eq!(
        (&bridge["addr_info"][0]["local"], &bridge["addr_info"][0]["prefixlen"]),
        (&GATEWAY.into(), &16.into())
    );

    let ports = host.json("bridge -j link");
    let ports = ports.as_array().expect("a list");
    assert_eq!(ports.len(), 3, "{ports:#?}");
    for port in ports {
        assert_eq!((&port["master"], &port["state"]), (&"docker0".into(), &"forwarding".into()), "{port:#}");
    }

    for (namespace, address) in HOSTS {
        let eth0 = &host.json(format!("ip -j -n {namespace} addr show dev eth0"))[0];
        let of =
            |family: &str| eth0["addr_info"].as_array().into_iter().flatten().find(|a| a["family"] == family);
        let inet = of("inet").unwrap_or_else(|| panic!("no address: {eth0:#}"));
        assert_eq!((&inet["local"], &inet["prefixlen"]), (&address.into(), &16.into()), "{eth0:#}");
        assert_eq!(eth0["operstate"], "UP");
        assert_eq!(host.json(format!("ip -j -n {namespace} route show default"))[0]["gateway"], GATEWAY);
        let lo = host.run(format!("ip -n {namespace} link show dev lo")).ok();
        let _ = lo.stdout_has("LOOPBACK,UP");
    }
    lab.down();
    host.finish();
}

#[test]
fn a_ports_names_lead_back_to_its_namespace() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    for pair in &lab.stats().pairs {
        let (namespace, interface) = pair.name.split_once(':').expect("namespace:interface");
        let link = &host.json(format!("ip -j link show dev {}", pair.port))[0];
        let mut marks = link["altnames"].as_array().cloned().unwrap_or_default();
        marks.push(link["ifalias"].clone());
        let leads_back = |mark: &Value| {
            mark.as_str()
                .is_some_and(|m| m.contains(namespace) && m.contains(interface) && m.contains("three-hosts"))
        };
        assert!(marks.iter().all(leads_back) && marks.len() > 1, "{link:#}");
        // Other tools accept the alternative name.
        let name = marks[0].as_str().expect("an alternative name");
        assert_eq!(host.json(format!("ip -j link show dev {name}"))[0]["ifname"], pair.port.as_str());
        assert_eq!(pair.bridge, "docker0");
    }
    lab.down();
    host.finish();
}

#[test]
fn show_list_stats_and_plan() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    // By name, by file, and without an argument while one lab is up.
    for which in ["three-hosts", lab.file.as_str(), ""] {
        let _ = host.vethpath(format!("show {which}")).ok().stdout_has("ns0").stdout_has("docker0");
        let _ = host.vethpath(format!("stats {which}")).ok().stdout_has("ns0:eth0");
    }
    assert!(host.vethpath("show --json").ok().json().is_object());
    let _ = host.vethpath("list").ok().stdout_has("three-hosts");
    assert!(host.vethpath("list --json").ok().json().to_string().contains("three-hosts"));

    let stats = lab.stats();
    assert_eq!((stats.lab.as_str(), stats.agent.alive), ("three-hosts", true));
    let states: Vec<_> = stats.pairs.iter().map(|p| (p.name.as_str(), p.state.as_str())).collect();
    assert_eq!(states, [("ns0:eth0", "armed"), ("ns1:eth0", "armed"), ("ns2:eth0", "armed")]);

    let plan = host.vethpath(format!("plan {} --json", lab.file)).ok().json();
    assert_eq!((&plan["lab"], &plan["changes"]), (&"three-hosts".into(), &Value::Array(vec![])), "{plan:#}");
    lab.down();
    assert!(!host.vethpath("list --json").ok().json().to_string().contains("three-hosts"));
    host.finish();
}

#[test]
fn plan_and_validate_touch_nothing() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    let _ = host.vethpath(format!("validate {file}")).ok();
    let plan = host.vethpath(format!("plan {file} --json")).ok().json();
    for name in ["ns0", "ns1", "ns2", "docker0"] {
        let creates =
            |c: &Value| c["action"] == "create" && c["name"].as_str().is_some_and(|n| n.contains(name));
        assert!(plan["changes"].as_array().expect("a list").iter().any(creates), "{name} is not in {plan:#}");
    }
    assert_eq!(host.changes(), None);
    host.finish();
}

#[test]
fn up_twice_changes_nothing() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let links = || {
        wait_until(SLACK, || {
            let links = all_links(&host, &lab);
            // The kernel updates link state asynchronously.
            if links.contains("state DOWN") || links.contains("state LOWERLAYERDOWN") {
                Err(links)
            } else {
                Ok(links)
            }
        })
    };
    let (before, pid) = (links(), lab.pid());
    let again = host.vethpath(format!("up {} --json", lab.file)).ok().json();
    assert_eq!(
        (&again["lab"], &again["changes"]),
        (&"three-hosts".into(), &Value::Array(vec![])),
        "{again:#}"
    );
    assert_eq!((links(), lab.pid()), (before, pid));
    lab.down();
    host.finish();
}

/// Every link of every namespace, with its index and addresses.
fn all_links(host: &Host, lab: &Lab<'_>) -> String {
    let inside = host.namespaces().into_iter().map(|n| lab.run(&n, "ip -o link").ok().stdout);
    host.run("ip -o link").ok().stdout + &inside.collect::<String>()
}
