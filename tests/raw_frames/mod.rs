//! `datapath = "xdp"`: delivery, how inner ends are made ready, and users' programs and sockets there.

mod delivery;
mod programs;
mod ready;
pub(crate) mod socket;
pub(crate) mod users;

use crate::harness::{Host, Lab};

/// The lab of three hosts on XDP.
fn xdp_lab(host: &Host) -> Lab<'_> {
    host.lab("three-hosts").with("\"tc\"", "\"xdp\"").up()
}

/// The sum of the `ethtool -S` counters of a device in the bridges' namespace whose names end with `end`.
#[track_caller]
pub(crate) fn driver_count(host: &Host, device: &str, end: &str) -> u64 {
    let figures = host.run(format!("ethtool -S {device}")).ok().stdout;
    let figure = |line: &str| {
        let (name, value) = line.trim().split_once(": ")?;
        if name.ends_with(end) { value.parse::<u64>().ok() } else { None }
    };
    figures.lines().filter_map(figure).sum()
}
