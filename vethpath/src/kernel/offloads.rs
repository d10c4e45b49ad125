//! Which devices have transmit offloads switched off (`ethtool -K PORT tx off`).
//!
//! A frame that the bridge sends out of such a port gets its checksum, or its segments, from
//! `validate_xmit_skb` (net/core/dev.c). One that is redirected past the port does not.

use std::collections::BTreeSet;

use netlink_packet_core::{NlaBuffer, NlasIterator};
use netlink_sys::Socket;

use super::exchange::{Attributes, ExchangeError, dump, request};

/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY` and two attributes of it (linux/genetlink.h).
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// `ETHTOOL_MSG_FEATURES_GET` and its attributes (linux/ethtool_netlink_generated.h).
const FEATURES_GET: u8 = 11;
const HEADER: u16 = 1;
const CHANGEABLE: u16 = 2;
const ACTIVE: u16 = 4;
const HEADER_IFINDEX: u16 = 1;

/// Of a bit set: that it is a plain list, its bits; of a bit: its name, its value.
const NO_MASK: u16 = 1;
const BITS: u16 = 3;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;

/// `struct genlmsghdr`.
const GENERIC_HEADER: usize = 4;

/// The one transmit feature that is off unless somebody wants it, and changes no frame.
const OFF_BY_DEFAULT: &str = "tx-nocache-copy";

/// The number of the `ethtool` family on a NETLINK_GENERIC socket.
///
/// # Errors
/// The kernel refuses, or has no such family (before Linux 5.6).
pub fn family(socket: &Socket) -> Result<u16, ExchangeError> {
    let payload = Attributes::default().text(FAMILY_NAME, "ethtool").behind(&[GET_FAMILY, 1, 0, 0]);
    for answer in request(socket, CONTROL, 0, &payload)? {
        if let Some(number) = number_of(&answer)? {
            return Ok(number);
        }
    }
    Err(ExchangeError::Malformed("a generic netlink family without a number"))
}

/// The number of the family that an answer is about.
pub(crate) fn number_of(answer: &[u8]) -> Result<Option<u16>, ExchangeError> {
    for attribute in attributes(answer) {
        let attribute = attribute?;
        if attribute.kind() == FAMILY_ID
            && let Some(id) = attribute.value().first_chunk::<2>()
        {
            return Ok(Some(u16::from_ne_bytes(*id)));
        }
    }
    Ok(None)
}

/// The ifindexes, in the socket's namespace, of devices whose transmit offloads are not all on that
/// could be. `family` is what [`family`] gave.
///
/// # Errors
/// The kernel refuses, or its answer cannot be read.
pub fn reduced(socket: &Socket, family: u16) -> Result<BTreeSet<u32>, ExchangeError> {
    let payload =
        Attributes::default().nested(HEADER, &Attributes::default()).behind(&[FEATURES_GET, 1, 0, 0]);
    let mut found = BTreeSet::new();
    for answer in dump(socket, family, &payload)? {
        found.extend(parse(&answer)?);
    }
    Ok(found)
}

/// The device of one answer, if its offloads are reduced.
pub(crate) fn parse(answer: &[u8]) -> Result<Option<u32>, ExchangeError> {
    let (mut ifindex, mut changeable, mut active) = (None, BTreeSet::new(), BTreeSet::new());
    for attribute in attributes(answer) {
        let attribute = attribute?;
        match attribute.kind() {
            HEADER => {
                for inner in iterate(attribute.value()) {
                    let inner = inner?;
                    if inner.kind() == HEADER_IFINDEX {
                        ifindex = inner.value().first_chunk::<4>().map(|index| u32::from_ne_bytes(*index));
                    }
                }
            }
            CHANGEABLE => changeable = names(&attribute)?,
            ACTIVE => active = names(&attribute)?,
            _ => {}
        }
    }
    let is_off = |name: &String| name.starts_with("tx-") && name != OFF_BY_DEFAULT && !active.contains(name);
    Ok(ifindex.filter(|_| changeable.iter().any(is_off)))
}

/// The names of the bits that are set in a bit set.
fn names(set: &NlaBuffer<&[u8]>) -> Result<BTreeSet<String>, ExchangeError> {
    let (mut plain, mut names) = (false, BTreeSet::new());
    let mut masked = BTreeSet::new();
    for part in iterate(set.value()) {
        let part = part?;
        match part.kind() {
            NO_MASK => plain = true,
            BITS => {
                for bit in iterate(part.value()) {
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
    for attribute in iterate(bit.value()) {
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

fn attributes(answer: &[u8]) -> impl Iterator<Item = Result<NlaBuffer<&[u8]>, ExchangeError>> {
    iterate(answer.get(GENERIC_HEADER..).unwrap_or_default())
}

fn iterate(bytes: &[u8]) -> impl Iterator<Item = Result<NlaBuffer<&[u8]>, ExchangeError>> {
    NlasIterator::new(bytes).map(|a| a.map_err(|_| ExchangeError::Malformed("an attribute is cut off")))
}

#[cfg(test)]
mod tests {
    use netlink_sys::protocols::NETLINK_GENERIC;

    use super::*;
    use crate::kernel::sandbox::{in_new_namespace, run};

    fn ethtool(arguments: &[&str]) {
        let _ = run("ethtool", &[&["-K", "va"], arguments].concat());
    }

    #[test]
    fn what_ethtool_switches_off_is_seen() {
        in_new_namespace(|| {
            let _ = run("ip", &["link", "add", "name", "va", "type", "veth", "peer", "name", "vb"]);
            let socket = Socket::new(NETLINK_GENERIC).unwrap();
            let family = family(&socket).unwrap();
            let index = |name: &str| nix::net::if_::if_nametoindex(name).unwrap();
            assert!(!reduced(&socket, family).unwrap().contains(&index("va")));
            ethtool(&["tx", "off"]);
            let now = reduced(&socket, family).unwrap();
            assert!(now.contains(&index("va")) && !now.contains(&index("vb")), "{now:?}");
            ethtool(&["tx", "on"]);
            assert!(!reduced(&socket, family).unwrap().contains(&index("va")));
            ethtool(&["tso", "off"]);
            assert!(reduced(&socket, family).unwrap().contains(&index("va")));
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
