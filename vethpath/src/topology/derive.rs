//! Values derived from names: stable MACs, short port names, ownership marks.

use std::{
    hash::Hasher,
    net::{Ipv4Addr, Ipv6Addr},
};

use siphasher::sip::SipHasher13;

use super::{IfName, LabName, Mac, Place};

/// Domain separation of the hashes below. A change of any of them changes the addresses of every lab.
#[derive(Clone, Copy)]
enum Purpose {
    Mac = 1,
    PortMac = 2,
    PortName = 3,
    Uplink = 4,
    Acceleration = 5,
    CutName = 6,
}

/// SipHash-1-3 with the purpose as its key, over length-prefixed parts.
fn hash(purpose: Purpose, parts: &[&str]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x7665_7468_7061_7468, purpose as u64);
    for part in parts {
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part.as_bytes());
    }
    hasher.finish()
}

/// A locally administered unicast address from 46 bits of the hash.
fn mac(hash: u64) -> Mac {
    let [mut first, b, c, d, e, f, _, _] = hash.to_le_bytes();
    first = (first & !1) | 2;
    match Mac::unicast([first, b, c, d, e, f]) {
        Ok(mac) => mac,
        Err(_) => unreachable!("the local bit is set and the group bit is clear"),
    }
}

/// The MAC of an interface or bridge without `mac`. It is the same at every `up`.
#[must_use]
pub fn derived_mac(lab: &LabName, place: &str, interface: &str) -> Mac {
    mac(hash(Purpose::Mac, &[lab.as_str(), place, interface]))
}

/// The MAC of the port whose inner end is `interface` in `place`.
#[must_use]
pub fn port_mac(lab: &LabName, place: &str, interface: &str) -> Mac {
    mac(hash(Purpose::PortMac, &[lab.as_str(), place, interface]))
}

/// The name of the machine's end of a fabric's uplink: `vp` and ten letters or digits (50 bits of hash).
pub(super) fn uplink_name(lab: &LabName, namespace: &str, interface: &str) -> IfName {
    let name = letters(hash(Purpose::PortName, &[lab.as_str(), namespace, interface]), 10);
    match format!("vp{name}").parse() {
        Ok(name) => name,
        Err(_) => unreachable!("twelve letters and digits are an interface name"),
    }
}

/// The end of a port's name: `count` letters and digits, others with each attempt.
pub(super) fn port_hash(lab: &LabName, place: &str, interface: &str, attempt: u32, count: usize) -> String {
    letters(hash(Purpose::CutName, &[lab.as_str(), place, interface, &attempt.to_string()]), count)
}

/// Letters and digits for five bits of a hash each.
fn letters(mut hash: u64, count: usize) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let letter = |_| {
        let letter = LETTERS[(hash & 31) as usize];
        hash >>= 5;
        char::from(letter)
    };
    (0..count).map(letter).collect()
}

/// The addresses of the machine at the uplink of a lab's fabric. The IPv4 address is link-local (RFC 3927), of the middle
/// of that range, where clouds and container networks have none. The IPv6 address is unique local, with 40 bits of hash
/// (RFC 4193).
pub(super) fn uplink_addresses(lab: &LabName) -> (Ipv4Addr, Ipv6Addr) {
    let [a, b, c, d, e, f, g, _] = hash(Purpose::Uplink, &[lab.as_str()]).to_le_bytes();
    let v4 = Ipv4Addr::new(169, 254, 16 + a % 128, 1 + b % 254);
    let word = |high, low| u16::from_be_bytes([high, low]);
    (v4, Ipv6Addr::new(word(0xfd, c), word(d, e), word(f, g), 0, 0, 0, 0, 1))
}

/// The port's alternative name (`ip link show three-hosts.ns0.eth0`). It has at most 97 bytes. The kernel's limit
/// is 127 (ALTIFNAMSIZ).
#[must_use]
pub fn altname(lab: &LabName, place: &str, interface: &str) -> String {
    format!("{lab}.{place}.{interface}")
}

/// The name of the lab that accelerates a bridge of another program: `accelerate-docker0`. One in a namespace, or with a
/// name that no lab could have, gets a hash instead.
#[must_use]
pub fn acceleration_name(place: &Place, bridge: &IfName) -> LabName {
    let plain = match place {
        Place::Host => format!("accelerate-{bridge}").parse().ok(),
        Place::Namespace(_) => None,
    };
    let hashed = || {
        format!(
            "accelerate-{:013x}",
            hash(Purpose::Acceleration, &[&place.to_string(), bridge.as_str()]) >> 12
        )
    };
    match plain.map_or_else(|| hashed().parse(), Ok) {
        Ok(name) => name,
        Err(_) => unreachable!("letters, digits and dashes are a lab's name"),
    }
}

/// The ownership mark of a lab's namespaces (alias of `lo`) and bridges: `vethpath:three-hosts`.
#[must_use]
pub fn lab_mark(lab: &LabName) -> String {
    format!("vethpath:{lab}")
}

/// The ownership mark of a veth end, with the interface that it belongs to: `vethpath:three-hosts ns0:eth0`.
#[must_use]
pub fn pair_mark(lab: &LabName, place: &str, interface: &str) -> String {
    format!("{} {place}:{interface}", lab_mark(lab))
}

/// The alternative name of a trunk's port. No namespace name contains `+`, so it cannot equal an `altname`.
#[must_use]
pub fn trunk_altname(lab: &LabName, from: &IfName, to: &IfName) -> String {
    format!("{lab}.{from}+{to}")
}

/// The ownership mark of a trunk's port: `vethpath:fabric trunk br0:br1`.
#[must_use]
pub fn trunk_mark(lab: &LabName, from: &IfName, to: &IfName) -> String {
    format!("{} trunk {from}:{to}", lab_mark(lab))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab() -> LabName {
        "three-hosts".parse().expect("a lab name")
    }

    #[test]
    fn macs_are_stable_local_and_differ() {
        let inner = derived_mac(&lab(), "ns0", "eth0");
        assert_eq!(inner, derived_mac(&lab(), "ns0", "eth0"));
        assert_eq!(inner.bytes()[0] & 3, 2);
        assert_ne!(inner, derived_mac(&lab(), "ns0", "eth1"));
        assert_ne!(inner, port_mac(&lab(), "ns0", "eth0"));
        // Parts are length-prefixed: moving a letter from one part to the next changes the hash.
        assert_ne!(derived_mac(&lab(), "ns", "0eth0"), derived_mac(&lab(), "ns0", "eth0"));
    }

    #[test]
    fn hashed_names_are_short_and_differ() {
        let name = uplink_name(&lab(), "lab-fabric", "uplink");
        assert_eq!(name.as_str().len(), 12);
        assert_ne!(name, uplink_name(&lab(), "other-fabric", "uplink"));
        let end = |attempt| port_hash(&lab(), "ns0", "eth0", attempt, 6);
        assert_eq!((end(0).len(), end(0) == end(0), end(0) == end(1)), (6, true, false));
    }
}
