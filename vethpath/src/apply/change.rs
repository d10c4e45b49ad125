//! Steps that change or remove what is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use super::{
    Error, adopted, cleanup,
    execute::{Executor, index_of},
    forwarding, nat,
};
use crate::{
    datapath::Pins,
    kernel::{self, Direct, netns, rcu::Expedited, sysctl},
    plan::Step,
    state::{Directory, Saved, stop},
    topology::{Namespace, Place},
};

impl Executor<'_> {
    /// Runs one of these steps, which is in the journal. Nothing of them is undone by itself: see
    /// [`up`](super::up).
    pub(super) async fn change(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Unmasquerade(nat) => {
                let netns = self.namespaces.netns(&nat.place)?;
                nat::remove(&netns, nat, self.lab).await.left.into_iter().next().map_or(Ok(()), Err)?;
            }
            Step::DeleteNamespace(namespace) => {
                if namespace.adopt.is_some() {
                    let place = Place::Namespace(namespace.name.clone());
                    // A name on which no namespace is mounted leads to nothing.
                    if let Ok(there) = self.namespaces.netns(&place) {
                        adopted::put_back(&place, &there, &Saved::read(&Directory::of(self.lab))?)?;
                    }
                }
                self.delete_namespace(namespace)?;
            }
            Step::DeleteAddress { place, device, address } => {
                let rtnl = self.namespaces.get(place)?;
                rtnl.delete_address(index_of(&rtnl, device).await?, *address).await?;
            }
            Step::DeleteRoute { namespace, route } => {
                self.namespaces.get(&Place::Namespace(namespace.clone()))?.delete_route(route).await?;
            }
            Step::Sysctl { place, setting, .. } => {
                let (rtnl, settings) = (self.namespaces.get(place)?, std::slice::from_ref(setting));
                let set = || self.set(place, rtnl.netns(), settings);
                forwarding::keep_routers(&rtnl, settings, set).await?;
            }
            other => self.set_link(other).await?,
        }
        Ok(())
    }

    async fn set_link(&mut self, step: &Step) -> kernel::Result<()> {
        match step {
            Step::Mark { place, device, mark, altname, settings } => {
                let rtnl = self.namespaces.get(place)?;
                sysctl::write_existing(rtnl.netns(), settings)?;
                match rtnl.mark(index_of(&rtnl, device).await?, mark, altname.as_deref()).await {
                    // The alternative name was there, and the mark is new.
                    Err(error) if error.is_present() => Ok(()),
                    other => other,
                }
            }
            Step::Enslave { place, device, bridge, .. } => {
                let rtnl = self.namespaces.get(place)?;
                let bridge = rtnl.expect_link(bridge).await?.ifindex;
                rtnl.enslave(index_of(&rtnl, device).await?, bridge, format_args!("{place}:{device}")).await
            }
            Step::Mac { place, device, mac, .. } => {
                let rtnl = self.namespaces.get(place)?;
                rtnl.set_mac(index_of(&rtnl, device).await?, *mac, format_args!("{place}:{device}")).await
            }
            Step::Mtu { place, device, mtu, .. } => {
                let rtnl = self.namespaces.get(place)?;
                rtnl.set_mtu(index_of(&rtnl, device).await?, *mtu, format_args!("{place}:{device}")).await
            }
            Step::BridgeOption { place, bridge, to, .. } => {
                let rtnl = self.namespaces.get(place)?;
                rtnl.set_bridge_option(rtnl.expect_link(bridge).await?.ifindex, *to, bridge).await
            }
            Step::Down { place, device } => {
                let rtnl = self.namespaces.get(place)?;
                rtnl.set_down(index_of(&rtnl, device).await?, format_args!("{place}:{device}")).await
            }
            // All others are made by `run_all`, or are about programs.
            _ => Ok(()),
        }
    }

    /// Removes links, those of a place together. One that is gone with its other end is no fault.
    pub(super) fn delete_links(&mut self, steps: &[&Step]) -> Result<(), Error> {
        let mut by_place: BTreeMap<&Place, BTreeSet<&str>> = BTreeMap::new();
        for step in steps {
            if let Step::DeleteLink { place, device, .. } = step {
                by_place.entry(place).or_default().insert(device);
            }
        }
        for (place, devices) in by_place {
            let _soon = Expedited::for_ports(devices.len());
            let direct = Direct::open(&self.namespaces.netns(place)?)?;
            cleanup::remove(&direct, place, |link| devices.contains(link.name.as_str()))?;
            stop::here_if_told();
            for port in devices.iter().filter_map(|device| device.parse().ok()) {
                // The program has gone with the port; its pin, if there is one, stands for nothing.
                let _ = fs::remove_file(Pins::of(self.lab).link(&port));
            }
        }
        Ok(())
    }

    /// All that is the lab's in it has been removed by now.
    fn delete_namespace(&mut self, namespace: &Namespace) -> kernel::Result<()> {
        self.namespaces.forget(&namespace.name);
        if namespace.has_its_name() { Ok(()) } else { netns::unbind(&namespace.name) }
    }
}
