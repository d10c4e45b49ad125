//! Taking a lab down. Never stops at the first fault; touches nothing that is not marked as the lab's.

use super::{
    Error, Places,
    clear::{self, Macs},
    nat, observe,
};
use crate::{
    datapath::Pins,
    kernel::{Direct, Netns, bpffs, files, grace::Expedited, netns},
    state::{
        self, AgentLock, Directory, LabLock, Record,
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
    let record = match Record::read(&directory) {
        Ok(record) => record.map(|record| record.topology),
        Err(error) if file.is_none() => return Err(vec![error.into()]),
        Err(_) => None,
    };
    if existed {
        Recorder::of(&directory).record([Kind::LabDown]);
    }
    let left = match record.as_ref().or(file) {
        Some(topology) => {
            let found = existed || anything_there(topology).await;
            let left = remove_lab(topology, &directory).await;
            if !found && left.is_empty() {
                return Err(vec![Error::NoLab(lab.clone())]);
            }
            left
        }
        // Killed before the record was written: then nothing else had been done.
        None => directory.remove().err().map(Error::from).into_iter().collect(),
    };
    if left.is_empty() { Ok(()) } else { Err(left) }
}

/// Whether a lab without a state folder has left anything.
async fn anything_there(topology: &Topology) -> bool {
    let Ok(mut places) = Places::open() else { return false };
    let Ok(observed) = observe(topology, &mut places, false).await else { return true };
    observed.links.values().any(|link| link.ours)
        || observed.namespaces.values().any(|found| *found == crate::plan::Found::Ours)
        || Pins::of(&topology.lab).directory().exists()
}

/// Removes everything of a lab whose lock is held, and returns what could not be.
pub(super) async fn remove_lab(topology: &Topology, directory: &Directory) -> Left {
    files::allow_many();
    let mut left = Left::new();
    left.extend(AgentLock::end_holder(directory).err().map(Error::from));
    let macs = observe::expected_macs(topology);
    let soon = Expedited::for_ports(topology.pairs.len());
    match Places::open() {
        Ok(mut places) => {
            left.extend(remove_links(&Place::Host, topology, &mut places, &macs).err());
            left.extend(remove_nat(topology, &mut places).err());
        }
        Err(error) => left.push(error.into()),
    }
    let (adopted, made): (Vec<_>, Vec<_>) =
        topology.namespaces.iter().partition(|namespace| namespace.adopt.is_some());
    left.extend(clear::namespaces(&made, &macs, topology));
    for namespace in adopted {
        left.extend(let_go(namespace, topology, &macs).await.err());
    }
    // Only now: a link of a program goes sooner when its device has gone before.
    left.extend(bpffs::remove_directory(Pins::of(&topology.lab).directory()).err().map(Error::from));
    drop(soon);
    left.extend(bpffs::retire().err().map(Error::from));
    if !left.is_empty() {
        // The journal stays, so that another `down` can go on.
        return left;
    }
    left.extend(retire_netns().err());
    left.extend(directory.remove().err().map(Error::from));
    left
}

fn remove_links(place: &Place, topology: &Topology, places: &mut Places, macs: &Macs) -> Result<(), Error> {
    Ok(clear::links(&Direct::open(&places.netns(place)?)?, place, macs, topology)?)
}

/// The table on the host; one in a namespace goes with it.
fn remove_nat(topology: &Topology, places: &mut Places) -> Result<(), Error> {
    for nat in Masquerade::of(topology).iter().filter(|nat| nat.place == Place::Host) {
        let rtnl = places.get(&nat.place)?;
        nat::remove(rtnl.netns(), nat)?;
        nat::restore_host(rtnl.netns(), &topology.lab)?;
    }
    Ok(())
}

/// An adopted namespace does not go away: what the lab has made in it has to.
async fn let_go(namespace: &Namespace, topology: &Topology, macs: &Macs) -> Result<(), Error> {
    let name = &namespace.name;
    if !netns::exists(name) {
        return Ok(());
    }
    if netns::is_left_over(name) {
        return Ok(netns::unbind(name)?);
    }
    if !observe::is_the_labs(namespace, topology, &Netns::named(name)?).await? {
        return Ok(());
    }
    let mut places = Places::open()?;
    let place = Place::Namespace(name.clone());
    let removed = remove_links(&place, topology, &mut places, macs);
    for nat in Masquerade::of(topology).iter().filter(|nat| nat.place == place) {
        nat::remove(places.get(&place)?.netns(), nat)?;
    }
    netns::unbind(name)?;
    removed
}

/// Unmounts `/run/netns` if we made it a mount and no other lab may rely on it.
fn retire_netns() -> Result<(), Error> {
    let alone = state::labs()?.len() <= 1;
    if alone && state::take_netns_mount() {
        netns::retire_directory()?;
    }
    Ok(())
}
