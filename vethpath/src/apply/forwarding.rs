//! Switching forwarding on in a namespace, and putting back all that this changes.
//!
//! Forwarding in a lab's own namespace is the lab's affair. On the host, and in adopted namespaces, it is switched on
//! if it is off, what there was is remembered, and it is put back when the last lab with `nat` there goes.

use std::collections::{BTreeMap, BTreeSet};

use super::Error;
use crate::{
    kernel::{Netns, NetnsId, Result, Rtnl, sysctl},
    state::{SharedSysctls, stop},
    topology::{LabName, Masquerade, Place, Sysctl, SysctlKey},
};

/// Whether forwarding is on for the families of a table.
pub(super) fn is_on(netns: &Netns, wanted: &Masquerade) -> Result<bool> {
    let keys: Vec<_> = switches(wanted).into_iter().map(|switch| switch.key).collect();
    let values = sysctl::read_all(netns, &keys)?;
    Ok(values.into_iter().all(|value| value.is_some_and(|value| value != "0")))
}

/// Switches it on.
pub(super) async fn switch_on(
    rtnl: &Rtnl,
    wanted: &Masquerade,
    lab: &LabName,
) -> std::result::Result<(), Error> {
    let netns = rtnl.netns();
    let mut memory =
        if wanted.is_shared { Some(SharedSysctls::take(netns.id()?, &wanted.place)?) } else { None };
    let (mut before, mut on) = (Vec::new(), Vec::new());
    for switch in switches(wanted) {
        if sysctl::read(netns, &switch.key)? == "0" {
            let change = Change::of(rtnl, &switch).await?;
            before.extend(change.before);
            on.extend(change.on);
        }
    }
    if let Some(memory) = &mut memory {
        memory.remember(lab, before)?;
        stop::here_if_told();
    }
    sysctl::write_existing(netns, &on)?;
    stop::here_if_told();
    Ok(())
}

/// Puts back what there was in a namespace that is not the lab's own, unless a lab other than `leaving` needs it.
/// Returns what could not be, as nobody knows what it was.
pub(super) fn put_back(
    netns: &Netns,
    wanted: &Masquerade,
    leaving: &LabName,
) -> std::result::Result<Option<String>, Error> {
    if !wanted.is_shared {
        return Ok(None);
    }
    let mut memory = SharedSysctls::take(netns.id()?, &wanted.place)?;
    let lost = memory.lost().map(|file| {
        format!(
            "forwarding of {netns} stays as it is: {} cannot be read, which had what it was",
            file.display()
        )
    });
    let before = memory.without(leaving);
    let keys: Vec<_> = before.iter().map(|setting| setting.key.clone()).collect();
    // What somebody has set meanwhile of what only labs set stays.
    let is_ours = |(setting, now): &(&Sysctl, Option<String>)| {
        setting.key.name() != "accept_ra" || now.as_deref() == Some("2")
    };
    let before: Vec<_> = before.iter().zip(sysctl::read_all(netns, &keys)?).filter(is_ours).collect();
    let before: Vec<_> = before.into_iter().map(|(setting, _)| setting.clone()).collect();
    sysctl::write_existing(netns, &before)?;
    stop::here_if_told();
    memory.forget()?;
    stop::here_if_told();
    Ok(lost)
}

/// Settings of a namespace that is gone, or that nothing leads to, are not put back.
pub(super) fn forget(gone: NetnsId, place: &Place, leaving: &LabName) -> std::result::Result<(), Error> {
    let mut memory = SharedSysctls::take(gone, place)?;
    let _ = memory.without(leaving);
    Ok(memory.forget()?)
}

/// What switches forwarding on, for each family.
fn switches(wanted: &Masquerade) -> Vec<Sysctl> {
    let (v4, v6) = wanted.families();
    let on = |key| Sysctl { key, value: "1".into() };
    let v4 = v4.then(|| on(SysctlKey::net(&["ipv4", "ip_forward"])));
    let v6 = v6.then(|| on(SysctlKey::of_interface("ipv6", "all", "forwarding")));
    v4.into_iter().chain(v6).collect()
}

/// What is written to switch one family on, and all that changes with it, as it is, in the order in which it is put
/// back.
struct Change {
    on: Vec<Sysctl>,
    before: Vec<Sysctl>,
}

impl Change {
    /// The switch sets `forwarding` of all interfaces and of those to come (`inet_forward_change`,
    /// `addrconf_fixup_forwarding`). That of IPv4 also sets whether redirects are taken. That of IPv6 removes the
    /// default routes that came with router advertisements, but for interfaces whose `accept_ra` is 2
    /// (`rt6_purge_dflt_routers`); of the others no router advertisement is taken from then on
    /// (`ipv6_accept_ra`), and what came with earlier ones expires.
    async fn of(rtnl: &Rtnl, switch: &Sysctl) -> Result<Self> {
        let netns = rtnl.netns();
        let family = switch.key.family();
        let names: BTreeMap<u32, String> =
            rtnl.links().await?.into_iter().map(|link| (link.ifindex, link.name)).collect();
        let mut keys = vec![SysctlKey::of_interface(family, "default", "forwarding")];
        keys.extend(names.values().map(|name| SysctlKey::of_interface(family, name, "forwarding")));
        let values = sysctl::read_all(netns, &keys)?;
        let each = keys
            .into_iter()
            .zip(values)
            .filter_map(|(key, value)| Some(Sysctl { key, value: value?.into() }));
        let mut before = vec![Sysctl { value: "0".into(), ..switch.clone() }];
        before.extend(each.filter(|setting| &*setting.value != "0"));
        let mut on = Vec::new();
        if family == "ipv4" {
            let redirects = SysctlKey::of_interface(family, "all", "accept_redirects");
            before.push(Sysctl { value: sysctl::read(netns, &redirects)?.into(), key: redirects });
        } else {
            let routes = rtnl.routes().await?;
            let advertised: BTreeSet<u32> =
                routes.iter().filter(|route| route.is_advertised).filter_map(|route| route.ifindex).collect();
            let names = advertised.iter().filter_map(|index| names.get(index));
            let keys: Vec<_> = names.map(|name| SysctlKey::of_interface(family, name, "accept_ra")).collect();
            for (key, value) in keys.iter().zip(sysctl::read_all(netns, &keys)?) {
                if value.as_deref() == Some("1") {
                    on.push(Sysctl { key: key.clone(), value: "2".into() });
                    before.push(Sysctl { key: key.clone(), value: "1".into() });
                }
            }
        }
        on.push(switch.clone());
        Ok(Self { on, before })
    }
}
