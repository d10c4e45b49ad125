//! The home of a lab: the network namespace that its file calls `host`, the mount namespace that has the names of its
//! namespaces, and the bpffs with its pins. Commands that are called elsewhere enter it first.

use std::{
    collections::BTreeSet,
    env, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    unistd::chdir,
};
use serde::{Deserialize, Serialize};

use super::{
    LinkFacts, Netns, Result, RouteSocket, bpffs,
    error::Context,
    files,
    namespace_id::mount_namespace_id,
    netns::{self, NetnsId},
};

/// The folders of the calling thread, and of the machine's (or container's) first process.
const HERE: &str = "/proc/thread-self";
const MACHINE: &str = "/proc/1";

/// The inode of the initial PID namespace, in which all processes are visible (`PID_NS_INIT_INO` in
/// include/uapi/linux/nsfs.h).
const INITIAL_PROCESSES: u64 = 0xEFFF_FFFC;

/// The namespaces of a lab, by the numbers that identify them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// The network namespace.
    pub netns: NetnsId,
    /// The inode of the mount namespace. It may be reused when the namespace is gone.
    pub mounts: u64,
    /// Its identifier, which is not reused.
    /// Minimum kernel: Linux 6.11 (`NS_GET_MNTNS_ID`); `None` before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mounts_id: Option<u64>,
    /// The inode of the PID namespace that the agent's pid belongs to.
    pub processes: u64,
    /// The device number of the bpffs at its mount point; `None` if none was mounted.
    pub bpffs: Option<u64>,
}

/// Whether this process is in a namespace, or how to enter it.
#[derive(Debug)]
pub enum Access<T> {
    /// This process is in it.
    Here,
    /// It can be entered through this.
    Through(T),
    /// It was not found from here.
    Lost,
}

impl<T> Access<T> {
    fn is_here(&self) -> bool {
        matches!(self, Self::Here)
    }

    fn is_lost(&self) -> bool {
        matches!(self, Self::Lost)
    }
}

/// How to get from the namespaces of this process to those of a lab.
#[derive(Debug)]
pub struct HomeAccess {
    netns: Access<Netns>,
    mounts: Access<fs::File>,
    /// Whether pids mean the same here.
    same_processes: bool,
    /// Whether the lab's processes are visible from here.
    sees_all_processes: bool,
    /// Whether another bpffs is mounted over the lab's.
    hidden_bpffs: bool,
}

/// What a command does with a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// It reads the lab's state.
    Read,
    /// It changes the lab.
    Change,
}

/// Why a command cannot run from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It would change the lab, and is called from another PID namespace: it would signal other processes.
    Processes,
    /// No process or name that is visible from here is in the lab's namespaces.
    Unreachable,
    /// Another bpffs is mounted over the one in which the lab is pinned.
    HiddenPins,
    /// The lab's network namespace is gone.
    NetnsGone,
    /// The lab's mount namespace is gone.
    MountsGone,
}

impl Home {
    /// The namespaces of the calling thread.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn current() -> Result<Self> {
        Self::of(HERE)
    }

    /// The namespaces of a process.
    ///
    /// # Errors
    /// The process does not exist, or its namespaces may not be read.
    pub fn of_process(pid: i32) -> Result<Self> {
        Ok(Self { bpffs: None, ..Self::of(&format!("/proc/{pid}"))? })
    }

    fn of(process: &str) -> Result<Self> {
        let netns = Netns::open(&Path::new(process).join("ns/net"), netns::HOST)?;
        Ok(Self {
            netns: if process == HERE { netns.id_here()? } else { netns.id()? },
            mounts: inode(process, "mnt").doing("inspect mount namespace of", process)?,
            mounts_id: fs::File::open(Path::new(process).join("ns/mnt"))
                .ok()
                .as_ref()
                .and_then(mount_namespace_id),
            processes: inode(process, "pid").doing("inspect process namespace of", process)?,
            bpffs: bpffs::device(),
        })
    }

    /// Guesses the home of a lab that is not recorded: that of the first process whose network namespace has a link
    /// that `is_of_lab` accepts, but no such loopback, which namespaces that the lab created have. Tries the calling
    /// thread, then the machine's first process, then all others. `None` if there is none.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn guess(is_of_lab: impl Fn(&LinkFacts) -> bool) -> Result<Option<Self>> {
        let first = [HERE, MACHINE].map(PathBuf::from).into_iter();
        let mut seen = BTreeSet::new();
        for process in first.chain(processes(None)) {
            let path = process.join("ns/net");
            if !fs::metadata(&path).is_ok_and(|found| seen.insert(found.ino())) {
                continue;
            }
            let links = Netns::open(&path, netns::HOST).and_then(|netns| RouteSocket::open(&netns)?.links());
            let links = links.unwrap_or_default();
            let (loopback, others): (Vec<_>, Vec<_>) = links.iter().partition(|link| link.loopback);
            if others.into_iter().any(&is_of_lab) && !loopback.into_iter().any(&is_of_lab) {
                return Self::of(&process.to_string_lossy()).map(|home| Some(Self { bpffs: None, ..home }));
            }
        }
        Ok(None)
    }

    /// How to get there. `agent` is the pid of a process that is likely to be there.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn route(&self, agent: Option<i32>) -> Result<HomeAccess> {
        let here = Self::current()?;
        let has_pins = self.bpffs.is_some() && self.bpffs == here.bpffs;
        let has_mounts = self.is_in_mounts(here.mounts, here.mounts_id);
        Ok(HomeAccess {
            netns: if self.netns.is(&here.netns) { Access::Here } else { self.find_netns(agent) },
            mounts: match has_mounts {
                true => Access::Here,
                false => match self.find_mounts(agent) {
                    // Another mount namespace with the same mounts, as some containers have.
                    Access::Lost if has_pins => Access::Here,
                    found => found,
                },
            },
            same_processes: self.processes == here.processes,
            sees_all_processes: self.processes == here.processes || here.processes == INITIAL_PROCESSES,
            hidden_bpffs: has_mounts && !has_pins && self.bpffs.is_some_and(bpffs::is_mounted_as),
        })
    }

    fn find_netns(&self, agent: Option<i32>) -> Access<Netns> {
        let of_processes = processes(agent).map(|process| process.join("ns/net"));
        let named = fs::read_dir(netns::DIRECTORY).into_iter().flatten().flatten().map(|entry| entry.path());
        let has_inode =
            |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.ino() == self.netns.inode);
        // The rest is for a namespace without processes: it may be mounted elsewhere, or only be held open.
        let mounted = std::iter::once_with(|| mounted(&format!("net:[{}]", self.netns.inode))).flatten();
        let open = processes(None).flat_map(|process| {
            let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
            files.map(|entry| entry.path())
        });
        let mut found = of_processes.chain(named).chain(mounted).chain(open).filter(has_inode);
        let netns = found.find_map(|path| {
            let netns = Netns::open(&path, netns::HOST).ok()?;
            netns.id().is_ok_and(|id| id.is(&self.netns)).then_some(netns)
        });
        netns.map_or(Access::Lost, Access::Through)
    }

    /// Whether this is the lab's mount namespace, by its inode and, where known, its identifier.
    fn is_in_mounts(&self, inode: u64, id: Option<u64>) -> bool {
        self.mounts == inode && (self.mounts_id.is_none() || id.is_none() || self.mounts_id == id)
    }

    /// Checks only mount namespaces of trusted processes: inodes are reused, and any user who creates a user namespace
    /// may have mounts with any programs in them.
    fn find_mounts(&self, agent: Option<i32>) -> Access<fs::File> {
        let file = trusted(agent).map(|process| process.join("ns/mnt")).find_map(|path| {
            let file = fs::File::open(path).ok()?;
            let inode = file.metadata().ok()?.ino();
            self.is_in_mounts(inode, mount_namespace_id(&file)).then_some(file)
        });
        file.map_or(Access::Lost, Access::Through)
    }
}

impl HomeAccess {
    /// For a lab of which only is known that it has an agent.
    #[must_use]
    pub fn unreachable() -> Self {
        Self {
            netns: Access::Lost,
            mounts: Access::Lost,
            same_processes: false,
            sees_all_processes: false,
            hidden_bpffs: false,
        }
    }

    /// The same for a lab without an agent: none of its processes is signalled, so pids do not matter.
    #[must_use]
    pub fn without_agent(self) -> Self {
        Self { same_processes: true, ..self }
    }

    /// Whether the calling thread is in both namespaces already.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.netns.is_here() && self.mounts.is_here()
    }

    /// Whether the calling thread has to enter another namespace.
    #[must_use]
    pub fn leads_elsewhere(&self) -> bool {
        matches!(self.netns, Access::Through(_)) || matches!(self.mounts, Access::Through(_))
    }

    /// Whether the calling thread is in the lab's network namespace.
    #[must_use]
    pub fn has_netns_here(&self) -> bool {
        self.netns.is_here()
    }

    /// Whether the lab's network namespace was found.
    #[must_use]
    pub fn has_netns(&self) -> bool {
        !self.netns.is_lost()
    }

    /// Why a command cannot run.
    #[must_use]
    pub fn obstacle(&self, intent: Intent) -> Option<Obstacle> {
        let lost = self.netns.is_lost() || self.mounts.is_lost();
        match self {
            _ if lost && !self.sees_all_processes => Some(Obstacle::Unreachable),
            _ if intent == Intent::Change && !self.same_processes => Some(Obstacle::Processes),
            _ if self.hidden_bpffs => Some(Obstacle::HiddenPins),
            _ if self.netns.is_lost() => Some(Obstacle::NetnsGone),
            _ if self.mounts.is_lost() => Some(Obstacle::MountsGone),
            _ => None,
        }
    }

    /// Moves the calling thread and its later children there for good. The working folder becomes that of the same
    /// path, if it exists. A namespace that is lost is skipped.
    ///
    /// # Errors
    /// The kernel refuses: this process has no rights in the user namespace that owns them.
    pub fn follow(self) -> Result<()> {
        // Entered by descriptor, which was opened in the mount namespace that is left next.
        if let Access::Through(netns) = &self.netns {
            netns.enter_for_good()?;
        }
        if let Access::Through(mounts) = &self.mounts {
            let folder = env::current_dir().ok();
            // `setns` needs a root and a working folder that no other thread shares (mntns_install in fs/namespace.c).
            unshare(CloneFlags::CLONE_FS).doing("leave the working folder of", "other threads")?;
            setns(mounts, CloneFlags::CLONE_NEWNS).doing("enter", "the lab's mount namespace")?;
            let _ = folder.map(|folder| chdir(&folder));
        }
        Ok(())
    }
}

/// Processes that run with the privileges of our caller: the one that holds the lab's agent lock, the first of the
/// machine, and the ancestors of this process.
fn trusted(agent: Option<i32>) -> impl Iterator<Item = PathBuf> {
    let parent = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name, which may contain anything: state and parent.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        (parent > 0).then_some(parent)
    };
    let ancestors = std::iter::successors(Some(std::os::unix::process::parent_id().cast_signed()), parent);
    let pids = agent.into_iter().chain([1]).chain(ancestors);
    pids.map(|pid| Path::new("/proc").join(pid.to_string()))
}

/// Whether mounts that are made here end with the calling process, while files below `state` stay.
/// So it is under `ip netns exec`: other namespaces do not see the mounts of its mount namespace.
#[must_use]
pub fn is_transient(state: &Path) -> bool {
    let (Ok(here), Ok(machine)) = (inode(HERE, "mnt"), inode(MACHINE, "mnt")) else { return false };
    if here == machine || !is_same_folder(state) {
        return false;
    }
    let table = |process: &str| {
        files::read_bounded(&Path::new(process).join("mountinfo"), files::LIST).unwrap_or_default()
    };
    let (ours, theirs) = (table(HERE), table(MACHINE));
    let bpffs_stays =
        bpffs::device().is_some_and(|device| device_of(&in_machine(bpffs::MOUNT_POINT)) == Some(device));
    let is_lost = |point: &str| !reaches(&ours, &theirs, Path::new(point));
    is_lost(netns::DIRECTORY) || !bpffs_stays && is_lost(bpffs::MOUNT_POINT)
}

/// Whether a folder, or its nearest parent that exists, is the same for the machine's first process.
fn is_same_folder(path: &Path) -> bool {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let id = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    id(there).is_some_and(|here| id(&in_machine(there)) == Some(here))
}

fn in_machine(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    Path::new(MACHINE).join("root").join(path.strip_prefix("/").unwrap_or(path))
}

fn device_of(path: &Path) -> Option<u64> {
    fs::metadata(path).map(|found| found.dev()).ok()
}

/// Whether a mount that is made at `point` in one mount namespace propagates to another: the mount around it is in a
/// peer group that has a member in the other (`shared:N` in `/proc/PID/mountinfo`).
fn reaches(ours: &str, theirs: &str, point: &Path) -> bool {
    let around = ours.lines().filter_map(|line| Some((mount_point(line)?, line)));
    let around = around.filter(|(at, _)| point.starts_with(at)).max_by_key(|(at, _)| at.components().count());
    let Some(group) = around.and_then(|(_, line)| peer_group(line)) else { return false };
    theirs.lines().any(|line| peer_group(line) == Some(group))
}

/// Where a namespace is mounted in this mount namespace, by its name in nsfs.
fn mounted(name: &str) -> Vec<PathBuf> {
    let table =
        files::read_bounded(Path::new(HERE).join("mountinfo").as_path(), files::LIST).unwrap_or_default();
    let lines = table.lines().filter(|line| line.split(' ').nth(3) == Some(name));
    lines.filter_map(|line| mount_point(line).map(unescaped)).collect()
}

/// A path without the escapes of `/proc/PID/mountinfo`: space, tab, newline and backslash are in octal there.
fn unescaped(path: &Path) -> PathBuf {
    let escapes = [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")];
    let path = path.to_string_lossy().into_owned();
    escapes.iter().fold(path, |path, (escape, character)| path.replace(escape, character)).into()
}

fn mount_point(line: &str) -> Option<&Path> {
    line.split(' ').nth(4).map(Path::new)
}

fn peer_group(line: &str) -> Option<&str> {
    let mut fields = line.split(' ').skip(6).take_while(|field| *field != "-");
    fields.find_map(|field| field.strip_prefix("shared:"))
}

/// All processes, the agent and the machine's first process before others.
fn processes(agent: Option<i32>) -> impl Iterator<Item = PathBuf> {
    let likely = agent.into_iter().chain([1]).map(|pid| PathBuf::from(format!("/proc/{pid}")));
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_number =
        |entry: &fs::DirEntry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
    likely.chain(all.filter(is_number).map(|entry| entry.path()))
}

fn inode(process: &str, namespace: &str) -> io::Result<u64> {
    Ok(fs::metadata(Path::new(process).join("ns").join(namespace))?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn here_is_here() {
        let home = Home::current().unwrap();
        let route = home.route(None).unwrap();
        assert!(route.is_here() && route.obstacle(Intent::Change).is_none(), "{route:?}");
        let text = serde_json::to_string(&home).unwrap();
        assert_eq!(serde_json::from_str::<Home>(&text).unwrap(), home);
    }

    #[test]
    fn where_nobody_is_is_lost() {
        let nowhere =
            Home { mounts: 1, netns: NetnsId { inode: 1, cookie: None }, ..Home::current().unwrap() };
        let nowhere = Home { bpffs: None, ..nowhere };
        assert_eq!(nowhere.route(None).unwrap().obstacle(Intent::Read), Some(Obstacle::NetnsGone));
        let apart = Home { processes: 1, ..nowhere };
        let sees_all = Home::current().unwrap().processes == INITIAL_PROCESSES;
        let expected = if sees_all { Obstacle::NetnsGone } else { Obstacle::Unreachable };
        assert_eq!(apart.route(None).unwrap().obstacle(Intent::Read), Some(expected));
    }

    #[test]
    fn a_mount_reaches_peers_and_nobody_else() {
        let machine = "22 1 0:20 / / rw shared:1 - ext4 /dev/vda rw\n\
                       30 22 0:25 / /run rw shared:7 - tmpfs tmpfs rw\n";
        // The same under `ip netns exec`, without and with a shared mount in it.
        let slave = "52 1 0:20 / / rw master:1 - ext4 /dev/vda rw\n\
                     60 52 0:25 / /run rw master:7 - tmpfs tmpfs rw\n";
        let shared_again =
            format!("{slave}61 60 0:25 /netns /run/netns rw shared:9 master:7 - tmpfs tmpfs rw\n");
        let reaches = |ours: &str| reaches(ours, machine, Path::new("/run/netns"));
        assert!(reaches(machine));
        assert!(!reaches(slave) && !reaches(&shared_again) && !reaches(""));
        assert!(reaches(&machine.replace("22 1 ", "80 1 ")));
    }
}
