//! The agent is killed again and again during a stream in both directions: no frame is lost or duplicated, and the
//! counters go on where they were.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    harness::{Host, Lab, Stats, Stream, TIMEOUT, Until, Way, seed, sized, wait_until},
    programs::Random,
};

const A: (&str, &str) = ("ns0", "172.17.0.101");
const B: (&str, &str) = ("ns1", "172.17.0.102");
const TIME: (Duration, Duration) = (Duration::from_secs(12), Duration::from_secs(600));
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
    let kills = kill_for(&host, &lab, seed);
    let [fast, slow] = streams.map(Stream::end);
    println!("{kills} kills; killed {fast:?}, plain {slow:?}");
    for (fast, slow) in fast.into_iter().zip(slow) {
        assert!(fast.sent > 1000 && fast.received > 1000, "{fast:?}");
        assert!(
            fast.lost() <= slow.lost(),
            "lost more than a plain bridge, seed {seed:#x}: {fast:?}, {slow:?}"
        );
        assert!(fast.doubled <= slow.doubled, "doubled, seed {seed:#x}: {fast:?}, {slow:?}");
    }
    let end = lab.accounts_balance();
    grown(&before, &end);
    sent_is_counted(&before, &end, fast);
    assert!(end.fast() - before.fast() > fast[0].sent / 10, "it was fast in between");
    lab.down();
    plain.down();
    host.finish();
    beside.finish();
}

/// Kills the agent and starts it again until the time is over, while another thread reads the counters. Returns how
/// often.
fn kill_for(host: &Host, lab: &Lab<'_>, seed: u64) -> u32 {
    let mut random = Random(seed);
    let until = Until::default();
    thread::scope(|scope| {
        let end = until.end_here();
        let watcher = scope.spawn(|| {
            let mut last = lab.stats();
            while until.goes_on() {
                let now = lab.stats();
                grown(&last, &now);
                last = now;
            }
        });
        let start = Instant::now();
        let mut kills = 0;
        while start.elapsed() < sized(TIME.0, TIME.1) && !watcher.is_finished() {
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
fn grown(then: &Stats, now: &Stats) {
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
fn sent_is_counted(before: &Stats, end: &Stats, ways: [Way; 2]) {
    for (name, out, back) in [("ns0:eth0", ways[0], ways[1]), ("ns1:eth0", ways[1], ways[0])] {
        let (then, now) = (before.pair(name), end.pair(name));
        assert!(now.tx.packets - then.tx.packets >= out.sent, "{name}: {out:?} {now:#?}");
        assert!(now.rx.packets - then.rx.packets >= back.received, "{name}: {back:?} {now:#?}");
    }
}
