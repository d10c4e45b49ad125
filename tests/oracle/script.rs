//! A script: its steps, the frames that hosts send, and what these carry.

use std::fmt;

use super::{
    agent::Fate,
    names::{Address, Names},
    operation::Operation,
};
use crate::{harness::Offload, programs::frames::Frame as Raw};

/// What happens in both worlds.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A host sends a frame.
    Frame(Frame),
    /// A manual change.
    Operation(Operation),
    /// The agent of the accelerated world is signalled or replaced.
    Agent(Fate),
}

impl From<Frame> for Step {
    fn from(frame: Frame) -> Self {
        Self::Frame(frame)
    }
}

impl From<Operation> for Step {
    fn from(operation: Operation) -> Self {
        Self::Operation(operation)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(frame) => frame.fmt(f),
            Self::Operation(operation) => operation.fmt(f),
            Self::Agent(fate) => fate.fmt(f),
        }
    }
}

/// Formats a script, one step per line.
pub(crate) fn script(steps: &[Step]) -> String {
    steps.iter().enumerate().map(|(number, step)| format!("{:3}  {step}\n", number + 1)).collect()
}

/// A frame that a host sends.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// The sending host, whatever the source address.
    pub(crate) by: usize,
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) payload: Payload,
    /// Truncates the frame to this many bytes.
    pub(crate) cut: Option<usize>,
    /// Replaces a byte at an offset behind the Ethernet header, if the frame is that long.
    pub(crate) twist: Option<(usize, u8)>,
}

/// Frames of this length or more end with a number, which shows late and duplicate frames.
const NUMBERED: usize = 60;

impl Frame {
    /// A valid frame from the host's own address.
    pub(crate) fn new(by: usize, to: Address, payload: Payload) -> Self {
        Self { by, from: Address::Host(by), to, payload, cut: None, twist: None }
    }

    pub(crate) fn from(mut self, address: Address) -> Self {
        self.from = address;
        self
    }

    pub(crate) fn cut(mut self, length: usize) -> Self {
        self.cut = Some(length);
        self
    }

    pub(crate) fn twist(mut self, at: usize, byte: u8) -> Self {
        self.twist = Some((at, byte));
        self
    }

    /// The bytes to send, and the offload metadata for the kernel.
    pub(crate) fn bytes(&self, names: &Names, number: u32) -> (Vec<u8>, Offload) {
        let (mut bytes, offload) = self.payload.bytes();
        bytes[..6].copy_from_slice(&names.mac(self.to));
        bytes[6..12].copy_from_slice(&names.mac(self.from));
        if let Some(rest) = bytes.len().checked_sub(4).filter(|rest| *rest >= NUMBERED - 4) {
            bytes[rest..].copy_from_slice(&number.to_be_bytes());
        }
        if let Some((at, byte)) = self.twist
            && let Some(place) = bytes.get_mut(14 + at)
        {
            *place = byte;
        }
        bytes.truncate(self.cut.unwrap_or(usize::MAX));
        (bytes, offload)
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by, from, to, payload, cut, twist } = self;
        write!(f, "h{by} sends {from} > {to}: {payload}")?;
        if let Some(length) = cut {
            write!(f, ", cut to {length} bytes")?;
        }
        match twist {
            Some((at, byte)) => write!(f, ", byte {at} is {byte:#04x}"),
            None => Ok(()),
        }
    }
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Any EtherType, or an 802.2 length, and this many bytes.
    Type(u16, usize),
    /// A UDP packet in IPv4, with this much data.
    Udp4(usize),
    Udp6(usize),
    Tcp4(usize),
    Tcp6(usize),
    /// Any protocol in IPv4.
    Inside4(u8),
    /// Any next header in IPv6.
    Inside6(u8),
    /// IPv4 with options.
    Options4,
    /// ICMPv6 of this type: 133 to 137 is neighbour discovery.
    Icmp6(u8),
    /// A fragment of UDP in IPv4 (or IPv6).
    Fragment {
        six: bool,
        part: Part,
    },
    /// ARP: request (1) or reply (2), and whether its target is the sender itself.
    Arp {
        operation: u8,
        gratuitous: bool,
    },
    /// One VLAN tag in the header, or two.
    Tagged,
    DoubleTagged,
    /// A packet with a partial checksum, which the receiver may complete.
    Unsummed {
        six: bool,
        tcp: bool,
        data: usize,
    },
    /// A GSO packet: the payload of each segment, and the number of segments.
    Segments {
        six: bool,
        tcp: bool,
        size: u16,
        count: u16,
    },
}

/// Which fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    First,
    Middle,
    Last,
}

const NEEDS_CHECKSUM: u8 = 1;

impl Payload {
    /// A frame with this payload; the caller sets the addresses.
    pub(super) fn bytes(&self) -> (Vec<u8>, Offload) {
        let none = Offload::default();
        let raw = match *self {
            Self::Type(ethertype, length) => Raw::raw(ethertype, &vec![0x5a; length]),
            Self::Udp4(data) => Raw::udp4(data).with_checksum(),
            Self::Udp6(data) => Raw::udp6(data),
            Self::Tcp4(data) => Raw::tcp4(data),
            Self::Tcp6(data) => Raw::tcp6(data),
            Self::Inside4(protocol) => Raw::ip4(protocol, &[0x45; 64]),
            Self::Inside6(next) => Raw::ip6(next, &[17, 0, 1, 4, 0, 0, 0, 0].repeat(8)),
            Self::Options4 => options4(),
            Self::Icmp6(kind) => Raw::icmp6(kind),
            Self::Fragment { six: false, part } => {
                Raw::udp4(72).word(6, usize::from(part.field4())).with_checksum()
            }
            Self::Fragment { six: true, part } => Raw::ip6(44, &part.header6()),
            Self::Arp { operation, gratuitous } => Raw::raw(0x0806, &arp(operation, gratuitous)),
            Self::Tagged => Raw::tagged(),
            Self::DoubleTagged => Raw::double_tagged(),
            Self::Unsummed { six, tcp, data } => return unsummed(six, tcp, data),
            Self::Segments { six, tcp, size, count } => return segments(six, tcp, size, count),
        };
        (raw.bytes, none)
    }
}

impl Part {
    /// IPv4's "more fragments" and offset.
    fn field4(self) -> u16 {
        match self {
            Self::First => 0x2000,
            Self::Middle => 0x2000 | 10,
            Self::Last => 20,
        }
    }

    /// IPv6's fragment header, and 64 bytes.
    fn header6(self) -> Vec<u8> {
        let field: u16 = match self {
            Self::First => 1,
            Self::Middle => (8 << 3) | 1,
            Self::Last => 16 << 3,
        };
        let [high, low] = field.to_be_bytes();
        [&[17, 0, high, low, 0, 0, 0, 7][..], &[0x11; 64]].concat()
    }
}

/// Four bytes of options behind the header, and a header length that includes them.
fn options4() -> Raw {
    let mut frame = Raw::udp4(64);
    frame.bytes.splice(34..34, [1, 1, 1, 0]);
    let length = frame.bytes.len() - 14;
    frame.with(0, 0x46).word(2, length).with_checksum()
}

fn arp(operation: u8, gratuitous: bool) -> Vec<u8> {
    let target = if gratuitous { 1 } else { 2 };
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, operation];
    packet.extend([2, 0, 0, 0, 0, 1, 10, 0, 0, 1]);
    packet.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, target]);
    packet.resize(46, 0);
    packet
}

fn transport(six: bool, tcp: bool, data: usize) -> (Raw, Offload) {
    let frame = match (six, tcp) {
        (false, false) => Raw::udp4(data),
        (false, true) => Raw::tcp4(data),
        (true, false) => Raw::udp6(data),
        (true, true) => Raw::tcp6(data),
    };
    let start = if six { 54 } else { 34 };
    // TCP's header has 12 bytes of options.
    let (headers, offset) = if tcp { (start + 32, 16) } else { (start + 8, 6) };
    (frame, Offload { flags: NEEDS_CHECKSUM, headers, start, offset, ..Offload::default() })
}

fn unsummed(six: bool, tcp: bool, data: usize) -> (Vec<u8>, Offload) {
    let (frame, offload) = transport(six, tcp, data);
    (frame.bytes, Offload { headers: 0, ..offload })
}

fn segments(six: bool, tcp: bool, size: u16, count: u16) -> (Vec<u8>, Offload) {
    let (frame, offload) = transport(six, tcp, usize::from(size) * usize::from(count));
    let gso = match (tcp, six) {
        (true, false) => 1,
        (true, true) => 4,
        (false, _) => 5,
    };
    (frame.bytes, Offload { gso, segment: size, ..offload })
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = |six: &bool| if *six { "IPv6" } else { "IPv4" };
        let transport = |tcp: &bool| if *tcp { "TCP" } else { "UDP" };
        match self {
            Self::Type(ethertype, length) => write!(f, "type {ethertype:#06x}, {length} bytes"),
            Self::Udp4(data) => write!(f, "UDP in IPv4, {data} bytes"),
            Self::Udp6(data) => write!(f, "UDP in IPv6, {data} bytes"),
            Self::Tcp4(data) => write!(f, "TCP in IPv4, {data} bytes"),
            Self::Tcp6(data) => write!(f, "TCP in IPv6, {data} bytes"),
            Self::Inside4(protocol) => write!(f, "protocol {protocol} in IPv4"),
            Self::Inside6(next) => write!(f, "header {next} in IPv6"),
            Self::Options4 => write!(f, "UDP in IPv4 with options"),
            Self::Icmp6(kind) => write!(f, "ICMPv6 {kind}"),
            Self::Fragment { six, part } => write!(f, "{part:?} fragment in {}", ip(six)),
            Self::Arp { operation, gratuitous: false } => write!(f, "ARP {operation}"),
            Self::Arp { operation, gratuitous: true } => write!(f, "gratuitous ARP {operation}"),
            Self::Tagged => write!(f, "tagged"),
            Self::DoubleTagged => write!(f, "tagged twice"),
            Self::Unsummed { six, tcp, data } => {
                write!(f, "{} in {}, {data} bytes, checksum to be made", transport(tcp), ip(six))
            }
            Self::Segments { six, tcp, size, count } => {
                write!(f, "{} in {}, {count} segments of {size} bytes", transport(tcp), ip(six))
            }
        }
    }
}
