//! Parses and validates a file into a [`Topology`]. Pure: no I/O, no kernel.
//!
//! [`read()`] works in stages. `syntax` parses the text into TOML tables. `tables` and `shorthand` (one table for many
//! parts) read them, with the keys that `keys` declares. `assemble` cross-checks the parts and builds the lab. Every
//! stage records its faults and continues, so that all [`Faults`] are reported at once. For a lab whose links resolve
//! `lint` adds warnings.

mod addresses;
mod adopt;
mod assemble;
mod declared;
mod derive;
mod expand;
mod expect;
mod fabric;
mod fault;
mod hostnames;
mod ipv6;
mod keys;
mod links;
mod lint;
mod locate;
mod masquerade;
mod model;
mod names;
mod neighbours;
mod numbers;
mod offload_sizes;
mod parse;
mod partial;
mod port_names;
mod read;
mod route;
mod routes;
mod rules;
mod schema;
mod shorthand;
mod stopped;
mod syntax;
mod sysctl_key;
mod sysctls;
mod tables;
#[cfg(test)]
mod tests;
mod unique;

pub use adopt::{Adopt, Container, Runtime};
pub use derive::{
    acceleration_name, altname, derived_mac, lab_mark, pair_mark, port_mac, trunk_altname, trunk_mark,
};
pub use expand::{Expanded, expand};
pub use expect::{Expectation, Target, Way};
pub use fabric::{Fabric, UplinkRoute, overlap};
pub use fault::{Fault, Faults, Level, closest};
pub use hostnames::Resolver;
pub use ipv6::Ipv6;
pub use keys::{LONGEST_FILE, MTU_V6};
pub use locate::key_path;
pub use masquerade::{AcceptRule, Masquerade, MasqueradeRule};
pub use model::{
    AdoptedBridge, Bridge, BridgeOption, Cable, CableEnd, Datapath, GuestRange, Interface, Namespace,
    Neighbour, Pair, Place, Sysctl, Topology, Trunk, TrunkEnd,
};
pub use names::{ContainerName, IfName, LabName, Mac, NameError, NsName};
pub use neighbours::{Family, Neighbours};
pub use offload_sizes::{OffloadSizes, USUAL_SIZE};
pub use port_names::port_name;
pub use route::{Fate, MAIN_TABLE, NextHop, Route, RouteKey, usual_metric};
pub use rules::Rule;
pub use schema::schema;
pub use stopped::Stopped;
pub use sysctl_key::{Scope, SysctlKey};

/// A topology file: its text, and its path for messages.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The path as the user wrote it. It is not opened.
    pub path: &'a str,
    /// The file's contents.
    pub text: &'a str,
}

/// A valid lab with its warnings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The lab.
    pub topology: Topology,
    /// Warnings, in the file's order. May be empty.
    pub warnings: Faults,
}

/// What a user asks for on the command line, in place of what the file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--fabric`: as `fabric = true`.
    pub fabric: bool,
}

/// Reads a topology file. Warnings are dropped.
///
/// `default_name` (the file's stem) is the lab's name if the file has no `name`.
///
/// # Errors
/// All faults of the file, in its order. Never an empty list.
pub fn read(source: Source<'_>, default_name: Option<&str>) -> Result<Topology, Faults> {
    check(source, default_name).map(|checked| checked.topology)
}

/// Reads a topology file as [`read()`] does, and returns warnings too.
///
/// # Errors
/// All faults of the file, in its order. Warnings are among them if the file could be read completely and its links
/// resolve. Never an empty list.
pub fn check(source: Source<'_>, default_name: Option<&str>) -> Result<Checked, Faults> {
    check_with(source, default_name, Overrides::default())
}

/// Reads a topology file as [`check()`] does. What the user asks for replaces what the file has.
///
/// # Errors
/// As [`check()`].
pub fn check_with(
    source: Source<'_>,
    default_name: Option<&str>,
    overrides: Overrides,
) -> Result<Checked, Faults> {
    let mut sink = fault::Sink::default();
    let length = source.text.len();
    if length > LONGEST_FILE {
        let message = format!("the file is {length} bytes long, and {LONGEST_FILE} is the most");
        sink.add(&(0..0), message, "split the lab in two");
        return Err(sink.into_faults());
    }
    let parsed = syntax::parse(source.text, &mut sink);
    // These faults are only reported at positions where the text could be parsed.
    let mut found = fault::Sink::default();
    let topology = lab(&parsed, default_name, overrides, &mut found);
    found.retain(|fault| !parsed.is_guess(fault.span.start));
    sink.append(found);
    match topology {
        Some(topology) if sink.is_fine() => Ok(Checked { topology, warnings: sink.into_faults() }),
        _ => {
            sink.put_errors_first();
            Err(sink.into_faults())
        }
    }
}

fn lab(
    parsed: &syntax::Parsed<'_>,
    default_name: Option<&str>,
    overrides: Overrides,
    sink: &mut fault::Sink,
) -> Option<Topology> {
    let file = read::Table::new(&keys::FILE, parsed.document.get_ref());
    file.only_declared(sink);
    let name = parse::lab_name(&file, default_name, sink);
    let dad = file.boolean("dad", sink).is_some_and(|dad| dad.value);
    let fabric = file.boolean("fabric", sink).filter(|fabric| fabric.value).map(|fabric| fabric.span);
    let metrics = parse::metrics(file.string("metrics", sink), sink);
    let mut declared = declared::Declared { dad, metrics, ..Default::default() };
    tables::bridges(&file, &mut declared, sink);
    tables::namespaces(&file, &mut declared, sink);
    if !parsed.is_complete() {
        sink.cut();
    }
    shorthand::read(&file, &mut declared, sink);
    expect::read(&file, &mut declared, sink);
    if sink.is_cut() {
        // Otherwise a bridge that could not be read or was left out would be reported as missing.
        return None;
    }
    // MACs and port names are derived from the lab's name. A placeholder is enough to find further faults.
    let name = name.or_else(|| "unnamed".parse().ok())?;
    fabric::declare(&name, fabric.or(overrides.fabric.then_some(0..0)), &mut declared, sink);
    Some(assemble::topology(name, &declared, sink))
}
