//! The JSON Schema of the topology file, for completion and checks in editors.
//!
//! It is draft 7, which TOML language servers (taplo, Even Better TOML) support best. It describes keys and their
//! types, as `keys` declares them. Relations between parts of a file are checked by `vethpath validate`.

use serde_json::{Map, Value, json};

use super::{
    Datapath, Runtime,
    keys::{self, Key, Kind, Table},
};

/// The JSON Schema of a topology file.
#[must_use]
pub fn schema() -> Value {
    let mut file = table(&keys::FILE);
    file["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    file["title"] = json!("vethpath topology");
    file
}

/// A table with its keys and no others.
fn table(table: &Table) -> Value {
    let properties: Map<String, Value> =
        table.keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let mut object = json!({
        "description": table.description,
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    let required: Vec<&str> = table.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    if table.one_of.len() == table.keys.len() {
        object["minProperties"] = json!(1);
        object["maxProperties"] = json!(1);
    } else if !table.one_of.is_empty() {
        object["oneOf"] = table.one_of.iter().map(|name| json!({ "required": [name] })).collect();
    }
    if !table.any_of.is_empty() {
        object["anyOf"] = table.any_of.iter().map(|name| json!({ "required": [name] })).collect();
    }
    object
}

fn property(key: &Key) -> Value {
    let mut property = match &key.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Pattern(pattern) => string(pattern),
        Kind::Boolean(default) => with_default(json!({ "type": "boolean" }), *default),
        Kind::Integer { range, .. } => {
            json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() })
        }
        Kind::Names { each, .. } => json!({ "type": "array", "items": string(each) }),
        Kind::Addresses => {
            json!({ "type": "array", "items": string(keys::WITH_LENGTH), "maxItems": key.kind.most() })
        }
        Kind::OneOrTwo { each, .. } => {
            let two = json!({ "type": "array", "maxItems": key.kind.most(), "items": string(each) });
            json!({ "anyOf": [string(each), two] })
        }
        Kind::Runtime(default) => {
            with_default(json!({ "enum": Runtime::ALL.map(Runtime::name) }), Some(default.name()))
        }
        Kind::Datapath(default) => {
            with_default(json!({ "enum": Datapath::ALL.map(Datapath::name) }), default.map(Datapath::name))
        }
        Kind::Sysctls => json!({
            "type": "object",
            "maxProperties": keys::MOST_SYSCTLS,
            "propertyNames": { "pattern": "^net[./]" },
            "additionalProperties": { "type": ["string", "integer", "boolean"] },
        }),
        Kind::Table(inner) => table(inner),
        Kind::Array { each, most } => json!({ "type": "array", "maxItems": most, "items": table(each) }),
        Kind::Tables { names, each, special, .. } => {
            let mut tables = json!({
                "type": "object",
                "propertyNames": { "pattern": names },
                "additionalProperties": table(each),
            });
            if let Some((name, special)) = special {
                tables["properties"] = json!({ *name: table(special) });
            }
            tables
        }
    };
    property["description"] = json!(key.description);
    property
}

fn string(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

fn with_default(mut property: Value, default: Option<impl Into<Value>>) -> Value {
    if let Some(default) = default {
        property["default"] = default.into();
    }
    property
}
