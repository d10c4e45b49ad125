//! Taking a lab down. Never stops at the first fault; touches nothing that is not marked as the lab's.

use super::{Error, Places, nat, observe, prepare};
use crate::{
    datapath::Pins,
    kernel::{self, Netns, bpffs, netns},
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
    let mut left = Left::new();
    left.extend(AgentLock::end_holder(directory).err().map(Error::from));
    left.extend(bpffs::remove_directory(Pins::of(&topology.lab).directory()).err().map(Error::from));
    match state::found(directory) {
        // Most of them go in a moment; one that somebody has taken over does not.
        Ok(found) => {
            left.extend(found.iter().filter_map(|found| prepare::restore(found).err()).map(Error::from))
        }
        Err(error) => left.push(error.into()),
    }
    match Places::open() {
        Ok(mut places) => {
            remove_links(&Place::Host, topology, &mut places, &mut left).await;
            left.extend(remove_nat(topology, &mut places).err());
        }
        Err(error) => left.push(error.into()),
    }
    for namespace in &topology.namespaces {
        if let Err(error) = remove_namespace(namespace, topology, &mut left).await {
            left.push(error);
        }
    }
    left.extend(bpffs::retire().err().map(Error::from));
    if !left.is_empty() {
        // The journal stays, so that another `down` can go on.
        return left;
    }
    left.extend(retire_netns().err());
    left.extend(directory.remove().err().map(Error::from));
    left
}

/// Removes the links of a place that carry the lab's mark, or are ours by name and MAC and were
/// never marked.
async fn remove_links(place: &Place, topology: &Topology, places: &mut Places, left: &mut Left) {
    let found = async {
        let rtnl = places.get(place)?;
        let observed = observe::links(topology, place, &rtnl).await?;
        Ok::<_, kernel::Error>((rtnl, observed))
    };
    let (rtnl, links) = match found.await {
        Ok(found) => found,
        Err(error) => return left.push(error.into()),
    };
    // A deleted end takes the other one with it, which is then missing: that is no fault.
    for link in links {
        left.extend(rtnl.delete_link(link.ifindex, &link.name).await.err().map(Error::from));
    }
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

async fn remove_namespace(namespace: &Namespace, topology: &Topology, left: &mut Left) -> Result<(), Error> {
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
    remove_links(&place, topology, &mut places, left).await;
    if namespace.adopt.is_some() {
        // It does not go away, so its table has to.
        for nat in Masquerade::of(topology).iter().filter(|nat| nat.place == place) {
            nat::remove(places.get(&place)?.netns(), nat)?;
        }
    }
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
