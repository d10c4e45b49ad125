//! The paths that frames can take.

use vethpath_common::names;

/// A path of frames from `a` to `b` and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Path {
    Cable,
    Bridge,
    Passed,
    Slow,
    SlowOfUnknown,
    Constant,
    Header,
    Sender,
    Receiver,
    Decision,
    Unchecked,
    Fast,
    FastOfMany,
    FastAmongOthers,
}

impl Path {
    const ALL: [Self; 14] = [
        Self::Cable,
        Self::Bridge,
        Self::Passed,
        Self::Slow,
        Self::SlowOfUnknown,
        Self::Constant,
        Self::Header,
        Self::Sender,
        Self::Receiver,
        Self::Decision,
        Self::Unchecked,
        Self::Fast,
        Self::FastOfMany,
        Self::FastAmongOthers,
    ];

    /// The paths that exist with and without netfilter.
    pub(crate) fn all(netfilter: bool) -> Vec<Self> {
        Self::ALL.into_iter().filter(|&path| netfilter || path != Self::Unchecked).collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cable => "cable",
            Self::Bridge => "plain bridge, no program attached",
            Self::Passed => "bridge, after a program that only passes",
            Self::Slow => "bridge, after a program that knows the sender and not the receiver",
            Self::SlowOfUnknown => "bridge, after a program that does not know the sender",
            Self::Constant => "redirect to a constant",
            Self::Header => "the same, after lease and header",
            Self::Sender => "and the sender's entry",
            Self::Receiver => "and the receiver's entry",
            Self::Decision => "and all that is decided",
            Self::Unchecked => "fast path, packets not checked as netfilter would",
            Self::Fast => "fast path: that and counting, to where the entry says",
            Self::FastOfMany => "fast path with 10,000 stations, these two in slots",
            Self::FastAmongOthers => "fast path with 10,000 stations, these two in hash maps",
        }
    }

    pub(crate) fn is_fast(self) -> bool {
        matches!(self, Self::Unchecked | Self::Fast | Self::FastOfMany | Self::FastAmongOthers)
    }

    /// The program that is attached to both ports.
    pub(crate) fn program(self) -> Option<&'static str> {
        Some(match self {
            Self::Cable | Self::Bridge => return None,
            Self::Passed => PASS,
            Self::Constant => CONSTANT,
            Self::Header => PARTS[0],
            Self::Sender => PARTS[1],
            Self::Receiver => PARTS[2],
            Self::Decision => PARTS[3],
            _ => names::PORT_INGRESS,
        })
    }
}

/// The program that redirects every frame.
pub(crate) const CONSTANT: &str = "redirect_constant";

/// The program that passes every frame to the bridge.
pub(crate) const PASS: &str = "pass_constant";

/// Programs that do a part of the port program's work, and then redirect every frame.
pub(crate) const PARTS: [&str; 4] = ["part_header", "part_sender", "part_receiver", "part_decision"];
