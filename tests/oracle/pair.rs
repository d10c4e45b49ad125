//! The two worlds, and how they are compared.

use std::{
    fmt::{self, Debug, Display},
    thread,
    time::{Duration, Instant},
};

use super::{
    Way,
    maps::Counters,
    names::Names,
    world::{AT_ODDS, World},
};
use crate::harness::Arrival;

/// Poll interval.
const PACE: Duration = Duration::from_millis(5);

/// A plain world and an accelerated one, of the same topology.
pub(crate) struct Pair {
    pub(crate) plain: World,
    pub(crate) accelerated: World,
    pub(crate) counters: Counters,
    /// Whether their bridges call netfilter.
    netfilter: bool,
    way: Way,
}

/// A frame that arrived at a host.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Came(usize, Arrival);

impl Pair {
    pub(crate) fn new(text: &str, netfilter: bool, way: Way, names: &Names) -> Self {
        let [plain, accelerated] =
            [false, true].map(|accelerated| World::new(text, way, accelerated, netfilter, names));
        let counters = Counters::of(&accelerated, names);
        Self { plain, accelerated, counters, netfilter, way }
    }

    pub(crate) fn worlds(&self) -> [&World; 2] {
        [&self.plain, &self.accelerated]
    }

    /// Runs `work` in both at once. A failure in only one of them is a difference.
    pub(crate) fn both<E: Send + Debug>(
        &self,
        work: impl Fn(&World) -> Result<(), E> + Sync,
    ) -> Result<(), String> {
        match self.at_once(work) {
            [Ok(()), Ok(())] | [Err(_), Err(_)] => Ok(()),
            [Err(error), Ok(())] => Err(format!("it fails in the plain world alone: {error:?}")),
            [Ok(()), Err(error)] => Err(format!("it fails in the accelerated world alone: {error:?}")),
        }
    }

    /// Compares their FDBs.
    pub(crate) fn same_fdbs(&self, patience: Duration) -> Result<(), String> {
        same("FDBs", patience, || self.at_once(World::fdb)).map(drop)
    }

    /// Compares their FDBs as `bridge` shows them.
    pub(crate) fn same_fdbs_by_bridge(&self, patience: Duration) -> Result<(), String> {
        same("FDBs by `bridge`", patience, || self.at_once(World::fdb_by_bridge)).map(drop)
    }

    /// Compares their links, which the kernel may still be updating.
    pub(crate) fn same_links(&self, patience: Duration) -> Result<(), String> {
        self.same_links_by(World::links, patience)
    }

    /// Compares their links as `ip` shows them.
    pub(crate) fn same_links_by_ip(&self, patience: Duration) -> Result<(), String> {
        self.same_links_by(World::links_by_ip, patience)
    }

    fn same_links_by(
        &self,
        links_of: impl Fn(&World) -> Vec<String> + Sync,
        patience: Duration,
    ) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let links = same("links", patience, || self.at_once(&links_of))?;
            // The links are also equal while the kernel has processed the change in neither world.
            if !links.iter().any(|link| link.ends_with(AT_ODDS)) || start.elapsed() > patience {
                return Ok(());
            }
            thread::sleep(PACE);
        }
    }

    /// Compares the frames that have arrived since the last call. Returns whether there were any.
    pub(crate) fn same_arrivals(&self, patience: Duration) -> Result<bool, String> {
        let mut came: [Vec<Came>; 2] = Default::default();
        let all = same("frames", patience, || {
            for (came, world) in came.iter_mut().zip(self.worlds()) {
                for (end, arrival) in world.arrivals() {
                    let arrival = if self.netfilter { without_fragment_id(arrival) } else { arrival };
                    came.push(Came(end, if self.way == Way::Tc { arrival } else { unverified(arrival) }));
                }
                came.sort();
            }
            came.clone()
        });
        all.map(|all| !all.is_empty())
    }

    fn at_once<T: Send>(&self, work: impl Fn(&World) -> T + Sync) -> [T; 2] {
        thread::scope(|scope| {
            let other = scope.spawn(|| work(&self.accelerated));
            [work(&self.plain), other.join().expect("it does not panic")]
        })
    }
}

/// Polls until both are the same, and returns their content.
fn same<T: PartialEq + Display>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> [Vec<T>; 2],
) -> Result<Vec<T>, String> {
    let start = Instant::now();
    loop {
        let [plain, accelerated] = look();
        if plain == accelerated {
            return Ok(plain);
        }
        if start.elapsed() > patience {
            return Err(format!("{what}:\n{}", differences(&plain, &accelerated)));
        }
        thread::sleep(PACE);
    }
}

/// The items that only one of them has.
fn differences<T: PartialEq + Display>(plain: &[T], accelerated: &[T]) -> String {
    let only = |name: &str, these: &[T], those: &[T]| -> String {
        let count = |all: &[T], one: &T| all.iter().filter(|other| *other == one).count();
        let only = these.iter().filter(|one| count(these, one) > count(those, one));
        only.map(|one| format!("  {name} alone: {one}\n")).collect()
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

/// Clears the flags of a verified checksum: GRO verifies it before a packet socket gets the frame, and a receiver
/// without GRO does so later. The flag of a checksum that is not computed yet stays.
fn unverified(mut arrival: Arrival) -> Arrival {
    /// `TP_STATUS_CSUM_VALID` and `VIRTIO_NET_HDR_F_DATA_VALID`.
    const VALID: (u32, u8) = (1 << 7, 2);
    arrival.status &= !VALID.0;
    arrival.offload.flags &= !VALID.1;
    arrival
}

impl Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{} gets {:?}", self.0, self.1)
    }
}
