//! Adopted namespaces: whether one can be, and whether a name is of one that was.

use std::path::Path;

use super::Error;
use crate::{
    kernel::{Netns, Result, Rtnl, netns, sysctl},
    plan::{Plan, Step, is_ours},
    state::{Directory, Facts},
    topology::{LabName, Namespace, Place, Sysctl, Topology},
};

/// Refuses what cannot be adopted, before anything is changed.
///
/// # Errors
/// There is no such namespace, or it is the one that we are in.
pub(super) fn check(plan: &Plan) -> std::result::Result<(), Error> {
    for step in &plan.make {
        let Step::Namespace(namespace) = step else { continue };
        let Some(path) = &namespace.adopt else { continue };
        let refused = |cause: &str| Error::Adopt {
            namespace: namespace.name.clone(),
            path: path.clone(),
            cause: cause.into(),
        };
        let there = match Netns::open(Path::new(path), path) {
            Ok(there) => there,
            Err(error) if error.is_missing() => {
                return Err(refused(if path.starts_with("/proc/") {
                    "no such process"
                } else {
                    "no such file"
                }));
            }
            Err(error) if error.is_forbidden() => return Err(error.into()),
            Err(_) => return Err(refused("it is no namespace")),
        };
        match there.run(|| ()) {
            Err(error) if error.is_invalid() => return Err(refused("it is not a network namespace")),
            other => other?,
        }
        if namespace.has_its_name() && !netns::exists(&namespace.name) {
            return Err(refused("its file is not in /run/netns"));
        }
        if there.inode()? == Netns::current()?.inode()? {
            return Err(refused("it is the host's own namespace"));
        }
    }
    Ok(())
}

/// Whether the namespace that has an adopted one's name is the one that was adopted. Its path may
/// lead elsewhere by now, or nowhere: its inode was noted, and our name for it has kept it alive
/// since. Without a journal, what the lab has made inside tells.
///
/// # Errors
/// The journal cannot be read, or the kernel refuses.
pub(super) async fn is_the_labs(
    namespace: &Namespace,
    topology: &Topology,
    there: &Netns,
) -> std::result::Result<bool, Error> {
    let noted = Facts::read(&Directory::of(&topology.lab))?.adopted;
    Ok(noted.get(namespace.name.as_str()) == Some(&there.inode()?) || has_our_links(topology, there).await?)
}

/// Puts back what the lab has changed of an adopted namespace's settings, when all that is the lab's in it is gone:
/// those of the lab's interfaces have gone with them.
///
/// # Errors
/// The journal cannot be read, or the kernel refuses.
pub(super) fn put_back(place: &Place, there: &Netns, lab: &LabName) -> std::result::Result<(), Error> {
    let was = Facts::read(&Directory::of(lab))?.was;
    let was = was.into_iter().filter(|((of, _), _)| of == place);
    let before: Vec<Sysctl> = was.map(|((_, key), value)| Sysctl { key, value }).collect();
    Ok(sysctl::write_existing(there, &before)?)
}

async fn has_our_links(topology: &Topology, there: &Netns) -> Result<bool> {
    let links = Rtnl::open(there)?.links().await?;
    Ok(links.iter().any(|link| is_ours(link.alias.as_deref(), &topology.lab)))
}
