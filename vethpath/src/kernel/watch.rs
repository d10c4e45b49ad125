//! Events of a namespace: links, FDB entries, traffic control.

use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

use super::{
    FdbEntry, LinkFacts, Netns, PortAttribute, Result,
    error::Context,
    links, netfilter,
    netlink::{self, Message, NetlinkError, sockets},
};

/// `RTNLGRP_LINK`, `RTNLGRP_NEIGH`, `RTNLGRP_TC` of `linux/rtnetlink.h`.
const LINK: u32 = 1;
const NEIGHBOUR: u32 = 3;
const TRAFFIC: u32 = 4;

/// Message types of `linux/rtnetlink.h`.
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
/// Qdiscs, classes, filters and chains.
const TRAFFIC_CONTROL: [u16; 8] = [36, 37, 40, 41, 44, 45, 100, 101];

/// `AF_BRIDGE`.
const BRIDGE_FAMILY: u8 = 7;

/// Maximum number of datagrams per read, so that a burst of events cannot starve other work. The receive buffer holds
/// fewer, so that a read returns every event that was sent before it.
const BATCH: usize = 65_536;

/// An event of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A bridge learned, moved or changed an FDB entry.
    Learned(FdbEntry),
    /// A bridge removed an FDB entry.
    Forgot(FdbEntry),
    /// A link was added, or something on it was changed. The counters are zero.
    Link(Box<LinkFacts>),
    /// Attributes of a bridge port were changed.
    Port {
        /// Its ifindex.
        ifindex: u32,
        /// Its bridge, by ifindex.
        bridge: Option<u32>,
        /// All its attributes.
        attributes: Vec<PortAttribute>,
    },
    /// A port was removed from its bridge.
    Released {
        /// Its ifindex.
        ifindex: u32,
    },
    /// A link was removed.
    Gone {
        /// Its ifindex.
        ifindex: u32,
    },
    /// A qdisc, class or filter of a link was added, changed or removed.
    Traffic {
        /// The link's ifindex.
        ifindex: u32,
    },
    /// A link of another namespace was added, changed or removed.
    Peer {
        /// Its ifindex, in its namespace.
        ifindex: u32,
        /// The ifindex of its other end, in the namespace of that, where the kernel names it. A link that is being removed
        /// may have lost it.
        port: Option<u32>,
    },
    /// Something that has no details was changed.
    Changed,
    /// Overrun (`ENOBUFS`), or an event was malformed. The state must be read again.
    Lost,
}

/// A subscription to events. Unread events stay in the kernel's buffer, which bounds the memory.
pub struct Watch {
    socket: TokioSocket,
    netns: Netns,
    read: fn(&[u8], &mut Vec<Event>),
}

impl Watch {
    /// Watches links and traffic control of a namespace.
    ///
    /// # Errors
    /// No socket can be opened there.
    pub fn links(netns: &Netns) -> Result<Self> {
        Ok(Self { socket: sockets::route(netns, &[LINK, TRAFFIC])?, netns: netns.clone(), read: parse })
    }

    /// Watches the FDB entries of a namespace, on a socket of their own: a host may cause any number of these events,
    /// and an overrun must not void what is known of links.
    ///
    /// # Errors
    /// No socket can be opened there.
    pub fn fdb(netns: &Netns) -> Result<Self> {
        Ok(Self { socket: sockets::route(netns, &[NEIGHBOUR])?, netns: netns.clone(), read: parse })
    }

    /// Watches the links of every namespace that `netns` has a netns id for, such as those of its veths' peers, and its
    /// own. The only events are [`Event::Peer`] and [`Event::Lost`].
    ///
    /// # Errors
    /// No socket can be opened there.
    pub fn peers(netns: &Netns) -> Result<Self> {
        let socket = sockets::route(netns, &[LINK])?;
        socket.socket_ref().set_listen_all_namespaces(true).doing("listen beyond namespace", netns)?;
        let read = |datagram: &[u8], events: &mut Vec<Event>| parse_with(datagram, events, peer_event);
        Ok(Self { socket, netns: netns.clone(), read })
    }

    /// Watches the nftables rules of a namespace. The only events are [`Event::Changed`] and [`Event::Lost`].
    ///
    /// # Errors
    /// No socket can be opened there, for example because the kernel has no nfnetlink.
    pub fn rules(netns: &Netns) -> Result<Self> {
        let read = |datagram: &[u8], events: &mut Vec<Event>| {
            if netfilter::is_change(datagram) {
                events.push(Event::Changed);
            }
        };
        Ok(Self { socket: sockets::rules(netns)?, netns: netns.clone(), read })
    }

    /// Watches the loading of kernel modules. The only events are [`Event::Changed`] and [`Event::Lost`]. The kernel
    /// sends module uevents to every namespace of the initial user namespace, and device uevents to that of the device
    /// (`kobject_uevent_net_broadcast` in lib/kobject_uevent.c). The socket is in a new namespace, without devices.
    ///
    /// # Errors
    /// No namespace can be created or no socket opened.
    pub fn modules() -> Result<Self> {
        let netns = Netns::create("module events")?;
        let read = |datagram: &[u8], events: &mut Vec<Event>| {
            if datagram.starts_with(b"add@/module/") {
                events.push(Event::Changed);
            }
        };
        Ok(Self { socket: sockets::uevents(&netns)?, netns, read })
    }

    /// Waits for an event, and returns all pending events.
    ///
    /// # Errors
    /// The socket fails.
    pub async fn next(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        match self.socket.recv_from_full().await {
            Ok((datagram, sender)) => self.parse_datagram(&datagram, &sender, &mut events),
            Err(error) => self.failed(error, &mut events)?,
        }
        self.drain_into(&mut events)?;
        Ok(events)
    }

    /// Returns the pending events without waiting.
    ///
    /// # Errors
    /// The socket fails.
    pub fn drain(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        self.drain_into(&mut events)?;
        Ok(events)
    }

    fn drain_into(&self, events: &mut Vec<Event>) -> Result<()> {
        for _ in 0..BATCH {
            match self.socket.socket_ref().recv_from_full() {
                Ok((datagram, sender)) => self.parse_datagram(&datagram, &sender, events),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => self.failed(error, events)?,
            }
        }
        Ok(())
    }

    /// Drops datagrams that are not from the kernel, which has port number 0. A process with CAP_NET_ADMIN in the
    /// namespace can send to the groups too.
    fn parse_datagram(&self, datagram: &[u8], sender: &SocketAddr, events: &mut Vec<Event>) {
        if sender.port_number() == 0 {
            (self.read)(datagram, events);
        }
    }

    fn failed(&self, error: std::io::Error, events: &mut Vec<Event>) -> Result<()> {
        if error.raw_os_error() == Some(nix::libc::ENOBUFS) {
            events.push(Event::Lost);
            return Ok(());
        }
        Err(error).doing("watch namespace", &self.netns)
    }
}

/// Parses the messages of one datagram. A malformed message counts as [`Event::Lost`].
pub(crate) fn parse(datagram: &[u8], events: &mut Vec<Event>) {
    parse_with(datagram, events, event);
}

fn parse_with(
    datagram: &[u8],
    events: &mut Vec<Event>,
    event: fn(&Message<'_>) -> std::result::Result<Option<Event>, NetlinkError>,
) {
    for message in netlink::messages(datagram) {
        match message.and_then(|message| event(&message)) {
            Ok(event) => events.extend(event),
            Err(_) => events.push(Event::Lost),
        }
    }
}

/// The event of a link of another namespace. Most of the message is not parsed: many come while a lab is brought up. Those of
/// bridges are about attributes of ports, which matter to no other namespace.
fn peer_event(message: &Message<'_>) -> std::result::Result<Option<Event>, NetlinkError> {
    if message.payload.first() == Some(&BRIDGE_FAMILY) {
        return Ok(None);
    }
    let (ifindex, port) = links::parse_ends(message.payload)?;
    // Without the attribute, the other end has the same ifindex, or there is none.
    let port = (message.kind == RTM_NEWLINK).then(|| port.unwrap_or(ifindex));
    Ok(matches!(message.kind, RTM_NEWLINK | RTM_DELLINK).then_some(Event::Peer { ifindex, port }))
}

fn event(message: &Message<'_>) -> std::result::Result<Option<Event>, NetlinkError> {
    let payload = message.payload;
    let is_of_bridge = payload.first() == Some(&BRIDGE_FAMILY);
    // `ifi_index`, `tcm_ifindex`
    let ifindex = || {
        let word = payload.get(4..8).and_then(|word| word.try_into().ok()).map(u32::from_ne_bytes);
        word.ok_or(NetlinkError::Malformed("a header is truncated"))
    };
    Ok(Some(match message.kind {
        RTM_NEWNEIGH => return Ok(FdbEntry::parse(payload)?.map(Event::Learned)),
        RTM_DELNEIGH => return Ok(FdbEntry::parse(payload)?.map(Event::Forgot)),
        // Mirrors `br_fill_ifinfo` in net/bridge/br_netlink.c.
        RTM_NEWLINK if is_of_bridge => match links::parse_port(payload)? {
            LinkFacts { controller, port: Some(attributes), .. } => {
                Event::Port { ifindex: ifindex()?, bridge: controller, attributes }
            }
            // It is about the bridge itself.
            _ => Event::Changed,
        },
        RTM_NEWLINK => Event::Link(Box::new(links::parse(payload)?.without_counters())),
        RTM_DELLINK if is_of_bridge => Event::Released { ifindex: ifindex()? },
        RTM_DELLINK => Event::Gone { ifindex: ifindex()? },
        kind if TRAFFIC_CONTROL.contains(&kind) => Event::Traffic { ifindex: ifindex()? },
        _ => Event::Changed,
    }))
}

#[cfg(test)]
mod tests {
    use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

    use super::*;
    use crate::{
        kernel::{
            NewVeth, RouteSocket, VethEnd,
            netlink::message,
            sandbox::{in_new_namespace, run},
        },
        topology::{IfName, Mac},
    };

    /// Runs `test` in a tokio runtime on this thread.
    fn in_runtime(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    #[test]
    fn a_module_that_is_loaded_is_an_event() {
        in_new_namespace(|| {
            in_runtime(async {
                let mut watch = Watch::modules().unwrap();
                let is_event = |uevent: &str| {
                    let mut events = Vec::new();
                    (watch.read)(uevent.as_bytes(), &mut events);
                    !events.is_empty()
                };
                assert!(is_event("add@/module/nfnetlink\0ACTION=add\0SUBSYSTEM=module\0"));
                assert!(!is_event("remove@/module/nfnetlink\0ACTION=remove\0"));
                assert!(!is_event("add@/devices/virtual/net/va\0ACTION=add\0"));
                // Another uevent that is sent to every namespace (`kobject_synth_uevent`).
                std::fs::write("/sys/devices/system/cpu/cpu0/uevent", "change").unwrap();
                assert_eq!(watch.next().await.unwrap(), [], "it is received, and is no module");
            });
        });
    }

    #[test]
    fn an_event_of_another_namespace_names_the_port_whose_other_end_it_is_about() {
        in_new_namespace(|| {
            in_runtime(async {
                let (here, there) = (Netns::current().unwrap(), Netns::create("there").unwrap());
                let socket = RouteSocket::open(&here).unwrap();
                let names: [IfName; 2] = ["va", "e"].map(|name| name.parse().unwrap());
                let mac = |last| Mac::unicast([2, 0, 0, 0, 0, last]).unwrap();
                let end = |name, last| VethEnd { name, mac: mac(last), bridge: None };
                let veth = NewVeth {
                    end: end(&names[0], 1),
                    peer: end(&names[1], 2),
                    peer_netns: &there,
                    mtu: None,
                };
                assert!(socket.create_veths(&[veth]).unwrap().iter().all(Result::is_ok));
                let port = socket.link("va").unwrap().unwrap();
                let inner = port.peer.unwrap();
                let mut watch = Watch::peers(&here).unwrap();
                let _ = there.run(|| run("ip", &["link", "set", "dev", "e", "mtu", "1400"])).unwrap();
                let event = |port| Event::Peer { ifindex: inner, port };
                let events = watch.drain().unwrap();
                assert!(
                    !events.is_empty() && events.iter().all(|one| *one == event(Some(port.ifindex))),
                    "{events:?}"
                );
                let _ = there.run(|| run("ip", &["link", "delete", "dev", "e"])).unwrap();
                let events = watch.drain().unwrap();
                assert!(events.contains(&event(None)), "{events:?}");
            });
        });
    }

    #[test]
    fn what_other_processes_send_is_no_event() {
        in_new_namespace(|| {
            in_runtime(async {
                let mut watch = Watch::links(&Netns::current().unwrap()).unwrap();
                let liar = Socket::new(NETLINK_ROUTE).unwrap();
                let lie = message(16, 0, 0, &[0; 16]);
                // To the group, and to the socket itself.
                let _ = liar.send_to(&lie, &SocketAddr::new(0, 1), 0).unwrap();
                let mut address = SocketAddr::new(0, 0);
                watch.socket.socket_ref().get_address(&mut address).unwrap();
                assert!(liar.send_to(&lie, &SocketAddr::new(address.port_number(), 0), 0).is_err());
                assert_eq!(watch.drain().unwrap(), []);
                let _ = run("ip", &["link", "set", "lo", "up"]);
                let is_lo =
                    |event: &Event| matches!(event, Event::Link(link) if link.name == "lo" && link.up);
                assert!(watch.next().await.unwrap().iter().any(is_lo));
            });
        });
    }
}
