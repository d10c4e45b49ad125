//! `nat = true`: the masquerade table of a lab, and forwarding.
//!
//! Forwarding in a lab's namespace is the lab's affair. On the host it is switched on if it is off,
//! that is remembered, and it is switched off again when the last lab with `nat` on the host goes.

use std::path::Path;

use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::{
    kernel::{
        Error, Netns, Result, blocking,
        netfilter::{self, Family, NetfilterError, OwnTable},
        netns, sysctl,
    },
    plan::{Plan, Step},
    state::{HostSysctls, stop},
    topology::{LabName, Masquerade, Place, Sysctl, SysctlKey, Topology},
};

/// Whether the table is there, exactly as it should be, and forwarding is on.
pub fn is_there(netns: &Netns, wanted: &Masquerade) -> Result<bool> {
    let socket = blocking(netns, NETLINK_NETFILTER)?;
    let table = OwnTable { name: &wanted.table, rules: &wanted.rules };
    let exact = netfilter::is_exactly(&socket, table).map_err(refused)?;
    Ok(exact
        && forwarding(wanted)
            .iter()
            .all(|on| sysctl::read(netns, &on.key).is_ok_and(|value| value == on.value)))
}

/// Adds a lab's table and switches forwarding on.
pub fn add(netns: &Netns, wanted: &Masquerade, lab: &LabName) -> std::result::Result<(), super::Error> {
    let memory = if wanted.place == Place::Host { Some(HostSysctls::take()?) } else { None };
    let off: Vec<_> = forwarding(wanted)
        .into_iter()
        .filter(|on| !sysctl::read(netns, &on.key).is_ok_and(|v| v == on.value))
        .collect();
    if let Some(mut memory) = memory {
        let before = off.iter().map(|on| Ok(Sysctl { value: sysctl::read(netns, &on.key)?, ..on.clone() }));
        memory.remember(lab, before.collect::<Result<Vec<_>>>()?)?;
        stop::here_if_told();
        sysctl::write(netns, &off)?;
        stop::here_if_told();
    } else {
        sysctl::write(netns, &off)?;
    }
    let socket = blocking(netns, NETLINK_NETFILTER)?;
    Ok(netfilter::add_masquerade(&socket, &wanted.table, &wanted.rules).map_err(refused)?)
}

/// Removes a lab's table. One that is not there, or not ours, is left.
pub fn remove(netns: &Netns, wanted: &Masquerade) -> Result<()> {
    let socket = blocking(netns, NETLINK_NETFILTER)?;
    match netfilter::remove_table(&socket, Family::Inet, &wanted.table) {
        Ok(()) | Err(NetfilterError::NotOurs { .. } | NetfilterError::NoNfTables { .. }) => Ok(()),
        Err(error) => Err(refused(error)),
    }
}

/// Puts the host's forwarding back, unless a lab other than `leaving` still needs it.
pub fn restore_host(netns: &Netns, leaving: &LabName) -> std::result::Result<(), super::Error> {
    let mut memory = HostSysctls::take()?;
    sysctl::write(netns, memory.without(leaving))?;
    stop::here_if_told();
    memory.forget()?;
    stop::here_if_told();
    Ok(())
}

/// Refuses tables of somebody else under the names that a plan is to make.
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
                    // One that is about to be made has no tables.
                    None => continue,
                }
            }
        };
        let socket = blocking(&netns, NETLINK_NETFILTER)?;
        if netfilter::is_foreign(&socket, Family::Inet, &nat.table).map_err(refused)? {
            return Err(super::Error::Table { table: nat.table.clone(), place: nat.place.clone() });
        }
    }
    Ok(())
}

fn forwarding(wanted: &Masquerade) -> Vec<Sysctl> {
    let (v4, v6) = wanted.families();
    let on = |key: &[&str]| Sysctl { key: SysctlKey::net(key), value: "1".to_owned() };
    let mut settings = Vec::new();
    if v4 {
        settings.push(on(&["ipv4", "ip_forward"]));
    }
    if v6 {
        settings.push(on(&["ipv6", "conf", "all", "forwarding"]));
    }
    settings
}

fn refused(error: NetfilterError) -> Error {
    let source = match &error {
        NetfilterError::NotOurs { .. } => std::io::Error::from_raw_os_error(nix::libc::EEXIST),
        _ => std::io::Error::other(error.to_string()),
    };
    Error::new("masquerade with", error.to_string(), source)
}
