//! `datapath = "xdp"`: what the file asks for, how inner ends are made ready, and programs and sockets of
//! the lab's users at them.

mod delivery;
mod programs;
mod ready;
mod rings;
pub(crate) mod socket;
pub(crate) mod users;

use crate::harness::{Host, Lab};

/// The lab of three hosts on XDP.
fn xdp_lab(host: &Host) -> Lab<'_> {
    host.lab("three-hosts").with("\"tc\"", "\"xdp\"").up()
}

/// What `ethtool -S` says of a device where the bridges are: the sum of figures whose names end so.
#[track_caller]
pub(crate) fn driver_count(host: &Host, device: &str, end: &str) -> u64 {
    let figures = host.run(format!("ethtool -S {device}")).ok().stdout;
    let figure = |line: &str| {
        let (name, value) = line.trim().split_once(": ")?;
        if name.ends_with(end) { value.parse::<u64>().ok() } else { None }
    };
    figures.lines().filter_map(figure).sum()
}
