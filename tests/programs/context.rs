//! `struct __sk_buff` of `linux/bpf.h` as bytes: the fields of a frame that `BPF_PROG_TEST_RUN` accepts, and those that
//! it returns (`convert___skb_to_skb` in net/bpf/test_run.c).

use super::frames::Frame;

pub(crate) const SIZE: usize = 192;

const MARK: usize = 8;
const PRIORITY: usize = 32;
const IFINDEX: usize = 40;
const GSO_SEGS: usize = 164;
const GSO_SIZE: usize = 176;

/// The mark of every frame, which shows whether the program scrubs it.
pub(crate) const MARKED: u32 = 0x6d;
/// The priority of every frame, as [`MARKED`].
pub(crate) const PRIORITISED: u32 = 7;

pub(crate) fn of(frame: &Frame, ifindex: u32) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    let mut set = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    set(MARK, MARKED);
    set(PRIORITY, PRIORITISED);
    set(IFINDEX, ifindex);
    set(GSO_SEGS, frame.gso_segs);
    set(GSO_SIZE, frame.gso_size);
    bytes
}

pub(crate) fn mark(context: &[u8; SIZE]) -> u32 {
    get(context, MARK)
}

pub(crate) fn priority(context: &[u8; SIZE]) -> u32 {
    get(context, PRIORITY)
}

fn get(context: &[u8; SIZE], at: usize) -> u32 {
    u32::from_ne_bytes(context[at..at + 4].try_into().expect("four bytes"))
}
