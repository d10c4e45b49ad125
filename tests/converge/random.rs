//! Random labs become each other, with kills at random points. `up` and `down` can go on from every state, and
//! nothing is touched that is not the lab's.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::harness::{Host, Output, SLACK, seed, sized, wait_until};

/// How long the test runs, and how long in the long suite.
const TIME: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(900));

#[test]
fn random_labs_become_each_other() {
    let until = Instant::now() + sized(TIME.0, TIME.1);
    let mut rng = Rng::with_seed(seed(0));
    let mut session = Session::new();
    while Instant::now() < until {
        session.step(&mut rng);
    }
    session.finish();
}

/// One machine, one lab, and a record of all that was done to it.
struct Session {
    host: Host,
    foreign: String,
    log: String,
}

impl Session {
    fn new() -> Self {
        let mut host = Host::new();
        for command in [
            "ip netns add theirs",
            "ip link add theirs0 type bridge",
            "ip link add theirs1 type veth peer name theirs2",
            "ip link set theirs1 master theirs0 up alias vethpath-like",
            "ip link set theirs2 netns theirs",
            "ip -n theirs link set theirs2 up",
            "ip link set theirs0 up",
            "ip addr add 192.0.2.1/24 dev theirs0",
            "nft add table inet theirs",
        ] {
            let _ = host.run(command).ok();
        }
        host.wait_for_link("theirs0");
        host.set_baseline();
        let foreign = Self::foreign(&host);
        Self { host, foreign, log: String::new() }
    }

    /// All details of the objects of others, but for counters, timers and addresses that are still tentative.
    fn foreign(host: &Host) -> String {
        [
            "ip -d -o link show theirs0",
            "ip -d -o link show theirs1",
            "ip -o addr show theirs0",
            "ip -n theirs -d -o addr",
        ]
        .iter()
        .map(|command| host.run(*command).ok().stdout)
        .map(|text| {
            text.split_whitespace()
                .filter(|word| !word.ends_with("_timer") && *word != "tentative")
                .collect::<Vec<_>>()
                .join(" ")
        })
        .map(|text| without_timer_values(&text))
        .collect::<Vec<_>>()
        .join("\n")
    }

    fn step(&mut self, rng: &mut Rng) {
        match rng.u8(0..10) {
            0..=3 => {
                let file = self.write(rng);
                let up = self.run(&format!("up {file}"), None);
                self.expect(up.succeeded(), &up);
                let plan = self.run(&format!("plan {file}"), None);
                self.expect(plan.stdout.contains("nothing to change"), &plan);
            }
            4..=6 => {
                let file = self.write(rng);
                let up = self.run(&format!("up {file}"), Some(rng.u32(1..80)));
                self.expect(matches!(up.code(), None | Some(0)), &up);
            }
            7 => {
                let down = self.run("down random", Some(rng.u32(1..30)));
                self.expect(matches!(down.code(), None | Some(0 | 1)), &down);
            }
            8 => self.drift(rng),
            _ => self.down(),
        }
        let now = Self::foreign(&self.host);
        assert_eq!(now, self.foreign, "{}", self.log);
    }

    fn down(&mut self) {
        let down = self.run("down random", None);
        self.expect(matches!(down.code(), Some(0 | 1)), &down);
        // Processes take a while to exit.
        wait_until(SLACK, || {
            self.host.changes().map_or(Ok(()), |changes| Err(format!("{changes}\n{}", self.log)))
        });
        self.log.clear();
    }

    fn finish(mut self) {
        self.down();
        self.host.finish();
    }

    /// Changes something by hand, if it exists.
    fn drift(&mut self, rng: &mut Rng) {
        let n = rng.u8(0..6);
        let command = match rng.u8(0..16) {
            0 => format!("ip -n h{n} route flush all"),
            1 => format!("ip -n h{n} link set eth0 down"),
            2 => format!("ip -n h{n} link set eth0 address 02:00:00:00:00:0{n}"),
            3 => format!("ip -n h{n} link del eth0"),
            4 => format!("ip netns del h{n}"),
            5 => format!("ip link del b{}", n % 3),
            6 => format!("ip -n h{n} route replace default dev eth0"),
            7 => format!("ip -n h{n} -6 route flush dev eth0"),
            8 => format!("umount /run/netns/h{n}"),
            9 => "ip -n m1 link del m0".to_owned(),
            10 => format!("ip route del 10.2{}.0.0/24", n % 3),
            11 => format!("ip -6 route del fd2{}::/64", n % 3),
            12 => "ip -n random-fabric link del uplink".to_owned(),
            13 => "ip -n random-fabric route flush all".to_owned(),
            14 => "ip netns del random-fabric".to_owned(),
            _ => "rm -r /sys/fs/bpf/vethpath/random".to_owned(),
        };
        let _ = writeln!(self.log, "{command}");
        let _ = self.host.run(&*command);
    }

    fn write(&mut self, rng: &mut Rng) -> String {
        let text = topology(rng);
        let _ = writeln!(self.log, "--- file:\n{text}---");
        self.host.topology("random", &text)
    }

    fn run(&mut self, command: &str, kill: Option<u32>) -> Output {
        let exe = self.host.exe();
        let kill = kill.map_or(String::new(), |line| format!("VETHPATH_STOP_AFTER={line}"));
        let _ = writeln!(self.log, "{kill} vethpath {command}");
        self.host.run(format!("env {kill} {exe} {command}"))
    }

    #[track_caller]
    fn expect(&self, holds: bool, output: &Output) {
        assert!(holds, "{output}\nafter:\n{}", self.log);
    }
}

/// Removes the values of bridge timers, which count down in `ip -d`.
fn without_timer_values(text: &str) -> String {
    let is_value = |word: &&str| word.contains('.') && word.parse::<f64>().is_ok();
    text.split(' ').filter(|word| !is_value(word)).collect::<Vec<_>>().join(" ")
}

/// A valid file of up to three bridges and six hosts, and perhaps a group, a mesh and a chain.
fn topology(rng: &mut Rng) -> String {
    let bridges = rng.usize(1..=3);
    let in_fabric = rng.u8(0..3) == 0;
    let mut text = String::from(if in_fabric { "fabric = true\n" } else { "" });
    let mut places = Vec::new();
    for n in 0..bridges {
        let fabric = rng.u8(0..4) == 0;
        places.push(fabric);
        let nat = rng.u8(0..4) == 0;
        let _ = writeln!(text, "[bridge.b{n}]\naddresses = [\"10.2{n}.0.1/24\", \"fd2{n}::1/64\"]");
        for (key, chance) in [
            ("namespace = \"fabric\"", fabric),
            ("nat = true", nat),
            ("host = false", in_fabric && !fabric && !nat && rng.u8(0..3) == 0),
            ("stp = true", rng.u8(0..6) == 0),
            ("mtu = 1400", rng.u8(0..4) == 0),
            ("ageing_time = 60", rng.u8(0..4) == 0),
        ] {
            if chance {
                let _ = writeln!(text, "{key}");
            }
        }
        text += ["", "", "", "datapath = \"bridge\"\n", "datapath = \"xdp\"\n"][rng.usize(0..5)];
        if n > 0 && rng.bool() {
            let _ = writeln!(text, "trunks = [\"b{}\"]", n - 1);
        }
    }
    if places.contains(&true) {
        text += "[namespace.fabric]\n";
    }
    let mut last = None;
    for n in (0..6).filter(|_| rng.u8(0..3) > 0).collect::<Vec<_>>() {
        let bridge = rng.usize(0..bridges);
        let _ = writeln!(text, "[namespace.h{n}]");
        match rng.u8(0..4) {
            0 => {}
            1 => {
                let _ = writeln!(text, "gateway = \"10.2{bridge}.0.1\"");
            }
            _ => {
                let _ = writeln!(text, "gateway = [\"10.2{bridge}.0.1\", \"fd2{bridge}::1\"]");
            }
        }
        if rng.u8(0..3) == 0 {
            let via = rng.u8(1..=9);
            let _ = writeln!(text, "routes = [{{ to = \"10.99.0.0/16\", via = \"10.2{bridge}.0.{via}\" }}]");
        }
        if rng.u8(0..4) == 0 {
            let _ = writeln!(text, "sysctls = {{ \"net.ipv4.ip_forward\" = 1 }}");
        }
        let address = if rng.u8(0..4) == 0 { 100 + n } else { 10 + n };
        let _ = writeln!(
            text,
            "[namespace.h{n}.interface.eth0]\nlink = \"b{bridge}\"\n\
             addresses = [\"10.2{bridge}.0.{address}/24\", \"fd2{bridge}::{address}/64\"]"
        );
        if rng.u8(0..6) == 0 {
            let _ = writeln!(text, "datapath = \"xdp\"");
        }
        if rng.u8(0..6) == 0 {
            let _ = writeln!(text, "mac = \"02:00:00:00:01:{n:02x}\"");
        }
        if let Some(other) = last.replace(n).filter(|_| rng.u8(0..4) == 0) {
            let _ = writeln!(text, "[namespace.h{n}.interface.c{n}]\nlink = \"h{other}:c{n}\"");
        }
    }
    shorthand(rng, &mut text);
    text
}

/// Perhaps a group, a mesh and a chain, each of a random size.
fn shorthand(rng: &mut Rng, text: &mut String) {
    let mut maybe = |chance: u8, of: &dyn Fn(u8) -> String| {
        if rng.u8(0..chance) == 0 {
            *text += &of(rng.u8(2..5));
        }
    };
    maybe(3, &|count| {
        format!(
            "[group.g]\ncount = {count}\nbridge = \"b0\"\nsubnet = \"10.20.0.0/24\"\nfirst = \"10.20.0.200\"\n"
        )
    });
    maybe(3, &|count| format!("[mesh.m]\ncount = {count}\nsubnet = \"10.30.0.0/24\"\n"));
    maybe(4, &|bridges| {
        format!(
            "[chain.k]\nbridges = {bridges}\naddresses = [\"10.40.0.1/24\"]\n\
             [group.kg]\ncount = 3\nchain = \"k\"\nsubnet = \"10.40.0.0/24\"\n"
        )
    });
}
