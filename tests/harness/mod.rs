//! What the tests are written with: a private [`Host`] for each, and a [`Lab`] on it.

mod args;
mod done;
mod host;
mod inside;
mod inventory;
mod iperf;
mod lab;
mod process;
mod stats;
mod wait;
mod wire;

pub(crate) use args::Args;
pub(crate) use done::Done;
pub(crate) use host::{Host, PATIENCE};
use inside::Inside;
use inventory::Inventory;
pub(crate) use iperf::{Iperf, iperf, received};
pub(crate) use lab::{Lab, LabFile};
pub(crate) use process::Process;
pub(crate) use stats::Stats;
use stats::accounts_balance;
pub(crate) use wait::{SLACK, holds_for, wait_for, wait_until};
pub(crate) use wire::{Arrival, Offload, Wire};
