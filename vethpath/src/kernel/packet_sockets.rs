//! Packet sockets that see frames which cross a bridge, such as those of tcpdump.
//!
//! Mirrors net/packet/diag.c and include/uapi/linux/packet_diag.h. Packet sockets cause no events and must be polled.

use std::{io, path::Path};

use netlink_packet_core::NlasIterator;
use netlink_sys::Socket;
use nix::libc;

use super::{
    Context, files,
    netlink::{self, NetlinkError},
};

/// Name of the file in `/proc/net`.
const FILE: &str = "packet";

/// A packet socket for ETH_P_ALL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tap {
    /// The interface it is bound to; 0 is every interface of the namespace.
    pub ifindex: u32,
    /// The protocol it asked for, in host byte order.
    pub protocol: u16,
}

/// `ETH_P_ALL`.
const EVERY_PROTOCOL: u16 = 3;

/// The taps in a namespace, sorted and without duplicates. The calling thread and `socket`, a blocking
/// NETLINK_SOCK_DIAG socket, must be in that namespace. A kernel without `packet_diag` or without that protocol
/// lists the same sockets in the file `packet` of `net`, the namespace's `/proc/net`. If that file is missing,
/// there are no packet sockets.
///
/// Only sockets for ETH_P_ALL are taps. The rx_handler of a port consumes a frame before sockets for a single
/// protocol receive it (`__netif_receive_skb_core`, net/core/dev.c). Transmitted frames are delivered to ETH_P_ALL
/// sockets only (`dev_queue_xmit_nit`). Measured on Linux 6.18 with five pings across a bridge: sockets for
/// ETH_P_ALL saw 10 frames on the ports and 20 on every interface. Sockets for ETH_P_IP and ETH_P_802_2 saw none
/// on a port, on every interface and on the bridge.
///
/// # Errors
/// The dump or the file cannot be read. The caller must then assume a tap on every interface.
pub fn taps(socket: Option<&Socket>, net: &Path) -> super::Result<Vec<Tap>> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    let query = |socket: &Socket| -> Result<Vec<Tap>, NetlinkError> {
        let replies = netlink::dump(socket, SOCK_DIAG_BY_FAMILY, &request())?;
        replies.iter().filter_map(|reply| parse(reply).transpose()).collect()
    };
    let mut taps = match socket.map(query) {
        Some(found) if !found.as_ref().is_err_and(|error| error.errno() == Some(libc::ENOENT)) => {
            found.doing("list", "the packet sockets of the namespace")?
        }
        _ => listed(net).doing("read", format_args!("{FILE} of the namespace"))?,
    };
    taps.sort_unstable();
    taps.dedup();
    Ok(taps)
}

/// The taps in the file of packet sockets. After a header line, the fourth field of each line is the protocol in
/// hexadecimal and the fifth is the ifindex (`packet_seq_show` in net/packet/af_packet.c).
fn listed(net: &Path) -> io::Result<Vec<Tap>> {
    let content = files::read_optional(&net.join(FILE), net, files::LIST)?.unwrap_or_default();
    let tap = |line: &str| {
        let mut words = line.split_whitespace().skip(3);
        let protocol = u16::from_str_radix(words.next()?, 16).ok()?;
        Some(Tap { ifindex: words.next()?.parse().ok()?, protocol })
    };
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "a line cannot be parsed");
    let mut taps = Vec::new();
    for line in content.lines().skip(1) {
        taps.push(tap(line).ok_or_else(malformed)?);
    }
    taps.retain(|tap| tap.protocol == EVERY_PROTOCOL);
    Ok(taps)
}

/// `struct packet_diag_req`: all sockets, with PACKET_SHOW_INFO.
fn request() -> [u8; 20] {
    const AF_PACKET: u8 = 17;
    let mut request = [0; 20];
    request[0] = AF_PACKET;
    request[8..12].copy_from_slice(&1_u32.to_ne_bytes());
    request
}

/// `struct packet_diag_msg` and its attributes. A tap without PACKET_DIAG_INFO counts as one on every interface.
pub(crate) fn parse(reply: &[u8]) -> Result<Option<Tap>, NetlinkError> {
    const MESSAGE: usize = 16;
    const PACKET_DIAG_INFO: u16 = 0;
    let (message, rest) = reply
        .split_first_chunk::<MESSAGE>()
        .ok_or(NetlinkError::Malformed("a packet socket is truncated"))?;
    let protocol = u16::from_ne_bytes([message[2], message[3]]);
    if protocol != EVERY_PROTOCOL {
        return Ok(None);
    }
    let mut ifindex = 0;
    for attribute in NlasIterator::new(rest) {
        let attribute = attribute.map_err(|_| NetlinkError::Malformed("an attribute is truncated"))?;
        if attribute.kind() == PACKET_DIAG_INFO
            && let Some(index) = attribute.value().first_chunk::<4>()
        {
            ifindex = u32::from_ne_bytes(*index);
        }
    }
    Ok(Some(Tap { ifindex, protocol }))
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Child, Command, Stdio},
        time::{Duration, Instant},
    };

    use netlink_sys::protocols::NETLINK_SOCK_DIAG;
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket as open};

    use super::*;
    use crate::kernel::sandbox::{in_new_namespace, run};

    const LOOPBACK: u32 = 1;

    /// The taps, if netlink and the file agree.
    fn now() -> Vec<Tap> {
        let net = Path::new("/proc/thread-self/net");
        let taps_by_netlink = taps(Some(&Socket::new(NETLINK_SOCK_DIAG).unwrap()), net).unwrap();
        if taps(None, net).unwrap() == taps_by_netlink { taps_by_netlink } else { Vec::from([tap(u32::MAX)]) }
    }

    fn tap(ifindex: u32) -> Tap {
        Tap { ifindex, protocol: EVERY_PROTOCOL }
    }

    fn tcpdump(interface: &str) -> Child {
        let mut command = Command::new("tcpdump");
        command.args(["-i", interface, "-w", "/dev/null"]).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    fn becomes(expected: &[Tap]) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            // The clock is read first, so that a state reached by the deadline is seen even if this thread runs late.
            let is_late = Instant::now() > deadline;
            let now = now();
            if now == expected {
                return;
            }
            assert!(!is_late, "{now:?} did not become {expected:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn tcpdump_is_found_where_it_listens_and_gone_when_it_ends() {
        in_new_namespace(|| {
            run("ip", &["link", "set", "lo", "up"]);
            assert_eq!(now(), []);
            let mut dumps = vec![tcpdump("lo"), tcpdump("lo"), tcpdump("any")];
            becomes(&[tap(0), tap(LOOPBACK)]);
            for dump in &mut dumps {
                dump.kill().unwrap();
                dump.wait().unwrap();
            }
            becomes(&[]);
        });
    }

    #[test]
    fn sockets_for_one_protocol_are_no_taps() {
        in_new_namespace(|| {
            let packet =
                |protocol| open(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol);
            let only_sends = packet(None).unwrap();
            let loopback = packet(Some(SockProtocol::EthLoop)).unwrap();
            assert_eq!(now(), []);
            let all = packet(Some(SockProtocol::EthAll)).unwrap();
            assert_eq!(now(), [tap(0)]);
            drop((only_sends, loopback, all));
        });
    }

    #[test]
    fn the_list_of_the_network_files_may_be_missing_or_garbage() {
        let net = tempfile::tempdir().unwrap();
        assert!(listed(&net.path().join("net")).is_err(), "nothing is known");
        assert_eq!(listed(net.path()).unwrap(), [], "no packet sockets at all");
        let titles = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n";
        for (line, expected) in [
            ("0000000000000000 3      3    0003   7     1 0      0      33", Some(vec![tap(7)])),
            ("0000000000000000 3      3    0060   7     1 0      0      33", Some(vec![])),
            ("0000000000000000 3      3    0003", None),
            ("0000000000000000 3      3    xxxx   7     1 0      0      33", None),
        ] {
            std::fs::write(net.path().join(FILE), format!("{titles}{line}\n")).unwrap();
            assert_eq!(listed(net.path()).ok(), expected, "{line}");
        }
    }

    #[test]
    fn answers_may_be_garbage() {
        // Reply of Linux 6.18: tcpdump on interface 7.
        let mut reply = vec![17, 3, 3, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        reply.extend([28, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        reply.extend([0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(parse(&reply).unwrap(), Some(tap(7)));
        for cut in 0..reply.len() {
            // Without attributes it is a tap on every interface. A truncated attribute is an error.
            assert_eq!(parse(&reply[..cut]).ok(), (cut == 16).then_some(Some(tap(0))), "cut at {cut}");
        }
        for at in 0..reply.len() {
            for value in [0, 1, 3, 5, 0xff] {
                let mut broken = reply.clone();
                broken[at] = value;
                let _ = parse(&broken);
            }
        }
        reply[16..18].copy_from_slice(&[6, 0]);
        assert_eq!(parse(&reply[..24]).unwrap(), Some(tap(0)), "an index of two bytes is none");
    }
}
