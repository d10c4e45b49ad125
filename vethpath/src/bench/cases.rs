//! Selects the cases to measure from the request. Pure.

use super::{
    error::Error,
    workload::{Cores, Spec, Wait, Workload},
};

/// The longest payload of a UDP datagram over IPv4 (RFC 768, RFC 791).
const LONGEST_DATAGRAM: usize = 65_507;

/// The shortest datagram that holds a sequence number.
const SHORTEST_NUMBERED: usize = 8;

/// Bytes of a write to a stream, unless the user sets a size.
const STREAM: usize = 64 << 10;

/// The user's selection of cases. An empty list means the default.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Kinds of work.
    pub work: Vec<Workload>,
    /// All kinds of work, in all combinations.
    pub all: bool,
    /// Bytes of a message, datagram or write.
    pub sizes: Vec<usize>,
    /// How the ends wait.
    pub waits: Vec<Wait>,
    /// Where they run.
    pub cores: Vec<Cores>,
}

impl Spec {
    /// The same case with the size clamped to what the work supports.
    #[must_use]
    pub fn possible(self) -> Self {
        let size = match self.work {
            Workload::UdpRr => self.size.clamp(1, LONGEST_DATAGRAM),
            Workload::UdpRate => self.size.clamp(SHORTEST_NUMBERED, LONGEST_DATAGRAM),
            Workload::TcpConnect => 1,
            Workload::TcpRr | Workload::TcpStream => self.size.max(1),
        };
        Self { size, ..self }
    }
}

/// Returns the selected cases for a host with this many CPUs. The first one is the headline result.
///
/// # Errors
/// None of the requested combinations is possible.
pub fn cases(wish: &Wish, cpus: usize) -> Result<Vec<Spec>, Error> {
    if cpus < 2 && !wish.cores.is_empty() && !wish.cores.contains(&Cores::Same) {
        return Err(Error::OneCpu);
    }
    let two = cpus >= 2;
    let mut cases = Vec::new();
    for work in works(wish) {
        for &cores in &[Cores::Same, Cores::Cross] {
            let wanted = if wish.cores.is_empty() { usual(work, two) } else { &wish.cores };
            if !wanted.contains(&cores) || (cores == Cores::Cross && !two) {
                continue;
            }
            for wait in waits(wish, work, cores) {
                let sizes = if wish.sizes.is_empty() { vec![usual_size(work)] } else { wish.sizes.clone() };
                for size in sizes {
                    let spec = Spec { work, size, wait, cores }.possible();
                    if !cases.contains(&spec) {
                        cases.push(spec);
                    }
                }
            }
        }
    }
    if cases.is_empty() { Err(Error::Spinning { two }) } else { Ok(cases) }
}

fn works(wish: &Wish) -> Vec<Workload> {
    match &wish.work[..] {
        [] if wish.all => Workload::ALL.to_vec(),
        [] => vec![Workload::UdpRr, Workload::TcpRr],
        work => work.to_vec(),
    }
}

/// The default placement. A sender that saturates a CPU must not share it with the receiver.
fn usual(work: Workload, two: bool) -> &'static [Cores] {
    match work {
        Workload::TcpStream | Workload::UdpRate if two => &[Cores::Cross],
        _ => &[Cores::Same, Cores::Cross],
    }
}

/// Spinning is measured only for round trips across CPUs. Two processes that spin on one CPU each wait for the other's
/// time slice, which is thousands of times longer than the path.
fn waits(wish: &Wish, work: Workload, cores: Cores) -> Vec<Wait> {
    let wanted: &[Wait] = match &wish.waits[..] {
        [] if wish.all => &[Wait::Blocking, Wait::Spinning],
        [] => &[Wait::Blocking],
        waits => waits,
    };
    let possible = |wait: &Wait| *wait == Wait::Blocking || (work.is_latency() && cores == Cores::Cross);
    wanted.iter().copied().filter(possible).collect()
}

const fn usual_size(work: Workload) -> usize {
    match work {
        Workload::TcpStream => STREAM,
        _ => Spec::UDP.size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(wish: &Wish, cpus: usize) -> Vec<String> {
        cases(wish, cpus).unwrap().iter().map(Spec::name).collect()
    }

    #[test]
    fn by_default_round_trips_on_one_cpu_and_across_two() {
        let expected = [
            "UDP round trips of 64 bytes, blocking, on one CPU",
            "UDP round trips of 64 bytes, blocking, across CPUs",
            "TCP round trips of 64 bytes, blocking, on one CPU",
            "TCP round trips of 64 bytes, blocking, across CPUs",
        ];
        assert_eq!(names(&Wish::default(), 2), expected);
        assert_eq!(names(&Wish::default(), 1), [expected[0], expected[2]]);
    }

    #[test]
    fn all_is_every_work_in_every_way_that_makes_sense() {
        let all = cases(&Wish { all: true, ..Wish::default() }, 2).unwrap();
        assert_eq!(all.len(), 3 + 3 + 2 + 1 + 1);
        assert!(all.iter().all(|case| case.wait == Wait::Blocking || case.cores == Cores::Cross));
    }

    #[test]
    fn sizes_are_made_possible_and_not_measured_twice() {
        let wish = Wish {
            work: vec![Workload::UdpRr],
            sizes: vec![1, 65_536, 70_000],
            cores: vec![Cores::Same],
            ..Wish::default()
        };
        let sizes: Vec<_> = cases(&wish, 2).unwrap().iter().map(|case| case.size).collect();
        assert_eq!(sizes, [1, LONGEST_DATAGRAM]);
        let rate = Wish { work: vec![Workload::UdpRate], sizes: vec![1], ..Wish::default() };
        assert_eq!(cases(&rate, 1).unwrap()[0].size, SHORTEST_NUMBERED);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let spinning = Wish { waits: vec![Wait::Spinning], cores: vec![Cores::Same], ..Wish::default() };
        assert!(matches!(cases(&spinning, 2), Err(Error::Spinning { two: true })));
        let cross = Wish { cores: vec![Cores::Cross], ..Wish::default() };
        assert!(matches!(cases(&cross, 1), Err(Error::OneCpu)));
        let spinning = Wish { waits: vec![Wait::Spinning], ..Wish::default() };
        assert_eq!(cases(&spinning, 2).unwrap().len(), 2, "across CPUs alone");
    }
}
