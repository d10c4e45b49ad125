//! Events of a namespace: links, FDB entries, traffic control.

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

use super::{FdbEntry, Netns, Result, error::Context, netfilter, netlink::sockets};

/// `RTNLGRP_LINK`, `RTNLGRP_NEIGH`, `RTNLGRP_TC` of `linux/rtnetlink.h`.
const LINK: u32 = 1;
const NEIGHBOUR: u32 = 3;
const TRAFFIC: u32 = 4;

/// Maximum number of datagrams per read, so that a burst of events cannot starve other work. The receive buffer holds
/// fewer, so that a read returns every event that was sent before it.
const BATCH: usize = 16_384;

/// An event of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A bridge learned, moved or changed an FDB entry.
    Learned(FdbEntry),
    /// A bridge removed an FDB entry.
    Forgot(FdbEntry),
    /// A link, or something on it, was added or changed.
    Changed,
    /// A link was removed.
    Gone {
        /// Its ifindex.
        ifindex: u32,
    },
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
    /// Watches links, FDB entries and traffic control of a namespace.
    ///
    /// # Errors
    /// No socket can be opened there.
    pub fn bridges(netns: &Netns) -> Result<Self> {
        Ok(Self {
            socket: sockets::route(netns, &[LINK, NEIGHBOUR, TRAFFIC])?,
            netns: netns.clone(),
            read: parse,
        })
    }

    /// Watches the links of every namespace that `netns` has a netns id for, such as those of its veths' peers. An
    /// event only states *that* something changed, since ifindexes are ambiguous here.
    ///
    /// # Errors
    /// No socket can be opened there.
    pub fn peers(netns: &Netns) -> Result<Self> {
        let socket = sockets::route(netns, &[LINK])?;
        socket.socket_ref().set_listen_all_namespaces(true).doing("listen beyond namespace", netns)?;
        Ok(Self { socket, netns: netns.clone(), read: parse })
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
pub(crate) fn parse(mut datagram: &[u8], events: &mut Vec<Event>) {
    while !datagram.is_empty() {
        let Ok(message) = NetlinkMessage::<Message>::deserialize(datagram) else {
            events.push(Event::Lost);
            return;
        };
        let length = (message.header.length as usize).next_multiple_of(4).max(16);
        datagram = datagram.get(length..).unwrap_or_default();
        events.extend(event(&message.payload));
    }
}

fn event(payload: &NetlinkPayload<Message>) -> Option<Event> {
    let NetlinkPayload::InnerMessage(message) = payload else { return Some(Event::Lost) };
    match message {
        Message::NewNeighbour(neighbour) => FdbEntry::parse(neighbour).map(Event::Learned),
        Message::DelNeighbour(neighbour) => FdbEntry::parse(neighbour).map(Event::Forgot),
        // A port that leaves its bridge is reported as a deleted AF_BRIDGE link of the same index.
        Message::DelLink(link) => Some(Event::Gone { ifindex: link.header.index }),
        _ => Some(Event::Changed),
    }
}

#[cfg(test)]
mod tests {
    use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

    use super::*;
    use crate::kernel::{
        netlink::message,
        sandbox::{in_new_namespace, run},
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
    fn what_other_processes_send_is_no_event() {
        in_new_namespace(|| {
            in_runtime(async {
                let mut watch = Watch::bridges(&Netns::current().unwrap()).unwrap();
                let liar = Socket::new(NETLINK_ROUTE).unwrap();
                let lie = message(16, 0, 0, &[0; 16]);
                // To the group, and to the socket itself.
                let _ = liar.send_to(&lie, &SocketAddr::new(0, 1), 0).unwrap();
                let mut address = SocketAddr::new(0, 0);
                watch.socket.socket_ref().get_address(&mut address).unwrap();
                assert!(liar.send_to(&lie, &SocketAddr::new(address.port_number(), 0), 0).is_err());
                assert_eq!(watch.drain().unwrap(), []);
                let _ = run("ip", &["link", "set", "lo", "up"]);
                assert!(watch.next().await.unwrap().contains(&Event::Changed));
            });
        });
    }
}
