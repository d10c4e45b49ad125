//! Whether `bpf_redirect_peer` scrubs a frame: sets its packet type for the receiving host and drops state of the
//! sender's host ("bpf: Scrub packet on bpf_redirect_peer", Linux 6.15 and stable branches). Tried with a frame.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    sync::OnceLock,
    thread,
    time::Duration,
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};

use super::Check;
use crate::{
    kernel::{
        LinkChange, Netns, NewVeth, RouteSocket, VethEnd,
        bpf_program::{self, Instruction, instruction},
        route_socket::Request,
        traffic,
    },
    topology::{IfName, Mac},
};

const NAME: &str = "scrubbing";

/// `bpf_redirect_peer` of `enum bpf_func_id`.
const REDIRECT_PEER: i32 = 155;

/// Timeout for the arrival of a frame.
const TIMEOUT: Duration = Duration::from_secs(2);
const UDP_PORT: u16 = 9;
/// The sender, the destination of frames to another MAC than the port's, and that of frames to the port's MAC.
const SENDER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Whether frames are scrubbed on this kernel. `false` if that is unknown.
/// Minimum kernel: Linux 5.10 (`bpf_redirect_peer`); `false` before.
#[must_use]
pub fn peer_redirect_scrubs() -> bool {
    found().as_ref().is_ok_and(|scrubs| *scrubs)
}

pub(super) fn check() -> Check {
    match found() {
        Ok(true) => Check::ok(NAME, "bpf_redirect_peer scrubs frames"),
        Ok(false) => Check::warning(
            NAME,
            "bpf_redirect_peer does not scrub frames",
            "conntrack and other state of the sender's host may stay on frames here: update the kernel (to 6.15, 6.14.7, \
             6.12.29, 6.6.91, 6.1.139 or later)",
        ),
        Err(error) => Check::warning(
            NAME,
            format!("cannot be tried: {error}"),
            "programs clear what they can; a conntrack entry may stay attached to frames",
        ),
    }
}

/// Runs the probe once, on a thread whose namespaces end with it.
fn found() -> &'static std::result::Result<bool, String> {
    static FOUND: OnceLock<std::result::Result<bool, String>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let builder = thread::Builder::new().name("probe".to_owned());
        let thread = builder.spawn(redirected_frame_is_for_the_host).map_err(|error| error.to_string())?;
        let ended = thread.join().unwrap_or_else(|_| Err("the probe panicked".into()));
        ended.map_err(|error| error.to_string())
    })
}

/// Sends two datagrams through a port whose program redirects everything. The destination MAC of the first is not the
/// port's. The receiver's IP layer drops it, unless the redirect has scrubbed it.
fn redirected_frame_is_for_the_host() -> Result<bool> {
    let here = Netns::create_around_thread("ports")?;
    let (sender, receiver) = (Netns::create("sender")?, Netns::create("receiver")?);
    let [from, to, inner]: [IfName; 3] = ["from".parse()?, "to".parse()?, "eth0".parse()?];
    let mac = |last| Mac::unicast([2, 0, 0, 0, 0, last]);
    let port = mac(1)?;
    let end = |name, mac| VethEnd { name, mac, bridge: None };
    let pair = |port, peer, peer_netns| NewVeth { end: port, peer, peer_netns, mtu: None };
    let socket = RouteSocket::here(&here)?;
    let pairs = [
        pair(end(&from, port), end(&inner, mac(2)?), &sender),
        pair(end(&to, mac(3)?), end(&inner, mac(4)?), &receiver),
    ];
    socket.create_veths(&pairs)?.into_iter().collect::<crate::kernel::Result<()>>()?;
    let target = socket.index("to")?;
    socket.change_links(&[LinkChange::Up { link: "from" }, LinkChange::Up { link: "to" }])?;
    for (netns, addresses) in [(&sender, &[SENDER][..]), (&receiver, &[OTHER, HOST])] {
        let inside = RouteSocket::open(netns)?;
        inside.change_links(&[LinkChange::Up { link: "eth0" }])?;
        for &address in addresses {
            let address = ipnet::Ipv4Net::new(address, 24)?.into();
            inside.change_links(&[LinkChange::Address { link: "eth0", address, dad: false }])?;
        }
    }
    let inside = RouteSocket::open(&sender)?;
    let index = inside.index("eth0")?;
    let neighbours = vec![neighbour(index, OTHER, mac(9)?), neighbour(index, HOST, port)];
    inside.change(neighbours)?.into_iter().collect::<crate::kernel::Result<()>>()?;

    let program = bpf_program::load("vethpath_probe", &redirect_to(target))?;
    // clsact, since the answer is also needed on kernels without tcx.
    traffic::run_at_ingress(socket.socket(), socket.index("from")?, &program)?;

    let receiver = receiver.run(|| UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, UDP_PORT)))??;
    receiver.set_read_timeout(Some(TIMEOUT))?;
    let sender = sender.run(|| UdpSocket::bind(SocketAddrV4::new(SENDER, UDP_PORT)))??;
    for to in [OTHER, HOST] {
        let sent = sender.send_to(&to.octets(), SocketAddrV4::new(to, UDP_PORT))?;
        debug_assert_eq!(sent, to.octets().len(), "a datagram is sent as a whole");
    }
    let mut first = [0; 4];
    let length =
        receiver.recv(&mut first).map_err(|error| io::Error::new(error.kind(), "no frame arrived"))?;
    Ok(first[..length] == OTHER.octets())
}

/// A program that redirects every frame to the inner end of a port.
fn redirect_to(port: u32) -> [Instruction; 4] {
    [
        instruction(0xb7, 1, 0, 0, port.cast_signed()), // r1 = port
        instruction(0xb7, 2, 0, 0, 0),                  // r2 = 0: no flags
        instruction(0x85, 0, 0, 0, REDIRECT_PEER),      // r0 = TC_ACT_REDIRECT
        instruction(0x95, 0, 0, 0, 0),                  // return r0
    ]
}

/// A permanent entry of the ARP table.
fn neighbour(ifindex: u32, address: Ipv4Addr, mac: Mac) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = ifindex;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)),
        NeighbourAttribute::LinkLayerAddress(mac.bytes().to_vec()),
    ];
    Request {
        message: RouteNetlinkMessage::NewNeighbour(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
        operation: "add neighbour",
        object: address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{
        probe::{Status, release},
        sandbox::{in_new_namespace, run},
    };

    #[test]
    fn what_is_tried_agrees_with_the_version_where_that_tells() {
        in_new_namespace(|| {
            let before = run("ip", &["-o", "link"]);
            let scrubs = found().clone().unwrap();
            // These versions scrub. Others may too.
            let has_it = release::stable().is_some_and(|version| version >= (6, 15, 0));
            assert!(scrubs || !has_it);
            assert_eq!(check().status == Status::Ok, scrubs);
            assert_eq!(run("ip", &["-o", "link"]), before, "it is done elsewhere");
        });
    }
}
