//! The links of a namespace, found by ifindex and by name.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Deref,
};

use crate::kernel::LinkFacts;

/// Links by ifindex. Readers use it as a [`BTreeMap`].
#[derive(Clone, Debug, Default)]
pub struct LinkTable {
    by_index: BTreeMap<u32, LinkFacts>,
    indexes: HashMap<String, u32>,
}

impl LinkTable {
    /// The link of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&LinkFacts> {
        self.by_index.get(self.indexes.get(name)?)
    }

    /// Adds a link. Replaces one with its ifindex.
    pub fn insert(&mut self, ifindex: u32, link: LinkFacts) {
        self.remove(ifindex);
        self.indexes.insert(link.name.clone(), ifindex);
        self.by_index.insert(ifindex, link);
    }

    /// Removes a link.
    pub fn remove(&mut self, ifindex: u32) {
        if let Some(link) = self.by_index.remove(&ifindex)
            && self.indexes.get(&link.name) == Some(&ifindex)
        {
            self.indexes.remove(&link.name);
        }
    }

    /// A link, to change anything but its name.
    #[cfg(test)]
    pub fn get_mut(&mut self, ifindex: &u32) -> Option<&mut LinkFacts> {
        self.by_index.get_mut(ifindex)
    }
}

impl Deref for LinkTable {
    type Target = BTreeMap<u32, LinkFacts>;

    fn deref(&self) -> &Self::Target {
        &self.by_index
    }
}

impl FromIterator<LinkFacts> for LinkTable {
    fn from_iter<I: IntoIterator<Item = LinkFacts>>(links: I) -> Self {
        let mut all = Self::default();
        links.into_iter().for_each(|link| all.insert(link.ifindex, link));
        all
    }
}

impl<const N: usize> From<[(u32, LinkFacts); N]> for LinkTable {
    fn from(links: [(u32, LinkFacts); N]) -> Self {
        let mut all = Self::default();
        links.into_iter().for_each(|(ifindex, link)| all.insert(ifindex, link));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(ifindex: u32, name: &str) -> LinkFacts {
        LinkFacts { ifindex, name: name.to_owned(), ..LinkFacts::default() }
    }

    #[test]
    fn a_link_is_found_by_the_name_that_it_has_now() {
        let mut links: LinkTable = [link(1, "lo"), link(2, "a")].into_iter().collect();
        assert_eq!(links.named("a").map(|link| link.ifindex), Some(2));
        links.insert(2, link(2, "b"));
        assert!(links.named("a").is_none() && links.named("b").is_some());
        links.insert(3, link(3, "b"));
        links.remove(2);
        assert_eq!(links.named("b").map(|link| link.ifindex), Some(3), "it has taken the name over");
        links.remove(3);
        assert_eq!((links.named("b").is_none(), links.len()), (true, 1));
    }
}
