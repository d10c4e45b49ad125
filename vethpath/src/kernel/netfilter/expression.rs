//! Expressions of nftables rules: their attributes, what they load, what they look up and what they do.

use std::collections::HashMap;

use super::{attributes, parse_string, parse_u32};
use crate::kernel::netlink::NetlinkError;

type NetlinkResult<T> = Result<T, NetlinkError>;

/// What a rule does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing that matters here.
    #[default]
    Continue,
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// What the element of a verdict map says.
    Map(Lookup),
    /// Anything else.
    Unknown,
}

/// What is looked up in a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lookup {
    /// The name of a set in the same table.
    pub(super) set: String,
    /// The parts of the key that are known, each behind so many bytes. What the last ones are is behind the key.
    pub(super) key: Vec<(usize, Loaded)>,
    pub(super) is_inverted: bool,
}

/// What an expression has loaded into a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loaded {
    /// The name of a device.
    Device {
        is_in: bool,
    },
    /// Its ifindex.
    Index {
        is_in: bool,
    },
    Family,
    /// The EtherType.
    Protocol,
    /// The bits of the state that are left.
    State(u32),
    /// The bits of the connection's status that are left (`enum ip_conntrack_status`).
    Status(u32),
    Address {
        is_source: bool,
        length: usize,
        mask: u128,
    },
    Other,
}

impl Loaded {
    /// Its length in bytes; that of the largest where it is unknown.
    pub(super) const fn length(self) -> usize {
        const IFNAMSIZ: usize = 16;
        match self {
            Self::Device { .. } | Self::Other => IFNAMSIZ,
            Self::Index { .. } | Self::State(_) | Self::Status(_) => 4,
            Self::Protocol => 2,
            Self::Family => 1,
            Self::Address { length, .. } => length,
        }
    }

    /// Whether it is an address of this length, of which all bits are left.
    pub(super) fn is_ordered(self, length: usize) -> bool {
        matches!(self, Self::Address { length: of @ (4 | 16), mask: u128::MAX, .. } if of == length)
    }
}

/// Attributes by number.
pub(super) struct Fields(HashMap<u16, Vec<u8>>);

impl Fields {
    pub(super) fn parse(bytes: &[u8]) -> NetlinkResult<Self> {
        let mut fields = HashMap::new();
        for attribute in attributes(bytes) {
            let attribute = attribute?;
            fields.insert(attribute.kind(), attribute.value().to_vec());
        }
        Ok(Self(fields))
    }

    pub(super) fn bytes(&self, number: u16) -> &[u8] {
        self.0.get(&number).map(Vec::as_slice).unwrap_or_default()
    }

    /// An integer in network byte order.
    pub(super) fn number(&self, number: u16) -> Option<u32> {
        parse_u32(self.0.get(&number)?).ok()
    }

    /// The value in a `NFTA_DATA_VALUE`.
    pub(super) fn data(&self, number: u16) -> NetlinkResult<Vec<u8>> {
        const VALUE: u16 = 1;
        Ok(Self::parse(self.bytes(number))?.bytes(VALUE).to_vec())
    }
}

/// The verdict of an `immediate` expression, or of an element of a verdict map (`enum nft_verdicts`).
pub(super) fn verdict(fields: &Fields) -> NetlinkResult<Action> {
    const VERDICT: u16 = 2;
    let data = Fields::parse(fields.bytes(2))?;
    let verdict = Fields::parse(data.bytes(VERDICT))?;
    let chain = || parse_string(verdict.bytes(2));
    Ok(match verdict.number(1).map(u32::cast_signed) {
        Some(0) => Action::Drop,
        Some(1) => Action::Accept,
        Some(-1 | -2) => Action::Continue,
        Some(-3) => Action::Jump(chain()),
        Some(-4) => Action::Goto(chain()),
        Some(-5) => Action::Return,
        _ => Action::Unknown,
    })
}
