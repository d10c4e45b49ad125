//! `vethpath stats --rtt`: what the hosts' TCP connections measure, with `ss` as judge.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use serde_json::Value;

use crate::harness::{Host, Lab, SLACK, wait_until};

/// Both sockets of a connection between two hosts, after some messages. They stay open and idle.
#[track_caller]
fn connect(lab: &Lab<'_>, from: &str, (to, address): (&str, &str)) -> [TcpStream; 2] {
    let address: IpAddr = address.parse().expect("an address");
    let listen = || TcpListener::bind(SocketAddr::new(address, 0));
    let listener = lab.netns(to).run(listen).expect("it can be entered").expect("a listener");
    let at = listener.local_addr().expect("it is bound");
    let client = lab.netns(from).run(|| TcpStream::connect(at)).expect("it can be entered");
    let mut client = client.unwrap_or_else(|error| panic!("{from} to {at}: {error}"));
    let (mut server, _) = listener.accept().expect("it is connected");
    let mut message = [0; 100];
    for _ in 0..10 {
        client.write_all(&message).expect("it is sent");
        server.read_exact(&mut message).expect("it arrives");
        server.write_all(&message).expect("it is sent");
        client.read_exact(&mut message).expect("it arrives");
    }
    [client, server]
}

/// Of a connection: the peer's address, and `rtt`, `rttvar` and `minrtt` in microseconds.
type Judged = (IpAddr, [u64; 3]);

/// The established connections of a namespace, by `ss`.
#[track_caller]
fn judged(lab: &Lab<'_>, namespace: &str) -> Vec<Judged> {
    let listed = lab.run(namespace, "ss -H -O -n -t -i state established").ok().stdout;
    let connection = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, _) = words.get(3)?.rsplit_once(':')?;
        let address = address.trim_matches(['[', ']']).parse().ok()?;
        let value = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
        // `ss` prints milliseconds.
        let microseconds = |text: &str| {
            let time = Duration::try_from_secs_f64(text.parse::<f64>().ok()? / 1000.0).ok()?;
            u64::try_from(time.as_micros()).ok()
        };
        let (rtt, var) = value("rtt")?.split_once('/')?;
        Some((address, [microseconds(rtt)?, microseconds(var)?, microseconds(value("minrtt")?)?]))
    };
    listed.lines().map(|line| connection(line).unwrap_or_else(|| panic!("{line:?}"))).collect()
}

/// The same by pair and host, as `stats` has it.
fn expected(lab: &Lab<'_>, hosts: &[(&str, &[&str])]) -> BTreeMap<String, Vec<Value>> {
    let mut pairs = BTreeMap::new();
    for (namespace, _) in hosts {
        let all = judged(lab, namespace);
        let of_peer = |(peer, addresses): &(&str, &[&str])| {
            let is_peer = |(address, _): &&Judged| addresses.contains(&address.to_string().as_str());
            let mut times: Vec<[u64; 3]> = all.iter().filter(is_peer).map(|(_, times)| *times).collect();
            times.sort_unstable();
            let (median, worst) = (times.get(times.len().checked_sub(1)? / 2)?, times.last()?);
            Some(serde_json::json!({
                "peer": peer,
                "connections": times.len(),
                "srtt_us": median[0],
                "var_us": median[1],
                "worst_us": worst[0],
                "min_us": times.iter().map(|times| times[2]).min(),
            }))
        };
        pairs.insert(format!("{namespace}:eth0"), hosts.iter().filter_map(of_peer).collect());
    }
    pairs
}

/// By pair, what `stats --rtt` prints.
#[track_caller]
fn printed(host: &Host, lab: &Lab<'_>) -> BTreeMap<String, Vec<Value>> {
    let stats = host.vethpath(format!("stats {} --rtt --json", lab.name)).ok().json();
    let pairs = stats["pairs"].as_array().expect("a list");
    let name = |pair: &Value| pair["name"].as_str().expect("a name").to_owned();
    pairs.iter().map(|pair| (name(pair), pair["rtt"].as_array().expect("a list").clone())).collect()
}

#[test]
fn round_trip_times_are_those_that_the_kernel_has_measured() {
    const HOSTS: [(&str, &[&str]); 3] = [
        ("ns0", &["10.0.0.10", "fd00::10"]),
        ("ns1", &["10.0.0.11", "fd00::11", "10.0.0.99"]),
        ("ns2", &["10.0.0.12"]),
    ];
    let host = Host::new();
    let more = "[namespace.ns2.interface.eth0]\nlink = \"br0\"\naddresses = [\"10.0.0.12/24\"]\n";
    let lab = host.lab("two-families").and(more).up();
    let none = host.vethpath(format!("stats {} --rtt", lab.name)).ok();
    let _ = none.stdout_has("\nno TCP connection between hosts of the lab\n");
    assert!(printed(&host, &lab).values().all(Vec::is_empty));

    // An address that is not in the file.
    let _ = lab.run("ns1", "ip address add 10.0.0.99/24 dev eth0").ok();
    let mut connections = vec![
        connect(&lab, "ns0", ("ns1", "10.0.0.11")),
        connect(&lab, "ns0", ("ns1", "fd00::11")),
        connect(&lab, "ns0", ("ns1", "10.0.0.99")),
        connect(&lab, "ns1", ("ns0", "10.0.0.10")),
        connect(&lab, "ns2", ("ns0", "10.0.0.10")),
    ];
    // Neither is between two hosts.
    let _ = lab.run("ns2", "ip link set lo up").ok();
    connections.push(connect(&lab, "ns2", ("ns2", "127.0.0.1")));
    let gateway = host.netns().run(|| TcpListener::bind("10.0.0.1:0")).expect("it can be entered");
    let gateway = gateway.expect("a listener");
    let at = gateway.local_addr().expect("it is bound");
    let to_gateway = lab.netns("ns0").run(|| TcpStream::connect(at)).expect("it can be entered");
    let to_gateway = to_gateway.expect("the bridge answers");

    // The last acknowledgements may be delayed.
    let times = wait_until(SLACK, || {
        let (before, ours, after) = (expected(&lab, &HOSTS), printed(&host, &lab), expected(&lab, &HOSTS));
        if before == after && ours == before {
            Ok(ours)
        } else {
            Err(format!("ss: {before:#?}\nstats: {ours:#?}\nss again: {after:#?}"))
        }
    });
    let of = |pair: &str, peer: &str| {
        let found = times[pair].iter().find(|one| one["peer"] == peer);
        found.map(|one| one["connections"].as_u64().expect("a number"))
    };
    assert_eq!(
        (of("ns0:eth0", "ns1"), of("ns0:eth0", "ns2"), of("ns1:eth0", "ns2")),
        (Some(4), Some(1), None)
    );
    let table = host.vethpath(format!("stats {} --rtt", lab.name)).ok();
    let row = table.stdout.lines().find(|line| line.starts_with("ns0:eth0  ns1 "));
    assert!(row.is_some_and(|row| row.contains("  4  ") && row.contains(" ms")), "{table}");

    // None of this keeps the lab's namespaces.
    drop((connections, to_gateway, gateway));
    lab.down();
    host.finish();
}

#[test]
fn a_namespace_that_is_gone_has_no_connections() {
    let host = Host::new();
    let lab = host.lab("two-families").up();
    let _ = host.run("ip netns del ns1").ok();
    assert!(printed(&host, &lab).values().all(Vec::is_empty));
    lab.down();
    host.finish();
}
