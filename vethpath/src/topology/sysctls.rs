//! Settings under `/proc/sys/net`: parsing, and sorting by scope.

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    ops::Range,
};

use toml::de::DeValue;

use super::{
    Place, Scope, Sysctl, SysctlKey,
    declared::Declared,
    fault::Sink,
    keys::MOST_SYSCTLS,
    links::{Far, Links},
    read::{At, Table, bounded, expected},
};

/// The longest value of a setting, in bytes.
const LONGEST_VALUE: usize = 1024;

/// The table under the key `sysctls`.
pub(super) fn read(table: &Table<'_>, sink: &mut Sink) -> Vec<At<Sysctl>> {
    let example = table.example("sysctls");
    let mut sysctls: Vec<At<Sysctl>> = Vec::new();
    let mut seen = HashMap::new();
    for (key, value) in table.entries("sysctls", sink) {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            // `Display` keeps the radix prefix, which the kernel does not parse.
            DeValue::Integer(written) => match i64::from_str_radix(written.as_str(), written.radix()) {
                Ok(number) => number.to_string(),
                Err(_) => {
                    let message = format!("`{written}` is more than a setting can be");
                    sink.add(&value.span(), message, "write a smaller integer, or a string");
                    continue;
                }
            },
            DeValue::Boolean(on) => String::from(if *on { "1" } else { "0" }),
            other => {
                let hint = match other {
                    DeValue::Table(_) => format!("put the key in quotes: {example}"),
                    _ => format!("write {example}"),
                };
                sink.add(&key.span, expected(key.value, "a string, an integer or a boolean", value), hint);
                continue;
            }
        };
        if let Err((message, hint)) = checked_value(&text) {
            sink.add(&value.span(), message, hint);
            continue;
        }
        match key.value.parse::<SysctlKey>() {
            Err(why) => {
                let hint = "write it as sysctl(8) does, such as \"net.ipv4.ip_forward\"";
                sink.add(&key.span, format!("`{}` {why}", key.value), hint);
            }
            Ok(name) => match seen.insert(name.clone(), key.span.clone()) {
                Some(first) => set_twice(key.value, &key.span, &first, sink),
                None => sysctls.push(key.with(Sysctl { key: name, value: text.into() })),
            },
        }
    }
    bounded(&mut sysctls, "sysctls", "one table", MOST_SYSCTLS, |at| at.span.clone(), sink);
    sysctls
}

fn set_twice(key: impl Display, span: &Range<usize>, first: &Range<usize>, sink: &mut Sink) {
    let message = format!("`{key}` is set twice");
    sink.add(span, message, "keep one of them").also(first, "first set here");
}

fn checked_value(text: &str) -> Result<(), (String, &'static str)> {
    if text.contains(|c: char| c.is_control() && c != '\t') {
        return Err((String::from("the value of a setting is one line of text"), "take the line break out"));
    }
    if text.len() > LONGEST_VALUE {
        let message = format!("the value is {} bytes long, and {LONGEST_VALUE} is the most", text.len());
        return Err((message, "shorten it"));
    }
    Ok(())
}

/// The settings of a file by scope. A setting of an interface can only be written once the interface exists.
#[derive(Default)]
pub(super) struct Settings {
    namespaces: HashMap<Place, Vec<Sysctl>>,
    devices: HashMap<(Place, String), Vec<Sysctl>>,
}

impl Settings {
    /// Sorts the settings of all tables of a file. Reports those of interfaces that are not in the file, and
    /// conflicts between two tables.
    pub(super) fn of(declared: &Declared, links: &Links, sink: &mut Sink) -> Self {
        let mut sorted = Self::default();
        let mut seen: HashMap<(&Place, &SysctlKey), &At<Sysctl>> = HashMap::new();
        let devices = devices(declared, links);
        // For the host and adopted namespaces such settings were reported before.
        let is_complete = |place: &Place| {
            let mut made = declared.namespaces.iter().filter(|namespace| namespace.adopt.is_none());
            let is_made = made
                .any(|namespace| matches!(place, Place::Namespace(name) if *name == namespace.name.value));
            is_made && !declared.partial.contains(place)
        };
        let places: Vec<_> =
            declared.namespaces.iter().map(|n| Place::Namespace(n.name.value.clone())).collect();
        let of_namespaces = places.iter().zip(&declared.namespaces).map(|(place, n)| (place, &n.sysctls[..]));
        let of_interfaces =
            declared.interfaces.iter().map(|interface| (&interface.place, &interface.sysctls[..]));
        for (place, setting) in
            of_namespaces.chain(of_interfaces).flat_map(|(p, all)| all.iter().map(move |s| (p, s)))
        {
            let key = &setting.value.key;
            match seen.get(&(place, key)) {
                Some(first) if first.value == setting.value => continue,
                Some(first) => {
                    set_twice(key, &setting.span, &first.span, sink);
                    continue;
                }
                None => drop(seen.insert((place, key), setting)),
            }
            match key.scope() {
                // The kernel creates `lo` with the namespace.
                Scope::Interface(name) if name != "lo" => {
                    if devices.contains(&(place, name)) {
                        let own = sorted.devices.entry((place.clone(), name.to_owned())).or_default();
                        own.push(setting.value.clone());
                    } else if is_complete(place) && !sink.is_crowded() {
                        let here = devices.iter().filter(|(at, _)| *at == place).map(|(_, name)| *name);
                        let hint = match sink.closest(name, here) {
                            Some(closest) => format!("did you mean `{closest}`?"),
                            None => "set it where the interface is made, or declare the interface".to_owned(),
                        };
                        let message =
                            format!("`{key}` is of an interface that `{place}` does not have: `{name}`");
                        sink.add(&setting.span, message, hint).label("no such interface");
                    }
                }
                _ => sorted.namespaces.entry(place.clone()).or_default().push(setting.value.clone()),
            }
        }
        let of_interfaces = declared.interfaces.iter().flat_map(|interface| {
            let at = (&interface.place, &interface.name.value);
            [
                (at, "dad", &interface.dad),
                (at, "accept_ra", &interface.accept_ra),
                (at, "autoconf", &interface.autoconf),
            ]
        });
        let of_bridges = declared
            .bridges
            .iter()
            .map(|bridge| ((&bridge.place.value, &bridge.name.value), "accept_ra", &bridge.accept_ra));
        for ((place, device), key, written) in of_interfaces.chain(of_bridges) {
            let name = if key == "dad" { "accept_dad" } else { key };
            let setting = SysctlKey::of_interface("ipv6", device.as_str(), name);
            if let (Some(written), Some(first)) = (written, seen.get(&(place, &setting))) {
                let message = format!("`{key}` and `{setting}` are both set");
                sink.add(&written.span, message, "keep one of them").also(&first.span, "the setting");
            }
        }
        sorted
    }

    /// Settings of the namespace itself, or of interfaces that are not the lab's.
    pub(super) fn of_place(&self, place: &Place) -> &[Sysctl] {
        self.namespaces.get(place).map_or(&[], Vec::as_slice)
    }

    /// Settings of an interface or bridge.
    pub(super) fn of_device(&self, place: &Place, name: &str) -> &[Sysctl] {
        if self.devices.is_empty() {
            return &[];
        }
        self.devices.get(&(place.clone(), name.to_owned())).map_or(&[], Vec::as_slice)
    }
}

/// The interfaces and bridges of a file, and undeclared cable ends.
fn devices<'d>(declared: &'d Declared, links: &'d Links) -> HashSet<(&'d Place, &'d str)> {
    let bridges = declared.bridges.iter().map(|bridge| (&bridge.place.value, bridge.name.value.as_str()));
    let interfaces =
        declared.interfaces.iter().map(|interface| (&interface.place, interface.name.value.as_str()));
    let bare = links.cables.iter().filter_map(|(_, far)| match far {
        Far::Bare(At { value: (place, name), .. }) => Some((place, name.as_str())),
        Far::Declared(_) => None,
    });
    bridges.chain(interfaces).chain(bare).collect()
}
