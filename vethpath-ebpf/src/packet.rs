//! The only bounds-checked reader of packet memory, for both kinds of program.

use core::mem::size_of;

use vethpath_common::{MacWords, Reason};

/// Bytes of an Ethernet header without a tag (`ETH_HLEN`).
pub const ETH_LEN: u32 = 14;

/// An Ethernet header, as words from which keys are built without another load.
#[derive(Clone, Copy)]
pub struct Ethernet {
    /// Destination.
    pub dst: MacWords,
    /// Source.
    pub src: MacWords,
    /// The EtherType, or an 802.2 length below 0x600.
    pub ethertype: u16,
}

/// The metadata of a frame that a program's context has.
pub trait Context: Copy {
    /// Start and end of the linear part.
    fn bounds(&self) -> (usize, usize);
    /// Length in bytes, Ethernet header included; of a GSO frame, all of it.
    fn len(&self) -> u32;
    /// Payload bytes per segment of a GSO frame, or 0.
    fn gso_size(&self) -> u32;
    /// Number of packets on a wire.
    fn packets(&self) -> u64;
    /// Whether a VLAN tag is in the metadata, not in the packet.
    fn tag_beside(&self) -> bool;
    /// ifindex of the port that received it.
    fn ifindex(&self) -> u32;
}

/// A frame at the ingress of a port.
#[derive(Clone, Copy)]
pub struct Frame<C> {
    /// Its metadata.
    pub context: C,
    data: usize,
    end: usize,
}

impl<C: Context> Frame<C> {
    /// The frame that the program was called for.
    #[inline(always)]
    pub fn new(context: C) -> Self {
        let (data, end) = context.bounds();
        Self { context, data, end }
    }

    /// Copies a `T` from `offset` bytes behind the start of the frame.
    ///
    /// `T` consists of bytes: any value is valid and any address is aligned. Bytes outside the linear part of the
    /// socket buffer cannot be read: [`Reason::Short`].
    #[inline(always)]
    pub fn read<T: Copy>(&self, offset: usize) -> Result<T, Reason> {
        const { assert!(align_of::<T>() == 1) };
        let start = self.data + offset;
        if start + size_of::<T>() > self.end {
            return Err(Reason::Short);
        }
        // SAFETY: the verifier checks that the bytes lie between data and data_end, as just compared;
        // T has alignment 1 and is plain bytes.
        Ok(unsafe { *(start as *const T) })
    }

    /// The Ethernet header.
    ///
    /// The stack aligns headers to two bytes behind a multiple of four (`NET_IP_ALIGN`). Where the CPU needs alignment
    /// the verifier enforces it: every load here is aligned then.
    #[inline(always)]
    pub fn ethernet(&self) -> Result<Ethernet, Reason> {
        let start = self.data;
        if start + ETH_LEN as usize > self.end {
            return Err(Reason::Short);
        }
        // SAFETY: the verifier checks that the 14 bytes lie between data and data_end, as just compared, and that the
        // loads are aligned as the CPU needs them.
        let (to_head, to_tail, from_head, from_tail, ethertype) = unsafe {
            (
                *(start as *const u16),
                *((start + 2) as *const u32),
                *((start + 6) as *const u32),
                *((start + 10) as *const u16),
                *((start + 12) as *const u16),
            )
        };
        Ok(Ethernet {
            dst: joined(to_head, to_tail),
            src: MacWords::new(from_head, from_tail),
            ethertype: u16::from_be(ethertype),
        })
    }
}

/// Joins six bytes that were loaded as two and four.
#[inline(always)]
fn joined(first: u16, rest: u32) -> MacWords {
    if cfg!(target_endian = "little") {
        MacWords::from_bits(u64::from(first) | u64::from(rest) << 16)
    } else {
        MacWords::new(u32::from(first) << 16 | rest >> 16, (rest & 0xffff) as u16)
    }
}
