//! The two ends of a path, with threads in both.

use std::{collections::BTreeMap, io, net::IpAddr, sync::Arc};

use super::{
    Error,
    choose::{Chosen, Side},
    end::{self, End},
    report::Placement,
    work::Cores,
};
use crate::kernel::Netns;

/// The two ends, for error messages.
#[derive(Clone, Debug)]
pub struct Names {
    from: String,
    to: String,
}

impl Names {
    /// The error for a failed socket operation.
    pub fn failed(&self, operation: &'static str, source: io::Error) -> Error {
        Error::Socket { operation, from: self.from.clone(), to: self.to.clone(), source }
    }

    /// The error for too many lost round trips.
    pub fn lost(&self, lost: u64, asked: u64, path: &'static str) -> Error {
        Error::Lost { from: self.from.clone(), to: self.to.clone(), lost, asked, path }
    }
}

/// The two ends, each a namespace and an address in it.
pub struct Site {
    places: [(Netns, IpAddr); 2],
    /// Threads by end and CPU.
    ends: BTreeMap<(usize, usize), Arc<End>>,
}

impl Site {
    /// The two ends in a lab.
    ///
    /// # Errors
    /// A namespace is gone.
    pub fn of(chosen: &Chosen) -> Result<Self, Error> {
        let place = |side: &Side| Ok::<_, Error>((Netns::named(&side.pair.namespace)?, side.address));
        Ok(Self::new([place(&chosen.from)?, place(&chosen.to)?]))
    }

    /// From the client's end and the server's.
    #[must_use]
    pub fn new(places: [(Netns, IpAddr); 2]) -> Self {
        Self { places, ends: BTreeMap::new() }
    }

    /// The threads that a case runs on.
    ///
    /// # Errors
    /// They cannot be started.
    pub fn ends(&mut self, cores: Cores) -> Result<(Arc<End>, Arc<End>), Error> {
        let Placement { from_cpu, to_cpu, .. } = placement(cores);
        Ok((self.end(0, from_cpu)?, self.end(1, to_cpu)?))
    }

    fn end(&mut self, place: usize, cpu: usize) -> Result<Arc<End>, Error> {
        if let Some(end) = self.ends.get(&(place, cpu)) {
            return Ok(end.clone());
        }
        let end = Arc::new(End::start(&self.places[place].0, cpu)?);
        self.ends.insert((place, cpu), end.clone());
        Ok(end)
    }

    /// Both addresses.
    #[must_use]
    pub fn addresses(&self) -> (IpAddr, IpAddr) {
        (self.places[0].1, self.places[1].1)
    }

    /// Both names.
    #[must_use]
    pub fn names(&self) -> Names {
        let name = |(netns, address): &(Netns, IpAddr)| format!("{netns} ({address})");
        Names { from: name(&self.places[0]), to: name(&self.places[1]) }
    }
}

/// The CPUs of both ends. The client's is the last allowed one, since devices tend to interrupt the first. Across CPUs,
/// the server's is the one before it.
#[must_use]
pub fn placement(cores: Cores) -> Placement {
    let cpus = end::cpus();
    let mut last = cpus.iter().rev().copied();
    let from_cpu = last.next().unwrap_or_default();
    let to_cpu = match cores {
        Cores::Same => from_cpu,
        Cores::Cross => last.next().unwrap_or(from_cpu),
    };
    Placement { cores, from_cpu, to_cpu }
}
