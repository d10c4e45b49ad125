//! A packet socket: sends and receives raw frames, with the metadata that the kernel has of them.

use std::{
    fmt, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc,
    net::if_::if_nametoindex,
    sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity},
    unistd::{self, Pid},
};

use super::{SLACK, wait_until};

/// A packet socket on an interface.
pub(crate) struct Wire {
    socket: OwnedFd,
    /// Whether an [`Offload`] precedes every frame, in both directions.
    offloads: bool,
}

impl Wire {
    /// Opens one on the interface of this name, in the calling thread's namespace.
    pub(crate) fn on(interface: &str) -> io::Result<Self> {
        let ifindex = if_nametoindex(interface)?;
        let all = u16::try_from(libc::ETH_P_ALL).expect("it is 3").to_be();
        let flags = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: the arguments are integers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, flags, all.into()) };
        Errno::result(fd)?;
        // SAFETY: the descriptor is new, and nothing else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: plain integers, of which zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).expect("it is 17");
        address.sll_protocol = all;
        address.sll_ifindex = ifindex.cast_signed();
        let length = u32::try_from(size_of_val(&address)).expect("it is 20");
        // SAFETY: `length` is the length of the address.
        let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        Errno::result(result)?;
        Ok(Self { socket, offloads: false })
    }

    /// The same, with all metadata that a receiver can have of a frame: see [`Arrival`].
    pub(crate) fn with_metadata(mut self) -> io::Result<Self> {
        self.set(libc::PACKET_AUXDATA)?;
        self.set(libc::PACKET_VNET_HDR)?;
        self.offloads = true;
        Ok(self)
    }

    fn set(&self, option: i32) -> io::Result<()> {
        let on = 1_i32;
        let fd = self.socket.as_raw_fd();
        // SAFETY: the value is an integer, whose length is given.
        let result = unsafe { libc::setsockopt(fd, libc::SOL_PACKET, option, (&raw const on).cast(), 4) };
        Errno::result(result)?;
        Ok(())
    }

    /// Sends a complete frame. A veth drops it while the CPU has `net.core.netdev_max_backlog` frames to receive, before
    /// anything sees it at the other end, and the socket takes none while its buffer is full of such frames. Then it is
    /// sent again.
    #[track_caller]
    pub(crate) fn send(&self, frame: &[u8]) {
        wait_until(SLACK, || match self.try_send(frame, Offload::default()) {
            Err(errno @ (Errno::ENOBUFS | Errno::EAGAIN)) => Err(format!("the backlog is full: {errno}")),
            sent => {
                assert_eq!(sent, Ok(()), "{frame:?}");
                Ok(())
            }
        });
    }

    /// Sends a frame for which the receiver may have to compute the checksum or the segments.
    pub(crate) fn try_send(&self, frame: &[u8], offload: Offload) -> nix::Result<()> {
        let header = if self.offloads { &offload.bytes()[..] } else { &[] };
        let sent = unistd::write(&self.socket, &[header, frame].concat())?;
        assert_eq!(sent, header.len() + frame.len(), "a frame is sent as a whole");
        Ok(())
    }

    /// The next received frame and its type, such as `PACKET_HOST`. Frames that were sent here are skipped.
    pub(crate) fn next(&self) -> Option<(u8, Vec<u8>)> {
        self.arrival().map(|arrival| (arrival.kind, arrival.bytes))
    }

    /// The next received frame with all its metadata. Frames that were sent here are skipped.
    pub(crate) fn arrival(&self) -> Option<Arrival> {
        loop {
            let arrival = receive(&self.socket, self.offloads)?;
            if arrival.kind != libc::PACKET_OUTGOING {
                return Some(arrival);
            }
        }
    }
}

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

    fn bytes(self) -> [u8; Self::LEN] {
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
fn receive(socket: &OwnedFd, offloads: bool) -> Option<Arrival> {
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

/// Pins the calling thread to its present CPU until this is dropped. Each CPU has its own backlog: frames that are
/// sent from two CPUs may overtake each other.
pub(crate) struct CpuPin(CpuSet);

impl CpuPin {
    pub(crate) fn new() -> Self {
        let all = sched_getaffinity(Pid::from_raw(0)).expect("of this thread");
        let mut here = CpuSet::new();
        here.set(sched_getcpu().expect("a CPU")).expect("in range");
        sched_setaffinity(Pid::from_raw(0), &here).expect("one that it was on");
        Self(all)
    }
}

impl Drop for CpuPin {
    fn drop(&mut self) {
        sched_setaffinity(Pid::from_raw(0), &self.0).expect("as it was");
    }
}

/// Parses a MAC address as `ip` prints it.
#[track_caller]
pub(crate) fn parse_mac(text: &str) -> [u8; 6] {
    let bytes: Vec<_> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect();
    bytes.try_into().expect("six bytes")
}

/// Formats a MAC address for `ip` and `bridge`.
pub(crate) fn format_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
