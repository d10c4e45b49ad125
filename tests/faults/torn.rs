//! `up` and `down` killed at random moments, again and again: the `down` that follows leaves nothing.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    harness::{Host, TIMEOUT, seed, sized, wait_until},
    programs::Random,
};

const TIME: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));
/// Milliseconds: longer than either usually takes.
const LONGEST: u64 = 250;

#[test]
fn up_and_down_killed_at_random_moments_leave_nothing_that_down_cannot_remove() {
    let seed = seed(0);
    let mut random = Random(seed);
    let host = Host::new();
    let file = host.lab("three-hosts").with("datapath = \"tc\"", "nat = true").write();
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < sized(TIME.0, TIME.1) {
        // One to three of them are killed. Then one may finish.
        for _ in 0..=random.next() % 3 {
            let verb = if random.next().is_multiple_of(3) {
                "down three-hosts".to_owned()
            } else {
                format!("up {file}")
            };
            let process = host.spawn_vethpath(verb);
            thread::sleep(Duration::from_millis(random.next() % LONGEST));
            process.kill();
            let _ = process.wait(TIMEOUT);
        }
        if random.next().is_multiple_of(2) {
            let up = host.vethpath_after_a_kill(&format!("up {file}"));
            assert!(up.succeeded(), "seed {seed:#x}, round {rounds}: {up}");
            let _ = host.run("ip netns exec ns0 ping -n -q -c 1 -W 5 172.17.0.103").ok();
        }
        let down = host.vethpath_after_a_kill("down three-hosts");
        // Exit status 1: there was no lab to take down.
        assert!(matches!(down.code(), Some(0 | 1)), "seed {seed:#x}, round {rounds}: {down}");
        wait_until(TIMEOUT, || {
            let left = host.changes();
            left.map_or(Ok(()), |left| Err(format!("seed {seed:#x}, round {rounds}: {left}\nafter {down}")))
        });
        rounds += 1;
    }
    println!("{rounds} rounds");
    host.finish();
}
