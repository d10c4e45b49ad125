//! `nat = true`: the masquerade table of a lab, with forwarding.

use std::path::Path;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::{error::Removed, forwarding};
use crate::{
    kernel::{
        Netns, Result, Rtnl, blocking,
        netfilter::{self, Family, OwnTable},
        netns,
    },
    plan::{Plan, Step},
    topology::{LabName, Masquerade, Place, Topology},
};

/// Whether the table exists exactly as wanted, and forwarding is on.
pub fn is_there(netns: &Netns, wanted: &Masquerade) -> Result<bool> {
    let socket = blocking(netns, NETLINK_NETFILTER)?;
    let table = OwnTable { name: &wanted.table, rules: &wanted.rules };
    Ok(netfilter::is_exactly(&socket, table)? && forwarding::is_on(netns, wanted)?)
}

/// Adds a lab's table, and enables forwarding.
pub async fn add(rtnl: &Rtnl, wanted: &Masquerade, lab: &LabName) -> std::result::Result<(), super::Error> {
    forwarding::switch_on(rtnl, wanted, lab).await?;
    let socket = blocking(rtnl.netns(), NETLINK_NETFILTER)?;
    Ok(netfilter::add_masquerade(&socket, &wanted.table, &wanted.rules)?)
}

/// Removes a lab's table, and restores forwarding even if that fails.
pub(super) async fn remove(netns: &Netns, wanted: &Masquerade, lab: &LabName) -> Removed {
    let mut removed = Removed::default();
    match remove_table(netns, wanted) {
        Ok(note) => removed.messages.extend(note),
        Err(error) => removed.left.push(error.into()),
    }
    match forwarding::put_back(netns, wanted, lab).await {
        Ok(lost) => removed.messages.extend(lost),
        Err(error) => removed.left.push(error),
    }
    removed
}

/// Removes a lab's table. A table that is not the lab's is left and reported.
fn remove_table(netns: &Netns, wanted: &Masquerade) -> Result<Option<String>> {
    let socket = blocking(netns, NETLINK_NETFILTER)?;
    match netfilter::remove_table(&socket, Family::Inet, &wanted.table) {
        Err(error) if error.is_present() => Ok(Some(format!("{error}: it is not removed"))),
        Err(error) if !error.is_unsupported() => Err(error),
        _ => Ok(None),
    }
}

/// Fails if a table that the plan would create exists and is not vethpath's.
pub(super) fn check(plan: &Plan, topology: &Topology) -> std::result::Result<(), super::Error> {
    for nat in plan.steps().filter_map(|step| if let Step::Masquerade(nat) = step { Some(nat) } else { None })
    {
        let netns = match &nat.place {
            Place::Host => Netns::current()?,
            Place::Namespace(name) => {
                let adopt = topology.namespaces.iter().find(|one| &one.name == name);
                match adopt.and_then(|one| one.adopt.as_deref()) {
                    Some(path) => Netns::open(Path::new(path), name.as_str())?,
                    None if netns::exists(name) && !netns::is_left_over(name) => Netns::named(name)?,
                    // A namespace that is about to be created has no tables.
                    None => continue,
                }
            }
        };
        let socket = blocking(&netns, NETLINK_NETFILTER)?;
        if netfilter::is_foreign(&socket, Family::Inet, &nat.table)? {
            return Err(super::Error::Table { table: nat.table.clone(), place: nat.place.clone() });
        }
    }
    Ok(())
}
