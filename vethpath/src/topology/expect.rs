//! `[[expect]]`: what must hold of a lab, for `vethpath test`.

use std::{collections::HashMap, fmt, net::IpAddr, ops::Range, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Datapath, Family, NsName, Topology,
    declared::{Declared, ExpectDecl, Index},
    fault::Sink,
    keys::{self, MOST_EXPECTATIONS},
    parse,
    read::{At, Table, bounded},
};

/// The time within which an expectation without `within` must hold.
const USUAL: u32 = 5_000;

/// The least and the longest time, in milliseconds.
const WITHIN: std::ops::RangeInclusive<f64> = 10.0..=600_000.0;

/// Something that must hold while the lab is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// The host that asks.
    pub from: NsName,
    /// Who is to answer.
    pub to: Target,
    /// Whether it is to answer.
    pub reaches: bool,
    /// The TCP port that is asked. `None` is an ICMP echo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The way that packets in both directions must take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Way>,
    /// The time within which it must hold, in milliseconds.
    pub within_ms: u32,
}

impl Expectation {
    /// The time within which it must hold.
    #[must_use]
    pub fn within(&self) -> Duration {
        Duration::from_millis(self.within_ms.into())
    }
}

/// `ns0 reaches ns1 at port 80 by the fast path`.
impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.reaches { "reaches" } else { "does not reach" };
        write!(f, "{} {verb} {}", self.from, self.to)?;
        if let Some(port) = self.port {
            write!(f, " at port {port}")?;
        }
        match self.path {
            Some(Way::Fast) => write!(f, " by the fast path"),
            None => Ok(()),
        }
    }
}

/// Who is to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Target {
    /// An address, of whoever has it.
    Address(IpAddr),
    /// A host, by each family of which both have an address.
    Namespace(NsName),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Namespace(name) => name.fmt(f),
        }
    }
}

/// The way of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Both hosts send and receive them by the fast path.
    Fast,
}

impl Way {
    /// The value of `path` in the file.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
        }
    }
}

/// Reads the `[[expect]]` tables.
pub(super) fn read(file: &Table<'_>, declared: &mut Declared, sink: &mut Sink) {
    let mut written = file.array("expect", sink);
    bounded(&mut written, "expect", "the file", MOST_EXPECTATIONS, |at| at.span.clone(), sink);
    for table in &written {
        declared.expectations.extend(expectation(table, sink));
    }
}

fn expectation(written: &At<Table<'_>>, sink: &mut Sink) -> Option<ExpectDecl> {
    let table = &written.value;
    table.only_declared(sink);
    for key in keys::EXPECT.keys.iter().filter(|key| key.required && table.get(key.name).is_none()) {
        let hint = format!("an expectation is of two hosts: {}", keys::AN_EXPECTATION);
        sink.add(&written.span, format!("an expectation without `{}`", key.name), hint);
    }
    let from = table.string("from", sink).and_then(|text| host(&text, sink));
    let to = table.string("to", sink).and_then(|text| target(&text, sink));
    let reaches = table.boolean("reaches", sink).is_none_or(|at| at.value);
    let port = table.integer("port", sink).and_then(|at| u16::try_from(at.value).ok());
    let within = table.string("within", sink).and_then(|text| milliseconds(&text, sink));
    let path = table.string("path", sink).and_then(|text| way(&text, sink));
    if let Some(path) = path.as_ref().filter(|_| !reaches) {
        let message = "`path` of packets that are not to arrive";
        sink.add(&path.span, message, "leave `path` out, or `reaches = false`");
    }
    let within_ms = within.unwrap_or(USUAL);
    Some(ExpectDecl { from: from?, to: to?, reaches, port, path, within_ms })
}

fn host(text: &At<&str>, sink: &mut Sink) -> Option<At<NsName>> {
    if text.value == "host" {
        let message = "an expectation is about hosts of the lab, and `host` is the machine";
        sink.add(&text.span, message, "name a namespace of the lab, or an address of the machine in `to`");
        return None;
    }
    Some(text.with(parse::named(text.value, &text.span, sink)?))
}

fn target(text: &At<&str>, sink: &mut Sink) -> Option<At<Target>> {
    if let Ok(address) = text.value.parse::<IpAddr>() {
        if address.is_unspecified() || address.is_multicast() {
            let message = format!("`{address}` is the address of no host");
            sink.add(&text.span, message, "write a namespace of the lab, or the address of one interface");
            return None;
        }
        return Some(text.with(Target::Address(address)));
    }
    host(text, sink).map(|name| At::new(Target::Namespace(name.value), name.span))
}

fn way(text: &At<&str>, sink: &mut Sink) -> Option<At<Way>> {
    if text.value == Way::Fast.name() {
        return Some(text.with(Way::Fast));
    }
    let hint = "write \"fast\", or leave it out where packets may take any path";
    sink.add(&text.span, format!("there is no path `{}`", text.value), hint);
    None
}

/// A time such as `5s`, `500ms` or `1.5m`.
fn milliseconds(text: &At<&str>, sink: &mut Sink) -> Option<u32> {
    let units = [("ms", 1.0), ("s", 1_000.0), ("m", 60_000.0)];
    let parsed = units.into_iter().find_map(|(unit, factor)| {
        let number = text.value.strip_suffix(unit)?;
        let is_plain = number.starts_with(|c: char| c.is_ascii_digit())
            && number.chars().all(|c| c.is_ascii_digit() || c == '.');
        Some(number.parse::<f64>().ok().filter(|_| is_plain)? * factor)
    });
    let (message, hint) = match parsed {
        None => (
            format!("`{}` is no time", text.value),
            "write a time with its unit: \"5s\", \"500ms\" or \"2m\"",
        ),
        Some(time) if !WITHIN.contains(&time) => {
            (format!("`within` cannot be {}", text.value), "write a time from 10ms to 10m")
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in WITHIN")]
        Some(time) => return Some(time.round() as u32),
    };
    sink.add(&text.span, message, hint);
    None
}

/// Reports expectations of hosts that are not declared, and of one host alone.
pub(super) fn check(index: &Index<'_>, sink: &mut Sink) {
    for decl in &index.declared.expectations {
        let place = |name: &NsName| super::Place::Namespace(name.clone());
        let _ = index.check_place(&place(&decl.from.value), &decl.from.span, sink);
        let Target::Namespace(to) = &decl.to.value else { continue };
        if index.check_place(&place(to), &decl.to.span, sink) && *to == decl.from.value {
            let message = format!("`{to}` reaches itself without the lab");
            sink.add(&decl.to.span, message, "name another host").also(&decl.from.span, "the same");
        }
    }
}

/// Reports expectations of a fast path where a host has none.
pub(super) fn check_paths(topology: &Topology, declared: &Declared, sink: &mut Sink) {
    let mut fast: HashMap<&NsName, bool> = HashMap::new();
    for pair in &topology.pairs {
        *fast.entry(&pair.namespace).or_default() |= pair.datapath != Datapath::Bridge;
    }
    for decl in &declared.expectations {
        let Some(path) = &decl.path else { continue };
        let mut lacks = |what: &dyn fmt::Display, span: &Range<usize>| {
            let hint = "leave `path` out, or put an interface of the host on a bridge with a fast path";
            sink.add(&path.span, format!("{what} has no interface with a fast path"), hint)
                .also(span, "named here");
        };
        let is_slow = |name: &NsName| !fast.get(name).copied().unwrap_or_default();
        match &decl.to.value {
            Target::Namespace(name) if is_slow(name) => lacks(&format_args!("`{name}`"), &decl.to.span),
            Target::Address(address) => {
                lacks(&format_args!("`{address}`, which is no host of the lab,"), &decl.to.span);
            }
            Target::Namespace(_) => {}
        }
        if is_slow(&decl.from.value) {
            lacks(&format_args!("`{}`", decl.from.value), &decl.from.span);
        }
    }
}

/// The expectations of a file.
pub(super) fn made(declared: &Declared) -> Vec<Expectation> {
    let made = |decl: &ExpectDecl| Expectation {
        from: decl.from.value.clone(),
        to: decl.to.value.clone(),
        reaches: decl.reaches,
        port: decl.port,
        path: decl.path.as_ref().map(|at| at.value),
        within_ms: decl.within_ms,
    };
    declared.expectations.iter().map(made).collect()
}

/// Prints an expectation as a table of the file.
pub(super) fn expand(expectation: &Expectation, out: &mut dyn fmt::Write) -> fmt::Result {
    let Expectation { from, to, reaches, port, path, within_ms } = expectation;
    write!(out, "\n[[expect]]\nfrom = \"{from}\"\nto = \"{to}\"\nreaches = {reaches}\n")?;
    if let Some(port) = port {
        writeln!(out, "port = {port}")?;
    }
    if let Some(path) = path {
        writeln!(out, "path = \"{}\"", path.name())?;
    }
    writeln!(out, "within = \"{within_ms}ms\"")
}

impl Target {
    /// The families of an address, or both.
    pub fn families(&self) -> impl Iterator<Item = Family> + use<> {
        let address = match self {
            Self::Address(address) => Some(*address),
            Self::Namespace(_) => None,
        };
        Family::ALL.into_iter().filter(move |family| address.is_none_or(|address| family.has(address)))
    }
}
