//! The documentation, the JSON Schema and the readers follow the declaration of the keys.

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::{
    super::{keys, schema},
    bad, samples,
};

/// A date is the value of no key, so each reader reports it.
#[test]
fn every_declared_key_is_read() {
    for (table, before, after) in [
        (&keys::FILE, "", ""),
        (&keys::BRIDGE, "[bridge.b]\n", ""),
        (&keys::NAMESPACE, "[namespace.n]\n", ""),
        (&keys::HOST, "[namespace.host]\n", ""),
        (&keys::INTERFACE, "[namespace.n.interface.e]\n", ""),
        (&keys::ROUTE, "[namespace.n]\nroutes = [{ ", " }]"),
        (&keys::NEXTHOP, "[namespace.n]\nroutes = [{ to = '10.0.0.0/8', nexthops = [{ ", " }] }]"),
        (&keys::RULE, "[[namespace.n.rule]]\n", ""),
        (&keys::LO, "[namespace.n.interface.lo]\n", ""),
        (&keys::NEIGHBOUR, "[namespace.n.interface.e]\nneighbours = [{ ", " }]"),
        (&keys::ADOPT, "[namespace.n]\nadopt = { ", " }"),
        (&keys::GROUP, "[group.g]\n", ""),
        (&keys::MESH, "[mesh.m]\n", ""),
        (&keys::CHAIN, "[chain.c]\n", ""),
        (&keys::EXPECT, "[[expect]]\n", ""),
    ] {
        for key in table.keys {
            let text = format!("{before}{} = 1979-05-27{after}\n", key.name);
            let start = format!("`{}`: expected ", key.name);
            let faults = bad(&text).faults;
            assert!(faults.iter().any(|fault| fault.message.starts_with(&start)), "{text}{faults:?}");
        }
    }
}

/// The text under a heading, up to the next one of the same or a higher level.
fn section(page: &str, heading: &str) -> String {
    let depth = heading.chars().take_while(|&c| c == '#').count();
    let is_end = |line: &&str| {
        let depths = line.chars().take_while(|&c| c == '#').count();
        (1..=depth).contains(&depths) && line.chars().nth(depths) == Some(' ')
    };
    let mut fenced = false;
    let mut lines = page.lines().skip_while(|line| *line != heading);
    let first = lines.next().unwrap_or_else(|| panic!("no {heading:?}"));
    let body = lines.take_while(|line| {
        fenced ^= line.starts_with("```");
        fenced || !is_end(line)
    });
    std::iter::once(first).chain(body).collect::<Vec<_>>().join("\n")
}

/// A row has at least a key, a type and a default.
#[track_caller]
fn assert_no_cell_is_empty(row: &str) {
    let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
    assert!(cells.len() >= 3 && cells.iter().all(|cell| !cell.is_empty()), "{row}");
}

#[test]
fn every_key_has_a_type_a_default_and_an_example_in_the_documentation() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/topology.md");
    let page = std::fs::read_to_string(page).expect("docs/topology.md");
    for (heading, table) in [
        ("# The topology file", &keys::FILE),
        ("## Bridges", &keys::BRIDGE),
        ("## Namespaces", &keys::NAMESPACE),
        ("## Interfaces", &keys::INTERFACE),
        ("### `rule`", &keys::RULE),
        ("### `neighbours`", &keys::NEIGHBOUR),
        ("## The loopback", &keys::LO),
        ("### Groups", &keys::GROUP),
        ("### Meshes", &keys::MESH),
        ("### Chains", &keys::CHAIN),
        ("### `routes`", &keys::ROUTE),
        ("### `adopt`", &keys::ADOPT),
        ("## Expectations", &keys::EXPECT),
    ] {
        let section = section(&page, heading);
        let examples: String =
            section.split("```toml\n").skip(1).filter_map(|b| b.split("```").next()).collect();
        for key in table.keys {
            let name = key.name;
            let is_row = |line: &&str| {
                ["`", ".NAME`"].iter().any(|end| line.starts_with(&format!("| [`{name}{end}](")))
                    || line.starts_with(&format!("| `{name}` |"))
            };
            let row = section.lines().find(is_row).unwrap_or_else(|| panic!("{heading}: no row of `{name}`"));
            assert_no_cell_is_empty(row);
            assert_eq!(row.contains("none: required"), key.required, "{row}");
            let is_used = |line: &str| {
                line.starts_with(&format!("{name} = "))
                    || ["{ ", ", "].iter().any(|before| line.contains(&format!("{before}{name} = ")))
                    || line.contains(&format!("[{name}."))
                    || line.contains(&format!(".{name}."))
                    || line.contains(&format!(".{name}]"))
                    || line == format!("[[{name}]]")
            };
            assert!(examples.lines().any(is_used), "{heading}: no example of `{name}`");
        }
    }
}

#[test]
fn every_limit_of_the_documentation_is_the_readers() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/topology.md");
    let page = std::fs::read_to_string(page).expect("docs/topology.md");
    let limits_of_page = section(&page, "## Limits");
    for (what, most) in [
        ("namespaces, ", keys::MOST_NAMESPACES),
        ("bridges, ", keys::MOST_BRIDGES),
        ("ports of a bridge", keys::MOST_PORTS),
        ("interfaces of a namespace", keys::MOST_INTERFACES),
        ("interfaces of a lab", keys::MOST_EXPANDED),
        ("members of a mesh", keys::MOST_MEMBERS as usize),
        ("addresses of an interface", keys::MOST_ADDRESSES),
        ("routes of a namespace", keys::MOST_ROUTES),
        ("next hops of a route", keys::MOST_NEXTHOPS),
        ("rules of a namespace", keys::MOST_RULES),
        ("neighbours of an interface", keys::MOST_NEIGHBOURS),
        ("sysctls of a namespace", keys::MOST_SYSCTLS),
        ("expectations", keys::MOST_EXPECTATIONS),
    ] {
        let row = limits_of_page.lines().find(|line| line.starts_with(&format!("| {what}")));
        assert!(row.is_some_and(|row| row.contains(&format!("| {most}"))), "{what}: {row:?}");
    }
}

/// A file as a language server passes it to the schema.
fn json(text: &str) -> Value {
    let document = DeTable::parse(text).expect("TOML");
    table(document.get_ref())
}

fn table(table: &DeTable<'_>) -> Value {
    let entries = table.iter().map(|(key, entry)| (key.get_ref().to_string(), value(entry.get_ref())));
    Value::Object(entries.collect::<Map<_, _>>())
}

fn value(toml: &DeValue<'_>) -> Value {
    match toml {
        DeValue::Table(inner) => table(inner),
        DeValue::Array(items) => items.iter().map(|item| value(item.get_ref())).collect(),
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(on) => Value::from(*on),
        DeValue::Integer(number) => {
            Value::from(i64::from_str_radix(number.as_str(), number.radix()).expect("an integer"))
        }
        DeValue::Float(_) | DeValue::Datetime(_) => Value::from(0.5),
    }
}

#[test]
fn the_schema_is_one() {
    let schema = schema();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    assert!(jsonschema::meta::is_valid(&schema));
}

#[test]
fn the_schema_takes_every_example() {
    let validator = jsonschema::validator_for(&schema()).expect("a schema");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/topologies");
    let tested = std::fs::read_dir(folder).expect("topologies").map(|entry| {
        let path = entry.expect("an entry").path();
        (path.display().to_string(), std::fs::read_to_string(&path).expect("a topology"))
    });
    for (name, text) in samples().into_iter().chain(tested) {
        if let Err(error) = validator.validate(&json(&text)) {
            panic!("{name}: {error} at {}", error.instance_path());
        }
    }
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let validator = jsonschema::validator_for(&schema()).expect("a schema");
    for text in [
        "nme = 'x'",
        "name = 3",
        "name = 'a.b'",
        "bridge = []",
        "[bridge.b]\nmtu = '1500'",
        "[bridge.b]\nmtu = 67",
        "[bridge.b]\nmtu = 1500.5",
        "[bridge.b]\nstp = 'yes'",
        "[bridge.b]\naddresses = '10.0.0.1/8'",
        "[bridge.b]\naddresses = ['10.0.0.1']",
        "[bridge.b]\ndatapath = 'ct'",
        "[bridge.b]\nmac = '02:00'",
        "[bridge.b]\nvlan = true",
        "[bridge.sixteen-letters-]",
        "[namespace.host]\ngateway = '10.0.0.1'",
        "[namespace.n]\ngateway = ['10.0.0.1', 'fd00::1', 'fd00::2']",
        "[namespace.n]\nroutes = [{ to = '10.0.0.0/8' }]",
        "[namespace.n]\nroutes = [{ to = 'x', via = '10.0.0.1' }]",
        "[namespace.n]\nsysctls = { 'kernel.x' = 1 }",
        "[namespace.n]\nsysctls = { 'net.x' = 1.5 }",
        "[namespace.n]\nadopt = {}",
        "[namespace.n]\nadopt = { pid = 1, path = '/x' }",
        "[namespace.n]\nadopt = { container = 'a b' }",
        "[namespace.n]\nadopt = { container = 'web', runtime = 'lxc' }",
        "[namespace.n.interface.e]",
        "[namespace.n.interface.e]\nlink = 'b'\nip = 1",
        "[group.g]\nbridge = 'b'",
        "[group.g]\ncount = 2",
        "[group.g]\ncount = 2\nbridge = 'b'\nchain = 'c'",
        "[group.g]\ncount = 4097\nbridge = 'b'",
        "[group.g]\ncount = 2\nbridge = 'b'\nsubnet = '10.0.0.0'",
        "[mesh.m]",
        "[mesh.m]\ncount = 1",
        "[chain.c]",
        "[chain.c]\nbridges = ['a']",
        "[[expect]]\nfrom = 'a'",
        "[[expect]]\nfrom = 'a'\nto = 'b'\nport = 0",
        "[[expect]]\nfrom = 'a'\nto = 'b'\nwithin = '5'",
        "[[expect]]\nfrom = 'a'\nto = 'b'\npath = 'slow'",
        "expect = 'all'",
    ] {
        assert!(!validator.is_valid(&json(text)), "the schema takes {text:?}");
        assert!(super::parse(text).is_err(), "the reader takes {text:?}");
    }
}
