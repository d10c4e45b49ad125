//! Parses and validates a file into a [`Topology`]. Pure: no I/O, no kernel.
//!
//! [`read()`] works in stages. `syntax` parses the text into TOML tables. `bridges`, `namespaces`, `interfaces` and
//! `shorthand` (one table for many parts) parse the tables. `assemble` cross-checks the parts and builds the lab.
//! Every stage records its faults and continues, so that all [`Faults`] are reported at once. For a lab without
//! faults `meaning` adds warnings.

mod addresses;
mod assemble;
mod bridge_options;
mod bridges;
mod datapath;
mod declared;
mod derive;
mod expand;
mod fault;
mod interfaces;
mod ipv6;
mod keys;
mod limits;
mod links;
mod lint;
mod locate;
mod masquerade;
mod model;
mod names;
mod namespaces;
mod neighbours;
mod numbers;
mod parse;
mod read;
mod render;
mod routes;
mod schema;
mod shorthand;
mod syntax;
mod sysctl_key;
mod sysctls;
#[cfg(test)]
mod tests;
mod trunks;
mod unique;

pub use bridge_options::BridgeOption;
pub use derive::{altname, derived_mac, lab_mark, pair_mark, port_mac, port_name, trunk_altname, trunk_mark};
pub use expand::{Expanded, expand};
pub use fault::{Fault, Faults, Level};
pub use ipv6::Ipv6;
pub use limits::{FILE as LONGEST_FILE, MTU_V6};
pub use locate::key_path;
pub use masquerade::{Masquerade, MasqueradeRule};
pub use model::{
    Bridge, Cable, CableEnd, Datapath, Interface, Namespace, Pair, Place, Route, Sysctl, Topology, Trunk,
    TrunkEnd,
};
pub use names::{IfName, LabName, Mac, NameError, NsName};
pub use neighbours::{Family, Neighbours};
pub use schema::schema;
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
    let mut sink = fault::Sink::default();
    if source.text.len() > limits::FILE {
        let message =
            format!("the file is {} bytes long, and {} is the most", source.text.len(), limits::FILE);
        sink.add(&(0..0), message, "split the lab in two");
        return Err(sink.into_faults());
    }
    let parsed = syntax::parse(source.text, &mut sink);
    // These faults are only reported at positions where the text could be parsed.
    let mut found = fault::Sink::default();
    let topology = lab(&parsed, default_name, &mut found);
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

fn lab(parsed: &syntax::Parsed<'_>, default_name: Option<&str>, sink: &mut fault::Sink) -> Option<Topology> {
    let file = read::Table::new("the file", parsed.document.get_ref());
    file.only(keys::FILE, sink);
    let written = file.text("name", sink);
    let name = match (&written, file.get("name")) {
        (None, Some(_)) => None,
        _ => parse::lab_name(written, default_name, sink),
    };
    let dad = file.boolean("dad", sink).is_some_and(|dad| dad.value);
    let mut declared = declared::Declared { dad, ..Default::default() };
    bridges::read(&file, &mut declared, sink);
    namespaces::read(&file, &mut declared, sink);
    if !parsed.is_whole() {
        sink.cut();
    }
    shorthand::read(&file, &mut declared, sink);
    if sink.is_cut() {
        // Otherwise a bridge that could not be read or was left out would be reported as missing.
        return None;
    }
    // MACs and port names are derived from the lab's name. A placeholder is enough to find further faults.
    let name = name.or_else(|| "unnamed".parse().ok())?;
    Some(assemble::topology(name, &declared, sink))
}
