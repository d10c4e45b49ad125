//! The cost of the port program per frame, in nanoseconds, compared with a program that redirects to a constant.
//! `BPF_PROG_TEST_RUN` runs each in a loop, the cases interleaved. The minimum of many rounds counts, since a
//! disturbance only makes a round longer.
//!
//! As root: `cargo bench --bench program`

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]

use std::time::Duration;

use aya::{Ebpf, EbpfLoader, TestRun, TestRunOptions, include_bytes_aligned, programs::SchedClassifier};

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/programs/bench.rs"]
mod bench;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/programs/frames.rs"]
mod frames;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/programs/world.rs"]
mod world;

use bench::Bench;
use frames::Frame;
use world::Port;

static CONSTANT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vethpath-constant"));

/// Rounds per case, and runs per round.
const ROUNDS: usize = 300;
const IN_A_ROW: u32 = 5_000;

fn main() {
    let mut bench = Bench::new();
    let mut constant = constant(bench.ifindex(Port::B));
    let unknown = Port::B.mac(77);
    let cases = [
        ("redirect to a constant", Frame::udp4(64), true),
        ("fast", Frame::udp4(64), false),
        ("fast, large TCP", Frame::tcp4(1400).gso(1400, 44), false),
        ("slow: unknown destination", Frame::udp4(64).to(unknown), false),
        ("slow: unknown source", Frame::udp4(64).from(unknown), false),
        ("slow: broadcast", Frame::udp4(64).to([0xff; 6]), false),
    ];
    let netns = bench.netns.clone();
    let mut least = [Duration::MAX; 6];
    netns
        .run(|| {
            for _ in 0..ROUNDS {
                for ((_, frame, is_constant), least) in cases.iter().zip(&mut least) {
                    let context = bench::context_of(frame, bench.ifindex(frame.port));
                    let program = if *is_constant {
                        constant.program_mut("redirect_constant").unwrap().try_into().unwrap()
                    } else {
                        bench::program(&mut bench.object)
                    };
                    *least = once(program, frame, &context).min(*least);
                }
            }
        })
        .unwrap();
    for ((what, ..), least) in cases.iter().zip(least) {
        println!("{:>5} ns  {what}", least.as_nanos());
    }
}

/// A program that redirects everything to the inner end of `target`.
fn constant(target: u32) -> Ebpf {
    let mut object = EbpfLoader::new().override_global("TARGET", &target, true).load(CONSTANT).unwrap();
    let program: &mut SchedClassifier = object.program_mut("redirect_constant").unwrap().try_into().unwrap();
    vethpath::datapath::load_program(program).unwrap();
    object
}

/// The mean run time of one round.
fn once(program: &SchedClassifier, frame: &Frame, context: &[u8]) -> Duration {
    let options = TestRunOptions {
        data_in: Some(&frame.bytes),
        ctx_in: Some(context),
        repeat: IN_A_ROW,
        ..TestRunOptions::default()
    };
    program.test_run(options).unwrap().duration
}
