//! Follows the processes of adopted namespaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
};

use crate::{
    kernel::occupants::has_ended,
    state::{Directory, Occupants, events::Kind},
    topology::NsName,
};

/// The processes of each followed namespace that have not ended.
#[derive(Default)]
pub struct FollowedOccupants {
    /// The version of the file that they were read from.
    version: Option<(u64, u64, i64)>,
    living: BTreeMap<NsName, Vec<OwnedFd>>,
    /// The namespaces of which all have ended.
    gone: BTreeSet<NsName>,
}

impl FollowedOccupants {
    /// Reads them again if `up` has written them, and forgets those that have ended. Called once a second. Returns events.
    pub fn follow(&mut self, directory: &Directory) -> Vec<Kind> {
        let version = Occupants::version(directory);
        if version != self.version {
            self.version = version;
            let all = Occupants::read(directory).0;
            self.living = all
                .into_iter()
                .map(|(name, all)| (name, all.into_iter().filter_map(|one| one.open()).collect()))
                .collect();
        }
        self.living.values_mut().for_each(|living| living.retain(|process| !has_ended(process)));
        let gone = self.living.iter().filter(|(_, living)| living.is_empty()).map(|(name, _)| name.clone());
        let former = std::mem::replace(&mut self.gone, gone.collect());
        let is_new = |name: &&NsName| !former.contains(*name);
        let event = |name: &NsName| Kind::ProcessesGone { namespace: name.to_string() };
        self.gone.iter().filter(is_new).map(event).collect()
    }

    /// Whether processes were known in a namespace, and all have ended.
    #[must_use]
    pub fn are_gone(&self, name: &NsName) -> bool {
        self.gone.contains(name)
    }
}
