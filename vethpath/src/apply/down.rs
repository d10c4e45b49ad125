//! Takes a lab down. Continues after errors. Touches only what is marked as the lab's.

use std::{collections::BTreeSet, fmt::Display, pin::pin};

use super::{
    Error, NetnsCache,
    cleanup::{self, Marked},
    error::Removed,
    foreign::Doomed,
    namespaces, nat,
    observe::{Ours, expected_macs, observe},
    programs, xdp_offloads,
};
use crate::{
    datapath::{self, Pins},
    kernel::{
        LinkFacts, Netns, RouteSocket, bpffs,
        home::{Home, HomeAccess, Intent, Obstacle},
        netns,
        process::{self, interrupted},
        rcu::Expedited,
    },
    plan::Found,
    state::{
        self, AgentLock, Directory, History, Journal, LabLock, MetricsLock, Record, Saved,
        events::{Kind, Recorder},
        test_hooks,
    },
    topology::{LabName, Masquerade, Namespace, NsName, Place, Topology},
};

/// How many namespaces are removed in a batch. Interrupts are handled between batches.
const TOGETHER: usize = 96;

/// The errors of what could not be removed.
pub type Left = Vec<Error>;

/// A lab that is to be removed, as far as it is known.
pub(super) struct Target<'a> {
    /// Its name.
    pub(super) lab: &'a LabName,
    /// Its present and former topologies, oldest first.
    pub(super) topologies: &'a [Topology],
    /// Its home, if its record has one.
    pub(super) home: Option<&'a Home>,
    /// Whether its network namespace exists. The calling thread is then in it.
    pub(super) has_netns: bool,
    /// Whether its record is damaged, so that its objects are identified by marks.
    pub(super) by_marks: bool,
    /// Whether the topologies are from a record, not only from the user's file.
    pub(super) is_recorded: bool,
}

/// What `down` does with foreign devices that depend on the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// The lab stays up as long as it has any.
    Kept,
    /// They are cut off: the user has given `--force`.
    CutOff,
}

/// Takes a lab down. `file` is the user's topology, if any, and replaces a lost journal. `waiting` is called with the
/// error that names the lock's holder, if the lab's lock is waited for. Returns messages for the user.
///
/// # Errors
/// The lab is not up, another process holds its lock, it lives elsewhere, foreign devices depend on it, or the
/// errors of all that could not be removed.
pub async fn down(
    lab: &LabName,
    file: Option<&Topology>,
    foreign: Foreign,
    waiting: fn(&state::Error),
) -> Result<Vec<String>, Left> {
    // Handlers are installed before anything is made: an unhandled interrupt would leave it.
    let mut interrupt = pin!(interrupted());
    let directory = Directory::of(lab);
    let existed = directory.exists() || Pins::of(lab).directory().exists();
    if !existed && file.is_none() {
        directory.remove_empty();
        return Err(vec![Error::NoLab(lab.clone())]);
    }
    let _lock = tokio::select! {
        biased;
        () = &mut interrupt => return Err(vec![Error::Interrupted]),
        lock = LabLock::wait(&directory, waiting) => lock.map_err(|error| vec![error.into()])?,
    };
    let known = match Known::of(&directory, file) {
        Ok(known) => known,
        Err(error) => {
            // Only if this run has made it.
            directory.remove_empty();
            return Err(vec![error]);
        }
    };
    if foreign == Foreign::Kept {
        known.check_foreign(lab).map_err(|error| {
            directory.remove_empty();
            vec![error]
        })?;
    }
    if existed {
        Recorder::of(&directory).record([Kind::LabDown]);
    }
    let Known { topologies, home, has_netns, damage, is_recorded } = &known;
    if topologies.is_empty() && damage.is_none() {
        // A run was killed before it wrote the record, having done nothing else, or after it had removed all else.
        let left: Left = directory.remove().err().map(Error::from).into_iter().collect();
        return if left.is_empty() { Ok(Vec::new()) } else { Err(left) };
    }
    if !existed && !anything_there(topologies).await {
        directory.remove_empty();
        return Err(vec![Error::NoLab(lab.clone())]);
    }
    let doomed = Target {
        lab,
        topologies,
        home: home.as_ref(),
        has_netns: *has_netns,
        by_marks: known.needs_marks(),
        is_recorded: *is_recorded,
    };
    let mut removed = tokio::select! {
        // Polled first: work that does not await would otherwise run before a pending interrupt is seen.
        biased;
        () = &mut interrupt => {
            Removed { left: vec![Error::Stopped(still_there(topologies).await)], messages: Vec::new() }
        }
        removed = remove_lab(&doomed, &directory) => removed,
    };
    if let Some(damage) = damage {
        removed.messages.insert(0, format!("{damage}: objects with the mark of lab {lab} are removed"));
    }
    if removed.left.is_empty() { Ok(removed.messages) } else { Err(removed.left) }
}

/// What is known of a lab, read under its lock.
struct Known {
    topologies: Vec<Topology>,
    home: Option<Home>,
    has_netns: bool,
    damage: Option<state::Error>,
    is_recorded: bool,
}

impl Known {
    fn of(directory: &Directory, file: Option<&Topology>) -> Result<Self, Error> {
        let mut damage = None;
        let mut records = Vec::new();
        let mut topologies: Vec<Topology> = match History::read(directory) {
            Ok(Some(history)) => {
                let topologies = history.topologies().cloned().collect();
                records.push(history.record);
                topologies
            }
            Err(error @ (state::Error::Journal { .. } | state::Error::Version { .. })) => {
                damage = Some(error);
                records = History::salvage(directory);
                records.iter().map(|record| record.topology.clone()).collect()
            }
            Err(error) if file.is_none() => return Err(error.into()),
            Ok(None) => {
                damage = directory.has_traces().then(|| state::Error::lost_record(directory));
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        if topologies.is_empty() || damage.is_some() {
            topologies.extend(file.cloned());
        }
        let is_recorded = !records.is_empty();
        let home = records.into_iter().rev().find_map(|record| record.home);
        let route = Record::route(home.as_ref(), directory)?;
        let obstacle = route.as_ref().and_then(|route| route.obstacle(Intent::Change));
        let is_gone = matches!(obstacle, None | Some(Obstacle::NetnsGone | Obstacle::MountsGone));
        if !is_gone || route.as_ref().is_some_and(HomeAccess::leads_elsewhere) {
            return Err(Error::Elsewhere { lab: directory.lab().clone(), obstacle });
        }
        let has_netns = route.is_none_or(|route| route.has_netns());
        Ok(Self { topologies, home, has_netns, damage, is_recorded })
    }
}

impl Known {
    /// Whether objects of the lab are found by their marks too: the record is damaged, or there is none. The file may not
    /// have all, since `--fabric` is not in it.
    fn needs_marks(&self) -> bool {
        self.damage.is_some() || !self.is_recorded
    }

    /// Fails if foreign devices depend on the lab's.
    fn check_foreign(&self, lab: &LabName) -> Result<(), Error> {
        let all: Vec<&Topology> = self.topologies.iter().collect();
        // A damaged journal is reported later.
        let saved = Saved::read(&Directory::of(lab)).unwrap_or_default();
        let marked = if self.needs_marks() {
            cleanup::marked(lab, &saved, &BTreeSet::new())
        } else {
            Marked::default()
        };
        Doomed::of_lab(&self.topologies, &marked, self.has_netns).check(lab, &all, &saved)
    }
}

/// Whether a lab without a state folder has left any objects.
async fn anything_there(topologies: &[Topology]) -> bool {
    let Some(topology) = topologies.last() else { return false };
    let Ok(mut places) = NetnsCache::open() else { return false };
    let Ok(observed) = observe(topology, &[], None, &mut places).await else { return true };
    observed.links.values().any(|link| link.ours)
        || observed.namespaces.values().any(|found| *found == Found::Ours)
        || Pins::of(&topology.lab).directory().exists()
}

/// The journal, if it can be written. Removal continues without it.
struct OptionalJournal(Option<Journal>);

impl OptionalJournal {
    fn add(&mut self, steps: impl IntoIterator<Item = impl Display>) {
        let _ = self.0.as_mut().map(|journal| journal.append_all(steps.into_iter()));
    }
}

/// Lists the lab's remaining objects, as far as they can be found.
async fn still_there(topologies: &[Topology]) -> Vec<String> {
    let (Some(topology), Ok(mut places)) = (topologies.last(), NetnsCache::open()) else { return Vec::new() };
    let Ok(observed) = observe(topology, topologies, None, &mut places).await else { return Vec::new() };
    let namespaces = observed.namespaces.iter().filter(|(_, found)| **found == Found::Ours);
    let links = observed.links.iter().filter(|((place, _), link)| *place == Place::Host && link.ours);
    let namespaces = namespaces.map(|(name, _)| format!("namespace {name}"));
    namespaces.chain(links.map(|((_, name), _)| format!("interface {name}"))).collect()
}

/// Removes all objects of the present and former topologies of a lab whose lock is held. Writes each step to the
/// journal before it is done, if possible.
pub(super) async fn remove_lab(doomed: &Target<'_>, directory: &Directory) -> Removed {
    let &Target { lab, topologies, has_netns, by_marks, .. } = doomed;
    let Removed { mut left, mut messages } = Removed::default();
    process::raise_descriptor_limit();
    // Read before the journal is continued: a lost one is started from scratch.
    let saved = match Saved::read(directory) {
        Ok(saved) => saved,
        // It is damaged, which is reported elsewhere.
        Err(state::Error::Journal { .. }) => Saved::default(),
        Err(error) => {
            left.push(error.into());
            Saved::default()
        }
    };
    let mut journal = OptionalJournal(Journal::resume(directory).ok());
    journal.add(["end metrics"]);
    left.extend(MetricsLock::terminate_holder(directory).await.err().map(Error::from));
    journal.add(["end agent"]);
    left.extend(AgentLock::terminate_holder(directory).await.err().map(Error::from));
    journal.add(["restore offloads"]);
    left.extend(restore_offloads(&saved, lab).await);
    let all: Vec<&Topology> = topologies.iter().collect();
    let ours = Ours { lab, macs: &expected_macs(&all), is_recorded: doomed.is_recorded };
    let soon =
        Expedited::for_ports(topologies.iter().map(|topology| topology.pairs.len()).max().unwrap_or(0));
    match NetnsCache::open() {
        Ok(places) if has_netns => {
            match remove_links(&Place::Host, &places, ours, &mut journal) {
                Ok(kept) => messages.extend(kept),
                Err(error) => left.push(error),
            }
            // The calls above do not await. Yield, so that an interrupt can be handled.
            tokio::task::yield_now().await;
            journal.add(["detach guest ports"]);
            left.extend(programs::detach_guests(lab, &programs::with_guests(topologies, &[])).await.err());
            journal.add(["remove accept-rules"]);
            left.extend(remove_accepted(doomed, &places).err().map(Error::from));
            journal.add(["remove nat"]);
            let nat = remove_nat(doomed, &places).await;
            left.extend(nat.left);
            messages.extend(nat.messages);
        }
        Ok(_) => {
            messages
                .push(format!("the network namespace that lab {lab} lived in is gone, with what was in it"));
            if let Some(home) = doomed.home {
                left.extend(nat::forget_forwarding(home.netns, &Place::Host, lab).await.err());
            }
        }
        Err(error) => left.push(error.into()),
    }
    let (adopted, made): (Vec<_>, Vec<_>) =
        all_namespaces(topologies).into_iter().partition(|namespace| namespace.adopt.is_some());
    let (first, then): (Vec<_>, Vec<_>) =
        made.into_iter().partition(|namespace| has_bridges(namespace, topologies));
    let mut names: Vec<Vec<&NsName>> = [first, then, adopted]
        .into_iter()
        .map(|namespaces| namespaces.into_iter().map(|namespace| &namespace.name).collect())
        .collect();
    let known = names.iter().flatten().copied().collect();
    let marked = if by_marks { cleanup::marked(lab, &saved, &known) } else { Marked::default() };
    names[1].extend(&marked.made);
    names[2].extend(&marked.adopted);
    messages.extend(marked.others.iter().map(|name| {
        format!("namespace {name} carries the mark of lab {lab}, and belongs to another lab by its record; not removed")
    }));
    for some in names[0].chunks(TOGETHER).chain(names[1].chunks(TOGETHER)) {
        // Yield here too.
        test_hooks::wait_point("down").await;
        tokio::task::yield_now().await;
        journal.add(some.iter().map(|name| format!("remove namespace {name}")));
        let (faults, kept) = cleanup::namespaces(some, ours, &saved);
        left.extend(faults);
        messages.extend(kept);
    }
    for name in &names[2] {
        let gone = release(name, doomed, ours, &saved, &mut journal).await;
        match gone {
            Ok(removed) => {
                left.extend(removed.left);
                messages.extend(removed.messages);
            }
            Err(fault) => left.push(fault),
        }
    }
    // Done last: a program's link is released sooner after its device is gone.
    journal.add(["remove programs"]);
    left.extend(bpffs::remove_directory(Pins::of(lab).directory()).err().map(Error::from));
    drop(soon);
    journal.add(["remove state"]);
    left.extend(bpffs::unmount_unused().err().map(Error::from));
    if !left.is_empty() {
        // The journal stays, so that another `down` can continue.
        return Removed { left, messages };
    }
    left.extend(retire_netns().err());
    // What a killed `up` started may have taken its lock only now.
    left.extend(AgentLock::terminate_holder(directory).await.err().map(Error::from));
    left.extend(MetricsLock::terminate_holder(directory).await.err().map(Error::from));
    left.extend(directory.remove().err().map(Error::from));
    Removed { left, messages }
}

/// Detaches XDP programs and restores the offloads of inner ends. Most inner ends are removed soon after, but not one
/// that another user has taken over.
async fn restore_offloads(saved: &Saved, lab: &LabName) -> Vec<Error> {
    let offloads = &saved.offloads;
    let mut faults = Vec::new();
    if !offloads.is_empty() {
        faults.extend(datapath::detach_all_xdp(&Pins::of(lab)).err().map(Error::from));
    }
    for found in offloads.values() {
        faults.extend(xdp_offloads::restore(found, lab).await.err().map(Error::from));
    }
    faults
}

/// All present and former namespaces of the lab. A name occurs once for each different `adopt`.
fn all_namespaces(topologies: &[Topology]) -> Vec<&Namespace> {
    let mut all: Vec<&Namespace> = Vec::new();
    let mut known = BTreeSet::new();
    for namespace in topologies.iter().rev().flat_map(|topology| &topology.namespaces) {
        if known.insert((namespace.name.as_str(), namespace.adopt.as_ref())) {
            all.push(namespace);
        }
    }
    all
}

/// Whether a namespace has, or had, bridges. It then has the other ends of most links in other namespaces.
fn has_bridges(namespace: &Namespace, topologies: &[Topology]) -> bool {
    let place = Place::Namespace(namespace.name.clone());
    topologies.iter().flat_map(|topology| &topology.bridges).any(|bridge| bridge.place == place)
}

/// Removes the lab's links of a place. Returns messages about other links with the name or MAC of one.
fn remove_links(
    place: &Place,
    places: &NetnsCache,
    ours: Ours<'_>,
    journal: &mut OptionalJournal,
) -> Result<Vec<String>, Error> {
    let socket = RouteSocket::open(&places.netns(place)?)?;
    let (doomed, others): (Vec<_>, Vec<_>) =
        socket.links()?.into_iter().partition(|link| ours.has(place, link));
    journal.add(doomed.iter().map(|link| format!("remove interface {place}:{}", link.name)));
    cleanup::remove(&socket, place, |link| ours.has(place, link))?;
    let message = |link: &LinkFacts| {
        format!("interface {place}:{} does not belong to lab {}; not removed", link.name, ours.lab)
    };
    Ok(others.iter().filter(|link| ours.resembles(place, link)).map(message).collect())
}

/// Removes the rules in Docker's chains on the host, if the lab may have any. Those in a namespace go with the namespace.
fn remove_accepted(doomed: &Target<'_>, places: &NetnsCache) -> crate::kernel::Result<()> {
    let is_on_host = |topology: &Topology| {
        topology.uplink().is_some() || topology.bridges.iter().any(|bridge| bridge.place == Place::Host)
    };
    if doomed.by_marks || doomed.topologies.iter().any(is_on_host) {
        nat::remove_accepted(&places.netns(&Place::Host)?, doomed.lab)?;
    }
    Ok(())
}

/// Removes the table on the host. A table in a namespace goes with the namespace.
async fn remove_nat(doomed: &Target<'_>, places: &NetnsCache) -> Removed {
    let mut tables = doomed.topologies.iter().rev().flat_map(Masquerade::of);
    let by_name = doomed.by_marks.then(|| Masquerade::unknown(doomed.lab, Place::Host));
    let Some(nat) = tables.find(|nat| nat.place == Place::Host).or(by_name) else {
        return Removed::default();
    };
    match places.netns(&nat.place) {
        Ok(netns) => nat::remove(&netns, &nat, doomed.lab).await,
        Err(error) => Removed { left: vec![error.into()], messages: Vec::new() },
    }
}

/// Removes the lab's objects from an adopted namespace, which stays.
///
/// # Errors
/// The namespace cannot be read.
async fn release(
    name: &NsName,
    doomed: &Target<'_>,
    ours: Ours<'_>,
    saved: &Saved,
    journal: &mut OptionalJournal,
) -> Result<Removed, Error> {
    let mut removed = Removed::default();
    let place = Place::Namespace(name.clone());
    let namespaces = doomed.topologies.iter().flat_map(|topology| &topology.namespaces);
    let recorded: Vec<_> = namespaces.filter(|namespace| &namespace.name == name).collect();
    let is_our_name = !recorded.is_empty() && !recorded.iter().any(|namespace| namespace.has_its_name());
    // The namespace may exist without the name, where it cannot be reached.
    let forget = async || match saved.adopted.get(name.as_str()) {
        Some(id) => nat::forget_forwarding(*id, &place, ours.lab).await,
        None => Ok(()),
    };
    if !netns::exists(name) {
        forget().await?;
        return Ok(removed);
    }
    if netns::is_left_over(name) {
        // A name that is only in the user's file may not be the lab's.
        if cleanup::has_recorded(ours.lab, name) && is_our_name {
            journal.add([format!("remove namespace {name}")]);
            netns::unbind(name)?;
        }
        forget().await?;
        return Ok(removed);
    }
    let there = Netns::named(name)?;
    if !namespaces::is_adopted(name, ours.lab, saved, &there)? {
        removed
            .messages
            .push(format!("namespace {name} is not the one that lab {} adopted; not removed", ours.lab));
        forget().await?;
        return Ok(removed);
    }
    match remove_links(&place, &NetnsCache::open()?, ours, journal) {
        Ok(kept) => removed.messages.extend(kept),
        Err(error) => removed.left.push(error),
    }
    removed.left.extend(nat::remove_accepted(&there, ours.lab).err().map(Error::from));
    let by_name = doomed.by_marks.then(|| Masquerade::unknown(ours.lab, place.clone()));
    let tables = doomed.topologies.iter().flat_map(Masquerade::of).filter(|nat| nat.place == place);
    for nat in tables.chain(by_name) {
        let nat = nat::remove(&there, &nat, ours.lab).await;
        removed.left.extend(nat.left);
        removed.messages.extend(nat.messages);
    }
    removed.left.extend(namespaces::restore_sysctls(&place, &there, saved).err().map(Error::from));
    match namespaces::restore_routes(name, &there, saved, |_| true) {
        Ok(messages) => removed.messages.extend(messages),
        Err(error) => removed.left.push(error.into()),
    }
    if is_our_name {
        journal.add([format!("remove namespace {name}")]);
        removed.left.extend(netns::unbind(name).err().map(Error::from));
    } else if recorded.is_empty() {
        // The namespace might end if its owner's name for it were removed.
        removed
            .messages
            .push(format!("adopted namespace {name} keeps its name: the record does not say who owns it"));
    }
    Ok(removed)
}

/// Unmounts `/run/netns` if vethpath made it a mount and no other lab may rely on it.
fn retire_netns() -> Result<(), Error> {
    let alone = state::labs()?.len() <= 1;
    if alone && state::take_netns_mount() {
        netns::unmount_directory()?;
    }
    Ok(())
}
