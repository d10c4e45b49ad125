//! Counts are exact through everything that happens to a lab: `stats` agrees with the hosts' own interfaces, frame for
//! frame and byte for byte. `ip -s link` is the judge.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{Read, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, Scope},
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::harness::{Host, Lab, SLACK, Stats, StopFlag, of_this_kernel, seed, sized, wait_for, wait_until};

/// How long each test runs, and how long in the long suite.
const TIME: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(600));

/// The hosts that are always there. A fourth one comes and goes.
const HOSTS: [&str; 3] = ["h0", "h1", "h2"];

/// Payloads of datagrams: the smallest frames, the largest, and fragments.
const SIZES: [usize; 5] = [1, 18, 500, 1472, 4000];

/// The pause after a datagram, and after a write to a TCP connection.
const PACE: Duration = Duration::from_micros(300);
const WRITE_PACE: Duration = Duration::from_millis(2);

/// Length of an Ethernet header. The kernel does not count it of a frame that a socket sends to an XDP program, or that
/// a bridge sends to an interface with NAPI (`veth_xdp_rcv_skb`).
const HEADER: u64 = 14;

#[test]
fn counts_are_exact_whatever_happens() {
    run(&["tc", "bridge"], seed(0));
}

#[test]
fn counts_are_exact_when_xdp_comes_and_goes() {
    if of_this_kernel(&["xdp"]).is_empty() {
        crate::harness::lacks("XDP features");
    }
    run(&["tc", "xdp", "bridge"], seed(1));
}

/// The interface counts the headers of a GSO frame once, not once for each segment.
#[test]
fn a_gso_frame_has_its_headers_once() {
    const PAYLOAD: u64 = 20_000_000;
    /// Ethernet, IPv4, and TCP with timestamps. Frames of a handshake have some bytes more, and ARP less.
    const HEADERS: u64 = 14 + 20 + 32;
    let host = Host::new();
    let lab = host.lab("two-families").up();
    lab.is_fast("ns0:eth0", "10.0.0.11");
    let listener = lab.netns("ns1").run(|| TcpListener::bind("10.0.0.11:7000")).expect("it can be entered");
    let listener = listener.expect("the port is free");
    let before = lab.assert_counters_match();
    let client = lab.netns("ns0").run(|| TcpStream::connect("10.0.0.11:7000")).expect("it can be entered");
    let mut client = client.expect("it is connected");
    let (mut server, _) = listener.accept().expect("it is connected");
    let reader = thread::spawn(move || {
        let read = std::io::copy(&mut server, &mut std::io::sink()).expect("it arrives");
        // While it is open, the kernel knows what the client sent twice.
        (read, server)
    });
    client.write_all(&vec![0; usize::try_from(PAYLOAD).expect("it fits")]).expect("it is sent");
    client.shutdown(Shutdown::Write).expect("it is connected");
    let (read, server) = reader.join().expect("it reads");
    assert_eq!(read, PAYLOAD);
    let after = lab.assert_counters_match();
    let info = lab.run("ns0", "ss -Htin state all dst 10.0.0.11:7000").ok().stdout;
    assert!(info.contains("bytes_sent:"), "{info}");
    // On a busy machine TCP may send again what has no acknowledgement yet.
    let sent_again = info.split_whitespace().find_map(|word| word.strip_prefix("bytes_retrans:"));
    let sent_again: u64 = sent_again.map_or(0, |bytes| bytes.parse().expect("a number"));
    drop((client, server));
    let [then, now] = [before.pair("ns0:eth0").tx, after.pair("ns0:eth0").tx];
    let (frames, packets) = (now.frames - then.frames, now.packets - then.packets);
    let headers = now.bytes - then.bytes - PAYLOAD - sent_again;
    assert!(packets > 2 * frames, "{packets} packets in {frames} frames: no GSO");
    assert!(headers.abs_diff(frames * HEADERS) < 2_000, "{headers} bytes of headers of {frames} frames");
    lab.down();
    host.finish();
}

/// Does at random what may happen to a lab, with these datapaths, while a reader compares all the time.
fn run(datapaths: &'static [&'static str], seed: u64) {
    let until = Instant::now() + sized(TIME.0, TIME.1);
    let host = Host::new();
    let file = File { datapath: 0, has_fourth: false, has_second_address: false };
    let lab = host.lab("empty").named("exact").and(&file.text(datapaths)).up();
    let has_xdp = datapaths.contains(&"xdp");
    let (stop, traffic, log) = (StopFlag::default(), Traffic::default(), Mutex::new(String::new()));
    thread::scope(|scope| {
        let stopping = stop.stop_on_drop();
        traffic.start(scope, &lab, &stop, !has_xdp);
        let reader = scope.spawn(|| read_all_the_time(&host, &lab, &stop, has_xdp));
        let mut session =
            Session { host: &host, lab: &lab, datapaths, file, rng: Rng::with_seed(seed), log: &log };
        while Instant::now() < until && !reader.is_finished() {
            session.step();
            traffic.at_rest(|| session.compare(has_xdp));
        }
        drop(stopping);
        reader.join().unwrap_or_else(|panic| {
            eprintln!("{}", log.lock().expect("no holder panics"));
            std::panic::resume_unwind(panic)
        });
    });
    lab.down();
    host.finish();
}

/// The lab's file.
struct File {
    /// Which of the datapaths.
    datapath: usize,
    has_fourth: bool,
    has_second_address: bool,
}

impl File {
    fn text(&self, datapaths: &[&str]) -> String {
        let mut text = format!(
            "[bridge.br0]\naddresses = [\"10.9.0.1/16\"]\ndatapath = \"{}\"\n",
            datapaths[self.datapath]
        );
        for number in 0..3 + usize::from(self.has_fourth) {
            let more = if self.has_second_address && number == 0 { ", \"10.9.5.5/16\"" } else { "" };
            let _ = writeln!(
                text,
                "[namespace.h{number}.interface.eth0]\nlink = \"br0\"\naddresses = [\"10.9.1.{number}/16\"{more}]"
            );
        }
        text
    }
}

/// What one interface has counted: frames and bytes sent, frames and bytes received.
type Counted = [u64; 4];

/// What the interfaces of the hosts have counted, by pair.
#[track_caller]
fn judge(host: &Host) -> BTreeMap<String, Counted> {
    let of = |name: &&str| {
        let listed = host.json(format!("ip -n {name} -s -j link show eth0"));
        let count = |way: &str, what: &str| listed[0]["stats64"][way][what].as_u64().expect("a counter");
        let counted =
            [count("tx", "packets"), count("tx", "bytes"), count("rx", "packets"), count("rx", "bytes")];
        (format!("{name}:eth0"), counted)
    };
    HOSTS.iter().map(of).collect()
}

/// The same by `stats`.
fn counted(stats: &Stats, pair: &str) -> Counted {
    let pair = stats.pair(pair);
    [pair.tx.frames, pair.tx.bytes, pair.rx.frames, pair.rx.bytes]
}

/// Reads under traffic until stopped. What `stats` counts lies between what the interfaces have counted before and after,
/// and nothing ever decreases.
fn read_all_the_time(host: &Host, lab: &Lab<'_>, stop: &StopFlag, has_xdp: bool) {
    let mut last: Option<Stats> = None;
    while stop.is_running() {
        let before = judge(host);
        let stats = lab.stats();
        let after = judge(host);
        for (name, before) in &before {
            if let Some(wrong) = stats.pair(name).imbalance() {
                panic!("{wrong}: {stats:#?}");
            }
            let (ours, after) = (counted(&stats, name), after[name]);
            let headers = if has_xdp { HEADER } else { 0 };
            let allowed = [0, headers * after[0], 0, headers * after[2]];
            for column in 0..4 {
                let is_between =
                    before[column] <= ours[column] && ours[column] <= after[column] + allowed[column];
                assert!(is_between, "{name}, column {column}: {before:?}, {ours:?}, {after:?}: {stats:#?}");
            }
        }
        let stays = |name: &str| HOSTS.iter().any(|host| name.strip_suffix(":eth0") == Some(*host));
        let stats =
            Stats { pairs: stats.pairs.into_iter().filter(|pair| stays(&pair.name)).collect(), ..stats };
        if let Some(last) = &last {
            stats.not_less_than(last);
        }
        last = Some(stats);
    }
}

/// What is done to the lab.
struct Session<'s, 'h> {
    host: &'h Host,
    lab: &'s Lab<'h>,
    datapaths: &'static [&'static str],
    file: File,
    rng: Rng,
    log: &'s Mutex<String>,
}

impl Session<'_, '_> {
    fn step(&mut self) {
        let port = self.lab.port(&format!("{}:eth0", self.rng.choice(HOSTS).expect("there are some")));
        match self.rng.u8(0..8) {
            0 => {
                self.note("kill the agent, and start another");
                let pid = self.lab.pid();
                let _ = self.host.run(format!("kill -KILL {pid}")).ok();
                self.host.wait_for_exit(pid);
                self.up();
            }
            1 => {
                self.note("stop the agent past its lease");
                let pid = self.lab.pid();
                let _ = self.host.run(format!("kill -STOP {pid}")).ok();
                wait_for(SLACK, "the lease holds", || {
                    self.host.vethpath(format!("stats {} --json", self.lab.name)).ok().json()["agent"]["lease_left_ms"]
                        == 0
                });
                let _ = self.host.run(format!("kill -CONT {pid}")).ok();
            }
            2 => {
                let flag = *self.rng.choice(&["isolated", "hairpin", "learning"]).expect("there are some");
                self.note(&format!("{flag} of {port}"));
                let (there, back) = if flag == "learning" { ("off", "on") } else { ("on", "off") };
                for value in [there, back] {
                    let _ = self.host.run(format!("bridge link set dev {port} {flag} {value}")).ok();
                    self.pause();
                }
            }
            3 => {
                self.note(&format!("a packet socket on {port}"));
                let tcpdump = self.host.spawn(format!("tcpdump -i {port} -w /dev/null"));
                wait_until(SLACK, || {
                    let output = tcpdump.output();
                    if output.contains("listening on") { Ok(()) } else { Err(output) }
                });
                self.pause();
            }
            4 => {
                self.file.has_fourth ^= true;
                self.note("another host, or one less");
                self.up();
            }
            5 => {
                self.file.has_second_address ^= true;
                self.note("another address, or one less");
                self.up();
            }
            _ => {
                let others = self.datapaths.len() - 1;
                self.file.datapath = (self.file.datapath + self.rng.usize(1..=others)) % self.datapaths.len();
                self.note(&format!("datapath {}", self.datapaths[self.file.datapath]));
                self.up();
            }
        }
        self.pause();
    }

    fn note(&self, what: &str) {
        let _ = writeln!(self.log.lock().expect("no holder panics"), "{what}");
    }

    /// Lets traffic pass in the state that the lab is in.
    fn pause(&mut self) {
        thread::sleep(Duration::from_millis(self.rng.u64(50..500)));
    }

    #[track_caller]
    fn up(&self) {
        let text = self.file.text(self.datapaths);
        let file = self.host.lab("empty").named("exact").and(&text).write();
        let _ = self.host.vethpath(format!("up {file}")).ok();
    }

    /// Waits until `stats` has what the interfaces have. The kernel counts some frames without their headers where a lab
    /// has or had XDP.
    #[track_caller]
    fn compare(&self, has_xdp: bool) {
        let log = || self.log.lock().expect("no holder panics").clone();
        wait_until(SLACK, || {
            let (before, stats, after) = (judge(self.host), self.lab.stats(), judge(self.host));
            for (name, theirs) in &before {
                let ours = counted(&stats, name);
                let headers = |frames: u64| if has_xdp { HEADER * frames } else { 0 };
                let is_equal = ours[0] == theirs[0]
                    && ours[2] == theirs[2]
                    && (theirs[1]..=theirs[1] + headers(theirs[0])).contains(&ours[1])
                    && (theirs[3]..=theirs[3] + headers(theirs[2])).contains(&ours[3]);
                if theirs != &after[name] {
                    return Err("there is traffic".to_owned());
                }
                if !is_equal {
                    return Err(format!(
                        "{name}: the kernel has {theirs:?}, stats {ours:?}: {stats:#?}\nafter:\n{}",
                        log()
                    ));
                }
                if let Some(wrong) = stats.pair(name).imbalance() {
                    return Err(wrong);
                }
            }
            Ok(())
        });
    }
}

/// Traffic in both directions between all hosts, which can rest.
#[derive(Default)]
struct Traffic {
    rests: AtomicBool,
}

impl Traffic {
    fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        lab: &Lab<'_>,
        stop: &'scope StopFlag,
        with_tcp: bool,
    ) {
        let address = |number: usize, port: u16| {
            SocketAddr::from(([10, 9, 1, u8::try_from(number).expect("few")], port))
        };
        let bind = |number: usize, port: u16| {
            let bound = lab.netns(HOSTS[number]).run(|| UdpSocket::bind(address(number, port)));
            bound.expect("it can be entered").expect("the port is free")
        };
        // Nobody reads: datagrams that a full socket drops have arrived.
        let sockets: Vec<UdpSocket> = (0..3).map(|number| bind(number, 7000)).collect();
        for (from, socket) in sockets.into_iter().enumerate() {
            socket.set_broadcast(true).expect("every socket may");
            // The fourth host is not always there.
            let mut targets: Vec<SocketAddr> =
                (0..4).filter(|to| *to != from).map(|to| address(to, 7000)).collect();
            targets.push(SocketAddr::from(([10, 9, 255, 255], 7001)));
            let mut rng = Rng::with_seed(from as u64);
            scope.spawn(move || {
                let bytes = [0; 4000];
                self.while_running(stop, PACE, || {
                    let size = *rng.choice(&SIZES).expect("there are some");
                    let to = rng.choice(&targets).expect("there are some");
                    // Refused where no host answers for the address.
                    let _ = socket.send_to(&bytes[..size], to);
                });
            });
        }
        if with_tcp {
            let listener = lab.netns("h2").run(|| TcpListener::bind(address(2, 7002)));
            let listener = listener.expect("it can be entered").expect("the port is free");
            let client = lab.netns("h0").run(|| TcpStream::connect(address(2, 7002)));
            let mut client = client.expect("it can be entered").expect("it is connected");
            let (mut server, _) = listener.accept().expect("it is connected");
            client.set_write_timeout(Some(Duration::from_millis(100))).expect("it is not zero");
            let bytes = vec![0; 1 << 17];
            scope.spawn(move || {
                self.while_running(stop, WRITE_PACE, || {
                    // Nothing is lost that matters: only that frames are sent.
                    let _ = client.write(&bytes);
                });
            });
            scope.spawn(move || {
                let mut bytes = vec![0; 1 << 17];
                // Until the client closes.
                while server.read(&mut bytes).is_ok_and(|length| length > 0) {}
            });
        }
    }

    /// Does something again and again, but while the traffic rests.
    fn while_running(&self, stop: &StopFlag, pace: Duration, mut work: impl FnMut()) {
        while stop.is_running() {
            if self.rests.load(SeqCst) {
                thread::sleep(Duration::from_millis(1));
            } else {
                work();
                thread::sleep(pace);
            }
        }
    }

    /// Runs `work` while nothing is sent.
    fn at_rest(&self, work: impl FnOnce()) {
        self.rests.store(true, SeqCst);
        work();
        self.rests.store(false, SeqCst);
    }
}
