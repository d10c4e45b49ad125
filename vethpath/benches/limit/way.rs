//! The ways that frames can be made to take.

use vethpath_common::names;

/// A way of frames from `a` to `b` and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Cable,
    Bridge,
    Slow,
    Constant,
    Header,
    Sender,
    Receiver,
    Decision,
    Fast,
    FastOfMany,
}

impl Way {
    pub(crate) const ALL: [Self; 10] = [
        Self::Cable,
        Self::Bridge,
        Self::Slow,
        Self::Constant,
        Self::Header,
        Self::Sender,
        Self::Receiver,
        Self::Decision,
        Self::Fast,
        Self::FastOfMany,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cable => "cable",
            Self::Bridge => "plain bridge, no program attached",
            Self::Slow => "bridge, after a program that knows the sender and not the receiver",
            Self::Constant => "redirect to a constant",
            Self::Header => "the same, after lease and header",
            Self::Sender => "and the sender's entry",
            Self::Receiver => "and the receiver's entry",
            Self::Decision => "and all that is decided",
            Self::Fast => "fast path: that and counting, to where the entry says",
            Self::FastOfMany => "fast path with 10,000 stations",
        }
    }

    pub(crate) fn is_fast(self) -> bool {
        matches!(self, Self::Fast | Self::FastOfMany)
    }

    /// The program at both ports.
    pub(crate) fn program(self) -> Option<&'static str> {
        Some(match self {
            Self::Cable | Self::Bridge => return None,
            Self::Constant => CONSTANT,
            Self::Header => PARTS[0],
            Self::Sender => PARTS[1],
            Self::Receiver => PARTS[2],
            Self::Decision => PARTS[3],
            Self::Slow | Self::Fast | Self::FastOfMany => names::PORT_INGRESS,
        })
    }
}

/// The program that redirects every frame.
pub(crate) const CONSTANT: &str = "redirect_constant";

/// Those that do a part of what the port program does, and then the same.
pub(crate) const PARTS: [&str; 4] = ["part_header", "part_sender", "part_receiver", "part_decision"];
