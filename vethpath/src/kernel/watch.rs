//! Events of a namespace: links, FDB entries, traffic control.

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

use super::{FdbEntry, Netns, Result, error::Context, netfilter, sockets};

/// `RTNLGRP_LINK`, `RTNLGRP_NEIGH`, `RTNLGRP_TC` of `linux/rtnetlink.h`.
const LINK: u32 = 1;
const NEIGHBOUR: u32 = 3;
const TRAFFIC: u32 = 4;

/// Datagrams handled at a time, so that a storm of events cannot starve everything else: more than the kernel's
/// buffer holds, so that all that was told before is among them.
const BATCH: usize = 16_384;

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A bridge learned, moved or changed an entry.
    Learned(FdbEntry),
    /// A bridge forgot an entry.
    Forgot(FdbEntry),
    /// A link was made or changed, or something on it was.
    Changed,
    /// A link went away.
    Gone {
        /// Its ifindex.
        ifindex: u32,
    },
    /// Events were lost (`ENOBUFS`) or could not be read: only a fresh look tells the state.
    Lost,
}

/// A subscription. Unread events stay in the kernel's buffer, which is the bound on memory here.
pub struct Watch {
    socket: TokioSocket,
    netns: Netns,
    read: fn(&[u8], &mut Vec<Event>),
}

impl Watch {
    /// Watches everything about a namespace with bridges in it.
    ///
    /// # Errors
    /// No socket can be had there.
    pub fn bridges(netns: &Netns) -> Result<Self> {
        Ok(Self {
            socket: sockets::route(netns, &[LINK, NEIGHBOUR, TRAFFIC])?,
            netns: netns.clone(),
            read: parse,
        })
    }

    /// Watches the links of every namespace that `netns` has a netns id for, as it has for those of
    /// its veths' other ends. Tells *that* something changed; ifindexes are ambiguous here.
    ///
    /// # Errors
    /// No socket can be had there.
    pub fn peers(netns: &Netns) -> Result<Self> {
        let socket = sockets::route(netns, &[LINK])?;
        socket.socket_ref().set_listen_all_namespaces(true).doing("listen beyond namespace", netns)?;
        Ok(Self { socket, netns: netns.clone(), read: parse })
    }

    /// Watches the nftables rules of a namespace: [`Event::Changed`] is all it tells.
    ///
    /// # Errors
    /// No socket can be had there: the kernel has no nfnetlink.
    pub fn rules(netns: &Netns) -> Result<Self> {
        let read = |datagram: &[u8], events: &mut Vec<Event>| {
            if netfilter::is_change(datagram) {
                events.push(Event::Changed);
            }
        };
        Ok(Self { socket: sockets::rules(netns)?, netns: netns.clone(), read })
    }

    /// Watches kernel modules being loaded: [`Event::Changed`] is all it tells. The kernel tells every namespace of
    /// the initial user namespace of them, and each namespace of its own devices besides
    /// (`kobject_uevent_net_broadcast` in lib/kobject_uevent.c): one without devices receives nothing else.
    ///
    /// # Errors
    /// No namespace or no socket can be had.
    pub fn modules() -> Result<Self> {
        let netns = Netns::create("module events")?;
        let read = |datagram: &[u8], events: &mut Vec<Event>| {
            if datagram.starts_with(b"add@/module/") {
                events.push(Event::Changed);
            }
        };
        Ok(Self { socket: sockets::uevents(&netns)?, netns, read })
    }

    /// Waits for events and returns those that are there.
    ///
    /// # Errors
    /// The socket fails.
    pub async fn next(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        match self.socket.recv_from_full().await {
            Ok((datagram, sender)) => self.take(&datagram, &sender, &mut events),
            Err(error) => self.failed(error, &mut events)?,
        }
        self.drain_into(&mut events)?;
        Ok(events)
    }

    /// Returns the events that are there, without waiting.
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
                Ok((datagram, sender)) => self.take(&datagram, &sender, events),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => self.failed(error, events)?,
            }
        }
        Ok(())
    }

    /// Only the kernel has port number 0; whoever has CAP_NET_ADMIN in the namespace can send to its
    /// groups too.
    fn take(&self, datagram: &[u8], sender: &SocketAddr, events: &mut Vec<Event>) {
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

/// Reads the messages of one datagram. What cannot be read counts as lost.
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
        exchange::message,
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
                let is_told = |uevent: &str| {
                    let mut events = Vec::new();
                    (watch.read)(uevent.as_bytes(), &mut events);
                    !events.is_empty()
                };
                assert!(is_told("add@/module/nfnetlink\0ACTION=add\0SUBSYSTEM=module\0"));
                assert!(!is_told("remove@/module/nfnetlink\0ACTION=remove\0"));
                assert!(!is_told("add@/devices/virtual/net/va\0ACTION=add\0"));
                // Something else that every namespace is told of (`kobject_synth_uevent`).
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
