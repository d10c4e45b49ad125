//! Features of devices (`ethtool -K`): reads them, and switches some.

use std::collections::BTreeSet;

use netlink_packet_core::NlaBuffer;
use netlink_sys::Socket;

use super::{
    exchange::{Attributes, ExchangeError, dump, request},
    generic::{attributes, nested},
};

/// Name of the generic netlink family (since Linux 5.6).
pub const FAMILY: &str = "ethtool";

/// `ETHTOOL_MSG_FEATURES_GET`, `ETHTOOL_MSG_FEATURES_SET` and their attributes
/// (linux/ethtool_netlink_generated.h).
const GET: u8 = 11;
const SET: u8 = 12;
const HEADER: u16 = 1;
const CHANGEABLE: u16 = 2;
const WANTED: u16 = 3;
const ACTIVE: u16 = 4;
const HEADER_IFINDEX: u16 = 1;

/// Attributes of a bit set: that it has no mask, and its bits; of the bits: one bit; of a bit: its name and its value.
const NO_MASK: u16 = 1;
const BITS: u16 = 3;
const BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;

/// The features of a device, by the names that `ethtool -k` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// The ifindex of the device; 0 if the reply does not have it.
    pub ifindex: u32,
    /// Those that can be switched.
    pub changeable: BTreeSet<String>,
    /// Those that are requested to be on.
    pub wanted: BTreeSet<String>,
    /// Those that are on.
    pub active: BTreeSet<String>,
}

/// The features of all devices in the socket's namespace. `family` is the number of [`FAMILY`].
///
/// # Errors
/// The kernel refuses, or its reply cannot be parsed.
pub fn all(socket: &Socket, family: u16) -> Result<Vec<Features>, ExchangeError> {
    let payload = Attributes::default().nested(HEADER, &Attributes::default()).behind(&[GET, 1, 0, 0]);
    dump(socket, family, &payload)?.iter().map(|answer| parse(answer)).collect()
}

/// Switches features of a device. A feature that depends on others may stay as it is.
///
/// # Errors
/// The kernel refuses: there is no such device or feature.
pub fn switch(
    socket: &Socket,
    family: u16,
    ifindex: u32,
    features: &[(String, bool)],
) -> Result<(), ExchangeError> {
    let header = Attributes::default().bytes(HEADER_IFINDEX, &ifindex.to_ne_bytes());
    let mut bits = Attributes::default();
    for (name, on) in features {
        let bit = Attributes::default().text(BIT_NAME, name);
        bits = bits.nested(BIT, &if *on { bit.bytes(BIT_VALUE, &[]) } else { bit });
    }
    let wanted = Attributes::default().nested(BITS, &bits);
    let payload = Attributes::default().nested(HEADER, &header).nested(WANTED, &wanted);
    request(socket, family, 0, &payload.behind(&[SET, 1, 0, 0])).map(drop)
}

/// The features in one reply.
pub(crate) fn parse(answer: &[u8]) -> Result<Features, ExchangeError> {
    let mut features = Features::default();
    for attribute in attributes(answer) {
        let attribute = attribute?;
        match attribute.kind() {
            HEADER => features.ifindex = device(&attribute)?,
            CHANGEABLE => features.changeable = names(&attribute)?,
            WANTED => features.wanted = names(&attribute)?,
            ACTIVE => features.active = names(&attribute)?,
            _ => {}
        }
    }
    Ok(features)
}

/// The ifindex in the header of a reply; 0 if it has none.
pub(super) fn device(header: &NlaBuffer<&[u8]>) -> Result<u32, ExchangeError> {
    for inner in nested(header.value()) {
        let inner = inner?;
        if let (HEADER_IFINDEX, Some(index)) = (inner.kind(), inner.value().first_chunk()) {
            return Ok(u32::from_ne_bytes(*index));
        }
    }
    Ok(0)
}

/// The names of the bits that are set in a bit set.
fn names(set: &NlaBuffer<&[u8]>) -> Result<BTreeSet<String>, ExchangeError> {
    let (mut plain, mut names) = (false, BTreeSet::new());
    let mut masked = BTreeSet::new();
    for part in nested(set.value()) {
        let part = part?;
        match part.kind() {
            NO_MASK => plain = true,
            BITS => {
                for bit in nested(part.value()) {
                    let (name, value) = bit_of(&bit?)?;
                    if value {
                        masked.insert(name.clone());
                    }
                    names.insert(name);
                }
            }
            _ => {}
        }
    }
    Ok(if plain { names } else { masked })
}

fn bit_of(bit: &NlaBuffer<&[u8]>) -> Result<(String, bool), ExchangeError> {
    let (mut name, mut value) = (String::new(), false);
    for attribute in nested(bit.value()) {
        let attribute = attribute?;
        match attribute.kind() {
            BIT_NAME => {
                let text = attribute.value();
                let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
                name = String::from_utf8_lossy(&text[..end]).into_owned();
            }
            BIT_VALUE => value = true,
            _ => {}
        }
    }
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use netlink_sys::protocols::NETLINK_GENERIC;

    use super::*;
    use crate::kernel::{
        generic,
        sandbox::{in_new_namespace, run},
    };

    #[test]
    fn features_are_switched_one_by_one() {
        in_new_namespace(|| {
            let _ = run("ip", &["link", "add", "name", "va", "type", "veth", "peer", "name", "vb"]);
            let socket = Socket::new(NETLINK_GENERIC).unwrap();
            let family = generic::family(&socket, FAMILY).unwrap();
            let index = nix::net::if_::if_nametoindex("va").unwrap();
            let now = || all(&socket, family).unwrap().into_iter().find(|f| f.ifindex == index).unwrap();
            let before = now();
            assert!(before.active.contains("tx-checksum-ip-generic") && !before.active.contains("rx-gro"));
            let (on, off) = ("rx-gro".to_owned(), "tx-checksum-ip-generic".to_owned());
            switch(&socket, family, index, &[(on.clone(), true), (off.clone(), false)]).unwrap();
            let after = now();
            assert!(after.active.contains(&on) && !after.active.contains(&off));
            assert_eq!(after.wanted.symmetric_difference(&before.wanted).count(), 2);
            switch(&socket, family, index, &[(on, false), (off, true)]).unwrap();
            assert_eq!(now(), before);
            assert!(switch(&socket, family, index, &[("no-such".to_owned(), true)]).is_err());
            assert!(switch(&socket, family, 77, &[]).is_err());
        });
    }

    #[test]
    fn answers_that_are_cut_off_never_panic() {
        let bits = Attributes::default().nested(1, &Attributes::default().text(BIT_NAME, "tx-x"));
        let set = Attributes::default().nested(BITS, &bits);
        let header = Attributes::default().bytes(HEADER_IFINDEX, &7_u32.to_ne_bytes());
        let answer = Attributes::default().nested(HEADER, &header).nested(CHANGEABLE, &set).behind(&[0; 4]);
        for length in 0..answer.len() {
            let _ = parse(&answer[..length]);
        }
    }
}
