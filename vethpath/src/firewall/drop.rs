//! Packets of a lab that rules drop.

use std::fmt;

use crate::{
    kernel::netfilter::{Dropper, Family, LegacyTable},
    topology::{IfName, Place},
};

/// Which packets of a bridge are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Those between its hosts.
    Bridged,
    /// Those that its hosts send to other networks, through the bridge's namespace.
    Sent,
    /// The replies to these.
    Replies,
    /// Those that its hosts send to hosts of another bridge there, and the replies.
    Between,
}

/// What drops packets.
#[derive(Clone, Debug)]
pub(super) enum By {
    /// A chain of a hook.
    Chain(Dropper),
    /// A table whose rules are not read.
    Legacy(LegacyTable),
}

/// Packets that rules drop.
#[derive(Clone, Debug)]
pub struct Drop {
    pub(super) bridge: IfName,
    pub(super) place: Place,
    pub(super) kind: Kind,
    /// The other bridge.
    pub(super) to: Option<IfName>,
    pub(super) family: Family,
    pub(super) by: By,
    /// Whether all of them are dropped. Otherwise some may be.
    pub is_certain: bool,
    pub(super) hint: String,
}

impl fmt::Display for Drop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.is_certain { "are dropped" } else { "may be dropped" };
        write!(f, "{} {verb} by {}", self.packets(), self.by)
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain(dropper) => write!(f, "{dropper}"),
            Self::Legacy(table) => write!(f, "{table} (legacy: its rules are not read)"),
        }
    }
}

impl Drop {
    /// Which packets they are: `bridge br0 in host: IPv4 packets between its hosts`.
    #[must_use]
    pub fn packets(&self) -> String {
        let version = if self.family == Family::Ip { "IPv4" } else { "IPv6" };
        let packets = match self.kind {
            Kind::Bridged => "packets between its hosts",
            Kind::Sent => "packets from its hosts to other networks",
            Kind::Replies => "replies to its hosts from other networks",
            Kind::Between => "packets between its hosts and those of bridge ",
        };
        let to = self.to.as_ref().map_or("", IfName::as_str);
        format!("bridge {} in {}: {version} {packets}{to}", self.bridge, self.place)
    }

    /// Whether the lab is of no use: hosts of two bridges may have been kept apart on purpose.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.is_certain && self.kind != Kind::Between
    }

    /// The ways out, for a user.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.hint
    }
}
