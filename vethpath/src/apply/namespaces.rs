//! A lab's namespaces: connections to them, and checks of those that it adopts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Error;
use crate::{
    kernel::{
        Adoptions, LinkFacts, Netns, NetnsId, Result, RouteSocket, Rtnl, netns,
        occupants::{self, Occupant},
        sysctl,
    },
    plan::{Collision, Plan, Step, is_ours, owner},
    state::{Directory, Occupants, Record, Saved, test_hooks},
    topology::{Adopt, IfName, LabName, Namespace, NsName, Place, RouteKey, Sysctl, Topology},
};

/// Why a container that was not found cannot be adopted.
pub(super) const NOT_FOUND: &str = "it does not run";

/// Connections to the host and to the lab's namespaces, opened on first use.
pub struct NetnsCache {
    host: Rtnl,
    namespaces: HashMap<NsName, Rtnl>,
    adoptions: Adoptions,
    /// Namespaces without a connection that were just created or adopted.
    made: HashMap<NsName, Netns>,
}

impl NetnsCache {
    /// Connects to the host's namespace. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// No socket can be opened.
    pub fn open() -> Result<Self> {
        Self::with(Adoptions::default())
    }

    /// The same, with the namespaces that the lab may adopt.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn with(adoptions: Adoptions) -> Result<Self> {
        let host = Rtnl::open(&Netns::current()?)?;
        Ok(Self { host, namespaces: HashMap::new(), adoptions, made: HashMap::new() })
    }

    /// The namespaces that the lab may adopt.
    #[must_use]
    pub fn adoptions(&self) -> &Adoptions {
        &self.adoptions
    }

    /// The same, to change them.
    pub(super) fn adoptions_mut(&mut self) -> &mut Adoptions {
        &mut self.adoptions
    }

    /// The connection to a place.
    ///
    /// # Errors
    /// The namespace does not exist, or no socket can be opened in it.
    pub fn get(&mut self, place: &Place) -> Result<Rtnl> {
        let Place::Namespace(name) = place else { return Ok(self.host.clone()) };
        if let Some(open) = self.namespaces.get(name) {
            return Ok(open.clone());
        }
        let opened = Rtnl::open(&self.netns(place)?)?;
        self.namespaces.insert(name.clone(), opened.clone());
        Ok(opened)
    }

    /// Releases a namespace whose name is removed.
    pub fn forget(&mut self, name: &NsName) {
        let _ = self.namespaces.remove(name);
        let _ = self.made.remove(name);
    }

    /// The namespace itself.
    ///
    /// # Errors
    /// It does not exist.
    pub fn netns(&self, place: &Place) -> Result<Netns> {
        let Place::Namespace(name) = place else { return Ok(self.host.netns().clone()) };
        match (self.namespaces.get(name), self.made.get(name)) {
            (Some(open), _) => Ok(open.netns().clone()),
            (None, Some(made)) => Ok(made.clone()),
            (None, None) => Netns::named(name),
        }
    }

    /// Uses `netns` for a namespace that was just created or adopted.
    pub fn add(&mut self, name: &NsName, netns: Netns) {
        self.namespaces.remove(name);
        self.made.insert(name.clone(), netns);
    }
}

/// The namespace of a place, if it exists already.
///
/// # Errors
/// The file of an adopted namespace does not exist, or one cannot be opened.
pub fn existing(place: &Place, topology: &Topology, adoptions: &Adoptions) -> Result<Option<Netns>> {
    let Place::Namespace(name) = place else { return Netns::current().map(Some) };
    let adopted = topology.adoption(name).map(|adopt| adoptions.open(adopt, name.as_str())).transpose()?;
    match adopted.flatten() {
        // One of a container that is not running is the one that the lab has.
        None if netns::is_present(name) => Netns::named(name).map(Some),
        found => Ok(found),
    }
}

/// Fails if a namespace of the plan cannot be adopted, before anything is changed.
///
/// # Errors
/// There is no such namespace, it is the caller's or is adopted twice, or it has interfaces with names of the file.
pub(super) fn check_adopted(
    plan: &Plan,
    topology: &Topology,
    saved: &Saved,
    adoptions: &Adoptions,
) -> std::result::Result<(), Error> {
    let is_new = |name: &NsName| {
        plan.make.iter().any(|step| matches!(step, Step::Namespace(new) if &new.name == name))
    };
    let kept =
        topology.namespaces.iter().filter(|namespace| namespace.adopt.is_some() && !is_new(&namespace.name));
    let known = |namespace: &'_ Namespace| saved.adopted.get(namespace.name.as_str()).copied();
    let mut seen: Vec<(NetnsId, &NsName)> =
        kept.filter_map(|namespace| Some((known(namespace)?, &namespace.name))).collect();
    let mut taken = Vec::new();
    for step in &plan.make {
        let Step::Namespace(namespace) = step else { continue };
        let Some(adopt) = &namespace.adopt else { continue };
        let refused = |cause: &str| Error::adopt(namespace, adopt, cause);
        let there = match adoptions.open(adopt, &adopt.to_string()) {
            Ok(Some(there)) => there,
            Ok(None) => return Err(refused(NOT_FOUND)),
            Err(error) if error.is_missing() => {
                let is_process = matches!(adopt, Adopt::Path(path) if path.starts_with("/proc/"));
                return Err(refused(if is_process { "no such process" } else { "no such file" }));
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
        taken.extend(taken_names(&there, namespace, topology)?);
    }
    if taken.is_empty() { Ok(()) } else { Err(Error::Collisions(taken)) }
}

/// The interfaces of a namespace that is about to be adopted with names that the lab needs there. Those of the lab stay
/// from a former run.
fn taken_names(there: &Netns, namespace: &Namespace, topology: &Topology) -> Result<Vec<Collision>> {
    let place = Place::Namespace(namespace.name.clone());
    let inner =
        topology.pairs.iter().filter(|pair| pair.namespace == namespace.name).map(|pair| &pair.inner.name);
    let cables = topology.cables.iter().flat_map(|cable| [&cable.a, &cable.b]);
    let ends = cables.filter(|end| end.place == place).map(|end| &end.interface.name);
    let bridges = topology.bridges.iter().filter(|bridge| bridge.place == place).map(|bridge| &bridge.name);
    let wanted: BTreeSet<&str> = inner.chain(ends).chain(bridges).map(IfName::as_str).collect();
    let links = RouteSocket::open(there)?.links()?;
    let is_taken = |link: &&LinkFacts| {
        wanted.contains(link.name.as_str()) && !is_ours(link.alias.as_deref(), &topology.lab)
    };
    let collision = |link: &LinkFacts| Collision::Link {
        place: place.clone(),
        name: link.name.clone(),
        owner: owner(link.alias.as_deref()),
    };
    Ok(links.iter().filter(is_taken).map(collision).collect())
}

/// Whether `recorded`, of the journal, has this namespace under the name.
pub(super) fn is_same_netns(
    recorded: &BTreeMap<String, NetnsId>,
    name: &NsName,
    there: &Netns,
) -> Result<bool> {
    let Some(id) = recorded.get(name.as_str()) else { return Ok(false) };
    // Reading the cookie takes a thread, so the inode is compared first.
    Ok(id.inode == there.inode()? && id.is(&there.id()?))
}

/// Whether a namespace is adopted from a path that leads to another one by now: its process has moved, or the name was
/// given to a new one. So is the namespace of a container that was started anew. A path that leads nowhere is none of
/// these, nor is one of another process than before, or one that leads to the machine's own namespace.
pub(super) fn is_moved(
    namespace: &Namespace,
    facts: &Saved,
    directory: &Directory,
    adoptions: &Adoptions,
) -> bool {
    let (Some(adopt), Some(known)) = (&namespace.adopt, facts.adopted.get(namespace.name.as_str())) else {
        return false;
    };
    if let Adopt::Path(path) = adopt {
        // Another process may have the pid by now.
        let pid = path.strip_prefix("/proc/").and_then(|rest| rest.split('/').next()?.parse().ok());
        let occupants = pid.map(|pid| (pid, Occupants::read(directory)));
        if occupants.is_some_and(|(pid, occupants)| !occupants.have(&namespace.name, pid)) {
            return false;
        }
    }
    let there = adoptions.open(adopt, namespace.name.as_str()).ok().flatten();
    let here = Netns::current().and_then(|here| here.inode());
    let is_another = |there: NetnsId| !known.is(&there) && here.is_ok_and(|here| here != there.inode);
    !namespace.has_its_name() && there.and_then(|there| there.id().ok()).is_some_and(is_another)
}

/// The processes that live in the lab's namespaces whose processes are followed. Of one without any, those that were
/// known before, or one that has ended if the namespace was that of a process or a container: it may have ended while this
/// command ran.
///
/// # Errors
/// A namespace or `/proc` cannot be read.
pub(super) fn occupants(topology: &Topology, places: &NetnsCache) -> Result<Occupants> {
    let followed = topology.namespaces.iter().filter(|namespace| Occupants::are_followed(namespace));
    let mut inodes: Vec<(&Namespace, u64)> = Vec::new();
    for namespace in followed {
        let there = places.netns(&Place::Namespace(namespace.name.clone()))?;
        inodes.push((namespace, there.inode()?));
    }
    let followed = inodes;
    if followed.is_empty() {
        return Ok(Occupants::default());
    }
    let inodes: Vec<u64> = followed.iter().map(|(_, inode)| *inode).collect();
    let (mut now, mut known) =
        (occupants::occupants(&inodes)?, Occupants::read(&Directory::of(&topology.lab)).0);
    let of = |(namespace, inode): (&Namespace, u64)| {
        let all = now.remove(&inode).or_else(|| known.remove(&namespace.name));
        let had_process = match &namespace.adopt {
            Some(Adopt::Container(_)) => true,
            Some(Adopt::Path(path)) => path.starts_with("/proc/"),
            None => false,
        };
        let all = all.or_else(|| had_process.then(|| vec![Occupant::ENDED]))?;
        Some((namespace.name.clone(), all))
    };
    Ok(Occupants(followed.into_iter().filter_map(of).collect()))
}

/// The namespaces in which processes were known, and none is left.
///
/// # Errors
/// As [`occupants`].
pub(super) fn deserted(topology: &Topology, places: &NetnsCache) -> Result<BTreeSet<NsName>> {
    let known = Occupants::read(&Directory::of(&topology.lab));
    let is_gone = |name: &NsName| known.are_gone(name) && netns::exists(name);
    if !topology.namespaces.iter().any(|namespace| is_gone(&namespace.name)) {
        return Ok(BTreeSet::new());
    }
    let now = occupants(topology, places)?;
    Ok(now.0.keys().filter(|name| is_gone(name) && now.are_gone(name)).cloned().collect())
}

/// Whether a name refers to the namespace that the lab adopted. Its path may lead elsewhere or nowhere by now. But the
/// journal has its identity, and the lab's name has kept it alive. Without a journal, links with the lab's mark
/// identify it.
///
/// # Errors
/// A kernel request fails.
pub(super) fn is_adopted(name: &NsName, lab: &LabName, facts: &Saved, there: &Netns) -> Result<bool> {
    if is_same_netns(&facts.adopted, name, there)? {
        return Ok(true);
    }
    Ok(RouteSocket::open(there)?.links()?.iter().any(|link| is_ours(link.alias.as_deref(), lab)))
}

/// Whether a name still refers to the lab's namespace. If the journal has no identity for that name, as with a lab of
/// an older version, it is assumed to.
///
/// # Errors
/// The journal cannot be read, or a kernel request fails.
pub fn has_namespace(record: &Record, name: &NsName, there: &Netns) -> std::result::Result<bool, Error> {
    let facts = Saved::read(&Directory::of(&record.topology.lab))?;
    let is_known = [&facts.made, &facts.adopted].iter().any(|recorded| recorded.contains_key(name.as_str()));
    Ok(!is_known
        || is_same_netns(&facts.made, name, there)?
        || is_adopted(name, &record.topology.lab, &facts, there)?)
}

/// Restores settings of an adopted namespace that the lab changed, after the lab's objects in it are gone. Settings of
/// the lab's interfaces went with them.
///
/// # Errors
/// A kernel request fails.
pub(super) fn restore_sysctls(place: &Place, there: &Netns, facts: &Saved) -> Result<()> {
    let was = facts.was.iter().filter(|((of, _), _)| of == place);
    let before: Vec<Sysctl> =
        was.map(|((_, key), value)| Sysctl { key: key.clone(), value: value.as_str().into() }).collect();
    sysctl::write_existing(there, &before)
}

/// Restores the routes of an adopted namespace with these keys that the lab's have replaced, after the lab's are gone. A
/// key with a route that was not there before is left alone. Returns messages about routes that cannot be restored:
/// their devices are gone, for example.
///
/// # Errors
/// The routes cannot be read.
pub(super) fn restore_routes(
    name: &NsName,
    there: &Netns,
    facts: &Saved,
    is_wanted: impl Fn(&RouteKey) -> bool,
) -> Result<Vec<String>> {
    let replaced = facts.routes.iter().filter(|((of, key), _)| of == name && is_wanted(key));
    let replaced: Vec<_> = replaced.map(|((_, key), routes)| (key, routes)).collect();
    let mut messages = Vec::new();
    if replaced.is_empty() {
        return Ok(messages);
    }
    let socket = RouteSocket::open(there)?;
    for (key, routes) in replaced {
        let there = socket.replaced_routes(key)?;
        // A route that was added while the lab was up stays the only one.
        if there.iter().all(|route| routes.contains(route)) {
            let missing: Vec<_> = routes.iter().filter(|route| !there.contains(route)).cloned().collect();
            let restored = socket.restore_routes(&missing);
            messages.extend(restored.err().map(|error| format!("{error}, in namespace {name}")));
            test_hooks::kill_point();
        }
    }
    Ok(messages)
}
