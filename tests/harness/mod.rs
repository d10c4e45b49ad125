//! The test harness: a private [`Host`] for each test, and a [`Lab`] on it.

mod bpf;
mod environment;
mod host;
mod lab;
mod netlink;
mod process;
mod refusal;
mod stats;
mod stream;
mod tests;
mod wait;
mod wire;

pub(crate) use bpf::{At, NetfilterProgram, TC_DROP, TC_NEXT, VerdictProgram, XDP_DROP, XDP_PASS};
pub(crate) use environment::{lacks, of_this_kernel, requires, seed, sized};
use host::Inside;
pub(crate) use host::{Host, TIMEOUT};
pub(crate) use lab::{Lab, LabFile};
pub(crate) use netlink::{Link, Netlink};
pub(crate) use process::{Args, Output, Process};
pub(crate) use refusal::Refusal;
use stats::assert_counters_match;
pub(crate) use stats::{Count, Pair, Stats, with_a_lease};
pub(crate) use stream::{Iperf, Stream, StreamReport, iperf, received};
pub(crate) use wait::{SLACK, StopFlag, holds_for, in_parallel, wait_for, wait_until, wait_until_stable};
pub(crate) use wire::{Arrival, CpuPin, Offload, Wire, format_mac, parse_mac};
