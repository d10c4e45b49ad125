//! The two worlds, and how they are compared.

use std::{
    fmt::{self, Debug, Display},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use vethpath::kernel::Netns;

use super::{
    Datapath,
    maps::Counters,
    names::Names,
    world::{UNSETTLED, World},
};
use crate::{
    harness::{Arrival, SLACK, TIMEOUT, Wire, wait_for},
    programs::bench::ip,
};

/// Poll interval.
const PACE: Duration = Duration::from_millis(5);

/// A plain world and an accelerated one, of the same topology.
pub(crate) struct Pair {
    pub(crate) plain: World,
    pub(crate) accelerated: World,
    pub(crate) counters: Counters,
    /// Whether their bridges call netfilter.
    netfilter: bool,
    datapath: Datapath,
}

/// A frame that arrived at a host.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Arrived(usize, Arrival);

impl Pair {
    pub(crate) fn new(text: &str, netfilter: bool, datapath: Datapath, names: &Names) -> Self {
        let [plain, accelerated] =
            [false, true].map(|accelerated| World::new(text, datapath, accelerated, netfilter, names));
        let counters = Counters::of(&accelerated, names);
        Self { plain, accelerated, counters, netfilter, datapath }
    }

    pub(crate) fn worlds(&self) -> [&World; 2] {
        [&self.plain, &self.accelerated]
    }

    /// Runs `work` in both at once. A failure in only one of them is a difference.
    pub(crate) fn both<E: Send + Debug>(
        &self,
        work: impl Fn(&World) -> Result<(), E> + Sync,
    ) -> Result<(), String> {
        match self.in_parallel(work) {
            [Ok(()), Ok(())] | [Err(_), Err(_)] => Ok(()),
            [Err(error), Ok(())] => Err(format!("it fails in the plain world alone: {error:?}")),
            [Ok(()), Err(error)] => Err(format!("it fails in the accelerated world alone: {error:?}")),
        }
    }

    /// Compares their FDBs.
    pub(crate) fn same_fdbs(&self, timeout: Duration) -> Result<(), String> {
        same("FDBs", timeout, || self.in_parallel(World::fdb)).map(drop)
    }

    /// Compares their FDBs as `bridge` shows them.
    pub(crate) fn same_fdbs_by_bridge(&self, timeout: Duration) -> Result<(), String> {
        same("FDBs by `bridge`", timeout, || self.in_parallel(World::fdb_by_bridge)).map(drop)
    }

    /// Compares their links, which the kernel may still be updating.
    pub(crate) fn same_links(&self, timeout: Duration) -> Result<(), String> {
        self.same_links_by(World::links, timeout)
    }

    /// Compares their links as `ip` shows them.
    pub(crate) fn same_links_by_ip(&self, timeout: Duration) -> Result<(), String> {
        self.same_links_by(World::links_by_ip, timeout)
    }

    fn same_links_by(
        &self,
        links_of: impl Fn(&World) -> Vec<String> + Sync,
        timeout: Duration,
    ) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let links = same("links", timeout, || self.in_parallel(&links_of))?;
            // The links are also equal while the kernel has processed the change in neither world.
            if !links.iter().any(|link| link.ends_with(UNSETTLED)) || start.elapsed() > timeout {
                return Ok(());
            }
            thread::sleep(PACE);
        }
    }

    /// Compares the frames that have arrived since the last call. Returns whether there were any.
    pub(crate) fn same_arrivals(&self, timeout: Duration) -> Result<bool, String> {
        let mut arrived: [Vec<Arrived>; 2] = Default::default();
        let all = same("frames", timeout, || {
            for (arrived, world) in arrived.iter_mut().zip(self.worlds()) {
                for (end, arrival) in world.arrivals() {
                    let arrival = with_linear_neighbour_discovery(arrival);
                    let arrival = if self.netfilter { without_fragment_id(arrival) } else { arrival };
                    arrived.push(Arrived(
                        end,
                        if self.datapath == Datapath::Tc { arrival } else { unverified(arrival) },
                    ));
                }
                arrived.sort();
            }
            arrived.clone()
        });
        all.map(|all| !all.is_empty())
    }

    fn in_parallel<T: Send>(&self, work: impl Fn(&World) -> T + Sync) -> [T; 2] {
        thread::scope(|scope| {
            let other = scope.spawn(|| work(&self.accelerated));
            [work(&self.plain), other.join().expect("it does not panic")]
        })
    }
}

/// Polls until both are the same, and returns their content.
fn same<T: PartialEq + Display>(
    what: &str,
    timeout: Duration,
    mut read: impl FnMut() -> [Vec<T>; 2],
) -> Result<Vec<T>, String> {
    let start = Instant::now();
    loop {
        let [plain, accelerated] = read();
        if plain == accelerated {
            return Ok(plain);
        }
        if start.elapsed() > timeout {
            return Err(format!("{what}:\n{}", differences(&plain, &accelerated)));
        }
        thread::sleep(PACE);
    }
}

/// The items that only one of them has.
fn differences<T: PartialEq + Display>(plain: &[T], accelerated: &[T]) -> String {
    let only = |name: &str, side: &[T], other_side: &[T]| -> String {
        let count = |all: &[T], item: &T| all.iter().filter(|candidate| *candidate == item).count();
        let only = side.iter().filter(|item| count(side, item) > count(other_side, item));
        only.map(|item| format!("  {name} alone: {item}\n")).collect()
    };
    only("plain", plain, accelerated) + &only("accelerated", accelerated, plain)
}

/// Zeroes the ID of IPv6 fragments. A bridge that calls netfilter fragments an IPv6 packet that does not fit, with a
/// random ID, so two plain bridges differ too (`br_ip6_fragment`, `ipv6_select_ident`).
fn without_fragment_id(mut arrival: Arrival) -> Arrival {
    const FRAGMENT: u8 = 44;
    if arrival.bytes.get(12..14) == Some(&[0x86, 0xdd]) && arrival.bytes.get(20) == Some(&FRAGMENT) {
        arrival.bytes.iter_mut().skip(14 + 40 + 4).take(4).for_each(|byte| *byte = 0);
    }
    arrival
}

/// Raises the length of the linear part of an IPv6 packet to that of a neighbour discovery message. While a port of a
/// bridge has `neigh_suppress`, and after such a port has left, the bridge makes as much linear of each IPv6 packet
/// (`br_handle_frame_finish`; `br_del_if` does not recompute `BROPT_NEIGH_SUPPRESS_ENABLED`). The length only shows as
/// the length of the headers in `PACKET_VNET_HDR`, which is a hint there.
fn with_linear_neighbour_discovery(mut arrival: Arrival) -> Arrival {
    const LINEAR: u16 = 14 + 40 + 24;
    let headers = &mut arrival.offload.headers;
    if arrival.bytes.get(12..14) == Some(&[0x86, 0xdd]) && *headers > 0 {
        *headers = LINEAR.max(*headers);
    }
    arrival
}

/// Clears the flags of a verified checksum: GRO verifies it before a packet socket gets the frame, and a receiver
/// without GRO does so later. The flag of a checksum that is not computed yet stays.
fn unverified(mut arrival: Arrival) -> Arrival {
    /// `TP_STATUS_CSUM_VALID` and `VIRTIO_NET_HDR_F_DATA_VALID`.
    const VALID: (u32, u8) = (1 << 7, 2);
    arrival.status &= !VALID.0;
    arrival.offload.flags &= !VALID.1;
    arrival
}

impl Display for Arrived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{} gets {:?}", self.0, self.1)
    }
}

/// A veth pair outside both worlds, to wait until no frame is in flight.
///
/// A frame is queued in the backlog of the sending CPU once for each veth pair that it crosses. Each backlog is a FIFO
/// (`enqueue_to_backlog` in net/core/dev.c). A probe that the same CPU sends on a separate pair therefore arrives after
/// all frames that were queued before.
pub(crate) struct Drain {
    out: Wire,
    back: Wire,
}

impl Drain {
    pub(crate) fn new() -> Self {
        let netns = Netns::create("passes").expect("a namespace");
        let wires = netns.run(|| {
            for words in [
                "link add there type veth peer name back",
                "link set there addrgenmode none up",
                "link set back addrgenmode none up",
            ] {
                ip(words);
            }
            // The kernel drops frames until it has processed the carrier.
            let is_up = |name| {
                let shown = Command::new("ip").args(["-o", "link", "show", "dev", name]).output();
                String::from_utf8_lossy(&shown.expect("ip is installed").stdout).contains("state UP")
            };
            wait_for(SLACK, "the pair is not up", || ["there", "back"].into_iter().all(is_up));
            ["there", "back"].map(|name| Wire::on(name).expect("a packet socket"))
        });
        let [out, back] = wires.expect("it is there");
        Self { out, back }
    }

    /// Waits until all frames that the calling thread has sent, on one CPU, have crossed this many pairs.
    pub(crate) fn wait(&self, pairs: usize) {
        let frame = [&[0xff; 12], &[0x88, 0xb5][..], &[0; 46]].concat();
        let start = Instant::now();
        for _ in 0..pairs {
            self.out.send(&frame);
            // It has arrived already, unless the kernel has deferred softirqs to a thread.
            while self.back.next().is_none() {
                assert!(start.elapsed() < TIMEOUT, "a frame of our own does not come out");
                thread::yield_now();
            }
        }
    }
}
