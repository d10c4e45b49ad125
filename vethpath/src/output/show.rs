//! The current state of a lab as tables.

use std::io::{self, Write};

use ipnet::IpNet;

use super::{
    format::{Column, GLUE, headline, one_line, render_within},
    printable,
};
use crate::{
    show::{Bridge, Interface, Lab, LinkState, Namespace, Port, Route},
    stats::State,
    topology::Mac,
};

/// The width of a terminal that is not changed.
const WIDTH: u16 = 80;

/// Prints the agent's status, then the namespaces, bridges, ports, cables and trunks that the lab has, and what is not as
/// its file says.
///
/// # Errors
/// Those of `out`.
pub fn show(lab: &Lab, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(headline(&lab.lab, &lab.agent).as_bytes())?;
    if let Some(metrics) = &lab.metrics {
        writeln!(out, "{metrics}")?;
    }
    let tables =
        [namespaces(&lab.namespaces), bridges(&lab.bridges), ports(&lab.bridges), cables(lab), trunks(lab)];
    for table in tables.iter().flatten() {
        write!(out, "\n{table}")?;
    }
    if !lab.drift.is_empty() {
        writeln!(out, "\nnot as the file says; `vethpath up` with it would:")?;
    }
    lab.drift.iter().try_for_each(|change| writeln!(out, "{}", printable(change)))
}

fn namespaces(namespaces: &[Namespace]) -> Option<String> {
    let columns = [
        Column::Text("NAMESPACE"),
        Column::Text("INTERFACE"),
        Column::Text("MAC"),
        Column::Number("MTU"),
        Column::Text("STATE"),
        Column::Wrapped("ADDRESSES", 15),
    ];
    let mut rows = Vec::new();
    for namespace in namespaces {
        let name = match &namespace.adopted {
            Some(_) => format!("{}\n(adopted)", namespace.name),
            None if namespace.stopped => format!("{}\n(stopped)", namespace.name),
            None => namespace.name.clone(),
        };
        if namespace.interfaces.is_empty() {
            let state = if namespace.present { "-" } else { "missing" };
            rows.push([&name, "-", "-", "-", state, "-"].map(str::to_owned).to_vec());
        }
        for interface in &namespace.interfaces {
            let mut row = vec![name.clone()];
            let is_by_it = |route: &&Route| route.device.as_ref() == Some(&interface.name);
            row.extend(cells(interface, namespace.routes.iter().filter(is_by_it)));
            rows.push(row);
        }
        let others = namespace.routes.iter().filter(|route| route.device.is_none()).map(glued);
        let others: Vec<String> = others.collect();
        if !others.is_empty() {
            rows.push([&name, "-", "-", "-", "-", &others.join("\n")].map(str::to_owned).to_vec());
        }
    }
    table(&columns, rows)
}

fn bridges(bridges: &[Bridge]) -> Option<String> {
    let columns = [
        Column::Text("BRIDGE"),
        Column::Text("NAMESPACE"),
        Column::Text("MAC"),
        Column::Number("MTU"),
        Column::Text("STATE"),
        Column::Wrapped("ADDRESSES", 15),
        Column::Text("NOTES"),
    ];
    let row = |bridge: &Bridge| {
        let mut row = cells(&bridge.interface, std::iter::empty()).to_vec();
        row.insert(1, bridge.namespace.clone());
        let notes = [("nat", bridge.nat), ("adopted", bridge.adopted)];
        let notes: Vec<_> = notes.iter().filter(|(_, on)| *on).map(|(note, _)| *note).collect();
        row.push(if notes.is_empty() { "-".to_owned() } else { notes.join(", ") });
        row
    };
    table(&columns, bridges.iter().map(row).collect())
}

fn ports(bridges: &[Bridge]) -> Option<String> {
    let columns = [
        Column::Text("PORT"),
        Column::Text("BRIDGE"),
        Column::Wrapped("LEADS TO", 14),
        Column::Text("LINK"),
        Column::Text("ON BRIDGE"),
        Column::Wrapped("FAST PATH", 12),
    ];
    let row = |bridge: &Bridge, port: &Port| {
        let Port { name, leads_to, link, bridge_state, state, mostly_slow, note, .. } = port;
        let fast_path = match (state, mostly_slow) {
            (State::Armed, None) => State::Armed.to_string(),
            (State::Armed, Some(reason)) => {
                format!("armed, but nearly everything it sent was slow: {reason}")
            }
            (State::NotArmed(reason), _) => format!("not armed: {reason}"),
        };
        let fast_path = note.map_or_else(|| fast_path.clone(), |note| format!("{fast_path}; {note}"));
        let on_bridge = match (bridge_state, link) {
            (Some(state), _) => state,
            (None, LinkState::Missing) => "-",
            (None, _) => "not on it",
        };
        let bridge = &bridge.interface.name;
        [name, bridge, &one_line(&leads_to.to_string()), &link.to_string(), on_bridge, &fast_path]
            .map(str::to_owned)
            .to_vec()
    };
    let rows = bridges.iter().flat_map(|bridge| bridge.ports.iter().map(move |port| row(bridge, port)));
    table(&columns, rows.collect())
}

fn cables(lab: &Lab) -> Option<String> {
    let columns = [Column::Text("CABLE"), Column::Text("TO"), Column::Text("STATE")];
    let rows = lab.cables.iter().map(|cable| vec![cable.a.clone(), cable.b.clone(), cable.state.to_string()]);
    table(&columns, rows.collect())
}

fn trunks(lab: &Lab) -> Option<String> {
    let columns = [
        Column::Text("TRUNK"),
        Column::Text("PORT"),
        Column::Text("TO"),
        Column::Text("PORT"),
        Column::Text("STATE"),
    ];
    let rows = lab.trunks.iter().map(|trunk| {
        [&trunk.a, &trunk.a_port, &trunk.b, &trunk.b_port, &trunk.state.to_string()]
            .map(|cell| cell.clone())
            .to_vec()
    });
    table(&columns, rows.collect())
}

/// A route, whose destination and gateway stay in one line.
fn glued(route: &Route) -> String {
    route.to_string().replacen(' ', &GLUE.to_string(), 2)
}

/// The cells for name, MAC, MTU, state and addresses, with the routes by it below.
fn cells<'r>(interface: &Interface, routes: impl Iterator<Item = &'r Route>) -> [String; 5] {
    let dash = || "-".to_owned();
    let addresses = interface.addresses.iter().filter(|address| !is_automatic(address, interface));
    let addresses = addresses.map(ToString::to_string);
    let routes = routes.map(glued);
    let addresses: Vec<_> = addresses.chain(routes).collect();
    [
        interface.label(),
        interface.mac.clone().unwrap_or_else(dash),
        if interface.state == LinkState::Missing { dash() } else { interface.mtu.to_string() },
        interface.state.to_string(),
        if addresses.is_empty() { dash() } else { addresses.join("\n") },
    ]
}

/// Whether the kernel has derived a link-local address from the MAC (RFC 4291, appendix A). Each interface has one, which
/// JSON has.
fn is_automatic(address: &IpNet, interface: &Interface) -> bool {
    let (IpNet::V6(address), Some(mac)) = (address, &interface.mac) else { return false };
    let Ok([a, b, c, d, e, f]) = mac.parse().map(Mac::bytes) else { return false };
    let derived = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    address.addr().octets() == derived
}

fn table(columns: &[Column], rows: Vec<Vec<String>>) -> Option<String> {
    (!rows.is_empty()).then(|| render_within(WIDTH, columns, rows))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{output::samples, show::Metrics};

    fn text(lab: &Lab) -> String {
        let mut out = Vec::new();
        show(lab, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_lab_is_shown_as_ip_and_bridge_would() {
        let expected = "\
lab three-hosts: agent alive (pid 4242), lease 3 s

NAMESPACE  INTERFACE          MAC                 MTU  STATE    ADDRESSES
ns0        eth0@vp0000000000  02:00:00:00:00:01  1500  up       10.0.0.1/24
                                                                fd00::1/64
ns1        eth0               -                     -  missing  -
empty      -                  -                     -  -        -
gone       -                  -                     -  missing  -

BRIDGE  NAMESPACE  MAC                 MTU  STATE       ADDRESSES      NOTES
br0     host       02:00:00:00:00:02  1500  no carrier  -              nat

PORT          BRIDGE  LEADS TO        LINK     ON BRIDGE   FAST PATH
vp0000000000  br0     ns0:eth0        up       forwarding  armed
vp0000000001  br0     ns1:eth0        missing  -           not armed: the port
                                                           does not exist
vp0000000002  br0     trunk to br1    up       not on it   armed
tap0          br0     not of the lab  down     disabled    not armed: it is not
                                                           of the lab

CABLE     TO       STATE
ns0:eth1  host:v0  no carrier

TRUNK  PORT          TO   PORT          STATE
br0    vp0000000002  br1  vp0000000003  up

not as the file says; `vethpath up` with it would:
~ change interface host:tap0: down -> up
";
        assert_eq!(text(&samples::lab()), expected);
    }

    #[test]
    fn an_address_that_each_interface_has_is_left_out() {
        let mut lab = samples::lab();
        let addresses: [IpNet; 2] = ["fe80::ff:fe00:1/64", "fe80::1/64"].map(|text| text.parse().unwrap());
        lab.namespaces[0].interfaces[0].addresses.extend(addresses);
        let text = text(&lab);
        assert!(!text.contains("fe80::ff:fe00:1") && text.contains("fe80::1/64"), "{text}");
    }

    #[test]
    fn a_note_stands_beside_the_state_of_its_port() {
        let mut lab = samples::lab();
        lab.bridges[0].ports[0].note = Some("look out");
        assert!(text(&lab).contains("forwarding  armed; look out\n"), "{}", text(&lab));
    }

    #[test]
    fn metrics_stand_below_the_agent_with_their_processes() {
        let listen = "127.0.0.1:9466".parse().unwrap();
        let metrics = Metrics { listen, pid: Some(12), reader: Some(11) };
        let shown = |metrics| text(&Lab { metrics: Some(metrics), ..samples::lab() });
        let line = shown(metrics).lines().nth(1).unwrap().to_owned();
        assert_eq!(line, "metrics at 127.0.0.1:9466 (pid 12, reader pid 11)");
        let dead = shown(Metrics { pid: None, reader: None, ..metrics });
        assert!(dead.contains("metrics dead: nothing at 127.0.0.1:9466; `vethpath up` brings"), "{dead}");
    }

    #[test]
    fn a_port_that_is_armed_and_slow_has_the_reason() {
        let mut lab = samples::lab();
        lab.bridges[0].ports[0].mostly_slow = Some("unknown-source");
        // The column is wrapped.
        let words = text(&lab).split_whitespace().collect::<Vec<_>>().join(" ");
        let state = "armed, but nearly everything it sent was slow: unknown-source";
        assert!(words.contains(state), "{}", text(&lab));
        let shown = serde_json::to_value(&lab).unwrap();
        assert_eq!(shown["bridges"][0]["ports"][0]["mostly_slow"], "unknown-source");
    }

    #[test]
    fn what_a_lab_has_none_of_has_no_table() {
        let bare = Lab { bridges: Vec::new(), cables: Vec::new(), trunks: Vec::new(), ..samples::lab() };
        let text = text(&bare);
        assert!(text.contains("NAMESPACE") && !text.contains("BRIDGE") && !text.contains("PORT"), "{text}");
    }

    #[test]
    fn json_says_what_the_table_says() {
        let shown = serde_json::to_value(samples::lab()).unwrap();
        let ports = &shown["bridges"][0]["ports"];
        assert_eq!(
            ports[0],
            json!({"name": "vp0000000000", "leads_to": "ns0:eth0", "link": "up",
                   "bridge_state": "forwarding", "state": "armed"})
        );
        assert_eq!(ports[1]["state"], "the port does not exist");
        assert_eq!(ports[2]["state"], "armed");
        assert_eq!(ports[3]["state"], "it is not of the lab");
        assert_eq!(shown["cables"][0]["state"], "no-carrier");
        assert_eq!(
            (&shown["bridges"][0]["name"], &shown["bridges"][0]["namespace"]),
            (&json!("br0"), &json!("host"))
        );
    }
}
