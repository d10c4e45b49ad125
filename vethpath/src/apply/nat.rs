//! Masquerading (`nat = true`): a lab's nftables table, forwarding in its namespace, and rules in Docker's chain that accept
//! what is masqueraded.
//!
//! In a namespace that the lab has created, nothing is restored. On the host and in adopted namespaces, forwarding is
//! enabled if it is off. The former values of all that this changes are saved, and restored when the last lab with
//! `nat` there goes.

use std::collections::{BTreeMap, BTreeSet};

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::{Error, error::Removed, namespaces};
use crate::{
    firewall::{FAMILIES, Firewall, MOST_READS},
    kernel::{
        Adoptions, Netns, NetnsId, Result, Rtnl, Source, blocking,
        netfilter::{self, Family, OwnTable, has_docker_user},
        sysctl,
    },
    plan::{Accepted, Plan, Step},
    state::{SharedSysctls, test_hooks},
    topology::{AcceptRule, LabName, Masquerade, Place, Sysctl, SysctlKey, Topology, lab_mark},
};

/// Whether the table exists exactly as wanted, and forwarding is on.
pub fn is_there(netns: &Netns, wanted: &Masquerade) -> Result<bool> {
    let socket = blocking(netns, NETLINK_NETFILTER)?;
    let table = OwnTable { name: &wanted.table, rules: &wanted.rules };
    Ok(netfilter::is_exactly(&socket, table)? && forwards(netns, wanted)?)
}

/// Adds a lab's table, and enables forwarding.
pub async fn add(rtnl: &Rtnl, wanted: &Masquerade, lab: &LabName) -> std::result::Result<(), Error> {
    enable_forwarding(rtnl, wanted, lab).await?;
    let socket = blocking(rtnl.netns(), NETLINK_NETFILTER)?;
    Ok(netfilter::add_masquerade(&socket, &wanted.table, &wanted.rules)?)
}

/// Removes a lab's table, and restores forwarding even if that fails.
pub(super) async fn remove(netns: &Netns, wanted: &Masquerade, lab: &LabName) -> Removed {
    let mut removed = Removed::default();
    match remove_table(netns, wanted) {
        Ok(message) => removed.messages.extend(message),
        Err(error) => removed.left.push(error.into()),
    }
    match restore_forwarding(netns, wanted, lab).await {
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
        done => done.map(|()| None),
    }
}

/// Fails if a table that the plan would create exists and is not vethpath's.
pub(super) fn check(
    plan: &Plan,
    topology: &Topology,
    adoptions: &Adoptions,
) -> std::result::Result<(), Error> {
    for nat in plan.steps().filter_map(|step| if let Step::Masquerade(nat) = step { Some(nat) } else { None })
    {
        // A namespace that is about to be created has no tables.
        let Some(netns) = namespaces::existing(&nat.place, topology, adoptions)? else { continue };
        let socket = blocking(&netns, NETLINK_NETFILTER)?;
        if netfilter::is_foreign(&socket, Family::Inet, &nat.table)? {
            return Err(Error::Table { table: nat.table.clone(), place: nat.place.clone() });
        }
    }
    Ok(())
}

/// The rules in Docker's chains of a namespace, and those that the lab needs there. All rules are read only where there is
/// such a chain. Rules that cannot be read, or change all the time, do not keep the lab from coming up: `up` has warned
/// of that, and the agent looks again.
pub(super) fn accepted(topology: &Topology, place: &Place, netns: &Netns) -> Vec<Accepted> {
    let mut source = Source::new(netns, NETLINK_NETFILTER);
    let Ok(Some(socket)) = source.socket() else { return Vec::new() };
    if !FAMILIES.iter().any(|family| has_docker_user(socket, *family).unwrap_or_default()) {
        return Vec::new();
    }
    let firewall = Firewall::read(topology, place, netns, MOST_READS);
    firewall.map(|mut firewall| firewall.accept()).unwrap_or_default()
}

/// Makes the wanted rules those of the lab in Docker's chain.
pub(super) fn accept(netns: &Netns, accepted: &Accepted, lab: &LabName) -> Result<()> {
    set_rules(netns, accepted, lab, &accepted.wanted)
}

/// Makes the rules that were there before those of the lab in Docker's chain. Some may have gone with the chain since.
pub(super) fn accept_again(netns: &Netns, accepted: &Accepted, lab: &LabName) -> Result<()> {
    let before: Vec<_> = accepted.present.iter().flatten().cloned().collect();
    match set_rules(netns, accepted, lab, &before) {
        Err(error) if error.is_missing() => Ok(()),
        done => done,
    }
}

fn set_rules(netns: &Netns, accepted: &Accepted, lab: &LabName, rules: &[AcceptRule]) -> Result<()> {
    let socket = blocking(netns, NETLINK_NETFILTER)?;
    netfilter::accept(&socket, accepted.family.into(), &lab_mark(lab), rules)?;
    test_hooks::kill_point();
    Ok(())
}

/// Removes the lab's rules from Docker's chains, whatever put them there.
pub(super) fn remove_accepted(netns: &Netns, lab: &LabName) -> Result<()> {
    let mut source = Source::new(netns, NETLINK_NETFILTER);
    let Some(socket) = source.socket()? else { return Ok(()) };
    for family in FAMILIES {
        netfilter::accept(socket, family, &lab_mark(lab), &[])?;
        test_hooks::kill_point();
    }
    Ok(())
}

/// Whether forwarding is on for the families of a table.
fn forwards(netns: &Netns, wanted: &Masquerade) -> Result<bool> {
    let keys: Vec<_> = switches(wanted).into_iter().map(|switch| switch.key).collect();
    let values = sysctl::read_all(netns, &keys)?;
    Ok(values.into_iter().all(|value| value.is_some_and(|value| value != "0")))
}

/// Enables forwarding for the families of a table.
async fn enable_forwarding(
    rtnl: &Rtnl,
    wanted: &Masquerade,
    lab: &LabName,
) -> std::result::Result<(), Error> {
    let netns = rtnl.netns();
    let mut memory = if wanted.is_shared {
        Some(SharedSysctls::acquire(netns.id()?, &wanted.place, lab).await?)
    } else {
        None
    };
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
        test_hooks::kill_point();
    }
    sysctl::write_existing(netns, &on)?;
    test_hooks::kill_point();
    Ok(())
}

/// Runs `write` for settings of single interfaces. Where they enable IPv6 forwarding, keeps default routes from router
/// advertisements, which the kernel would remove on every interface (`addrconf_fixup_forwarding`). [`Change`] does so
/// for the switch of all interfaces.
pub(super) async fn keep_routers(
    rtnl: &Rtnl,
    settings: &[Sysctl],
    write: impl FnOnce() -> std::result::Result<(), Error>,
) -> std::result::Result<(), Error> {
    let switches_on = |setting: &Sysctl| {
        setting.key.family() == "ipv6" && setting.key.name() == "forwarding" && &*setting.value != "0"
    };
    if !settings.iter().any(switches_on) {
        return write();
    }
    let before = accepting(rtnl).await?;
    sysctl::write_existing(rtnl.netns(), &routing(&before))?;
    let written = write();
    // These interfaces do not forward themselves, so `accept_ra` is restored.
    sysctl::write_existing(rtnl.netns(), &before)?;
    written
}

/// The `accept_ra` of interfaces with a default route from a router advertisement, where it is not 2.
async fn accepting(rtnl: &Rtnl) -> Result<Vec<Sysctl>> {
    let routes = rtnl.socket().routes()?;
    let advertised: BTreeSet<u32> =
        routes.iter().filter(|route| route.is_advertised).filter_map(|route| route.ifindex).collect();
    let links = rtnl.socket().links()?;
    let names = links.iter().filter(|link| advertised.contains(&link.ifindex)).map(|link| &link.name);
    let keys: Vec<_> = names.map(|name| SysctlKey::of_interface("ipv6", name, "accept_ra")).collect();
    let values = sysctl::read_all(rtnl.netns(), &keys)?;
    let known = keys.into_iter().zip(values);
    let known = known.filter_map(|(key, value)| Some(Sysctl { key, value: value?.into() }));
    Ok(known.filter(|setting| &*setting.value != "2").collect())
}

/// The same settings with the value 2, as for routers.
fn routing(settings: &[Sysctl]) -> Vec<Sysctl> {
    settings.iter().map(|setting| Sysctl { key: setting.key.clone(), value: "2".into() }).collect()
}

/// Restores the settings of a shared namespace, unless a lab other than `leaving` needs them. Returns a message if the
/// saved values are lost.
async fn restore_forwarding(
    netns: &Netns,
    wanted: &Masquerade,
    leaving: &LabName,
) -> std::result::Result<Option<String>, Error> {
    if !wanted.is_shared {
        return Ok(None);
    }
    let mut memory = SharedSysctls::acquire(netns.id()?, &wanted.place, leaving).await?;
    let lost = memory.lost().map(|file| {
        format!(
            "forwarding of {netns} stays as it is: {} cannot be read, which holds the former value",
            file.display()
        )
    });
    let before = memory.without(leaving);
    let keys: Vec<_> = before.iter().map(|setting| setting.key.clone()).collect();
    // Only labs set `accept_ra` to 2. Where it has another value, the user has set it meanwhile, and it stays.
    let is_ours = |(setting, now): &(&Sysctl, Option<String>)| {
        setting.key.name() != "accept_ra" || now.as_deref() == Some("2")
    };
    let before: Vec<_> = before.iter().zip(sysctl::read_all(netns, &keys)?).filter(is_ours).collect();
    let before: Vec<_> = before.into_iter().map(|(setting, _)| setting.clone()).collect();
    sysctl::write_existing(netns, &before)?;
    test_hooks::kill_point();
    memory.forget()?;
    test_hooks::kill_point();
    Ok(lost)
}

/// Discards the saved settings of a namespace that is gone or cannot be reached.
pub(super) async fn forget_forwarding(
    gone: NetnsId,
    place: &Place,
    leaving: &LabName,
) -> std::result::Result<(), Error> {
    let mut memory = SharedSysctls::acquire(gone, place, leaving).await?;
    let _ = memory.without(leaving);
    Ok(memory.forget()?)
}

/// The settings that enable forwarding, for each family.
fn switches(wanted: &Masquerade) -> Vec<Sysctl> {
    let (v4, v6) = wanted.families();
    let on = |key| Sysctl { key, value: "1".into() };
    let v4 = v4.then(|| on(SysctlKey::net(&["ipv4", "ip_forward"])));
    let v6 = v6.then(|| on(SysctlKey::of_interface("ipv6", "all", "forwarding")));
    v4.into_iter().chain(v6).collect()
}

/// The settings to write for one family (`on`), and the present values of all that they change, in the order of
/// restoring (`before`).
struct Change {
    on: Vec<Sysctl>,
    before: Vec<Sysctl>,
}

impl Change {
    /// The switch sets `forwarding` of all present and future interfaces (`inet_forward_change`,
    /// `addrconf_fixup_forwarding`). The IPv4 switch also sets `accept_redirects`. The IPv6 switch removes default
    /// routes from router advertisements, except on interfaces with `accept_ra` 2 (`rt6_purge_dflt_routers`), which is
    /// therefore set before it. With another value, router advertisements are ignored from then on (`ipv6_accept_ra`),
    /// and what came with earlier ones expires.
    async fn of(rtnl: &Rtnl, switch: &Sysctl) -> Result<Self> {
        let netns = rtnl.netns();
        let family = switch.key.family();
        let names: BTreeMap<u32, String> =
            rtnl.socket().links()?.into_iter().map(|link| (link.ifindex, link.name)).collect();
        let mut keys = vec![SysctlKey::of_interface(family, "default", "forwarding")];
        keys.extend(names.values().map(|name| SysctlKey::of_interface(family, name, "forwarding")));
        let values = sysctl::read_all(netns, &keys)?;
        let each = keys
            .into_iter()
            .zip(values)
            .filter_map(|(key, value)| Some(Sysctl { key, value: value?.into() }));
        let mut before = vec![Sysctl { value: "0".into(), ..switch.clone() }];
        before.extend(each.filter(|setting| &*setting.value != "0"));
        let (mut on, mut after) = (Vec::new(), Vec::new());
        if family == "ipv4" {
            let redirects = SysctlKey::of_interface(family, "all", "accept_redirects");
            before.push(Sysctl { value: sysctl::read(netns, &redirects)?.into(), key: redirects });
        } else {
            let accepting = accepting(rtnl).await?;
            on.extend(routing(&accepting));
            before.extend(accepting.iter().filter(|setting| &*setting.value == "1").cloned());
            after.extend(accepting.into_iter().filter(|setting| &*setting.value != "1"));
        }
        on.push(switch.clone());
        on.extend(after);
        Ok(Self { on, before })
    }
}
