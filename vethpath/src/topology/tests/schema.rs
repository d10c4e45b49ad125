//! Checks the JSON Schema with valid and invalid files.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::{
    super::{keys, schema},
    samples,
};

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

/// Each part of the schema that describes a table, with the parser's keys.
fn tables(schema: &Value) -> Vec<(&'static [&'static str], &Value)> {
    let at = |path: &str| schema.pointer(path).unwrap_or_else(|| panic!("{path}"));
    let interface = "/properties/namespace/additionalProperties/properties/interface/additionalProperties";
    vec![
        (keys::FILE, schema),
        (keys::BRIDGE, at("/properties/bridge/additionalProperties")),
        (keys::NAMESPACE, at("/properties/namespace/additionalProperties")),
        (keys::HOST, at("/properties/namespace/properties/host")),
        (keys::INTERFACE, at(interface)),
        (
            keys::INTERFACE,
            at("/properties/namespace/properties/host/properties/interface/additionalProperties"),
        ),
        (keys::ROUTE, at("/properties/namespace/additionalProperties/properties/routes/items")),
        (keys::ADOPT, at("/properties/namespace/additionalProperties/properties/adopt")),
        (keys::GROUP, at("/properties/group/additionalProperties")),
        (keys::ROUTE, at("/properties/group/additionalProperties/properties/routes/items")),
        (keys::MESH, at("/properties/mesh/additionalProperties")),
        (keys::CHAIN, at("/properties/chain/additionalProperties")),
    ]
}

#[test]
fn the_schema_has_every_key_of_the_reader_and_says_what_it_is() {
    let schema = schema();
    for (keys, table) in tables(&schema) {
        let properties = table["properties"].as_object().expect("properties");
        let described: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(described, keys.iter().copied().collect(), "{}", table["description"]);
        assert_eq!(table["additionalProperties"], Value::Bool(false));
        for (key, property) in properties {
            assert!(property["description"].as_str().is_some_and(|text| text.len() > 8), "{key}: {property}");
        }
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
    ] {
        assert!(!validator.is_valid(&json(text)), "the schema takes {text:?}");
        assert!(super::parse(text).is_err(), "the reader takes {text:?}");
    }
}
