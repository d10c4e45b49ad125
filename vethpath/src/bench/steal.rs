//! Time that the hypervisor gave to others, from `/proc/stat` (see proc_stat(5)).

use std::path::Path;

use crate::kernel::bounded;

/// Where the kernel tells it.
const FILE: &str = "/proc/stat";

/// Fields of a CPU's line, after its name: user, nice, system, idle, iowait, irq, softirq, steal.
const FIELDS: usize = 8;

/// What was so when measuring began.
#[derive(Clone, Copy, Debug)]
pub struct Steal {
    cpu: usize,
    before: Option<Ticks>,
}

/// Ticks of one CPU since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    all: u64,
    stolen: u64,
}

impl Steal {
    /// Begins to look at `cpu`.
    #[must_use]
    pub fn start(cpu: usize) -> Self {
        Self { cpu, before: read(cpu) }
    }

    /// The part of the time since that was stolen, in percent; 0 where the kernel does not tell.
    #[must_use]
    pub fn percent(&self) -> f64 {
        let (Some(before), Some(now)) = (self.before, read(self.cpu)) else { return 0.0 };
        let all = now.all.saturating_sub(before.all);
        let stolen = now.stolen.saturating_sub(before.stolen);
        #[expect(clippy::cast_precision_loss, reason = "ticks of one run")]
        if all == 0 { 0.0 } else { 100.0 * stolen as f64 / all as f64 }
    }
}

fn read(cpu: usize) -> Option<Ticks> {
    parse(&bounded::read(Path::new(FILE), bounded::LIST).ok()?, cpu)
}

fn parse(text: &str, cpu: usize) -> Option<Ticks> {
    let name = format!("cpu{cpu}");
    let line = text.lines().find(|line| line.split(' ').next() == Some(&name))?;
    let fields: Vec<u64> =
        line.split_whitespace().skip(1).take(FIELDS).map(str::parse).collect::<Result<_, _>>().ok()?;
    (fields.len() == FIELDS).then(|| Ticks { all: fields.iter().sum(), stolen: fields[FIELDS - 1] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_cpu() {
        let text = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu1 0 0 0 0 0 0 0 1 0 0\ncpu10 1 1 1 1 1 1 1 9 5 0\nintr 5\n";
        assert_eq!(parse(text, 10), Some(Ticks { all: 16, stolen: 9 }));
        assert_eq!(parse(text, 1), Some(Ticks { all: 1, stolen: 1 }));
        assert_eq!(parse(text, 2), None);
        assert_eq!(parse("cpu0 1 2 x", 0), None);
    }
}
