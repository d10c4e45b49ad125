//! A frame of a script.

use std::fmt;

use super::{
    names::{Address, Names},
    payload::Payload,
};
use crate::harness::Offload;

/// A frame that a host sends.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// The sending host, whatever the source address.
    pub(crate) by: usize,
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) payload: Payload,
    /// Truncates the frame to this many bytes.
    pub(crate) cut: Option<usize>,
    /// Replaces a byte at an offset behind the Ethernet header, if the frame is that long.
    pub(crate) twist: Option<(usize, u8)>,
}

/// Frames of this length or more end with a number, which shows late and duplicate frames.
const NUMBERED: usize = 60;

impl Frame {
    /// A valid frame from the host's own address.
    pub(crate) fn new(by: usize, to: Address, payload: Payload) -> Self {
        Self { by, from: Address::Host(by), to, payload, cut: None, twist: None }
    }

    pub(crate) fn from(mut self, address: Address) -> Self {
        self.from = address;
        self
    }

    pub(crate) fn cut(mut self, length: usize) -> Self {
        self.cut = Some(length);
        self
    }

    pub(crate) fn twist(mut self, at: usize, byte: u8) -> Self {
        self.twist = Some((at, byte));
        self
    }

    /// The bytes to send, and the offload metadata for the kernel.
    pub(crate) fn bytes(&self, names: &Names, number: u32) -> (Vec<u8>, Offload) {
        let (mut bytes, offload) = self.payload.bytes();
        bytes[..6].copy_from_slice(&names.mac(self.to));
        bytes[6..12].copy_from_slice(&names.mac(self.from));
        if let Some(rest) = bytes.len().checked_sub(4).filter(|rest| *rest >= NUMBERED - 4) {
            bytes[rest..].copy_from_slice(&number.to_be_bytes());
        }
        if let Some((at, byte)) = self.twist
            && let Some(place) = bytes.get_mut(14 + at)
        {
            *place = byte;
        }
        bytes.truncate(self.cut.unwrap_or(usize::MAX));
        (bytes, offload)
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by, from, to, payload, cut, twist } = self;
        write!(f, "h{by} sends {from} > {to}: {payload}")?;
        if let Some(length) = cut {
            write!(f, ", cut to {length} bytes")?;
        }
        match twist {
            Some((at, byte)) => write!(f, ", byte {at} is {byte:#04x}"),
            None => Ok(()),
        }
    }
}
