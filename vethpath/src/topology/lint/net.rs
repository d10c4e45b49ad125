//! The devices of each segment, and their addresses.

use std::{collections::HashMap, net::IpAddr, ops::Range};

use ipnet::IpNet;

use crate::topology::{
    IfName, Place,
    declared::{Declared, InterfaceDecl, NamespaceDecl},
    links::{Far, Joint, Links},
    read::At,
};

pub(super) use crate::topology::route::is_link_local;

/// A device that can have addresses: a bridge, or an interface.
pub(super) struct Device<'d> {
    pub(super) place: &'d Place,
    pub(super) name: &'d IfName,
    /// Where it is declared. For an undeclared cable end, where the other end names it.
    pub(super) span: &'d Range<usize>,
    pub(super) addresses: &'d [At<IpNet>],
    pub(super) segment: usize,
    /// Its bridge, if it is on one.
    pub(super) bridge: Option<usize>,
    /// Its declaration. `None` for a bridge or an undeclared cable end.
    pub(super) interface: Option<&'d InterfaceDecl>,
    pub(super) is_bridge: bool,
    pub(super) up: bool,
}

impl Device<'_> {
    /// The name in messages: `ns0:eth0`.
    pub(super) fn title(&self) -> String {
        format!("{}:{}", self.place, self.name)
    }
}

/// The layer 2 view of a lab. Trunks between namespaces join segments too.
pub(super) struct Net<'d> {
    pub(super) declared: &'d Declared,
    /// In the order in which `up` brings them up: bridges, pairs, cables.
    pub(super) devices: Vec<Device<'d>>,
    /// Devices of each segment.
    pub(super) segments: Vec<Vec<usize>>,
    pub(super) segment_of_bridge: Vec<usize>,
    /// Devices of each place.
    pub(super) places: HashMap<&'d Place, Vec<usize>>,
    namespaces: HashMap<&'d str, &'d NamespaceDecl>,
    owners: HashMap<(usize, IpAddr), usize>,
}

impl<'d> Net<'d> {
    pub(super) fn new(declared: &'d Declared, links: &'d Links, joints: &[Joint]) -> Self {
        let segment_of_bridge = joined(declared.bridges.len(), joints);
        let mut devices = Vec::new();
        for (bridge, segment) in declared.bridges.iter().zip(&segment_of_bridge) {
            devices.push(Device {
                place: &bridge.place.value,
                name: &bridge.name.value,
                span: &bridge.name.span,
                addresses: &bridge.addresses.items,
                segment: *segment,
                bridge: None,
                interface: None,
                is_bridge: true,
                up: true,
            });
        }
        for &(n, bridge) in &links.pairs {
            let interface = &declared.interfaces[n];
            let segment = segment_of_bridge[bridge];
            devices.push(Device { bridge: Some(bridge), ..device(interface, segment) });
        }
        let bridges = declared.bridges.len();
        for (k, (n, far)) in links.cables.iter().enumerate() {
            devices.push(device(&declared.interfaces[*n], bridges + k));
            devices.push(match far {
                Far::Declared(far) => device(&declared.interfaces[*far], bridges + k),
                Far::Bare(At { value: (place, name), span }) => Device {
                    place,
                    name,
                    span,
                    addresses: &[],
                    segment: bridges + k,
                    bridge: None,
                    interface: None,
                    is_bridge: false,
                    up: true,
                },
            });
        }
        let mut segments = vec![Vec::new(); bridges + links.cables.len()];
        let mut places: HashMap<&Place, Vec<usize>> = HashMap::new();
        let mut owners = HashMap::new();
        for (n, device) in devices.iter().enumerate() {
            segments[device.segment].push(n);
            places.entry(device.place).or_default().push(n);
            for address in device.addresses.iter().filter(|_| device.up) {
                let _ = owners.entry((device.segment, address.value.addr())).or_insert(n);
            }
        }
        let namespaces = declared.namespaces.iter().map(|n| (n.name.value.as_str(), n)).collect();
        Self { declared, devices, segments, segment_of_bridge, places, namespaces, owners }
    }

    /// The device that has an address on a segment. Only devices that are up count.
    pub(super) fn owner(&self, segment: usize, address: IpAddr) -> Option<&Device<'d>> {
        self.owners.get(&(segment, address)).map(|&n| &self.devices[n])
    }

    /// The devices of a place that are up, in the order in which they were brought up.
    pub(super) fn own(&self, place: &Place) -> impl Iterator<Item = &Device<'d>> {
        let own = self.places.get(place).map_or(&[][..], Vec::as_slice);
        own.iter().map(|&n| &self.devices[n]).filter(|device| device.up)
    }

    /// The namespace of a place. `None` for the host and adopted namespaces, which are not in the file completely.
    pub(super) fn known(&self, place: &Place) -> Option<&'d NamespaceDecl> {
        let Place::Namespace(name) = place else { return None };
        self.namespaces.get(name.as_str()).copied().filter(|namespace| namespace.adopt.is_none())
    }

    /// Whether a place is the lab's fabric.
    pub(super) fn is_fabric(&self, place: &Place) -> bool {
        let fabric = self.declared.fabric.as_ref();
        matches!((place, fabric), (Place::Namespace(name), Some(fabric)) if *name == fabric.namespace)
    }

    /// The machine's end of the fabric's uplink. The fabric has a default route there.
    pub(super) fn uplink(&self) -> Option<&Device<'d>> {
        let name = self.declared.fabric.as_ref()?.uplink.as_ref()?;
        self.devices.iter().find(|device| *device.place == Place::Host && device.name == name)
    }

    /// The device by which a place reaches an address on a connected subnet. The longest prefix is used. Of two
    /// prefixes of equal length the route that was added first is used.
    pub(super) fn on_link(&self, place: &Place, address: IpAddr) -> Option<(&Device<'d>, IpNet)> {
        let mut best: Option<(&Device<'d>, IpNet)> = None;
        for device in self.own(place) {
            for own in device.addresses.iter().filter(|own| own.value.contains(&address)) {
                if best.is_none_or(|(_, net)| own.value.prefix_len() > net.prefix_len()) {
                    best = Some((device, own.value));
                }
            }
        }
        best
    }
}

fn device(interface: &InterfaceDecl, segment: usize) -> Device<'_> {
    Device {
        place: &interface.place,
        name: &interface.name.value,
        span: &interface.name.span,
        addresses: &interface.addresses.items,
        segment,
        bridge: None,
        interface: Some(interface),
        is_bridge: false,
        up: interface.up,
    }
}

/// For each bridge, the first bridge of the segment that trunks join it to.
fn joined(bridges: usize, joints: &[Joint]) -> Vec<usize> {
    let mut segments: Vec<usize> = (0..bridges).collect();
    for joint in joints {
        let (a, b) = (segments[joint.value.0], segments[joint.value.1]);
        let (from, to) = (a.max(b), a.min(b));
        segments.iter_mut().filter(|segment| **segment == from).for_each(|segment| *segment = to);
    }
    segments
}

/// Whether the subnet has only this address, so that no other host is in it.
pub(super) fn is_alone(net: IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}
