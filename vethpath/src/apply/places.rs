//! Connections to the places of a lab, opened when first asked for.

use std::collections::HashMap;

use crate::{
    kernel::{Netns, Result, Rtnl},
    topology::{NsName, Place},
};

/// The host and the lab's namespaces.
pub struct Places {
    host: Rtnl,
    namespaces: HashMap<NsName, Rtnl>,
}

impl Places {
    /// Connects to the host's namespace. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// No socket can be had.
    pub fn open() -> Result<Self> {
        Ok(Self { host: Rtnl::open(&Netns::current()?)?, namespaces: HashMap::new() })
    }

    /// The connection to a place.
    ///
    /// # Errors
    /// The namespace is not there, or no socket can be had in it.
    pub fn get(&mut self, place: &Place) -> Result<Rtnl> {
        let Place::Namespace(name) = place else { return Ok(self.host.clone()) };
        if let Some(open) = self.namespaces.get(name) {
            return Ok(open.clone());
        }
        let opened = Rtnl::open(&Netns::named(name)?)?;
        self.namespaces.insert(name.clone(), opened.clone());
        Ok(opened)
    }

    /// Lets go of a namespace whose name is taken away.
    pub fn forget(&mut self, name: &NsName) {
        let _ = self.namespaces.remove(name);
    }

    /// Uses `netns` for a namespace that was made a moment ago.
    ///
    /// # Errors
    /// No socket can be had in it.
    pub fn add(&mut self, name: &NsName, netns: &Netns) -> Result<Rtnl> {
        let opened = Rtnl::open(netns)?;
        self.namespaces.insert(name.clone(), opened.clone());
        Ok(opened)
    }
}
