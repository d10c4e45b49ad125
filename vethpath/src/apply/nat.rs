//! `nat = true`: the masquerade table of a lab, and forwarding.
//!
//! Forwarding in a lab's namespace is the lab's affair. On the host it is switched on if it is off,
//! that is remembered, and it is switched off again when the last lab with `nat` on the host goes.

use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::{
    kernel::{
        Error, Netns, Result, blocking,
        netfilter::{self, Family, NetfilterError, OwnTable},
        sysctl,
    },
    state::{self, Directory, Record},
    topology::{LabName, Masquerade, Place, Sysctl},
};

/// Whether the table is there, exactly as it should be, and forwarding is on.
pub fn is_there(netns: &Netns, wanted: &Masquerade) -> Result<bool> {
    let socket = blocking(netns, NETLINK_NETFILTER)?;
    let table = OwnTable { name: &wanted.table, rules: &wanted.rules };
    let exact = netfilter::is_exactly(&socket, table).map_err(refused)?;
    Ok(exact
        && forwarding(wanted).iter().all(|on| sysctl::read(netns, on).is_ok_and(|value| value == on.value)))
}

/// Adds the table and switches forwarding on.
pub fn add(netns: &Netns, wanted: &Masquerade) -> std::result::Result<(), super::Error> {
    let off: Vec<_> = forwarding(wanted)
        .into_iter()
        .filter(|on| !sysctl::read(netns, on).is_ok_and(|v| v == on.value))
        .collect();
    if wanted.place == Place::Host && !off.is_empty() {
        let before = off.iter().map(|on| Ok(Sysctl { value: sysctl::read(netns, on)?, ..on.clone() }));
        state::remember_host_sysctls(&before.collect::<Result<Vec<_>>>()?)?;
    }
    sysctl::write(netns, &off)?;
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
    for lab in state::labs()?.iter().filter(|lab| *lab != leaving) {
        let record = Record::read(&Directory::of(lab))?;
        if record
            .is_some_and(|record| Masquerade::of(&record.topology).iter().any(|nat| nat.place == Place::Host))
        {
            return Ok(());
        }
    }
    Ok(sysctl::write(netns, &state::take_host_sysctls()?)?)
}

fn forwarding(wanted: &Masquerade) -> Vec<Sysctl> {
    let (v4, v6) = wanted.families();
    let mut settings = Vec::new();
    if v4 {
        settings.push(sysctl::setting(&["net", "ipv4", "ip_forward"], "1"));
    }
    if v6 {
        settings.push(sysctl::setting(&["net", "ipv6", "conf", "all", "forwarding"], "1"));
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
