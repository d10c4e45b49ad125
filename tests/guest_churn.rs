//! Guest ports that come and go by the hundred on another program's bridge, also while agents and commands are killed.

use std::{
    fs,
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use aya::maps::{Map, MapData, PerCpuArray, PerCpuHashMap};
use serde_json::Value;
use vethpath::kernel::Netns;
use vethpath_common::{Count, MatrixKey, names};

use crate::{
    guests::use_of,
    harness::{Host, Process, SLACK, StopFlag, TIMEOUT, Wire, seed, sized, wait_for, wait_until},
    programs::Random,
};

const LAB: &str = "accelerate-docker0";

/// All inner ends are in one namespace, as those of a container on many networks are.
const INSIDE: &str = "guests";

/// A bridge of another program's, and the ports that it plugs in.
struct Engine<'h> {
    host: &'h Host,
    inside: Netns,
}

impl<'h> Engine<'h> {
    fn new(host: &'h Host) -> Self {
        for command in [
            "ip link add docker0 address 02:42:00:00:00:01 type bridge",
            "ip link set docker0 up",
            "ip netns add guests",
            // Nothing is sent but what the test sends.
            "ip netns exec guests sysctl -q -w net.ipv6.conf.default.disable_ipv6=1",
        ] {
            let _ = host.run(command).ok();
        }
        let inside = Netns::open(&host.path("/run/netns/guests"), INSIDE).expect("it is there");
        let engine = Self { host, inside };
        // A bridge that had a port and lost it has no carrier.
        engine.make(0..1);
        engine.unplug();
        engine
    }

    fn remove(self) {
        let _ = self.host.run("ip link del docker0").ok();
        let _ = self.host.run("ip netns del guests").ok();
    }

    #[track_caller]
    fn batch(&self, begin: &str, numbers: Range<usize>, command: impl Fn(usize) -> String) {
        let text: String = numbers.map(|number| command(number) + "\n").collect();
        let words: Vec<_> = format!("{begin} -batch -").split(' ').map(str::to_owned).collect();
        let _ = self.host.run_with_input(words, &text).ok();
    }

    /// Makes ports with these numbers, and plugs them in. Their inner ends are down.
    #[track_caller]
    fn make(&self, numbers: Range<usize>) {
        let make = |number| {
            let mac = mac(number).map(|byte| format!("{byte:02x}")).join(":");
            format!(
                "link add v{number} group 77 type veth peer name e{number} address {mac} netns guests\n\
                 link set v{number} master docker0 up"
            )
        };
        self.batch("ip", numbers, make);
    }

    /// The same, and waits until they are counted.
    #[track_caller]
    fn plug(&self, numbers: Range<usize>) {
        self.make(numbers.clone());
        wait_until(TIMEOUT, || match self.attached() {
            count if count == numbers.len() => Ok(()),
            count => Err(format!("{count} of {} ports have the program", numbers.len())),
        });
    }

    /// Their inner ends come up. What they send is counted from the first frame on.
    #[track_caller]
    fn raise(&self, numbers: Range<usize>) {
        self.batch("ip -n guests", numbers, |number| format!("link set e{number} up"));
    }

    /// Removes all ports at once.
    #[track_caller]
    fn unplug(&self) {
        let _ = self.host.run("ip link del group 77").ok();
    }

    /// The ports with the program.
    fn attached(&self) -> usize {
        let pins = fs::read_dir(self.host.path(&format!("/sys/fs/bpf/vethpath/{LAB}")));
        let names = pins.into_iter().flatten().flatten().map(|pin| pin.file_name());
        names.filter(|name| name.to_string_lossy().starts_with("guest_")).count()
    }

    /// What the inner ends that are there have sent, by the kernel's counters.
    #[track_caller]
    fn sent(&self) -> u64 {
        let links = self.host.json("ip -n guests -s -j link");
        let links = links.as_array().expect("a list").iter().filter(|link| link["ifname"] != "lo");
        links.map(|link| link["stats64"]["tx"]["packets"].as_u64().expect("a number")).sum()
    }

    fn wires(&self, numbers: Range<usize>) -> Vec<(usize, Wire)> {
        let open = |number| (number, Wire::on(&format!("e{number}")).expect("it is up"));
        self.inside.run(|| numbers.map(open).collect()).expect("it can be entered")
    }

    #[track_caller]
    fn stats(&self) -> Value {
        self.host.vethpath(format!("stats {LAB} --json")).ok().json()
    }

    /// What guests have sent in all, and the part that was fast.
    #[track_caller]
    fn counted(&self) -> (u64, u64) {
        let stats = self.stats();
        let of = |one: &Value| {
            let packets = |count: &Value| count["packets"].as_u64().expect("a number");
            (packets(&one["tx"]), packets(&one["fast"]["tx"]))
        };
        let here = stats["pairs"].as_array().expect("a list").iter().map(of);
        here.chain([of(&stats["former"])]).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// What ports that are there have sent and no program has seen: the kernel's counts of a port go with it.
    #[track_caller]
    fn unseen(&self) -> u64 {
        let stats = self.stats();
        let pairs = stats["pairs"].as_array().expect("a list");
        pairs.iter().map(|pair| pair["slow"]["unseen"].as_u64().unwrap_or_default()).sum()
    }

    /// Waits until exactly that was counted. More must not be counted at any time.
    #[track_caller]
    fn counts_are(&self, sent: u64) {
        wait_until(SLACK, || match self.counted().0 {
            count if count == sent => Ok(()),
            count if count > sent => panic!("{count} packets were counted, and {sent} were sent"),
            count => Err(format!("{count} packets of {sent} were counted: {:#}", self.stats())),
        });
    }
}

fn mac(number: usize) -> [u8; 6] {
    let [high, low] = u16::try_from(number).expect("a small number").to_be_bytes();
    [2, 0x77, 0, 0, high, low]
}

/// A frame from a guest to another, or to all.
fn frame(from: usize, to: Option<usize>) -> Vec<u8> {
    let to = to.map_or([0xff; 6], mac);
    // An experimental protocol, and nothing in it.
    [&to[..], &mac(from), &[0x88, 0xb5], &[0; 46]].concat()
}

/// Each guest sends to all others, and some frames to the next one.
fn send(wires: &[(usize, Wire)], frames: usize) {
    for (at, (number, wire)) in wires.iter().enumerate() {
        let (next, _) = &wires[(at + 1) % wires.len()];
        wire.send(&frame(*number, None));
        (0..frames).for_each(|_| wire.send(&frame(*number, Some(*next))));
    }
}

/// Closes packet sockets at the same time: each waits for an RCU grace period (`packet_release` in net/packet/af_packet.c).
fn close(wires: Vec<(usize, Wire)>) {
    thread::scope(|scope| wires.into_iter().for_each(|wire| drop(scope.spawn(move || drop(wire)))));
}

/// The pid of the agent.
fn agent(host: &Host) -> Option<i32> {
    fs::read_to_string(host.path(&format!("/run/vethpath/{LAB}/agent.lock"))).ok()?.trim().parse().ok()
}

/// Resident memory in KiB.
pub(crate) fn memory(host: &Host, pid: i32) -> u64 {
    let status = fs::read_to_string(host.path(&format!("/proc/{pid}/status"))).expect("it is alive");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has some");
    resident.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Ports at once.
const AT_ONCE: usize = 50;

#[test]
fn a_thousand_ports_come_and_go_and_leave_nothing_in_the_agent() {
    let host = Host::new();
    let engine = Engine::new(&host);
    let _ = host.vethpath("accelerate docker0").ok();
    let pid = agent(&host).expect("it is up");
    let empty = use_of(&host, LAB, pid);
    let (mut sent, mut used) = (0, 0);
    let rounds = sized(20, 200);
    for round in 0..rounds {
        // Other addresses in each round: stations go with their ports.
        let numbers = round * AT_ONCE..(round + 1) * AT_ONCE;
        engine.plug(numbers.clone());
        engine.raise(numbers.clone());
        let wires = engine.wires(numbers);
        let fast = engine.counted().1;
        wait_until(SLACK, || {
            send(&wires, 3);
            match engine.counted().1 - fast {
                some if some > AT_ONCE as u64 => Ok(()),
                some => Err(format!("{some} frames were fast: {:#}", engine.stats())),
            }
        });
        close(wires);
        sent += engine.sent();
        engine.counts_are(sent);
        engine.unplug();
        wait_for(SLACK, "ports stay", || engine.attached() == 0);
        engine.counts_are(sent);
        // The heap has its size after some rounds.
        if round == rounds / 4 {
            used = memory(&host, pid);
        }
    }
    assert_eq!(agent(&host), Some(pid), "it has been the same all the time");
    wait_until(TIMEOUT, || match use_of(&host, LAB, pid) {
        // One cell of the traffic matrix for what former guests sent to each other.
        (descriptors, elements) if descriptors <= empty.0 && elements <= empty.1 + 1 => Ok(()),
        after => Err(format!("(descriptors, elements) were {empty:?}, and are {after:?}")),
    });
    wait_until(TIMEOUT, || match memory(&host, pid) {
        now if now <= used + 1024 => Ok(()),
        now => Err(format!("{now} KiB, after {used} KiB")),
    });
    println!("{} ports, {sent} packets, {} KiB", rounds * AT_ONCE, memory(&host, pid));
    let _ = host.vethpath("accelerate docker0 --stop").ok();
    engine.remove();
    host.finish();
}

/// How long agents are killed, and how long in the long suite.
const TIME: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

#[test]
fn agents_killed_while_ports_come_and_go_lose_and_double_no_count() {
    let seed = seed(0);
    let mut machine = Host::new();
    let Engine { inside, .. } = Engine::new(&machine);
    machine.set_baseline_when_stable();
    let (host, engine) = (&machine, Engine { host: &machine, inside });
    let _ = host.vethpath("accelerate docker0").ok();
    let stop = StopFlag::default();
    let (rounds, kills) = thread::scope(|scope| {
        let end = stop.stop_on_drop();
        let killer = scope.spawn(|| {
            let (mut random, mut kills) = (Random(seed), 0);
            while stop.is_running() {
                thread::sleep(Duration::from_millis(random.next() % 900));
                let pid = agent(host).expect("it has been started");
                let _ = host.run(format!("kill -KILL {pid}")).ok();
                host.wait_for_exit(pid);
                kills += 1;
                // Sometimes at once.
                thread::sleep(Duration::from_millis((random.next() % 600).saturating_sub(200)));
                let _ = host.vethpath_after_a_kill("accelerate docker0").ok();
            }
            kills
        });
        let (mut random, start) = (Random(seed + 1), Instant::now());
        let (mut sent, mut fast, mut rounds) = (0, 0, 0);
        while start.elapsed() < sized(TIME.0, TIME.1) && !killer.is_finished() {
            let numbers = rounds * 12..rounds * 12 + 1 + (random.next() % 12) as usize;
            engine.plug(numbers.clone());
            engine.raise(numbers.clone());
            let wires = engine.wires(numbers);
            for _ in 0..random.next() % 8 {
                send(&wires, 3);
                thread::sleep(Duration::from_millis(random.next() % 60));
            }
            close(wires);
            sent += engine.sent();
            engine.counts_are(sent);
            // The agent may have been killed after it had recorded a port and before it had attached the program.
            sent -= engine.unseen();
            engine.unplug();
            engine.counts_are(sent);
            fast = engine.counted().1;
            rounds += 1;
        }
        drop(end);
        let kills = killer.join().expect("agents are killed and started");
        engine.counts_are(sent);
        assert!(fast > 0 && kills > 3, "{fast} fast frames, {kills} kills");
        (rounds, kills)
    });
    println!("{rounds} rounds, {kills} kills");
    wait_for(SLACK, "ports keep their programs", || engine.attached() == 0);
    let _ = host.vethpath("accelerate docker0 --stop").ok();
    host.assert_restored("after --stop");
    engine.remove();
    machine.set_baseline_when_stable();
    machine.finish();
}

#[test]
fn a_move_of_counts_that_is_killed_at_each_write_is_completed_once() {
    for by_a_reader in [false, true] {
        let host = Host::new();
        let engine = Engine::new(&host);
        let _ = host.vethpath("accelerate docker0").ok();
        engine.plug(0..4);
        engine.raise(0..4);
        let wires = engine.wires(0..4);
        wait_until(SLACK, || {
            send(&wires, 3);
            if engine.counted().1 > 20 { Ok(()) } else { Err(format!("{:#}", engine.stats())) }
        });
        let pid = agent(&host).expect("it is up");
        let sent = engine.sent();
        engine.counts_are(sent);
        let (_, fast) = engine.counted();
        let _ = host.run(format!("kill -KILL {pid}")).ok();
        host.wait_for_exit(pid);
        engine.unplug();
        // Each agent begins with what the one before it has left, and is killed one write later.
        let start = |line: usize| {
            let command = format!("env VETHPATH_STOP_AFTER={line} {} agent {LAB}", host.exe());
            host.spawn(command)
        };
        let mut kills = 0;
        let ends = |agent: &mut Process| {
            wait_until(TIMEOUT, || match agent.has_ended() {
                true => Ok(true),
                // It has nothing left to move.
                false if moved(&host) == fast && is_completed(&host) => Ok(false),
                false => Err(agent.output()),
            })
        };
        let last = loop {
            let mut agent = start(kills + 1);
            if !ends(&mut agent) {
                break agent;
            }
            kills += 1;
            if by_a_reader && kills % 3 == 0 {
                engine.counts_are(sent);
            }
        };
        println!("{kills} kills, by a reader {by_a_reader}");
        assert!(kills >= if by_a_reader { 3 } else { 8 }, "{kills} kills: a debug build kills itself");
        engine.counts_are(sent);
        assert_eq!((moved(&host), engine.counted()), (fast, (sent, fast)));
        last.kill();
        let _ = last.wait(TIMEOUT);
        let _ = host.vethpath("accelerate docker0").ok();
        engine.counts_are(sent);
        let _ = host.vethpath("accelerate docker0 --stop").ok();
        engine.remove();
        host.finish();
    }
}

/// Whether the record of a move is empty again.
fn is_completed(host: &Host) -> bool {
    let record = fs::metadata(host.path(&format!("/run/vethpath/{LAB}/counts")));
    record.is_ok_and(|record| record.len() == 0)
}

/// The packets in the traffic matrix from a number to itself: no port sends to itself, and all that have left have one.
fn moved(host: &Host) -> u64 {
    let map = |name: &str| {
        let path = host.path(&format!("/sys/fs/bpf/vethpath/{LAB}/{name}"));
        MapData::from_pin(path).expect("it is pinned")
    };
    let cells = PerCpuArray::<_, Count>::try_from(Map::PerCpuArray(map(names::CELLS))).expect("its type");
    let matrix = PerCpuHashMap::<_, MatrixKey, Count>::try_from(Map::PerCpuHashMap(map(names::MATRIX)));
    let matrix = matrix.expect("its type");
    let width = cells.len().isqrt();
    let of_cell = |index: u32| {
        let key = MatrixKey::of_cell(index, width);
        (key.from == key.to).then(|| cells.get(&index, 0).expect("it is there"))
    };
    let in_cells = (0..cells.len()).filter_map(of_cell);
    let in_matrix = matrix.iter().map(|element| element.expect("it can be read"));
    let in_matrix = in_matrix.filter(|(key, _)| key.from == key.to).map(|(_, counts)| counts);
    in_cells.chain(in_matrix).flat_map(|counts| counts.to_vec()).map(|count| count.packets).sum()
}

/// How long commands are killed, and how long in the long suite.
const COMMAND_TIME: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

#[test]
fn accelerate_killed_at_random_moments_leaves_nothing_that_stop_does_not_remove() {
    let seed = seed(0);
    let mut random = Random(seed);
    let mut host = Host::new();
    let engine = Engine::new(&host);
    engine.make(0..4);
    engine.raise(0..4);
    let Engine { inside, .. } = engine;
    host.set_baseline_when_stable();
    let (start, mut rounds) = (Instant::now(), 0);
    while start.elapsed() < sized(COMMAND_TIME.0, COMMAND_TIME.1) {
        for _ in 0..=random.next() % 3 {
            let stop = if random.next().is_multiple_of(3) { " --stop" } else { "" };
            let process = host.spawn_vethpath(format!("accelerate docker0{stop}"));
            thread::sleep(Duration::from_millis(random.next() % 250));
            process.kill();
            let _ = process.wait(TIMEOUT);
        }
        if random.next().is_multiple_of(2) {
            let up = host.vethpath_after_a_kill("accelerate docker0");
            assert!(up.succeeded() && up.stdout.contains("4 of 4 ports armed"), "seed {seed:#x}: {up}");
        }
        let stop = host.vethpath_after_a_kill("accelerate docker0 --stop");
        // Exit status 1: there was none.
        assert!(matches!(stop.code(), Some(0 | 1)), "seed {seed:#x}, round {rounds}: {stop}");
        wait_until(TIMEOUT, || {
            let left = host.changes();
            left.map_or(Ok(()), |left| Err(format!("seed {seed:#x}, round {rounds}: {left}\nafter {stop}")))
        });
        rounds += 1;
    }
    println!("{rounds} rounds");
    let engine = Engine { host: &host, inside };
    engine.unplug();
    engine.remove();
    host.set_baseline_when_stable();
}
