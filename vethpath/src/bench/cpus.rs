//! Other load on the measured CPUs, from `/proc/stat` (see proc_stat(5)).

use std::{collections::BTreeSet, path::Path, time::Duration};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};

use crate::kernel::files;

/// The source of the counters.
const FILE: &str = "/proc/stat";

/// Fields of a CPU's line, after its name: user, nice, system, idle, iowait, irq, softirq, steal.
const FIELDS: usize = 8;

/// The leading fields that count as used by threads: user, nice, system.
const USED: usize = 3;

/// Ticks of `/proc/stat` per second (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// The counters when measuring began.
#[derive(Clone, Debug)]
pub struct Cpus {
    cpus: BTreeSet<usize>,
    before: Option<Ticks>,
    own: Duration,
}

/// Shares of the CPUs' time, in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Use {
    /// Time that the hypervisor gave to other guests.
    pub stolen: f64,
    /// Time that other processes used.
    pub by_others: f64,
}

/// Ticks of CPUs since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    all: u64,
    used: u64,
    stolen: u64,
}

impl Cpus {
    /// Starts to measure `cpus`.
    #[must_use]
    pub fn start(cpus: BTreeSet<usize>) -> Self {
        Self { before: read(&cpus), cpus, own: own() }
    }

    /// The usage since the start; 0 if `/proc/stat` cannot be read.
    #[must_use]
    pub fn used(&self) -> Use {
        let (Some(before), Some(now)) = (self.before, read(&self.cpus)) else { return Use::default() };
        used(before, now, own().saturating_sub(self.own))
    }
}

#[expect(clippy::cast_precision_loss, reason = "ticks of one run")]
fn used(before: Ticks, now: Ticks, own: Duration) -> Use {
    let all = now.all.saturating_sub(before.all) as f64;
    if all == 0.0 {
        return Use::default();
    }
    let stolen = now.stolen.saturating_sub(before.stolen) as f64;
    let used = now.used.saturating_sub(before.used) as f64;
    // Our own time on other CPUs is subtracted too, so the result is a lower bound.
    let by_others = (used - own.as_secs_f64() * TICKS_PER_SECOND).max(0.0);
    Use { stolen: 100.0 * stolen / all, by_others: 100.0 * by_others / all }
}

/// CPU time of this process (all threads) and of its children that have ended. The latter include the peer processes of
/// round trips.
fn own() -> Duration {
    let of = |who| {
        let usage = getrusage(who).ok()?;
        let micros = [usage.user_time(), usage.system_time()].map(|time| time.num_microseconds());
        u64::try_from(micros.iter().sum::<i64>()).ok().map(Duration::from_micros)
    };
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN].into_iter().filter_map(of).sum()
}

fn read(cpus: &BTreeSet<usize>) -> Option<Ticks> {
    let text = files::read_bounded(Path::new(FILE), files::LIST).ok()?;
    let mut sum = Ticks::default();
    for &cpu in cpus {
        let Ticks { all, used, stolen } = parse(&text, cpu)?;
        sum = Ticks { all: sum.all + all, used: sum.used + used, stolen: sum.stolen + stolen };
    }
    Some(sum)
}

fn parse(text: &str, cpu: usize) -> Option<Ticks> {
    let name = format!("cpu{cpu}");
    let line = text.lines().find(|line| line.split(' ').next() == Some(&name))?;
    let fields: Vec<u64> =
        line.split_whitespace().skip(1).take(FIELDS).map(str::parse).collect::<Result<_, _>>().ok()?;
    (fields.len() == FIELDS).then(|| Ticks {
        all: fields.iter().sum(),
        used: fields[..USED].iter().sum(),
        stolen: fields[FIELDS - 1],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_cpu() {
        let text = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu1 0 0 0 0 0 0 0 1 0 0\ncpu10 1 1 1 1 1 1 1 9 5 0\nintr 5\n";
        assert_eq!(parse(text, 10), Some(Ticks { all: 16, used: 3, stolen: 9 }));
        assert_eq!(parse(text, 1), Some(Ticks { all: 1, used: 0, stolen: 1 }));
        assert_eq!(parse(text, 2), None);
        assert_eq!(parse("cpu0 1 2 x", 0), None);
    }

    #[test]
    fn others_used_what_we_did_not() {
        let before = Ticks { all: 1000, used: 500, stolen: 10 };
        let now = Ticks { all: 1200, used: 650, stolen: 12 };
        let seconds = Duration::from_secs_f64;
        assert_eq!(used(before, now, seconds(1.0)), Use { stolen: 1.0, by_others: 25.0 });
        assert_eq!(used(before, now, seconds(2.0)).by_others, 0.0);
        assert_eq!(used(now, now, seconds(0.0)), Use::default());
    }
}
