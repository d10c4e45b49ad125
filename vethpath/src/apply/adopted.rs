//! Adopted namespaces: whether one can be, and whether a name is of one that was.

use std::path::Path;

use super::{Error, observe::is_noted};
use crate::{
    kernel::{Direct, Netns, NetnsId, Result, netns, sysctl},
    plan::{Plan, Step, is_ours},
    state::{Directory, Record, Saved},
    topology::{LabName, NsName, Place, Sysctl},
};

/// Refuses what cannot be adopted, before anything is changed.
///
/// # Errors
/// There is no such namespace, or it is the one that we are in.
pub(super) fn check(plan: &Plan) -> std::result::Result<(), Error> {
    let mut seen: Vec<(NetnsId, &NsName)> = Vec::new();
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
            Err(_) => return Err(refused("it is not a namespace")),
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
        let id = there.id()?;
        if let Some((_, other)) = seen.iter().find(|(known, _)| known.is(&id)) {
            return Err(refused(&format!("it is the one that is adopted as `{other}`")));
        }
        seen.push((id, &namespace.name));
    }
    Ok(())
}

/// Whether the namespace that has an adopted one's name is the one that was adopted. Its path may
/// lead elsewhere by now, or nowhere: its identity was noted, and our name for it has kept it alive
/// since. Without a journal, what the lab has made inside tells.
///
/// # Errors
/// The kernel refuses.
pub(super) fn is_the_labs(name: &NsName, lab: &LabName, facts: &Saved, there: &Netns) -> Result<bool> {
    if is_noted(&facts.adopted, name, there)? {
        return Ok(true);
    }
    Ok(Direct::open(there)?.links(false)?.iter().any(|link| is_ours(link.alias.as_deref(), lab)))
}

/// Whether the namespace that has a name of a lab's is still the lab's. Of one that was brought up by a version which did
/// not note what it made, it is taken for the lab's.
///
/// # Errors
/// The journal cannot be read, or the kernel refuses.
pub fn has_namespace(record: &Record, name: &NsName, there: &Netns) -> std::result::Result<bool, Error> {
    let facts = Saved::read(&Directory::of(&record.topology.lab))?;
    let is_known = [&facts.made, &facts.adopted].iter().any(|noted| noted.contains_key(name.as_str()));
    Ok(!is_known
        || is_noted(&facts.made, name, there)?
        || is_the_labs(name, &record.topology.lab, &facts, there)?)
}

/// Puts back what the lab has changed of an adopted namespace's settings, when all that is the lab's in it is gone:
/// those of the lab's interfaces have gone with them.
///
/// # Errors
/// The kernel refuses.
pub(super) fn put_back(place: &Place, there: &Netns, facts: &Saved) -> Result<()> {
    let was = facts.was.iter().filter(|((of, _), _)| of == place);
    let before: Vec<Sysctl> =
        was.map(|((_, key), value)| Sysctl { key: key.clone(), value: value.as_str().into() }).collect();
    sysctl::write_existing(there, &before)
}
