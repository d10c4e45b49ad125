//! Reads `[namespace.NAME]`: adoption, routes, settings.

use super::{
    NsName, Place,
    declared::{Declared, NamespaceDecl},
    fault::Sink,
    interfaces, keys, limits, parse,
    read::{At, Table},
    routes, sysctls,
};

/// Reads every namespace of the file, and its interfaces.
pub(super) fn read(file: &Table<'_>, declared: &mut Declared, sink: &mut Sink) {
    for (key, table) in file.tables("namespace", "a namespace", limits::NAMESPACES, sink) {
        let place = if key.value == "host" {
            host(&table, sink);
            Some(Place::Host)
        } else {
            namespace(&key, &table, declared, sink)
        };
        for (name, interface) in table.tables("interface", "an interface", limits::INTERFACES, sink) {
            let adopted = table.get("adopt").is_some();
            match (interfaces::read(&name, place.as_ref(), adopted, &interface, sink), &place) {
                (Some(interface), _) => declared.interfaces.push(interface),
                (None, Some(place)) => {
                    declared.partial.insert(place.clone());
                }
                (None, None) => {}
            }
        }
    }
    // The tables of a namespace may be spread over the file.
    declared.interfaces.sort_by_key(|interface| interface.name.span.start);
}

fn namespace(key: &At<&str>, table: &Table<'_>, declared: &mut Declared, sink: &mut Sink) -> Option<Place> {
    table.only(keys::NAMESPACE, sink);
    let name = parse::named::<NsName>(key.value, &key.span, sink);
    let routes = routes::read(table, sink);
    let adopt = adopt(table, sink);
    let sysctls = sysctls::read(table, sink);
    if let (Some(adopt), Some(first)) = (table.get("adopt"), sysctls.first()) {
        let hint = "leave `sysctls` out, and set them where the namespace is made";
        sink.add(&first.span, "settings of an adopted namespace would stay changed after `down`", hint)
            .also(&adopt.span(), "adopted here");
    }
    let name = key.with(name?);
    let place = Place::Namespace(name.value.clone());
    let (routes, sysctls) = (routes.into(), sysctls.into());
    declared.namespaces.push(NamespaceDecl { name, adopt, routes, sysctls });
    Some(place)
}

/// The host is not part of the lab: it may only have cable ends.
fn host(table: &Table<'_>, sink: &mut Sink) {
    for (key, _) in table.entries() {
        if keys::HOST.contains(&key.value) {
            continue;
        }
        let message = match keys::NAMESPACE.contains(&key.value) {
            true => format!("`{}` cannot be set for the host", key.value),
            false => format!("`{}` is not a key of the host", key.value),
        };
        let hint = "the host is left as it is: declare cables to it, [namespace.host.interface.v0]";
        sink.add(&key.span, message, hint).label("not for the host");
    }
}

/// The path of `{ pid = N }` or `{ path = "/..." }`.
fn adopt(table: &Table<'_>, sink: &mut Sink) -> Option<At<String>> {
    let span = table.get("adopt")?.span();
    let adopt = table.table("adopt", "`adopt`", sink)?;
    adopt.only(keys::ADOPT, sink);
    let pid = adopt.number("pid", limits::PID, "", sink);
    let path = adopt.text("path", sink);
    match (adopt.get("pid"), adopt.get("path")) {
        (None, None) | (Some(_), Some(_)) => {
            let hint = "write either { pid = 4242 } or { path = \"/proc/4242/ns/net\" }";
            sink.add(&span, "`adopt` takes one of `pid` and `path`", hint);
            None
        }
        (Some(_), None) => pid.map(|pid| pid.with(format!("/proc/{}/ns/net", pid.value))),
        (None, Some(_)) => path.and_then(|path| adopted_path(&path, sink)),
    }
}

fn adopted_path(path: &At<&str>, sink: &mut Sink) -> Option<At<String>> {
    let text = path.value;
    let why = if !text.starts_with('/') {
        "is not an absolute path"
    } else if text.split('/').any(|component| component == "..") {
        "has `..` in it"
    } else if text.contains(char::is_control) {
        "has a control character in it"
    } else if text.len() > limits::PATH {
        "is longer than a path can be"
    } else {
        return Some(path.with(text.to_owned()));
    };
    sink.add(&path.span, format!("`{text}` {why}"), "write all of it, such as \"/proc/4242/ns/net\"");
    None
}
