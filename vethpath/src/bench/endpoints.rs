//! The two ends of a path: threads that stay in their namespaces and on their CPUs, in a lab or at a cable.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, mpsc},
    thread,
};

use ipnet::IpNet;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use tokio::sync::oneshot;

use super::{
    error::Error,
    selection::{Selection, Side},
    workload::{Cores, Placement},
};
use crate::{
    kernel::{self, Netns, NewVeth, RouteSocket, Rtnl, VethEnd},
    topology::{IfName, Mac, NameError},
};

/// Locally administered. They cannot collide: the namespaces contain no other device.
const MACS: [[u8; 6]; 2] = [[0x02, 0x76, 0x70, 0, 0, 1], [0x02, 0x76, 0x70, 0, 0, 2]];

/// Documentation addresses (RFC 5737, RFC 3849). They cannot conflict with another address here.
const IPV4: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
const IPV6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)];

/// A pid of 0 means the calling thread.
const THIS_THREAD: Pid = Pid::from_raw(0);

type Job = Box<dyn FnOnce() + Send>;

/// A thread that runs jobs in order. It ends when this is dropped and the last job is done.
pub struct Endpoint {
    jobs: mpsc::Sender<Job>,
    namespace: String,
}

impl Endpoint {
    /// Starts a thread in `netns`, pinned to `cpu`.
    ///
    /// # Errors
    /// The thread cannot be started, enter the namespace or be pinned.
    pub fn start(netns: &Netns, cpu: usize) -> Result<Self, Error> {
        let namespace = netns.to_string();
        let failed = |cause: String| Error::Thread { namespace: namespace.clone(), cause };
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, answer) = mpsc::channel();
        let netns = netns.clone();
        let work = move || {
            let entered = netns.enter_for_good().map_err(|e| e.to_string());
            let entered = entered.and_then(|()| pin(cpu).map_err(|e| format!("CPU {cpu}: {e}")));
            let fine = entered.is_ok();
            // `start` waits for this.
            let _ = ready.send(entered);
            if fine {
                inbox.into_iter().for_each(|job| job());
            }
        };
        thread::Builder::new().name("bench".to_owned()).spawn(work).map_err(|e| failed(e.to_string()))?;
        answer.recv().unwrap_or_else(|gone| Err(gone.to_string())).map_err(failed)?;
        Ok(Self { jobs, namespace })
    }

    /// Queues a job for the thread. The future resolves to its result.
    pub fn run<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        job: F,
    ) -> impl Future<Output = Result<T, Error>> + use<T, F> {
        let (done, result) = oneshot::channel();
        let namespace = self.namespace.clone();
        // If the thread has died, the job is dropped and the future returns an error.
        let _ = self.jobs.send(Box::new(move || {
            // The receiver may have been dropped.
            let _ = done.send(job());
        }));
        async move { result.await.map_err(|gone| Error::Thread { namespace, cause: gone.to_string() }) }
    }
}

fn pin(cpu: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(THIS_THREAD, &set)
}

/// The CPUs in this process's affinity mask.
#[must_use]
pub fn cpus() -> Vec<usize> {
    let set = sched_getaffinity(THIS_THREAD).unwrap_or_default();
    (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect()
}

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
    pub fn lost(&self, lost: u64, sent: u64, path: &'static str) -> Error {
        Error::Lost { from: self.from.clone(), to: self.to.clone(), lost, sent, path }
    }
}

/// The two ends, each a namespace and an address in it.
pub struct Endpoints {
    places: [(Netns, IpAddr); 2],
    /// Threads by end and CPU.
    threads: BTreeMap<(usize, usize), Arc<Endpoint>>,
}

impl Endpoints {
    /// The two ends in a lab.
    ///
    /// # Errors
    /// A namespace is gone.
    pub fn of(selection: &Selection) -> Result<Self, Error> {
        let place = |side: &Side| Ok::<_, Error>((side.inside.netns()?, side.address));
        Ok(Self::new([place(&selection.from)?, place(&selection.to)?]))
    }

    /// From the client's end and the server's.
    #[must_use]
    pub fn new(places: [(Netns, IpAddr); 2]) -> Self {
        Self { places, threads: BTreeMap::new() }
    }

    /// The two ends of a new cable, a veth pair between two private namespaces, with addresses of the family of `like` and
    /// the given MTU in bytes. The namespaces have no names; the kernel removes them when their threads end.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn cable(like: IpAddr, mtu: Option<u32>) -> Result<Self, Error> {
        let names = ["one end of a cable", "the other end of a cable"];
        let [a, b] = names.map(Netns::create);
        let (a, b) = (a?, b?);
        let interface = interface()?;
        let end = |mac| Ok::<_, Error>(VethEnd { name: &interface, mac: unicast(mac)?, bridge: None });
        let here = Rtnl::open(&a)?;
        let pair = NewVeth { end: end(MACS[0])?, peer: end(MACS[1])?, peer_netns: &b, mtu };
        RouteSocket::open(&a)?.create_veth(pair)?;
        let addresses = cable_addresses(like);
        for (rtnl, address) in [here, Rtnl::open(&b)?].into_iter().zip(addresses) {
            let link = rtnl.expect_link(&interface)?;
            rtnl.add_address(link.ifindex, address).await?;
            rtnl.set_up(link.ifindex, &interface).await?;
        }
        Ok(Self::new([(a, addresses[0].addr()), (b, addresses[1].addr())]))
    }

    /// The threads that a case runs on.
    ///
    /// # Errors
    /// They cannot be started.
    pub fn threads(&mut self, cores: Cores) -> Result<(Arc<Endpoint>, Arc<Endpoint>), Error> {
        let Placement { from_cpu, to_cpu, .. } = placement(cores);
        Ok((self.thread(0, from_cpu)?, self.thread(1, to_cpu)?))
    }

    fn thread(&mut self, place: usize, cpu: usize) -> Result<Arc<Endpoint>, Error> {
        if let Some(thread) = self.threads.get(&(place, cpu)) {
            return Ok(thread.clone());
        }
        let thread = Arc::new(Endpoint::start(&self.places[place].0, cpu)?);
        self.threads.insert((place, cpu), thread.clone());
        Ok(thread)
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
    let cpus = cpus();
    let mut last = cpus.iter().rev().copied();
    let from_cpu = last.next().unwrap_or_default();
    let to_cpu = match cores {
        Cores::Same => from_cpu,
        Cores::Cross => last.next().unwrap_or(from_cpu),
    };
    Placement { cores, from_cpu, to_cpu }
}

/// The addresses of a cable, of the family of `like`.
fn cable_addresses(like: IpAddr) -> [IpNet; 2] {
    let net = |address: IpAddr, length| {
        // Both prefix lengths are valid for their families.
        IpNet::new(address, length).unwrap_or_else(|_| address.into())
    };
    match like {
        IpAddr::V4(_) => IPV4.map(|ip| net(ip.into(), 24)),
        IpAddr::V6(_) => IPV6.map(|ip| net(ip.into(), 64)),
    }
}

fn interface() -> Result<IfName, Error> {
    "eth0".parse().map_err(|error: NameError| invalid("eth0", &error))
}

fn unicast(mac: [u8; 6]) -> Result<Mac, Error> {
    Mac::unicast(mac).map_err(|error| invalid("a cable's MAC", &error))
}

fn invalid(what: &str, error: &NameError) -> Error {
    kernel::Error::new("use", what, io::Error::other(error.to_string())).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_is_on_its_cpu_and_outlives_no_panic() {
        let Some(&cpu) = cpus().last() else { panic!("no CPU") };
        let here = Netns::current().unwrap();
        let Ok(end) = Endpoint::start(&here, cpu) else { return eprintln!("SKIPPED: setns needs root") };
        assert_eq!(end.run(cpus).await.unwrap(), [cpu]);
        let _ = end.run(|| panic!("as it was told to")).await.unwrap_err();
        assert!(matches!(end.run(cpus).await, Err(Error::Thread { .. })));
    }
}
