//! Taking a lab down. Never stops at the first fault; touches nothing that is not marked as the lab's.

use super::{Error, Places, nat, observe, prepare, up::interrupted};
use crate::{
    datapath::Pins,
    kernel::{self, Netns, bpffs, netns},
    plan::Found,
    state::{
        self, AgentLock, Directory, Facts, History, Journal, LabLock,
        events::{Kind, Recorder},
    },
    topology::{LabName, Masquerade, Namespace, Place, Topology},
};

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
            left = remove_lab(&topologies, &directory) => left,
            () = interrupted() => vec![Error::Stopped(still_there(&topologies).await)],
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
    let mut journal = Journal::go_on(directory, directory.journal().exists()).ok();
    let mut note = |step: &str| drop(journal.as_mut().map(|journal| journal.note(step)));
    note("end agent");
    left.extend(AgentLock::end_holder(directory).err().map(Error::from));
    note("remove programs");
    left.extend(bpffs::remove_directory(Pins::of(&topology.lab).directory()).err().map(Error::from));
    match Facts::read(directory) {
        // Most of them go in a moment; one that somebody has taken over does not.
        Ok(facts) => {
            for found in facts.offloads.values() {
                left.extend(prepare::restore(found, &topology.lab).await.err().map(Error::from));
            }
        }
        Err(error) => left.push(error.into()),
    }
    match Places::open() {
        Ok(mut places) => {
            remove_links(&Place::Host, topologies, &mut places, &mut left, &mut note).await;
            note("remove nat");
            left.extend(remove_nat(topologies, &mut places).err());
        }
        Err(error) => left.push(error.into()),
    }
    for namespace in namespaces(topologies) {
        if let Err(error) = remove_namespace(namespace, topologies, &mut left, &mut note).await {
            left.push(error);
        }
    }
    note("remove state");
    left.extend(bpffs::retire().err().map(Error::from));
    if !left.is_empty() {
        // The journal stays, so that another `down` can go on.
        return left;
    }
    left.extend(retire_netns().err());
    left.extend(directory.remove().err().map(Error::from));
    left
}

/// All namespaces that the lab has or had, each as often as it was different.
fn namespaces(topologies: &[Topology]) -> Vec<&Namespace> {
    let mut all: Vec<&Namespace> = Vec::new();
    for namespace in topologies.iter().rev().flat_map(|topology| &topology.namespaces) {
        let is_it = |known: &&Namespace| known.name == namespace.name && known.adopt == namespace.adopt;
        if !all.iter().any(is_it) {
            all.push(namespace);
        }
    }
    all
}

/// Removes the links of a place that carry the lab's mark, or are ours by name and MAC and were
/// never marked.
async fn remove_links(
    place: &Place,
    topologies: &[Topology],
    places: &mut Places,
    left: &mut Left,
    note: &mut impl FnMut(&str),
) {
    let found = async {
        let rtnl = places.get(place)?;
        let observed = observe::links(&topologies.iter().collect::<Vec<_>>(), place, &rtnl).await?;
        Ok::<_, kernel::Error>((rtnl, observed))
    };
    let (rtnl, links) = match found.await {
        Ok(found) => found,
        Err(error) => return left.push(error.into()),
    };
    // A deleted end takes the other one with it, which is then missing: that is no fault.
    for link in links {
        note(&format!("remove interface {place}:{}", link.name));
        left.extend(rtnl.delete_link(link.ifindex, &link.name).await.err().map(Error::from));
    }
}

/// The table on the host; one in a namespace goes with it.
fn remove_nat(topologies: &[Topology], places: &mut Places) -> Result<(), Error> {
    let tables = topologies.iter().rev().flat_map(Masquerade::of);
    if let Some(nat) = tables.into_iter().find(|nat| nat.place == Place::Host) {
        let rtnl = places.get(&nat.place)?;
        nat::remove(rtnl.netns(), &nat)?;
        nat::restore_host(rtnl.netns(), &topologies[0].lab)?;
    }
    Ok(())
}

async fn remove_namespace(
    namespace: &Namespace,
    topologies: &[Topology],
    left: &mut Left,
    note: &mut impl FnMut(&str),
) -> Result<(), Error> {
    let name = &namespace.name;
    if !netns::exists(name) {
        return Ok(());
    }
    if netns::is_left_over(name) {
        note(&format!("remove namespace {name}"));
        return Ok(netns::unbind(name)?);
    }
    if !observe::is_the_labs(namespace, &topologies[0], &Netns::named(name)?).await? {
        return Ok(());
    }
    let mut places = Places::open()?;
    let place = Place::Namespace(name.clone());
    remove_links(&place, topologies, &mut places, left, note).await;
    if namespace.adopt.is_some() {
        // It does not go away, so its table has to.
        for nat in topologies.iter().flat_map(Masquerade::of).filter(|nat| nat.place == place) {
            nat::remove(places.get(&place)?.netns(), &nat)?;
        }
    }
    note(&format!("remove namespace {name}"));
    Ok(netns::unbind(name)?)
}

/// Unmounts `/run/netns` if we made it a mount and no other lab may rely on it.
fn retire_netns() -> Result<(), Error> {
    let alone = state::labs()?.len() <= 1;
    if alone && state::take_netns_mount() {
        netns::retire_directory()?;
    }
    Ok(())
}
