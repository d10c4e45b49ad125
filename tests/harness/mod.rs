//! What the tests are written with: a private [`Host`] for each, and a [`Lab`] on it.

mod answer;
mod args;
mod done;
mod host;
mod inside;
mod inventory;
mod iperf;
mod lab;
mod netlink;
mod one_cpu;
mod process;
mod refusal;
mod size;
mod stats;
mod stream;
mod wait;
mod wire;

pub(crate) use answer::{Answer, At, TC_DROP, TC_NEXT, XDP_DROP, XDP_PASS};
pub(crate) use args::Args;
pub(crate) use done::Done;
pub(crate) use host::{Host, PATIENCE};
use inside::Inside;
use inventory::Inventory;
pub(crate) use iperf::{Iperf, iperf, received};
pub(crate) use lab::{Lab, LabFile};
pub(crate) use netlink::{Link, Netlink};
pub(crate) use one_cpu::OneCpu;
pub(crate) use process::Process;
pub(crate) use refusal::Refusal;
pub(crate) use size::{seed, sized};
use stats::accounts_balance;
pub(crate) use stats::{Pair, Stats, with_a_lease};
pub(crate) use stream::{Stream, Way};
pub(crate) use wait::{SLACK, Until, at_once, holds_for, wait_for, wait_until, when_still};
pub(crate) use wire::{Arrival, Offload, Wire};
