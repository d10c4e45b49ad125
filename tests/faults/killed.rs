//! The agent, `up` and `down` are killed at random moments, again and again.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    harness::{Host, Lab, Stats, StopFlag, Stream, StreamReport, TIMEOUT, seed, sized, wait_until},
    programs::Random,
};

const A: (&str, &str) = ("ns0", "172.17.0.101");
const B: (&str, &str) = ("ns1", "172.17.0.102");
/// How long agents are killed, and how long in the long suite.
const AGENT_TIME: (Duration, Duration) = (Duration::from_secs(12), Duration::from_secs(600));
/// Far below the capacity of the sockets and the backlog, whatever the load of this machine.
const PACE: Duration = Duration::from_millis(2);

#[test]
fn an_agent_killed_at_random_moments_loses_no_frame_and_no_count() {
    let seed = seed(0);
    let (host, beside) = (Host::new(), Host::new());
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", B.1);
    lab.is_fast("ns1:eth0", A.1);
    let plain = beside.lab("three-hosts").with("\"tc\"", "\"bridge\"").up();
    plain.reaches("ns0", B.1);

    let before = lab.stats();
    let streams = [&lab, &plain].map(|lab| Stream::start(lab, A, B, PACE));
    let kills = kill_repeatedly(&host, &lab, seed);
    let [fast, slow] = streams.map(Stream::end);
    println!("{kills} kills; killed {fast:?}, plain {slow:?}");
    for (fast, slow) in fast.into_iter().zip(slow) {
        assert!(fast.sent > 1000 && fast.received > 1000, "{fast:?}");
        assert!(
            fast.lost() <= slow.lost(),
            "lost more than a plain bridge, seed {seed:#x}: {fast:?}, {slow:?}"
        );
        assert!(fast.duplicated <= slow.duplicated, "doubled, seed {seed:#x}: {fast:?}, {slow:?}");
    }
    let end = lab.assert_counters_match();
    assert_grown(&before, &end);
    assert_counted(&before, &end, fast);
    assert!(end.fast() - before.fast() > fast[0].sent / 10, "it was fast in between");
    lab.down();
    plain.down();
    host.finish();
    beside.finish();
}

/// Kills the agent and starts it again until the time is over, while another thread reads the counters. Returns how
/// often.
fn kill_repeatedly(host: &Host, lab: &Lab<'_>, seed: u64) -> u32 {
    let mut random = Random(seed);
    let stop = StopFlag::default();
    thread::scope(|scope| {
        let end = stop.stop_on_drop();
        let watcher = scope.spawn(|| {
            let mut last = lab.stats();
            while stop.is_running() {
                let now = lab.stats();
                assert_grown(&last, &now);
                last = now;
            }
        });
        let start = Instant::now();
        let mut kills = 0;
        while start.elapsed() < sized(AGENT_TIME.0, AGENT_TIME.1) && !watcher.is_finished() {
            let pid = wait_until(TIMEOUT, || lab.stats().agent.pid.ok_or("no agent".to_owned()));
            thread::sleep(Duration::from_millis(random.next() % 1500));
            let _ = host.run(format!("kill -KILL {pid}")).ok();
            kills += 1;
            // Sometimes at once, sometimes after the lease has expired.
            thread::sleep(Duration::from_millis(random.next() % 4500));
            let _ = host.vethpath(format!("up {}", lab.file)).ok();
        }
        drop(end);
        watcher.join().expect("counters only grow");
        kills
    })
}

/// Panics where a counter has decreased. (`unseen` is reported too high while frames are in flight: see
/// docs/stats.md.)
#[track_caller]
fn assert_grown(then: &Stats, now: &Stats) {
    let without_unseen = |stats: &Stats| {
        let mut stats = stats.clone();
        for pair in &mut stats.pairs {
            pair.slow.remove("unseen");
        }
        stats
    };
    without_unseen(now).not_less_than(&without_unseen(then));
}

/// Checks that the stream's datagrams are in the counters of their sender and of their receiver.
#[track_caller]
fn assert_counted(before: &Stats, end: &Stats, reports: [StreamReport; 2]) {
    for (name, out, back) in [("ns0:eth0", reports[0], reports[1]), ("ns1:eth0", reports[1], reports[0])] {
        let (then, now) = (before.pair(name), end.pair(name));
        assert!(now.tx.packets - then.tx.packets >= out.sent, "{name}: {out:?} {now:#?}");
        assert!(now.rx.packets - then.rx.packets >= back.received, "{name}: {back:?} {now:#?}");
    }
}

/// How long `up` and `down` are killed, and how long in the long suite.
const COMMAND_TIME: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));
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
    while start.elapsed() < sized(COMMAND_TIME.0, COMMAND_TIME.1) {
        // The bridge is on the machine, or in a fabric. The next `up` may have to move it.
        let fabric = if random.next().is_multiple_of(2) { "--fabric " } else { "" };
        // One to three of them are killed. Then one may finish.
        for _ in 0..=random.next() % 3 {
            let verb = if random.next().is_multiple_of(3) {
                "down three-hosts".to_owned()
            } else {
                format!("up {fabric}{file}")
            };
            let process = host.spawn_vethpath(verb);
            thread::sleep(Duration::from_millis(random.next() % LONGEST));
            process.kill();
            let _ = process.wait(TIMEOUT);
        }
        if random.next().is_multiple_of(2) {
            let up = host.vethpath_after_a_kill(&format!("up {fabric}{file}"));
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
