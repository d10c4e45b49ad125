//! The content of the maps while a program is tested: ports, each with its stations.

use vethpath_common::{
    ABI_VERSION, Config, PortKey, PortRecord, Source, SourceKey, Station, StationKey, flags,
};

pub(crate) type Mac = [u8; 6];

/// The bridge namespace that the program under test serves.
pub(crate) const DOMAIN: u32 = 3;
/// Another one, whose entries lie in the same maps.
const OTHER_DOMAIN: u32 = 4;
pub(crate) const GENERATION: u32 = 41;
pub(crate) const EPOCH: u32 = 6;
/// The port by which frames leave for the other bridge. No frame enters by it.
const TRUNK: u32 = 0x7fff_ffff;
pub(crate) const MTU: u32 = 1500;
pub(crate) const SMALL_MTU: u32 = 1280;

/// A port, by its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Port {
    /// The usual sender.
    A,
    /// The usual receiver.
    B,
    /// Two isolated ports.
    Alone,
    Lonely,
    /// Frames are delivered by the port. Its MTU is [`SMALL_MTU`].
    Via,
    /// In another segment.
    Elsewhere,
    /// Has a record, but is not armed.
    Unarmed,
    /// Has a record only in [`OTHER_DOMAIN`].
    Unrecorded,
    /// Its bridge calls netfilter.
    Checked,
    /// Its bridge calls netfilter for IPv4 only, or for IPv6 only.
    Checked4,
    Checked6,
    /// Its bridge calls netfilter, which tracks connections.
    Tracked,
    /// On another bridge of the segment, behind a trunk.
    Far,
    /// On the same bridge as `Far`, and that bridge calls netfilter.
    FarChecked,
    /// No sender has a larger MTU.
    Roomy,
}

impl Port {
    pub(crate) const ALL: [Self; 15] = [
        Self::A,
        Self::B,
        Self::Alone,
        Self::Lonely,
        Self::Via,
        Self::Elsewhere,
        Self::Unarmed,
        Self::Unrecorded,
        Self::Checked,
        Self::Checked4,
        Self::Checked6,
        Self::Tracked,
        Self::Far,
        Self::FarChecked,
        Self::Roomy,
    ];

    /// The ports with stations.
    pub(crate) const ARMED: [Self; 13] = [
        Self::A,
        Self::B,
        Self::Alone,
        Self::Lonely,
        Self::Via,
        Self::Elsewhere,
        Self::Checked,
        Self::Checked4,
        Self::Checked6,
        Self::Tracked,
        Self::Far,
        Self::FarChecked,
        Self::Roomy,
    ];

    /// The device's name.
    pub(crate) fn name(self) -> String {
        format!("port{}", self as u32)
    }

    /// Index of its pair in the counter map.
    pub(crate) fn pair(self) -> u32 {
        match self {
            Self::Unrecorded => vethpath_common::NO_PAIR,
            _ => self as u32 + 1,
        }
    }

    /// Its `number`th station. Only 1 and 2 are known and valid.
    pub(crate) fn mac(self, number: u8) -> Mac {
        [0x02, 0, 0, 0, self as u8, number]
    }

    /// Bridges 5 and 7 are joined by a trunk.
    pub(crate) fn bridge(self) -> u32 {
        match self {
            Self::Elsewhere => 6,
            Self::Far | Self::FarChecked => 7,
            _ => 5,
        }
    }

    pub(crate) fn is_joined_with(self, other: Self) -> bool {
        (self == Self::Elsewhere) == (other == Self::Elsewhere)
    }

    /// The bit of its bridge in the segment.
    pub(crate) fn bit(self) -> u64 {
        if self.bridge() == 7 { 0b10 } else { 0b01 }
    }

    /// The bridges that know its `number`th station. Bridges beyond the trunk know only the first station.
    pub(crate) fn reach(self, number: u8) -> u64 {
        if self != Self::Elsewhere && number == 1 { 0b11 } else { self.bit() }
    }

    /// The number of the path to `other`'s bridge.
    pub(crate) fn path_to(self, other: Self) -> u32 {
        match (self.bridge(), other.bridge()) {
            (5, 7) => 1,
            (7, 5) => 2,
            _ => 0,
        }
    }

    pub(crate) fn mtu(self) -> u32 {
        if self == Self::Via { SMALL_MTU } else { MTU }
    }

    pub(crate) fn flags(self) -> u32 {
        match self {
            Self::Alone | Self::Lonely => flags::ISOLATED,
            Self::Via => flags::VIA_PORT,
            Self::Checked | Self::FarChecked => flags::VALIDATE,
            Self::Checked4 => flags::VALIDATE_IPV4,
            Self::Checked6 => flags::VALIDATE_IPV6,
            Self::Tracked => flags::VALIDATE | flags::DEFRAGMENT,
            Self::Roomy => flags::MTU_ANY,
            _ => 0,
        }
    }
}

/// The stations of each of [`Port::ARMED`], as senders and as receivers.
pub(crate) const KNOWN: [u8; 2] = [1, 2];
/// A station whose entries are of the previous generation.
pub(crate) const STALE: u8 = 9;
/// A station in the other domain, with the same ifindex.
pub(crate) const FOREIGN: u8 = 8;
/// A group address for which there are entries, which no agent would write.
pub(crate) const GROUP: Mac = [0x03, 0, 0, 0, 0, 1];

pub(crate) fn ports(ifindex: impl Fn(Port) -> u32) -> Vec<(PortKey, PortRecord)> {
    let record = |port: Port| {
        let flags = if port == Port::Unarmed { 0 } else { flags::ARMED };
        let domain = if port == Port::Unrecorded { OTHER_DOMAIN } else { DOMAIN };
        (
            PortKey { ifindex: ifindex(port), domain },
            PortRecord { pair: port as u32 + 1, flags, bridge: port.bridge() },
        )
    };
    Port::ALL.into_iter().map(record).collect()
}

pub(crate) fn sources(ifindex: impl Fn(Port) -> u32) -> Vec<(SourceKey, Source)> {
    let mut entries = Vec::new();
    let mut add = |port: Port, mac: Mac, domain: u32, generation| {
        let domain = domain.try_into().expect("a small number");
        let key = SourceKey::new(ifindex(port), mac.into(), domain);
        let flags = port.flags() & (flags::ISOLATED | flags::VALIDATE | flags::DEFRAGMENT);
        let (bridge, pair, reach) = (port.bridge(), port.pair(), port.reach(mac[5]));
        entries.push((key, Source { generation, bridge, pair, flags, reach, ..Source::default() }));
    };
    for port in Port::ARMED {
        KNOWN.into_iter().for_each(|n| add(port, port.mac(n), DOMAIN, GENERATION));
    }
    add(Port::A, Port::A.mac(STALE), DOMAIN, GENERATION - 1);
    add(Port::A, Port::A.mac(FOREIGN), OTHER_DOMAIN, GENERATION);
    add(Port::A, GROUP, DOMAIN, GENERATION);
    entries
}

pub(crate) fn stations(ifindex: impl Fn(Port) -> u32) -> Vec<(StationKey, Station)> {
    let mut entries = Vec::new();
    let mut add = |port: Port, mac: Mac, generation| {
        // A port of each bridge.
        for near in [Port::A, Port::Elsewhere, Port::Far].into_iter().filter(|&p| p.is_joined_with(port)) {
            let checks = if near.bridge() == port.bridge() { 0 } else { flags::VALIDATE };
            let flags = port.flags() & (flags::ISOLATED | flags::VIA_PORT | flags::MTU_ANY | checks);
            let (pair, mtu, path) = (port.pair(), port.mtu(), near.path_to(port));
            let (bridges, far) = (near.bit() | port.bit(), near.bridge() != port.bridge());
            let ifindex = ifindex(port);
            let exit = if far { TRUNK } else { ifindex };
            let station =
                Station { generation, ifindex, pair, mtu, flags, path, bridges, exit, ..Station::default() };
            entries.push((StationKey::new(near.bridge(), mac.into()), station));
        }
    };
    for port in Port::ARMED {
        KNOWN.into_iter().for_each(|n| add(port, port.mac(n), GENERATION));
    }
    add(Port::B, Port::B.mac(STALE), GENERATION - 1);
    add(Port::B, GROUP, GENERATION);
    entries
}

/// The state of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agent {
    /// The lease holds.
    Well,
    /// It has not armed the lab yet.
    NotYet,
    /// The lease expired a moment ago.
    Gone,
    /// It has just invalidated every entry.
    Voiding,
}

impl Agent {
    /// The configuration that it has written at `now_ns` of `CLOCK_MONOTONIC`.
    pub(crate) fn config(self, now_ns: u64) -> Config {
        const HOUR_NS: u64 = 3_600_000_000_000;
        let (generation, lease_until_ns) = match self {
            Self::Well => (GENERATION, now_ns + HOUR_NS),
            Self::NotYet => (GENERATION, 0),
            // The program's clock is coarse: it may be a few milliseconds behind.
            Self::Gone => (GENERATION, now_ns.saturating_sub(20_000_000)),
            Self::Voiding => (GENERATION + 1, now_ns + HOUR_NS),
        };
        Config { abi: ABI_VERSION, generation, lease_until_ns, epoch: EPOCH, confirmed: 0 }
    }
}
