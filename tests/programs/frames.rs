//! Frames to test the program with. By default they enter at port A, from A's first station to B's first.

use etherparse::{PacketBuilder, TcpOptionElement, VlanId};

use super::world::{Mac, Port};

/// A frame at the ingress of a port.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) port: Port,
    pub(crate) bytes: Vec<u8>,
    /// Payload of a segment, or 0.
    pub(crate) gso_size: u32,
    /// How many segments, or 0.
    pub(crate) gso_segs: u32,
}

const V4: ([u8; 4], [u8; 4]) = ([10, 0, 0, 1], [10, 0, 0, 2]);
const V6: ([u8; 16], [u8; 16]) = (
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
);

impl Frame {
    fn new(bytes: Vec<u8>) -> Self {
        Self { port: Port::A, bytes, gso_size: 0, gso_segs: 0 }.from(Port::A.mac(1)).to(Port::B.mac(1))
    }

    /// A frame of exactly these bytes.
    pub(crate) fn bytes(port: Port, bytes: Vec<u8>) -> Self {
        Self { port, bytes, gso_size: 0, gso_segs: 0 }
    }

    /// Any EtherType (or 802.2 length) and payload.
    pub(crate) fn raw(ethertype: u16, payload: &[u8]) -> Self {
        Self::new([&[0; 12], &ethertype.to_be_bytes()[..], payload].concat())
    }

    /// A UDP packet in IPv4, with this much data.
    pub(crate) fn udp4(data: usize) -> Self {
        let builder = PacketBuilder::ethernet2([0; 6], [0; 6]).ipv4(V4.0, V4.1, 64).udp(1, 2);
        Self::new(build(|to| builder.write(to, &vec![0; data])))
    }

    /// A UDP packet in IPv6.
    pub(crate) fn udp6(data: usize) -> Self {
        let builder = PacketBuilder::ethernet2([0; 6], [0; 6]).ipv6(V6.0, V6.1, 64).udp(1, 2);
        Self::new(build(|to| builder.write(to, &vec![0; data])))
    }

    /// A TCP packet in IPv4, with 12 bytes of options.
    pub(crate) fn tcp4(data: usize) -> Self {
        let builder = PacketBuilder::ethernet2([0; 6], [0; 6]).ipv4(V4.0, V4.1, 64).tcp(1, 2, 3, 4);
        let builder = builder.options(&TIMESTAMPS).expect("they fit");
        Self::new(build(|to| builder.write(to, &vec![0; data])))
    }

    /// A TCP packet in IPv6, with 12 bytes of options.
    pub(crate) fn tcp6(data: usize) -> Self {
        let builder = PacketBuilder::ethernet2([0; 6], [0; 6]).ipv6(V6.0, V6.1, 64).tcp(1, 2, 3, 4);
        let builder = builder.options(&TIMESTAMPS).expect("they fit");
        Self::new(build(|to| builder.write(to, &vec![0; data])))
    }

    /// Any protocol in IPv4.
    pub(crate) fn ip4(protocol: u8, payload: &[u8]) -> Self {
        let builder = PacketBuilder::ethernet2([0; 6], [0; 6]).ipv4(V4.0, V4.1, 64);
        Self::new(build(|to| builder.write(to, protocol.into(), payload)))
    }

    /// Any header after that of IPv6.
    pub(crate) fn ip6(next: u8, payload: &[u8]) -> Self {
        let builder = PacketBuilder::ethernet2([0; 6], [0; 6]).ipv6(V6.0, V6.1, 255);
        // etherparse requires a known extension header to be complete, so the header is "none" first.
        Self::new(build(|to| builder.write(to, 59.into(), payload))).with(6, next)
    }

    /// ICMPv6 of this type.
    pub(crate) fn icmp6(kind: u8) -> Self {
        let builder = PacketBuilder::ethernet2([0; 6], [0; 6]).ipv6(V6.0, V6.1, 255);
        let builder = builder.icmpv6_raw(kind, 0, [0; 4]);
        Self::new(build(|to| builder.write(to, &[0; 16])))
    }

    /// With a tag in the header.
    pub(crate) fn tagged() -> Self {
        let builder = PacketBuilder::ethernet2([0; 6], [0; 6])
            .single_vlan(VlanId::try_new(7).expect("in range"))
            .ipv4(V4.0, V4.1, 64)
            .udp(1, 2);
        Self::new(build(|to| builder.write(to, &[0; 64])))
    }

    /// With two tags, the outer one of 802.1ad.
    pub(crate) fn double_tagged() -> Self {
        let vlan = |number| VlanId::try_new(number).expect("in range");
        let builder = PacketBuilder::ethernet2([0; 6], [0; 6])
            .double_vlan(vlan(7), vlan(8))
            .ipv4(V4.0, V4.1, 64)
            .udp(1, 2);
        Self::new(build(|to| builder.write(to, &[0; 64])))
    }

    pub(crate) fn ethertype(mut self, ethertype: u16) -> Self {
        self.bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        self
    }

    /// Whether `BPF_PROG_TEST_RUN` accepts it: it refuses IP without a complete first header
    /// (`bpf_prog_test_run_skb` in net/bpf/test_run.c).
    pub(crate) fn is_accepted(&self) -> bool {
        match [self.bytes[12], self.bytes[13]] {
            [0x08, 0x00] => self.bytes.len() >= 14 + 20,
            [0x86, 0xdd] => self.bytes.len() >= 14 + 40,
            _ => true,
        }
    }

    pub(crate) fn to(mut self, mac: Mac) -> Self {
        self.bytes[..6].copy_from_slice(&mac);
        self
    }

    pub(crate) fn from(mut self, mac: Mac) -> Self {
        self.bytes[6..12].copy_from_slice(&mac);
        self
    }

    /// Moves it to a port, with that port's first station as the source.
    pub(crate) fn at(mut self, port: Port) -> Self {
        self.port = port;
        self.from(port.mac(1))
    }

    pub(crate) fn gso(mut self, size: u32, segments: u32) -> Self {
        (self.gso_size, self.gso_segs) = (size, segments);
        self
    }

    /// Changes one byte behind the Ethernet header.
    pub(crate) fn with(mut self, at: usize, byte: u8) -> Self {
        self.bytes[14 + at] = byte;
        self
    }

    /// Changes the 16-bit word at this place behind the Ethernet header.
    pub(crate) fn word(mut self, at: usize, word: usize) -> Self {
        let word = u16::try_from(word).expect("16 bits");
        self.bytes[14 + at..][..2].copy_from_slice(&word.to_be_bytes());
        self
    }

    /// Sets the checksum of an IPv4 header, over the length that the header claims.
    pub(crate) fn with_checksum(self) -> Self {
        let length = usize::from(self.bytes[14] & 0x0f) * 4;
        let frame = self.word(10, 0);
        let words = frame.bytes[14..14 + length].chunks(2);
        let sum: usize = words.map(|word| usize::from(word[0]) << 8 | usize::from(word[1])).sum();
        frame.word(10, 0xffff - 1 - (sum - 1) % 0xffff)
    }

    pub(crate) fn cut(mut self, length: usize) -> Self {
        self.bytes.truncate(length);
        self
    }

    /// Pads with zeros or truncates to this length.
    pub(crate) fn sized(mut self, length: usize) -> Self {
        self.bytes.resize(length, 0);
        self
    }
}

/// TCP timestamps as Linux sends them: 10 bytes, and padding.
const TIMESTAMPS: [TcpOptionElement; 3] =
    [TcpOptionElement::Noop, TcpOptionElement::Noop, TcpOptionElement::Timestamp(1, 2)];

fn build<E: std::fmt::Debug>(write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes).expect("it fits");
    bytes
}
