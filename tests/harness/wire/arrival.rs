//! A frame as a packet socket receives it: its bytes, and the kernel's metadata.

use std::{
    fmt,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::libc;

/// The longest possible frame (a GSO frame), and the header in front of it.
const LONGEST: usize = (64 << 10) + 256;

/// A received frame. Its receiver cannot tell two equal ones apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrival {
    /// The packet type: `PACKET_HOST`, `PACKET_OTHERHOST`...
    pub(crate) kind: u8,
    /// The whole frame, from its Ethernet header on.
    pub(crate) bytes: Vec<u8>,
    /// The VLAN tag beside the packet: protocol and TCI.
    pub(crate) tag: Option<(u16, u16)>,
    /// `TP_STATUS_*` of `linux/if_packet.h`: above all the state of the checksum.
    pub(crate) status: u32,
    /// Checksums and segments that are still to be made.
    pub(crate) offload: Offload,
}

/// `struct virtio_net_hdr` of `linux/virtio_net.h`, in the machine's byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Offload {
    /// 1: the checksum is still to be computed (`VIRTIO_NET_HDR_F_NEEDS_CSUM`); 2: it is valid.
    pub(crate) flags: u8,
    /// 1, 4, 5: segments of TCP over IPv4, of TCP over IPv6, of UDP (`VIRTIO_NET_HDR_GSO_*`).
    pub(crate) gso: u8,
    /// Bytes of the headers.
    pub(crate) headers: u16,
    /// Bytes of payload in a segment.
    pub(crate) segment: u16,
    /// Where the checksum's range begins.
    pub(crate) start: u16,
    /// Offset of the checksum from there.
    pub(crate) offset: u16,
}

impl Offload {
    const LEN: usize = 10;

    pub(super) fn bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [self.flags, self.gso, 0, 0, 0, 0, 0, 0, 0, 0];
        let words = [self.headers, self.segment, self.start, self.offset];
        for (place, word) in bytes[2..].chunks_mut(2).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso: bytes[1],
            headers: word(2),
            segment: word(4),
            start: word(6),
            offset: word(8),
        }
    }
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = ["HOST", "BROADCAST", "MULTICAST", "OTHERHOST"];
        let kind = kinds.get(usize::from(self.kind)).unwrap_or(&"?");
        write!(f, "{kind}, {} bytes, status {:#x}", self.bytes.len(), self.status)?;
        if let Some((protocol, tci)) = self.tag {
            write!(f, ", tag {protocol:#06x} {tci}")?;
        }
        if self.offload != Offload::default() {
            write!(f, ", {:?}", self.offload)?;
        }
        write!(f, ":")?;
        self.bytes.iter().take(64).try_for_each(|byte| write!(f, " {byte:02x}"))?;
        if self.bytes.len() > 64 { write!(f, " ...") } else { Ok(()) }
    }
}

/// The next frame of the socket, sent or received; `None` if there is none.
pub(super) fn receive(socket: &OwnedFd, offloads: bool) -> Option<Arrival> {
    let mut bytes = vec![0; LONGEST];
    // Aligned as a `cmsghdr` is, and room for one with a `tpacket_auxdata`.
    let mut control = [0_u64; 8];
    // SAFETY: plain integers, of which zero is valid.
    let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut buffer = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: plain integers and pointers, of which zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = u32::try_from(size_of_val(&from)).expect("it is 20");
    message.msg_iov = &raw mut buffer;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: address, buffer and control data have the given lengths, and outlive the call.
    let read = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    bytes.truncate(usize::try_from(read).ok()?);
    let offload = match offloads {
        true => {
            let header: Vec<u8> = bytes.drain(..Offload::LEN).collect();
            Offload::parse(&header)
        }
        false => Offload::default(),
    };
    let mut arrival = Arrival { kind: from.sll_pkttype, bytes, tag: None, status: 0, offload };
    // SAFETY: the kernel has filled in the message, and what it points to still exists.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message).as_ref() };
    if let Some(header) = header
        && (header.cmsg_level, header.cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA)
    {
        // SAFETY: `packet_recvmsg` has put a whole `tpacket_auxdata` there.
        let aux = unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
        let has_tag = aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
        arrival.tag = has_tag.then_some((aux.tp_vlan_tpid, aux.tp_vlan_tci));
        arrival.status = aux.tp_status;
    }
    Some(arrival)
}
