//! The namespaces that the adoptions of a lab lead to.

use std::{collections::BTreeMap, os::fd::OwnedFd, path::Path, sync::Arc};

use super::{Netns, Result, occupants::has_ended};
use crate::topology::{Adopt, Container};

/// The namespaces of containers, each held open. Paths are opened when they are needed.
#[derive(Clone, Debug, Default)]
pub struct Adoptions {
    running: BTreeMap<Container, Running>,
    /// Those that the lab has left meanwhile.
    left: BTreeMap<Adopt, Netns>,
    /// Whether those lead where they did before.
    is_restored: bool,
}

#[derive(Clone, Debug)]
struct Running {
    netns: Netns,
    process: Arc<OwnedFd>,
}

impl Adoptions {
    /// Adds the namespace of a container, and a process that is in it.
    pub fn add(&mut self, container: &Container, netns: Netns, process: OwnedFd) {
        self.running.insert(container.clone(), Running { netns, process: Arc::new(process) });
    }

    /// The namespace that an adoption leads to; `None` for a container that does not run.
    ///
    /// # Errors
    /// The file cannot be opened, or is not a namespace.
    pub fn open(&self, adopt: &Adopt, label: &str) -> Result<Option<Netns>> {
        if let Some(netns) = self.left.get(adopt).filter(|_| self.is_restored) {
            return Ok(Some(netns.clone()));
        }
        match adopt {
            Adopt::Path(path) => Netns::open(Path::new(path), label).map(Some),
            Adopt::Container(container) => {
                Ok(self.running.get(container).map(|running| running.netns.clone()))
            }
        }
    }

    /// Whether a container was found to run.
    #[must_use]
    pub fn have(&self, container: &Container) -> bool {
        self.running.contains_key(container)
    }

    /// Whether an adoption is that of a container that was found to run, and has ended since.
    #[must_use]
    pub fn has_ended(&self, adopt: &Adopt) -> bool {
        let running = adopt.container().and_then(|container| self.running.get(container));
        running.is_some_and(|running| has_ended(&running.process))
    }

    /// Keeps a namespace that the lab is about to leave.
    pub fn keep(&mut self, adopt: &Adopt, netns: Netns) {
        self.left.insert(adopt.clone(), netns);
    }

    /// From now on, adoptions lead to the namespaces that the lab has left. Containers that it has not left are as if
    /// they did not run, so that the lab keeps what it has.
    pub fn restore(&mut self) {
        self.running.clear();
        self.is_restored = true;
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;
    use crate::topology::Runtime;

    #[test]
    fn what_a_lab_has_left_comes_back_and_nothing_else() {
        let container = |name: &str| Container { name: name.parse().unwrap(), runtime: Runtime::Docker };
        let mut process = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
        let own = Netns::current().unwrap();
        let mut adoptions = Adoptions::default();
        for name in ["web", "db"] {
            adoptions.add(&container(name), own.clone(), pidfd_open(pid, PidfdFlags::empty()).unwrap());
        }
        let (web, db) = (Adopt::Container(container("web")), Adopt::Container(container("db")));
        let path = Adopt::Path("/nowhere".to_owned());
        assert!(!adoptions.has_ended(&web) && adoptions.open(&web, "web").unwrap().is_some());
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(adoptions.has_ended(&web) && !adoptions.has_ended(&path));
        assert!(adoptions.open(&path, "path").unwrap_err().is_missing());
        [&web, &path].into_iter().for_each(|left| adoptions.keep(left, own.clone()));
        adoptions.restore();
        let found = [&web, &path, &db].map(|adopt| adoptions.open(adopt, "it").unwrap().is_some());
        assert_eq!(found, [true, true, false]);
        assert!(!adoptions.has_ended(&web) && !adoptions.have(&container("db")));
    }
}
