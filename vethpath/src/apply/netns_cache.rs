//! Connections to the places of a lab, opened on first use.

use std::collections::HashMap;

use crate::{
    kernel::{Netns, Result, Rtnl},
    topology::{NsName, Place},
};

/// The host and the lab's namespaces.
pub struct NetnsCache {
    host: Rtnl,
    namespaces: HashMap<NsName, Rtnl>,
    /// Namespaces without a connection that were just created or adopted.
    made: HashMap<NsName, Netns>,
}

impl NetnsCache {
    /// Connects to the host's namespace. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// No socket can be opened.
    pub fn open() -> Result<Self> {
        Ok(Self { host: Rtnl::open(&Netns::current()?)?, namespaces: HashMap::new(), made: HashMap::new() })
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
