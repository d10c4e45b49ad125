//! Checks of adopted namespaces: whether one can be adopted, and whether a name refers to one that was.

use std::path::Path;

use super::{Error, observe::is_noted};
use crate::{
    kernel::{Direct, Netns, NetnsId, Result, netns, sysctl},
    plan::{Plan, Step, is_ours},
    state::{Directory, Record, Saved},
    topology::{LabName, NsName, Place, Sysctl},
};

/// Fails if a namespace of the plan cannot be adopted, before anything is changed.
///
/// # Errors
/// There is no such namespace, or it is the caller's.
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

/// Whether a name refers to the namespace that the lab adopted. Its path may lead elsewhere or nowhere by now. But the
/// journal has its identity, and the lab's name has kept it alive. Without a journal, links with the lab's mark
/// identify it.
///
/// # Errors
/// A kernel request fails.
pub(super) fn is_the_labs(name: &NsName, lab: &LabName, facts: &Saved, there: &Netns) -> Result<bool> {
    if is_noted(&facts.adopted, name, there)? {
        return Ok(true);
    }
    Ok(Direct::open(there)?.links(false)?.iter().any(|link| is_ours(link.alias.as_deref(), lab)))
}

/// Whether a name still refers to the lab's namespace. If the journal has no identity for that name, as with a lab of
/// an older version, it is assumed to.
///
/// # Errors
/// The journal cannot be read, or a kernel request fails.
pub fn has_namespace(record: &Record, name: &NsName, there: &Netns) -> std::result::Result<bool, Error> {
    let facts = Saved::read(&Directory::of(&record.topology.lab))?;
    let is_known = [&facts.made, &facts.adopted].iter().any(|noted| noted.contains_key(name.as_str()));
    Ok(!is_known
        || is_noted(&facts.made, name, there)?
        || is_the_labs(name, &record.topology.lab, &facts, there)?)
}

/// Restores settings of an adopted namespace that the lab changed, after the lab's objects in it are gone. Settings of
/// the lab's interfaces went with them.
///
/// # Errors
/// A kernel request fails.
pub(super) fn put_back(place: &Place, there: &Netns, facts: &Saved) -> Result<()> {
    let was = facts.was.iter().filter(|((of, _), _)| of == place);
    let before: Vec<Sysctl> =
        was.map(|((_, key), value)| Sysctl { key: key.clone(), value: value.as_str().into() }).collect();
    sysctl::write_existing(there, &before)
}
