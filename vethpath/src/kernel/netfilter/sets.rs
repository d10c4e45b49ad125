//! The elements of nftables sets and verdict maps, and which of them a key has.
//!
//! Mirrors `nf_tables_fill_set` and `nf_tables_fill_setelem` (net/netfilter/nf_tables_api.c). Intervals of one field are
//! pairs of elements, a start and an end that is not part of it (net/netfilter/nft_set_rbtree.c). Those of several fields
//! are elements with two keys (net/netfilter/nft_set_pipapo.c).

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;
use netlink_sys::Socket;
use nix::libc;

use super::{
    Family, HEADER, attributes,
    expression::{Action, Fields, verdict},
    header,
    inspect::dump,
    kind, parse_string,
};
use crate::kernel::netlink::{self, Attributes, NetlinkError};

type NetlinkResult<T> = Result<T, NetlinkError>;

/// How many elements of a set are kept, and of all sets. Those with more, such as lists of blocked addresses, count as
/// unknown.
const MOST_ELEMENTS: usize = 16_384;
const MOST_OF_ALL: usize = 4 * MOST_ELEMENTS;

/// `NFT_SET_INTERVAL`, `NFT_SET_EVAL` and `NFT_SET_OBJECT` of `enum nft_set_flags`.
const INTERVAL: u32 = 4;
const EVAL: u32 = 0x20;
const OBJECT: u32 = 0x40;

/// A set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    /// The length of a key in bytes.
    key_length: usize,
    elements: Vec<Element>,
    /// The element for keys that no other has (`*`).
    otherwise: Option<Element>,
    /// Whether packets add elements.
    may_grow: bool,
}

/// An element, or an interval of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// The least key.
    low: Vec<u8>,
    /// The greatest key.
    high: Vec<u8>,
    /// What it says in a verdict map.
    pub(super) action: Action,
    /// Whether it is there for all packets: it neither expires nor has a limit.
    is_sure: bool,
}

/// What is known of a part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// It is one of these, each of which occurs.
    Between(Vec<u8>, Vec<u8>),
    /// The address of a host in another network.
    OtherNetwork,
    Unknown,
}

/// The elements that a key may have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found<'s> {
    pub(super) elements: Vec<&'s Element>,
    /// Whether it surely has one of them.
    pub(super) is_sure: bool,
}

impl Element {
    /// An interval without an action.
    pub(super) fn between(low: Vec<u8>, high: Vec<u8>) -> Self {
        Self { low, high, action: Action::Continue, is_sure: true }
    }
}

/// How keys relate to an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Relation {
    Apart,
    Unknown,
    Within,
}

impl Set {
    /// What is found for the keys of which these parts are known, each behind so many bytes.
    pub(super) fn find(&self, parts: &[(usize, Value)]) -> Found<'_> {
        let parts: Vec<_> = parts.iter().filter(|(at, _)| *at < self.key_length).collect();
        let known = parts.iter().map(|(_, value)| value.length().next_multiple_of(4)).sum::<usize>();
        let is_whole = known == self.key_length.next_multiple_of(4);
        let relation = |element: &Element| {
            let parts = parts.iter().map(|(at, value)| value.relation(*at, element));
            let whole = if is_whole && element.is_sure { Relation::Within } else { Relation::Unknown };
            parts.min().map_or(Relation::Unknown, |least| least.min(whole))
        };
        let mut found = Found::default();
        for element in &self.elements {
            match relation(element) {
                Relation::Within => return Found { elements: vec![element], is_sure: true },
                Relation::Unknown => found.elements.push(element),
                Relation::Apart => {}
            }
        }
        found.is_sure = self.otherwise.as_ref().is_some_and(|element| element.is_sure);
        found.elements.extend(&self.otherwise);
        found
    }

    /// Whether all keys, or none, have an element.
    pub(super) fn contains(&self, parts: &[(usize, Value)]) -> Option<bool> {
        let found = self.find(parts);
        match found.elements[..] {
            _ if found.is_sure => Some(true),
            [] if !self.may_grow => Some(false),
            _ => None,
        }
    }
}

impl Value {
    /// The length of what it says something about.
    fn length(&self) -> usize {
        match self {
            Self::Between(low, _) => low.len(),
            Self::OtherNetwork | Self::Unknown => 0,
        }
    }

    /// How keys with this part, behind so many bytes, relate to an element.
    pub(super) fn relation(&self, at: usize, element: &Element) -> Relation {
        let part = |key: &[u8], length: usize| key.get(at..at + length).map(<[u8]>::to_vec);
        match self {
            Self::Between(low, high) => {
                let (Some(first), Some(last)) =
                    (part(&element.low, low.len()), part(&element.high, low.len()))
                else {
                    return Relation::Unknown;
                };
                match (first <= *low && *high <= last, *high < first || last < *low) {
                    (_, true) => Relation::Apart,
                    (true, _) => Relation::Within,
                    _ => Relation::Unknown,
                }
            }
            Self::OtherNetwork => {
                let key = |key: &[u8]| key.get(at..).map(<[u8]>::to_vec);
                match (key(&element.low), key(&element.high)) {
                    (Some(low), Some(high)) if is_nowhere(&low, &high) => Relation::Apart,
                    _ => Relation::Unknown,
                }
            }
            Self::Unknown => Relation::Unknown,
        }
    }
}

/// Whether all addresses between two are those of no host in another network: unspecified, of loopback, link-local or
/// multicast addresses, of IPv4 in IPv6, or of 6to4, which is out of use (RFC 7526).
pub(super) fn is_nowhere(low: &[u8], high: &[u8]) -> bool {
    const NOWHERE: [&str; 9] = [
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/3",
        "::/96",
        "::ffff:0:0/96",
        "2002::/16",
        "fe80::/9",
        "ff00::/8",
    ];
    let address = |key: &[u8]| match key.len() {
        4 => <[u8; 4]>::try_from(key).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(key).ok().map(IpAddr::from),
    };
    let (Some(low), Some(high)) = (address(low), address(high)) else { return false };
    let mut blocks = NOWHERE.iter().filter_map(|block| block.parse::<IpNet>().ok());
    blocks.any(|block| block.contains(&low) && block.contains(&high))
}

/// Reads these sets, by family, table and name. Those with too many elements are left out.
pub(super) fn read(
    socket: &Socket,
    wanted: &HashSet<(Family, String, String)>,
) -> NetlinkResult<HashMap<(Family, String, String), Set>> {
    let mut sets = HashMap::new();
    if wanted.is_empty() {
        return Ok(sets);
    }
    let mut left = MOST_OF_ALL;
    for reply in dump(socket, kind::GET_SET, &header(Family::Unspecified))? {
        let (name, flags, mut set) = parse(&reply)?;
        if !wanted.contains(&name) || flags & OBJECT != 0 {
            continue;
        }
        let most = left.min(MOST_ELEMENTS);
        if let Some(elements) = elements(socket, &name, most)? {
            left -= elements.len();
            set.fill(elements, flags & INTERVAL != 0);
            sets.insert(name, set);
        }
    }
    Ok(sets)
}

/// The name of a set, its flags, and the set without its elements.
pub(super) fn parse(reply: &[u8]) -> NetlinkResult<((Family, String, String), u32, Set)> {
    const TABLE: u16 = 1;
    const NAME: u16 = 2;
    const FLAGS: u16 = 3;
    const KEY_LENGTH: u16 = 5;
    let (header, rest) =
        reply.split_first_chunk::<HEADER>().ok_or(NetlinkError::Malformed("a set without a header"))?;
    let fields = Fields::parse(rest)?;
    let [table, name] = [TABLE, NAME].map(|number| parse_string(fields.bytes(number)));
    let flags = fields.number(FLAGS).unwrap_or_default();
    let key_length = fields.number(KEY_LENGTH).and_then(|length| usize::try_from(length).ok());
    let set =
        Set { key_length: key_length.unwrap_or_default(), may_grow: flags & EVAL != 0, ..Set::default() };
    Ok(((Family::from_number(header[0]), table, name), flags, set))
}

/// An element as the kernel lists it.
#[derive(Debug)]
pub(super) struct Listed {
    /// There is none in the element for keys that no other has.
    key: Option<Vec<u8>>,
    key_end: Option<Vec<u8>>,
    is_end: bool,
    action: Action,
    is_sure: bool,
}

/// The elements of a set; `None` if there are more than `most`.
fn elements(
    socket: &Socket,
    (family, table, name): &(Family, String, String),
    most: usize,
) -> NetlinkResult<Option<Vec<Listed>>> {
    const TABLE: u16 = 1;
    const SET: u16 = 2;
    let request = Attributes::default().text(TABLE, table).text(SET, name).behind(&header(*family));
    let mut all = Some(Vec::new());
    let read = netlink::dump_each(socket, kind::GET_SET_ELEMENTS, &request, |reply| {
        if let Some(elements) = &mut all {
            elements.extend(listed(reply)?);
            all = all.take().filter(|elements| elements.len() <= most);
        }
        Ok(())
    });
    match read {
        // It was removed meanwhile, so that everything is read again.
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
        read => read.map(|()| all),
    }
}

/// The elements in one message.
pub(super) fn listed(reply: &[u8]) -> NetlinkResult<Vec<Listed>> {
    const ELEMENTS: u16 = 3;
    let fields = Fields::parse(reply.get(HEADER..).unwrap_or_default())?;
    attributes(fields.bytes(ELEMENTS)).map(|element| Listed::parse(element?.value())).collect()
}

impl Listed {
    fn parse(element: &[u8]) -> NetlinkResult<Self> {
        const KEY: u16 = 1;
        const DATA: u16 = 2;
        const FLAGS: u16 = 3;
        const EXPIRATION: u16 = 5;
        const EXPRESSION: u16 = 7;
        const KEY_END: u16 = 10;
        const EXPRESSIONS: u16 = 11;
        const INTERVAL_END: u32 = 1;
        let fields = Fields::parse(element)?;
        let key = |number| match fields.bytes(number) {
            [] => Ok(None),
            _ => fields.data(number).map(Some),
        };
        // A counter matches always.
        let is_counter = parse_string(Fields::parse(fields.bytes(EXPRESSION))?.bytes(1)) == "counter";
        let has_limit = !fields.bytes(EXPRESSION).is_empty() && !is_counter;
        let is_sure =
            [EXPIRATION, EXPRESSIONS].iter().all(|number| fields.bytes(*number).is_empty()) && !has_limit;
        Ok(Self {
            key: key(KEY)?,
            key_end: key(KEY_END)?,
            is_end: fields.number(FLAGS).is_some_and(|flags| flags & INTERVAL_END != 0),
            action: if fields.bytes(DATA).is_empty() { Action::Continue } else { verdict(&fields)? },
            is_sure,
        })
    }

    fn into_element(self, low: Vec<u8>, high: Vec<u8>) -> Element {
        Element { low, high, action: self.action, is_sure: self.is_sure }
    }
}

impl Set {
    /// Adds the elements. Those of intervals come in any order.
    pub(super) fn fill(&mut self, mut listed: Vec<Listed>, has_intervals: bool) {
        if let Some(at) = listed.iter().position(|element| element.key.is_none()) {
            self.otherwise = Some(listed.swap_remove(at).into_element(Vec::new(), Vec::new()));
        }
        let is_paired = has_intervals && listed.iter().all(|element| element.key_end.is_none());
        // An interval ends before the next one begins.
        listed.sort_by(|a, b| (&a.key, !a.is_end).cmp(&(&b.key, !b.is_end)));
        let mut open: Option<(Vec<u8>, Listed)> = None;
        for element in listed {
            let Some(key) = element.key.clone() else { continue };
            if !is_paired {
                let high = element.key_end.clone().unwrap_or_else(|| key.clone());
                self.elements.push(element.into_element(key, high));
                continue;
            }
            if let Some((low, begun)) = open.take() {
                self.elements.push(begun.into_element(low, before(&key)));
            }
            if !element.is_end {
                open = Some((key, element));
            }
        }
        if let Some((low, begun)) = open {
            let last = vec![u8::MAX; low.len()];
            self.elements.push(begun.into_element(low, last));
        }
    }
}

/// The key before another one, as integers in network byte order.
fn before(key: &[u8]) -> Vec<u8> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        let is_zero = *byte == 0;
        *byte = byte.wrapping_sub(1);
        if !is_zero {
            break;
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(key: u32, is_end: bool) -> Listed {
        let key = Some(key.to_be_bytes().to_vec());
        Listed { key, key_end: None, is_end, action: Action::Continue, is_sure: true }
    }

    fn between(low: u32, high: u32) -> Vec<(usize, Value)> {
        vec![(0, Value::Between(low.to_be_bytes().to_vec(), high.to_be_bytes().to_vec()))]
    }

    #[test]
    fn pairs_of_elements_are_intervals() {
        let mut set = Set { key_length: 4, ..Set::default() };
        set.fill(
            vec![
                listed(30, false),
                listed(0, true),
                listed(10, false),
                listed(20, true),
                listed(20, false),
                listed(25, true),
            ],
            true,
        );
        for (low, high, expected) in [
            (10, 19, Some(true)),
            (20, 24, Some(true)),
            (10, 24, None),
            (25, 29, Some(false)),
            (0, 9, Some(false)),
            (9, 10, None),
            (30, u32::MAX, Some(true)),
        ] {
            assert_eq!(set.contains(&between(low, high)), expected, "{low} to {high}");
        }
    }

    #[test]
    fn what_is_unknown_of_a_key_makes_it_uncertain() {
        let mut set = Set { key_length: 8, ..Set::default() };
        let key = [7_u32.to_be_bytes(), 9_u32.to_be_bytes()].concat();
        set.fill(vec![Listed { key: Some(key), ..listed(0, false) }], false);
        let second =
            |number: u32| (4, Value::Between(number.to_be_bytes().to_vec(), number.to_be_bytes().to_vec()));
        assert_eq!(set.contains(&between(7, 7)), None);
        assert_eq!(set.contains(&between(8, 8)), Some(false));
        assert_eq!(set.contains(&[second(9)]), None);
        assert_eq!(set.contains(&[between(7, 7), vec![second(9)]].concat()), Some(true));
        assert_eq!(set.contains(&[(0, Value::Unknown), second(9)]), None);
        assert_eq!(set.contains(&[(0, Value::Unknown), second(8)]), Some(false));
    }

    #[test]
    fn addresses_of_no_other_network_are_known() {
        let range = |low: &str, high: &str| {
            let octets = |text: &str| match text.parse().unwrap() {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            is_nowhere(&octets(low), &octets(high))
        };
        assert!(range("127.0.0.0", "127.255.255.255") && range("::ffff:0:0", "::ffff:ffff:ffff"));
        assert!(range("2002:a00::", "2002:aff:ffff::") && range("fe80::", "febf:ffff::"));
        assert!(!range("10.0.0.0", "10.255.255.255") && !range("0.0.0.0", "255.255.255.255"));
        assert!(!range("64:ff9b::", "64:ff9b::ffff:ffff") && !range("::", "ffff::"));
    }
}
