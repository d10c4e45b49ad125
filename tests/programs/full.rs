//! A traffic matrix without room: frames are still counted, by pair.

use vethpath_common::{Count, MatrixKey, names};

use super::{
    bench::{Bench, Ran},
    frames::Frame,
    world::Port,
};

#[test]
fn what_the_matrix_has_no_room_for_is_counted_by_pair() {
    let mut bench = Bench::crowded();
    let there = || Frame::udp4(100);
    let back = || Frame::udp4(100).at(Port::B).to(Port::A.mac(1));
    let fast = |ran: &Ran| {
        let sum = |count: fn(&vethpath_common::PairCounters) -> Count| {
            ran.counted.iter().map(count).fold(Count::default(), Count::plus)
        };
        (sum(|pair| pair.fast_tx), sum(|pair| pair.fast_rx))
    };
    let one = |frame: &Frame| Count { frames: 1, packets: 1, bytes: frame.bytes.len() as u64 };
    for frame in [there(), back(), there(), back()] {
        let ran = bench.run(&frame);
        assert_eq!(fast(&ran), (one(&frame), one(&frame)), "once as sent and once as received");
    }
    let cells = bench.elements::<MatrixKey>(names::MATRIX);
    assert_eq!(cells.len(), 1, "the first has it");
    let apart = bench.apart();
    let frames: u64 = apart.iter().map(|pair| pair.fast_rx.frames).sum();
    assert_eq!(frames, 2, "the way back");
}
