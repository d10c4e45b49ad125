//! Taking a lab down. Never stops at the first fault; touches nothing that is not marked as the lab's.

use std::{collections::BTreeSet, fmt::Display};

use super::{
    Error, Places, adopted,
    clear::{self, Ours},
    nat,
    observe::{self, expected_macs, observe},
    prepare,
    up::interrupted,
};
use crate::{
    datapath::{self, Pins},
    kernel::{Direct, Netns, bpffs, files, grace::Expedited, netns},
    plan::Found,
    state::{
        self, AgentLock, Directory, Facts, History, Journal, LabLock,
        events::{Kind, Recorder},
        stop,
    },
    topology::{LabName, Masquerade, Namespace, Place, Topology},
};

/// How many namespaces are removed together, between which an interrupt is heard.
const TOGETHER: usize = 96;

/// What could not be removed, and why.
pub type Left = Vec<Error>;

/// Takes a lab down. `file` is the topology that the user gave, if any: it stands in for a journal
/// that is lost.
///
/// # Errors
/// The lab is not up, somebody else is at work on it, or everything that could not be removed.
pub async fn down(lab: &LabName, file: Option<&Topology>) -> Result<(), Left> {
    let directory = Directory::of(lab);
    if !directory.exists() && file.is_none() {
        return Err(vec![Error::NoLab(lab.clone())]);
    }
    let existed = directory.exists();
    directory.create().map_err(|error| vec![error.into()])?;
    let _lock = LabLock::take(&directory).map_err(|error| vec![error.into()])?;
    let topologies: Vec<Topology> = match History::read(&directory) {
        Ok(Some(history)) => history.topologies().cloned().collect(),
        Err(error) if file.is_none() => return Err(vec![error.into()]),
        Ok(None) | Err(_) => file.cloned().into_iter().collect(),
    };
    if existed {
        Recorder::of(&directory).record([Kind::LabDown]);
    }
    let left = if let Some(topology) = topologies.last() {
        let found = existed || anything_there(topology).await;
        let left = tokio::select! {
            // First, or work that does not wait would begin before anybody listens.
            biased;
            () = interrupted() => vec![Error::Stopped(still_there(&topologies).await)],
            left = remove_lab(&topologies, &directory) => left,
        };
        if !found && left.is_empty() {
            return Err(vec![Error::NoLab(lab.clone())]);
        }
        left
    } else {
        // Killed before the record was written: then nothing else had been done.
        directory.remove().err().map(Error::from).into_iter().collect()
    };
    if left.is_empty() { Ok(()) } else { Err(left) }
}

/// Whether a lab without a state folder has left anything.
async fn anything_there(topology: &Topology) -> bool {
    let Ok(mut places) = Places::open() else { return false };
    let Ok(observed) = observe(topology, &[], None, &mut places).await else { return true };
    observed.links.values().any(|link| link.ours)
        || observed.namespaces.values().any(|found| *found == Found::Ours)
        || Pins::of(&topology.lab).directory().exists()
}

/// The journal, if it can be written: what is removed goes whether or not it is noted.
struct Notes(Option<Journal>);

impl Notes {
    fn add(&mut self, steps: impl IntoIterator<Item = impl Display>) {
        let _ = self.0.as_mut().map(|journal| journal.note_all(steps.into_iter()));
    }
}

/// What of a lab is there, as far as it can be told.
async fn still_there(topologies: &[Topology]) -> Vec<String> {
    let (Some(topology), Ok(mut places)) = (topologies.last(), Places::open()) else { return Vec::new() };
    let Ok(observed) = observe(topology, topologies, None, &mut places).await else { return Vec::new() };
    let namespaces = observed.namespaces.iter().filter(|(_, found)| **found == Found::Ours);
    let links = observed.links.iter().filter(|((place, _), link)| *place == Place::Host && link.ours);
    let namespaces = namespaces.map(|(name, _)| format!("namespace {name}"));
    namespaces.chain(links.map(|((_, name), _)| format!("interface {name}"))).collect()
}

/// Removes everything of a lab whose lock is held, of what it is and of what it was, and returns what
/// could not be. Each step is in the journal before it is done, if that can be written.
pub(super) async fn remove_lab(topologies: &[Topology], directory: &Directory) -> Left {
    let mut left = Left::new();
    let Some(topology) = topologies.last() else { return left };
    files::allow_many();
    let mut notes = Notes(Journal::go_on(directory, directory.journal().exists()).ok());
    notes.add(["end agent"]);
    left.extend(AgentLock::end_holder(directory).await.err().map(Error::from));
    notes.add(["give offloads back"]);
    left.extend(give_offloads_back(directory, &topology.lab).await);
    let all: Vec<&Topology> = topologies.iter().collect();
    let ours = Ours { lab: &topology.lab, macs: &expected_macs(&all) };
    let soon =
        Expedited::for_ports(topologies.iter().map(|topology| topology.pairs.len()).max().unwrap_or(0));
    match Places::open() {
        Ok(places) => {
            left.extend(remove_links(&Place::Host, &places, ours, &mut notes).err());
            // Nothing of this waits: whoever wants to interrupt gets a turn here.
            tokio::task::yield_now().await;
            notes.add(["remove nat"]);
            left.extend(remove_nat(topologies, &places));
        }
        Err(error) => left.push(error.into()),
    }
    let (adopted, made): (Vec<_>, Vec<_>) =
        namespaces(topologies).into_iter().partition(|namespace| namespace.adopt.is_some());
    let (first, then): (Vec<_>, Vec<_>) =
        made.into_iter().partition(|namespace| has_bridges(namespace, topologies));
    for some in first.chunks(TOGETHER).chain(then.chunks(TOGETHER)) {
        // And here.
        stop::here_if_told_to_wait("down").await;
        tokio::task::yield_now().await;
        notes.add(some.iter().map(|namespace| format!("remove namespace {}", namespace.name)));
        left.extend(clear::namespaces(some, ours));
    }
    for namespace in adopted {
        left.extend(match let_go(namespace, topologies, ours, &mut notes).await {
            Ok(faults) => faults,
            Err(fault) => vec![fault],
        });
    }
    // Only now: a link of a program goes sooner when its device has gone before.
    notes.add(["remove programs"]);
    left.extend(bpffs::remove_directory(Pins::of(&topology.lab).directory()).err().map(Error::from));
    drop(soon);
    notes.add(["remove state"]);
    left.extend(bpffs::retire().err().map(Error::from));
    if !left.is_empty() {
        // The journal stays, so that another `down` can go on.
        return left;
    }
    left.extend(retire_netns().err());
    // One that a killed `up` had started may have come up only now.
    left.extend(AgentLock::end_holder(directory).await.err().map(Error::from));
    left.extend(directory.remove().err().map(Error::from));
    left
}

/// Takes XDP programs off, and gives inner ends the offloads that they had. Most of the inner ends go in a
/// moment; one that somebody has taken over does not.
async fn give_offloads_back(directory: &Directory, lab: &LabName) -> Vec<Error> {
    let offloads = match Facts::read(directory) {
        Ok(facts) => facts.offloads,
        Err(error) => return vec![error.into()],
    };
    let mut faults = Vec::new();
    if !offloads.is_empty() {
        faults.extend(datapath::detach_all_xdp(&Pins::of(lab)).err().map(Error::from));
    }
    for found in offloads.values() {
        faults.extend(prepare::restore(found, lab).await.err().map(Error::from));
    }
    faults
}

/// All namespaces that the lab has or had, each as often as it was different.
fn namespaces(topologies: &[Topology]) -> Vec<&Namespace> {
    let mut all: Vec<&Namespace> = Vec::new();
    let mut known = BTreeSet::new();
    for namespace in topologies.iter().rev().flat_map(|topology| &topology.namespaces) {
        if known.insert((namespace.name.as_str(), namespace.adopt.as_deref())) {
            all.push(namespace);
        }
    }
    all
}

/// Whether a namespace has, or had, bridges: then the ends of most of the others' links are there.
fn has_bridges(namespace: &Namespace, topologies: &[Topology]) -> bool {
    let place = Place::Namespace(namespace.name.clone());
    topologies.iter().flat_map(|topology| &topology.bridges).any(|bridge| bridge.place == place)
}

/// Removes the lab's links of a place.
fn remove_links(place: &Place, places: &Places, ours: Ours<'_>, notes: &mut Notes) -> Result<(), Error> {
    let direct = Direct::open(&places.netns(place)?)?;
    let mut doomed = direct.links(false)?;
    doomed.retain(|link| ours.has(place, link));
    notes.add(doomed.iter().map(|link| format!("remove interface {place}:{}", link.name)));
    clear::remove(&direct, place, |link| ours.has(place, link))?;
    Ok(())
}

/// The table on the host; one in a namespace goes with it.
fn remove_nat(topologies: &[Topology], places: &Places) -> Left {
    let mut tables = topologies.iter().rev().flat_map(Masquerade::of);
    let Some(nat) = tables.find(|nat| nat.place == Place::Host) else { return Left::new() };
    match places.netns(&nat.place) {
        Ok(netns) => nat::remove(&netns, &nat, &topologies[0].lab),
        Err(error) => vec![error.into()],
    }
}

/// An adopted namespace does not go away: what the lab has made in it has to. Returns what could not be
/// removed.
///
/// # Errors
/// It cannot be looked at.
async fn let_go(
    namespace: &Namespace,
    topologies: &[Topology],
    ours: Ours<'_>,
    notes: &mut Notes,
) -> Result<Left, Error> {
    let mut left = Left::new();
    let name = &namespace.name;
    if !netns::exists(name) {
        return Ok(left);
    }
    if netns::is_left_over(name) {
        // What only the user's file calls the lab's may be somebody else's.
        if clear::has_recorded(ours.lab, namespace) && !namespace.has_its_name() {
            notes.add([format!("remove namespace {name}")]);
            netns::unbind(name)?;
        }
        return Ok(left);
    }
    let there = Netns::named(name)?;
    if !observe::is_the_labs(namespace, &topologies[0], &there).await? {
        return Ok(left);
    }
    let place = Place::Namespace(name.clone());
    left.extend(remove_links(&place, &Places::open()?, ours, notes).err());
    for nat in topologies.iter().flat_map(Masquerade::of).filter(|nat| nat.place == place) {
        left.extend(nat::remove(&there, &nat, ours.lab));
    }
    left.extend(adopted::put_back(&place, &there, ours.lab).err());
    if !namespace.has_its_name() {
        notes.add([format!("remove namespace {name}")]);
        left.extend(netns::unbind(name).err().map(Error::from));
    }
    Ok(left)
}

/// Unmounts `/run/netns` if we made it a mount and no other lab may rely on it.
fn retire_netns() -> Result<(), Error> {
    let alone = state::labs()?.len() <= 1;
    if alone && state::take_netns_mount() {
        netns::retire_directory()?;
    }
    Ok(())
}
