//! `ping` and `test`: which hosts reach which, and expectations of that. `ip` makes and breaks the ways.

use serde_json::Value;

use crate::harness::{Host, Lab, Output, SLACK, TIMEOUT, sized, wait_until};

/// Two hosts with both families, one with IPv4 alone, and one that has no address.
const MORE: &str = "\
[namespace.ns2.interface.eth0]
link = \"br0\"
addresses = [\"10.0.0.12/24\"]
[namespace.idle.interface.eth0]
link = \"br0\"
";

/// A time that is enough on a loaded machine, where all must answer.
const PATIENT: &str = "--within 30s";

/// The pairs of `ping`, as `from to family`, that were reached, and those that were not with the reason.
fn pairs(matrix: &Value) -> (Vec<String>, Vec<String>) {
    let (mut reached, mut unreached) = (Vec::new(), Vec::new());
    for pair in matrix["pairs"].as_array().expect("a list") {
        let text = |key: &str| pair[key].as_str().unwrap_or_else(|| panic!("no {key}: {pair}")).to_owned();
        let name = format!("{} {} {}", text("from"), text("to"), text("family"));
        match pair["reached"].as_bool() {
            Some(true) => {
                assert!(pair["rtt_us"].as_u64().is_some_and(|time| time > 0), "{pair}");
                reached.push(name);
            }
            _ => unreached.push(format!("{name}: {}", text("reason"))),
        }
    }
    reached.sort();
    unreached.sort();
    (reached, unreached)
}

#[track_caller]
fn ping(host: &Host, arguments: &str, code: i32) -> (Vec<String>, Vec<String>) {
    let output = host.vethpath(format!("ping {arguments} --json"));
    assert_eq!(output.code(), Some(code), "{output}");
    pairs(&output.json())
}

#[test]
fn each_host_asks_each_other_by_each_family_that_both_have() {
    let host = Host::new();
    let lab = host.lab("two-families").and(MORE).up();
    let all = [
        "ns0 ns1 ipv4",
        "ns0 ns1 ipv6",
        "ns0 ns2 ipv4",
        "ns1 ns0 ipv4",
        "ns1 ns0 ipv6",
        "ns1 ns2 ipv4",
        "ns2 ns0 ipv4",
        "ns2 ns1 ipv4",
    ];
    assert_eq!(ping(&host, PATIENT, 0), (all.map(str::to_owned).to_vec(), vec![]));
    let text = host.vethpath(format!("ping {PATIENT}")).ok();
    let _ = text.stdout_has("IPv4: 6 of 6 pairs reached").stdout_has("IPv6: 2 of 2 pairs reached");
    let (some, _) = ping(&host, &format!("--from ns0,ns2 --to ns1 {PATIENT}"), 0);
    assert_eq!(some, ["ns0 ns1 ipv4", "ns0 ns1 ipv6", "ns2 ns1 ipv4"]);

    // An address that is not in the file counts, as do those that are gone.
    let _ = lab.run("idle", "ip address add 10.0.0.77/24 dev eth0").ok();
    let _ = lab.run("ns2", "ip address flush dev eth0").ok();
    let (some, _) = ping(&host, &format!("--from ns0 {PATIENT}"), 0);
    assert_eq!(some, ["ns0 idle ipv4", "ns0 ns1 ipv4", "ns0 ns1 ipv6"]);
    let _ = lab.run("idle", "ip address flush dev eth0").ok();

    // A host that is cut off, and one without a route.
    let _ = lab.run("ns1", "ip link set eth0 down").ok();
    let (reached, unreached) = ping(&host, "--from ns0", 3);
    assert_eq!(reached, [""; 0]);
    assert_eq!(unreached, ["ns0 ns1 ipv4: no reply"], "its IPv6 addresses went with the link");
    let _ = lab.run("ns2", "ip address add 10.9.9.9/24 dev eth0").ok();
    let (_, unreached) = ping(&host, "--from ns2 --to ns0", 3);
    assert_eq!(unreached, ["ns2 ns0 ipv4: no route"]);
    lab.down();
    host.finish();
}

#[test]
fn what_ping_cannot_do_is_named() {
    let host = Host::new();
    let _ = host.vethpath("ping").fails(1).stderr_has("no lab is up");
    let lab = host.lab("two-families").up();
    let _ = host
        .vethpath("ping --from ns00")
        .fails(1)
        .stderr_has("lab `two-families` has no host `ns00`")
        .stderr_has("hint: did you mean `ns0`? there are: ns0, ns1");
    let _ = host.vethpath("ping --within 2h").fails(1).stderr_has("expected a time from 100ms to");
    let _ = host.run("ip netns del ns1").ok();
    let _ = host.vethpath("ping").fails(2).stderr_has("ns1").stderr_has("hint: `vethpath up FILE` makes");
    lab.down();
    host.finish();
}

/// The IPv4 neighbours of a namespace, without their states.
fn neighbours(lab: &Lab<'_>, namespace: &str) -> Vec<String> {
    let listed = lab.run(namespace, "ip -4 neigh").ok();
    let first = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let mut found: Vec<String> = listed.stdout.lines().map(first).collect();
    found.sort();
    found
}

/// All namespaces of a machine share a neighbour table, with room for 1,024 entries by default. Hosts that all ask each
/// other need more of them at once.
#[test]
fn a_lab_of_more_pairs_than_the_machine_has_neighbours_is_pinged_and_leaves_none() {
    let hosts = sized(40, 100);
    let host = Host::new();
    let text = format!(
        "name = \"crowd\"\n[bridge.br0]\n[group.h]\ncount = {hosts}\nbridge = \"br0\"\n\
         subnet = [\"10.0.0.0/24\", \"fd00::/64\"]\n"
    );
    let file = host.topology("crowd", &text);
    let _ = host.vethpath(format!("up {file}")).ok();
    let lab = Lab::existing(&host, "crowd", file);
    let kept = "ip neigh add 10.0.0.200 lladdr 02:00:00:00:00:99 dev eth0 nud permanent";
    let _ = lab.run("h0", kept).ok();
    let matrix = host.vethpath(format!("ping {PATIENT} --json")).ok().json();
    let pairs = hosts * (hosts - 1);
    assert_eq!((&matrix["tried"], &matrix["reached"]), (&(2 * pairs).into(), &(2 * pairs).into()));
    // 1,560 pairs of a family are more than three quarters of the default limit, and entries are removed again.
    let limit =
        std::fs::read_to_string("/proc/sys/net/ipv4/neigh/default/gc_thresh3").expect("IPv4 is there");
    let limit: usize = limit.trim().parse().expect("a number");
    let left = neighbours(&lab, "h0");
    if pairs > limit {
        // A reply that comes after all is over makes an entry again.
        assert!(left.contains(&"10.0.0.200".to_owned()) && left.len() < 5, "{left:?}");
    } else {
        assert!(left.contains(&"10.0.0.200".to_owned()), "{left:?}");
    }
    lab.down();
    host.finish();
}

/// A lab with these expectations.
fn expecting<'h>(host: &'h Host, expectations: &str) -> Lab<'h> {
    host.lab("two-families").and(MORE).and(expectations).up()
}

/// `[[expect]]` with these keys.
fn expect(keys: &str) -> String {
    format!("[[expect]]\n{}\n", keys.replace(", ", "\n"))
}

#[track_caller]
fn test(host: &Host, arguments: &str, code: i32) -> Output {
    let output = host.vethpath(format!("test {arguments}"));
    assert_eq!(output.code(), Some(code), "{output}");
    output
}

#[test]
fn expectations_hold_or_say_why_not() {
    let host = Host::new();
    let lab = expecting(
        &host,
        &[
            expect("from = \"ns0\", to = \"ns1\", within = \"1m\""),
            expect("from = \"ns0\", to = \"10.0.0.1\", within = \"1m\""),
            expect("from = \"ns0\", to = \"10.0.0.99\", reaches = false, within = \"1m\""),
            expect("from = \"ns1\", to = \"ns0\", port = 8080, reaches = false, within = \"1m\""),
            expect("from = \"ns0\", to = \"idle\", reaches = false, within = \"1m\""),
            expect("from = \"ns2\", to = \"ns1\", path = \"fast\", within = \"1m\""),
        ]
        .concat(),
    );
    let held = test(&host, "", 0);
    let _ = held
        .stdout_has("ok    ns0 reaches ns1  (")
        .stdout_has("ok    ns0 reaches 10.0.0.1  (")
        .stdout_has("ok    ns0 does not reach 10.0.0.99  (")
        .stdout_has("ok    ns1 does not reach ns0 at port 8080  (")
        .stdout_has("ok    ns2 reaches ns1 by the fast path  (")
        .stdout_has("6 of 6 expectations hold\n");

    // They are those of the file, if one is given, and each says what it has found.
    let listener = lab.netns("ns0").run(|| std::net::TcpListener::bind("10.0.0.10:8080"));
    let listener = listener.expect("it can be entered").expect("a listener");
    let _ = lab.run("ns1", "ip -6 address flush dev eth0 scope global").ok();
    let _ = lab.run("ns1", "ip address add fd00::77/64 dev eth0 nodad").ok();
    let file = host
        .lab("two-families")
        .and(MORE)
        .and(&expect("from = \"ns0\", to = \"ns1\", within = \"1m\""))
        .and(&expect("from = \"ns0\", to = \"fd00::11\", within = \"10ms\""))
        .and(&expect("from = \"ns1\", to = \"ns0\", port = 8080, reaches = false, within = \"10ms\""))
        .and(&expect("from = \"ns1\", to = \"ns0\", port = 8080, within = \"1m\""))
        .and(&expect("from = \"ns1\", to = \"ns0\", port = 8081, within = \"10ms\""))
        .and(&expect("from = \"ns0\", to = \"idle\", within = \"10ms\""))
        .write();
    // On a busy machine, a reply may come too late for those that ask once.
    wait_until(SLACK, || {
        let report = test(&host, &format!("{file} --json"), 3).json();
        let of = |one: &Value| {
            let reason = one["reason"].as_str().unwrap_or_default().to_owned();
            (one["holds"].as_bool().expect("a result"), reason)
        };
        let results: Vec<_> = report["expectations"].as_array().expect("a list").iter().map(of).collect();
        let failed = |reason: &str| (false, reason.to_owned());
        let expected = [
            (true, String::new()),
            failed("no reply from fd00::11"),
            failed("10.0.0.10 answers"),
            (true, String::new()),
            failed("connection refused from 10.0.0.10"),
            failed("`idle` has no address"),
        ];
        let counts = (&report["held"], &report["failed"]) == (&2.into(), &4.into());
        if counts && results == expected { Ok(()) } else { Err(format!("{report:#}")) }
    });
    drop(listener);
    lab.down();
    host.finish();
}

#[test]
fn an_expectation_waits_until_it_holds() {
    let host = Host::new();
    let lab = expecting(&host, &expect("from = \"ns0\", to = \"ns1\", within = \"2m\""));
    let _ = lab.run("ns1", "ip link set eth0 down").ok();
    let waiting = host.spawn_vethpath("test");
    // It has asked in vain while the neighbour is looked for, or was not found.
    wait_until(SLACK, || {
        let neighbours = lab.run("ns0", "ip neigh show to 10.0.0.11").ok().stdout;
        let is_unknown = ["INCOMPLETE", "FAILED"].iter().any(|state| neighbours.contains(state));
        if is_unknown { Ok(()) } else { Err(neighbours) }
    });
    let _ = lab.run("ns1", "ip link set eth0 up").ok();
    let _ = lab.run("ns1", "ip address add fd00::11/64 dev eth0 nodad").ok();
    let _ = waiting.wait(TIMEOUT).ok().stdout_has("1 of 1 expectations hold");
    lab.down();
    host.finish();
}

#[test]
fn the_fast_path_is_told_from_the_bridge() {
    let host = Host::new();
    let fast = expect("from = \"ns0\", to = \"ns1\", path = \"fast\", within = \"10ms\"");
    let lab = expecting(&host, &fast);
    lab.is_fast("ns0:eth0", "10.0.0.11");
    let _ = host.run("ip link set br0 promisc on").ok();
    lab.wait_for_state("ns1:eth0", "the bridge is promiscuous");
    // On a busy machine, the one reply may come too late.
    wait_until(SLACK, || {
        let output = test(&host, "", 3);
        let expected = [
            "FAIL  ns0 reaches ns1 by the fast path  (",
            "0 of at least 6 packets sent by `ns0` took the fast path",
        ];
        let is_said = expected.iter().all(|text| output.stdout.contains(text));
        if is_said { Ok(()) } else { Err(output.to_string()) }
    });
    lab.down();
    host.finish();
}

#[test]
fn expectations_are_a_part_of_the_lab_that_changes_nothing_else() {
    let host = Host::new();
    let lab = host.lab("two-families").up();
    let _ = test(&host, "", 1)
        .stderr_has("lab `two-families` has no expectations")
        .stderr_has("hint: write `[[expect]]`");
    let with = host.lab("two-families").and(&expect("from = \"ns0\", to = \"ns1\", within = \"1m\"")).write();
    let again = host.vethpath(format!("up {with} --json")).ok().json();
    assert_eq!(again["changes"], serde_json::json!([]));
    let junit = format!("{with}.xml");
    let _ = test(&host, &format!("two-families --junit {junit}"), 0);
    let xml = std::fs::read_to_string(&junit).expect("it is written");
    let document = roxmltree::Document::parse(&xml).unwrap_or_else(|error| panic!("{error}: {xml}"));
    let cases: Vec<_> = document.descendants().filter(|node| node.has_tag_name("testcase")).collect();
    assert_eq!(cases.len(), 1);
    assert_eq!(cases[0].attribute("name"), Some("ns0 reaches ns1"));
    let _ = test(&host, "two-families --junit /nowhere/x.xml", 2).stderr_has("cannot write /nowhere/x.xml");
    let _ = host.run("ip netns del ns1").ok();
    let quick =
        host.lab("two-families").and(&expect("from = \"ns0\", to = \"ns1\", within = \"10ms\"")).write();
    let _ = test(&host, &quick, 3).stdout_has("there is no namespace `ns1`");
    lab.down();
    host.finish();
}
