//! A lab as it stands, as tables.

use std::io::{self, Write};

use super::{
    agent::headline,
    table::{Column, render},
};
use crate::{
    show::{Bridge, Interface, Lab, LinkState, Namespace, Port},
    stats::State,
};

/// Prints how the lab is, then its namespaces, bridges, ports, cables and trunks, as far as it has any.
///
/// # Errors
/// Those of `out`.
pub fn show(lab: &Lab, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(headline(&lab.lab, &lab.agent).as_bytes())?;
    let tables =
        [namespaces(&lab.namespaces), bridges(&lab.bridges), ports(&lab.bridges), cables(lab), trunks(lab)];
    for table in tables.iter().flatten() {
        write!(out, "\n{table}")?;
    }
    Ok(())
}

fn namespaces(namespaces: &[Namespace]) -> Option<String> {
    let columns = [
        Column::Text("NAMESPACE"),
        Column::Text("INTERFACE"),
        Column::Text("MAC"),
        Column::Number("MTU"),
        Column::Text("STATE"),
        Column::Text("ADDRESSES"),
    ];
    let mut rows = Vec::new();
    for namespace in namespaces {
        if namespace.interfaces.is_empty() {
            let state = if namespace.present { "-" } else { "missing" };
            rows.push([&namespace.name, "-", "-", "-", state, "-"].map(str::to_owned).to_vec());
        }
        for interface in &namespace.interfaces {
            let mut row = vec![namespace.name.clone()];
            row.extend(cells(interface));
            rows.push(row);
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
        Column::Text("ADDRESSES"),
    ];
    let row = |bridge: &Bridge| {
        let mut row = cells(&bridge.interface).to_vec();
        row.insert(1, bridge.namespace.clone());
        row
    };
    table(&columns, bridges.iter().map(row).collect())
}

fn ports(bridges: &[Bridge]) -> Option<String> {
    let columns = [
        Column::Text("PORT"),
        Column::Text("BRIDGE"),
        Column::Text("LEADS TO"),
        Column::Text("LINK"),
        Column::Text("ON BRIDGE"),
        Column::Wrapped("FAST PATH", 12),
    ];
    let row = |bridge: &Bridge, port: &Port| {
        let Port { name, leads_to, link, bridge_state, state } = port;
        let fast_path = match state {
            None => "-".to_owned(),
            Some(State::Armed) => State::Armed.to_string(),
            Some(State::NotArmed(reason)) => format!("not armed: {reason}"),
        };
        let on_bridge = match (bridge_state, link) {
            (Some(state), _) => state,
            (None, LinkState::Missing) => "-",
            (None, _) => "not on it",
        };
        let bridge = &bridge.interface.name;
        [name, bridge, &leads_to.to_string(), &link.to_string(), on_bridge, &fast_path]
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

/// Name, MAC, MTU, state, addresses.
fn cells(interface: &Interface) -> [String; 5] {
    let dash = || "-".to_owned();
    let addresses: Vec<_> = interface.addresses.iter().map(ToString::to_string).collect();
    [
        interface.label(),
        interface.mac.clone().unwrap_or_else(dash),
        if interface.state == LinkState::Missing { dash() } else { interface.mtu.to_string() },
        interface.state.to_string(),
        if addresses.is_empty() { dash() } else { addresses.join("\n") },
    ]
}

fn table(columns: &[Column], rows: Vec<Vec<String>>) -> Option<String> {
    (!rows.is_empty()).then(|| render(columns, rows))
}
