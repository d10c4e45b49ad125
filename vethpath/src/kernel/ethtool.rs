//! ethtool's generic netlink family: features of devices (`ethtool -K`), which of them have transmit offloads switched
//! off, and numbers of queues (`ethtool -L`).

use std::collections::BTreeSet;

use netlink_packet_core::NlaBuffer;
use netlink_sys::Socket;
use nix::libc;

use super::netlink::{self, Attributes, NetlinkError, generic};

/// Name of the generic netlink family.
/// Minimum kernel: Linux 5.6 (ethtool netlink).
pub const FAMILY: &str = "ethtool";

/// Attribute of every message: the device (linux/ethtool_netlink_generated.h), and flags.
const HEADER: u16 = 1;
const HEADER_IFINDEX: u16 = 1;
const HEADER_FLAGS: u16 = 3;

/// `ETHTOOL_FLAG_COMPACT_BITSETS`: bit sets have words instead of names.
const COMPACT: u32 = 1;

/// `ETHTOOL_MSG_STRSET_GET`, and the attributes on the way to a string: sets, a set, its id and its strings, a string, its
/// number and its text. `ETH_SS_FEATURES` is the id of the names of features.
const STRINGS_GET: u8 = 1;
const STRING_SETS: u16 = 2;
const STRING_SET: u16 = 1;
const STRING_SET_ID: u16 = 1;
const STRINGS: u16 = 3;
const STRING: u16 = 1;
const STRING_NUMBER: u16 = 1;
const STRING_TEXT: u16 = 2;
const FEATURE_NAMES: u32 = 4;

/// `ETHTOOL_MSG_FEATURES_GET`, `ETHTOOL_MSG_FEATURES_SET` and their attributes.
const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
const CHANGEABLE: u16 = 2;
const WANTED: u16 = 3;
const ACTIVE: u16 = 4;

/// Attributes of a bit set: that it has no mask, and its bits; of the bits: one bit; of a bit: its name and its value.
const NO_MASK: u16 = 1;
const BITS: u16 = 3;
const WORDS: u16 = 4;
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
/// Minimum kernel: Linux 5.7 (`ETHTOOL_MSG_FEATURES_GET`).
///
/// # Errors
/// The kernel refuses, or its reply cannot be parsed.
pub fn features(socket: &Socket, family: u16) -> Result<Vec<Features>, NetlinkError> {
    let payload =
        Attributes::default().nested(HEADER, &Attributes::default()).behind(&[FEATURES_GET, 1, 0, 0]);
    netlink::dump(socket, family, &payload)?.iter().map(|reply| parse_features(reply)).collect()
}

/// Switches features of a device. A feature that depends on others may stay as it is.
/// Minimum kernel: Linux 5.7 (`ETHTOOL_MSG_FEATURES_SET`).
///
/// # Errors
/// The kernel refuses: there is no such device or feature.
pub fn switch(
    socket: &Socket,
    family: u16,
    ifindex: u32,
    features: &[(String, bool)],
) -> Result<(), NetlinkError> {
    let header = Attributes::default().bytes(HEADER_IFINDEX, &ifindex.to_ne_bytes());
    let mut bits = Attributes::default();
    for (name, on) in features {
        let bit = Attributes::default().text(BIT_NAME, name);
        bits = bits.nested(BIT, &if *on { bit.bytes(BIT_VALUE, &[]) } else { bit });
    }
    let wanted = Attributes::default().nested(BITS, &bits);
    let payload = Attributes::default().nested(HEADER, &header).nested(WANTED, &wanted);
    netlink::request(socket, family, 0, &payload.behind(&[FEATURES_SET, 1, 0, 0])).map(drop)
}

/// The features in one reply.
pub(crate) fn parse_features(reply: &[u8]) -> Result<Features, NetlinkError> {
    let mut features = Features::default();
    for attribute in generic::attributes(reply) {
        let attribute = attribute?;
        match attribute.kind() {
            HEADER => features.ifindex = ifindex_of(&attribute)?,
            CHANGEABLE => features.changeable = names(&attribute)?,
            WANTED => features.wanted = names(&attribute)?,
            ACTIVE => features.active = names(&attribute)?,
            _ => {}
        }
    }
    Ok(features)
}

/// The ifindex in the header of a reply; 0 if it has none.
fn ifindex_of(header: &NlaBuffer<&[u8]>) -> Result<u32, NetlinkError> {
    for inner in netlink::attributes(header.value()) {
        let inner = inner?;
        if let (HEADER_IFINDEX, Some(index)) = (inner.kind(), inner.value().first_chunk()) {
            return Ok(u32::from_ne_bytes(*index));
        }
    }
    Ok(0)
}

/// The names of the bits that are set in a bit set.
fn names(set: &NlaBuffer<&[u8]>) -> Result<BTreeSet<String>, NetlinkError> {
    let (mut has_no_mask, mut names) = (false, BTreeSet::new());
    let mut masked = BTreeSet::new();
    for part in netlink::attributes(set.value()) {
        let part = part?;
        match part.kind() {
            NO_MASK => has_no_mask = true,
            BITS => {
                for bit in netlink::attributes(part.value()) {
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
    Ok(if has_no_mask { names } else { masked })
}

fn bit_of(bit: &NlaBuffer<&[u8]>) -> Result<(String, bool), NetlinkError> {
    let (mut name, mut value) = (String::new(), false);
    for attribute in netlink::attributes(bit.value()) {
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

/// The one transmit feature that is off by default. It changes no frame.
const OFF_BY_DEFAULT: &str = "tx-nocache-copy";

/// Requests something of every device in the socket's namespace, or of some, by ifindex. A device that is gone, or does not
/// have it, has no reply, as in a dump.
fn replies(
    socket: &Socket,
    family: u16,
    only: Option<&BTreeSet<u32>>,
    command: u8,
    flags: u32,
) -> Result<Vec<Vec<u8>>, NetlinkError> {
    let payload = |header: Attributes| {
        let header = if flags == 0 { header } else { header.bytes(HEADER_FLAGS, &flags.to_ne_bytes()) };
        Attributes::default().nested(HEADER, &header).behind(&[command, 1, 0, 0])
    };
    let Some(only) = only else { return netlink::dump(socket, family, &payload(Attributes::default())) };
    let mut replies = Vec::new();
    for ifindex in only {
        let header = Attributes::default().bytes(HEADER_IFINDEX, &ifindex.to_ne_bytes());
        match netlink::request(socket, family, 0, &payload(header)) {
            Ok(mut reply) => replies.append(&mut reply),
            Err(error) if matches!(error.errno(), Some(libc::ENODEV | libc::EOPNOTSUPP)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(replies)
}

/// The ifindexes of devices in the socket's namespace, or of some of them, on which a changeable transmit offload is off
/// (`ethtool -K PORT tx off`). `family` is the number of [`FAMILY`].
/// Minimum kernel: Linux 5.7 (`ETHTOOL_MSG_FEATURES_GET`).
///
/// A frame that the bridge sends out of such a port is checksummed or segmented by `validate_xmit_skb`
/// (net/core/dev.c). A frame that is redirected past the port is not.
///
/// # Errors
/// The kernel refuses the request, or its reply is malformed.
pub fn reduced_offloads(
    socket: &Socket,
    family: u16,
    only: Option<&BTreeSet<u32>>,
) -> Result<BTreeSet<u32>, NetlinkError> {
    // The names are the same for all devices, and much longer than the words.
    let set = Attributes::default().bytes(STRING_SET_ID, &FEATURE_NAMES.to_ne_bytes());
    let sets = Attributes::default().nested(STRING_SET, &set);
    let payload = Attributes::default().nested(HEADER, &Attributes::default()).nested(STRING_SETS, &sets);
    let mut transmit = Vec::new();
    for reply in netlink::request(socket, family, 0, &payload.behind(&[STRINGS_GET, 1, 0, 0]))? {
        transmit.extend(transmit_features(&reply)?);
    }
    if transmit.is_empty() {
        return Err(NetlinkError::Malformed("no feature has a name"));
    }
    let mut reduced = BTreeSet::new();
    for reply in replies(socket, family, only, FEATURES_GET, COMPACT)? {
        let (ifindex, changeable, active) = parse_feature_words(&reply)?;
        if transmit.iter().any(|&bit| is_set(&changeable, bit) && !is_set(&active, bit)) {
            reduced.insert(ifindex);
        }
    }
    Ok(reduced)
}

/// The numbers of transmit features, from a reply with the names of features.
pub(crate) fn transmit_features(reply: &[u8]) -> Result<Vec<usize>, NetlinkError> {
    let mut numbers = Vec::new();
    for sets in generic::attributes(reply) {
        for set in netlink::attributes(of_kind(&sets?, STRING_SETS)) {
            for part in netlink::attributes(of_kind(&set?, STRING_SET)) {
                for string in netlink::attributes(of_kind(&part?, STRINGS)) {
                    numbers.extend(transmit_feature(of_kind(&string?, STRING))?);
                }
            }
        }
    }
    Ok(numbers)
}

/// The payload of an attribute; nothing, if it is of another kind.
fn of_kind<'a>(attribute: &'a NlaBuffer<&[u8]>, kind: u16) -> &'a [u8] {
    if attribute.kind() == kind { attribute.value() } else { &[] }
}

/// The number of a feature, if its name is that of a transmit feature that is on by default.
fn transmit_feature(string: &[u8]) -> Result<Option<usize>, NetlinkError> {
    let (mut number, mut is_transmit) = (None, false);
    for attribute in netlink::attributes(string) {
        let attribute = attribute?;
        match (attribute.kind(), attribute.value().first_chunk()) {
            (STRING_NUMBER, Some(index)) => number = usize::try_from(u32::from_ne_bytes(*index)).ok(),
            (STRING_TEXT, _) => {
                let name = attribute.value().split(|&byte| byte == 0).next().unwrap_or_default();
                is_transmit = name.starts_with(b"tx-") && name != OFF_BY_DEFAULT.as_bytes();
            }
            _ => {}
        }
    }
    Ok(number.filter(|_| is_transmit))
}

/// The ifindex in one reply with compact bit sets, and the words of changeable and active features.
pub(crate) fn parse_feature_words(reply: &[u8]) -> Result<(u32, Vec<u8>, Vec<u8>), NetlinkError> {
    let (mut ifindex, mut changeable, mut active) = (0, Vec::new(), Vec::new());
    for attribute in generic::attributes(reply) {
        let attribute = attribute?;
        match attribute.kind() {
            HEADER => ifindex = ifindex_of(&attribute)?,
            CHANGEABLE => changeable = words(&attribute)?,
            ACTIVE => active = words(&attribute)?,
            _ => {}
        }
    }
    Ok((ifindex, changeable, active))
}

/// The words of a bit set.
fn words(set: &NlaBuffer<&[u8]>) -> Result<Vec<u8>, NetlinkError> {
    for part in netlink::attributes(set.value()) {
        let part = part?;
        if part.kind() == WORDS {
            return Ok(part.value().to_vec());
        }
    }
    Err(NetlinkError::Malformed("a bit set has no words"))
}

/// Whether a bit is set. Bit 0 is the lowest of the first word, which has 32 bits of this machine's byte order.
fn is_set(words: &[u8], bit: usize) -> bool {
    let word = words.as_chunks::<4>().0.get(bit / 32);
    word.is_some_and(|word| (u32::from_ne_bytes(*word) >> (bit % 32)) & 1 != 0)
}

/// `ETHTOOL_MSG_CHANNELS_GET` and its attributes.
const CHANNELS_GET: u8 = 17;
const TX_COUNT: u16 = 7;
const COMBINED_COUNT: u16 = 9;

/// The ifindexes of devices in the socket's namespace, or of some of them, that have several transmit queues in use
/// (`ethtool -L`). `family` is the number of [`FAMILY`].
/// Minimum kernel: Linux 5.7 (`ETHTOOL_MSG_CHANNELS_GET`).
///
/// A frame is received in the queue at the other end of a veth that it was sent from, if that end has as many queues
/// (`veth_xmit` in drivers/net/veth.c). With several queues, XPS or a hash selects one for each frame
/// (`netdev_pick_tx` in net/core/dev.c).
///
/// # Errors
/// The kernel refuses, or its reply cannot be parsed.
pub fn multiqueue(
    socket: &Socket,
    family: u16,
    only: Option<&BTreeSet<u32>>,
) -> Result<BTreeSet<u32>, NetlinkError> {
    let mut found = BTreeSet::new();
    for reply in replies(socket, family, only, CHANNELS_GET, 0)? {
        let (ifindex, queues) = parse_channels(&reply)?;
        if queues > 1 {
            found.insert(ifindex);
        }
    }
    Ok(found)
}

/// The ifindex in one reply, and the number of transmit queues in use.
pub(crate) fn parse_channels(reply: &[u8]) -> Result<(u32, u32), NetlinkError> {
    let (mut ifindex, mut queues) = (0, 0_u32);
    for attribute in generic::attributes(reply) {
        let attribute = attribute?;
        match attribute.kind() {
            HEADER => ifindex = ifindex_of(&attribute)?,
            TX_COUNT | COMBINED_COUNT => {
                let count = attribute.value().first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
                queues = queues.saturating_add(count);
            }
            _ => {}
        }
    }
    Ok((ifindex, queues))
}

#[cfg(test)]
mod tests {
    use netlink_sys::protocols::NETLINK_GENERIC;

    use super::*;
    use crate::kernel::sandbox::{in_new_namespace, run};

    #[test]
    fn features_are_switched_one_by_one() {
        in_new_namespace(|| {
            let _ = run("ip", &["link", "add", "name", "va", "type", "veth", "peer", "name", "vb"]);
            let socket = Socket::new(NETLINK_GENERIC).unwrap();
            let family = generic::family(&socket, FAMILY).unwrap();
            let index = nix::net::if_::if_nametoindex("va").unwrap();
            let now = || features(&socket, family).unwrap().into_iter().find(|f| f.ifindex == index).unwrap();
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
    fn replies_that_are_cut_off_never_panic() {
        let bits = Attributes::default().nested(1, &Attributes::default().text(BIT_NAME, "tx-x"));
        let set = Attributes::default().nested(BITS, &bits);
        let header = Attributes::default().bytes(HEADER_IFINDEX, &7_u32.to_ne_bytes());
        let reply = Attributes::default().nested(HEADER, &header).nested(CHANGEABLE, &set).behind(&[0; 4]);
        for length in 0..reply.len() {
            let _ = parse_features(&reply[..length]);
            let _ = parse_feature_words(&reply[..length]);
            let _ = transmit_features(&reply[..length]);
        }
    }

    fn ethtool(arguments: &[&str]) {
        let _ = run("ethtool", &[&["-K", "va"], arguments].concat());
    }

    #[test]
    fn what_ethtool_switches_off_is_seen() {
        in_new_namespace(|| {
            let _ = run("ip", &["link", "add", "name", "va", "type", "veth", "peer", "name", "vb"]);
            let socket = Socket::new(NETLINK_GENERIC).unwrap();
            let family = generic::family(&socket, FAMILY).unwrap();
            let index = |name: &str| nix::net::if_::if_nametoindex(name).unwrap();
            let reduced = |only: Option<&BTreeSet<u32>>| reduced_offloads(&socket, family, only).unwrap();
            assert!(!reduced(None).contains(&index("va")));
            ethtool(&["tx", "off"]);
            let now = reduced(None);
            assert!(now.contains(&index("va")) && !now.contains(&index("vb")), "{now:?}");
            let (gone, lo) = (9999, index("lo"));
            assert_eq!(reduced(Some(&[index("va"), index("vb"), gone].into())), [index("va")].into());
            assert_eq!(reduced(Some(&[index("vb"), lo].into())), BTreeSet::new());
            ethtool(&["tx", "on"]);
            assert!(!reduced(None).contains(&index("va")));
            ethtool(&["tso", "off"]);
            assert!(reduced(None).contains(&index("va")));
        });
    }

    #[test]
    fn transmit_queues_that_ethtool_adds_are_seen() {
        in_new_namespace(|| {
            let add = "link add name va numtxqueues 4 type veth peer name vb";
            let _ = run("ip", &add.split(' ').collect::<Vec<_>>());
            let socket = Socket::new(NETLINK_GENERIC).unwrap();
            let family = generic::family(&socket, FAMILY).unwrap();
            let index = nix::net::if_::if_nametoindex("va").unwrap();
            for (count, several) in [("1", false), ("3", true), ("1", false)] {
                let _ = run("ethtool", &["-L", "va", "tx", count]);
                let found = multiqueue(&socket, family, None).unwrap();
                assert_eq!(found.contains(&index), several, "{count}: {found:?}");
                // The loopback device has no queues.
                let some = [1, index, 9999].into();
                let of_some = multiqueue(&socket, family, Some(&some)).unwrap();
                assert_eq!(of_some, &found & &some, "{count}");
            }
        });
    }
}
