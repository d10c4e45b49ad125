//! How many frames a second cross one bridge, and eight in a row, by each datapath; and what sockets get of
//! each. All paths are measured in one run, in turns, on one CPU; the median of the rounds counts.
//!
//! As root: `cargo bench --bench frames`. It makes its labs on a private machine (network, mounts).

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]
#![expect(unsafe_code, reason = "BPF_PROG_TEST_RUN with live frames is more than aya offers")]

#[path = "frames/live.rs"]
mod live;
#[path = "frames/machine.rs"]
mod machine;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/raw_frames/socket.rs"]
mod socket;
#[path = "frames/sockets.rs"]
mod sockets;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/raw_frames/users.rs"]
mod users;

use machine::{DATAPATHS, Lab, Machine};

/// How often each path is measured.
const ROUNDS: usize = 11;

/// A figure of each datapath in each round.
type Figures = [Vec<f64>; DATAPATHS.len()];

fn main() {
    let machine = Machine::new();
    for bridges in [1, 8] {
        let labs = DATAPATHS.map(|datapath| machine.up(datapath, bridges));
        let what = if bridges == 1 { "one bridge".to_owned() } else { format!("{bridges} bridges in a row") };
        live::begin(&labs);
        for netfilter in [false, true] {
            machine.netfilter(netfilter);
            machine::settle(&labs);
            println!("\n{what}, bridge-nf-call-iptables = {}", u8::from(netfilter));
            rows("live frames, Mpps", &in_turns(&labs, live::rate));
        }
        live::end(&labs);
        sockets::begin(&labs);
        rows("AF_XDP, Mpps", &in_turns(&labs, sockets::af_xdp));
        sockets::end(&labs);
        rows("UDP round trip, us", &in_turns(&labs, sockets::round_trip));
        rows("TCP, Gbit/s", &in_turns(&labs, sockets::bulk));
        labs.iter().for_each(|lab| machine.down(lab));
    }
}

/// Measures every lab once a round.
fn in_turns(labs: &[Lab; DATAPATHS.len()], measure: impl Fn(&Lab) -> f64) -> Figures {
    let mut figures = Figures::default();
    for round in 0..ROUNDS {
        for turn in 0..labs.len() {
            // Each begins a round in its turn.
            let which = (round + turn) % labs.len();
            figures[which].push(measure(&labs[which]));
        }
    }
    figures
}

/// Median, the middle half of the rounds, and how many times the plain bridge's.
fn rows(what: &str, figures: &Figures) {
    println!("{what}");
    let at = |figures: &[f64], part: usize| {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[(sorted.len() - 1) * part / 4]
    };
    let plain = at(&figures[0], 2);
    for (datapath, figures) in DATAPATHS.iter().zip(figures) {
        let (median, low, high) = (at(figures, 2), at(figures, 1), at(figures, 3));
        println!(
            "  {datapath:<7} {median:>7.2}  ({low:.2} to {high:.2})  {:>5.2} times the bridge",
            median / plain
        );
    }
}
