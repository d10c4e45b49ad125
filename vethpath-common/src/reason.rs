//! Why a frame was passed to the bridge.

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $meaning:literal;)*) => {
        /// Why the fast path passed a frame to the bridge. Each reason has its own counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Reason { $(#[doc = $meaning] $variant),* }

        impl Reason {
            /// All reasons, in the order of their counters.
            pub const ALL: [Self; { [$(Self::$variant),*].len() }] = [$(Self::$variant),*];
            /// Number of reasons.
            pub const COUNT: usize = Self::ALL.len();

            /// The name used in `stats`: lower case, words joined by hyphens.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// A description in one sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }
        }
    };
}

reasons! {
    Lease = "lease", "The agent's lease has run out (or it has not armed the lab yet).";
    Port = "port", "The port is not armed; its state has the reason.";
    Short = "short", "The frame is too short for the headers it claims, or they are not in its linear part.";
    Tagged = "tagged", "The frame carries a VLAN tag.";
    Group = "group", "The destination is a multicast or broadcast address.";
    Control = "control", "802.2, or a protocol meant for the bridge itself (LLDP, LACP, pause, EAPOL, CFM, MRP).";
    Arp = "arp", "ARP or RARP, broadcast or not.";
    Nd = "nd", "IPv6 neighbour discovery.";
    Options = "ipv6-options", "IPv6 extension headers hide what the packet is.";
    UnknownSource = "unknown-source", "The source address is not a station on this port.";
    UnknownDestination = "unknown-destination", "The destination address is not a station of the segment.";
    Unlearned = "unlearned", "A bridge on the way does not know where the sender is: it is to learn it from the frame.";
    Moved = "moved", "The sender or the receiver was just seen on another port, or its entry is not confirmed yet.";
    Stale = "stale", "The entry is of an older generation: the agent is resyncing.";
    SamePort = "same-port", "Source and destination are behind the same port.";
    Isolated = "isolated", "Both ports are isolated.";
    TooBig = "too-big", "The frame does not fit the receiver's MTU.";
    Gso = "gso", "A GSO frame of unknown segment size.";
    Unchecked = "netfilter-check", "br_netfilter would drop, trim or reassemble this packet.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_order() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            assert_eq!(Reason::ALL.iter().filter(|other| other.name() == reason.name()).count(), 1);
            assert!(reason.meaning().ends_with('.'));
        }
    }
}
