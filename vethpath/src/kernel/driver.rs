//! A driver's own counters, beside the kernel's counters of links (`ethtool -S`).
//!
//! The ethtool family of generic netlink has no message for them, so this uses the older ioctl (`ethtool_get_strings`
//! and `ethtool_get_stats` in net/ethtool/ioctl.c).
#![expect(unsafe_code, reason = "the ioctl takes a pointer to a pointer")]

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

use super::{Netns, Result, error::Context};
use crate::topology::IfName;

/// `ETHTOOL_GSSET_INFO`, `ETHTOOL_GSTRINGS`, `ETHTOOL_GSTATS` and `ETH_SS_STATS` of linux/ethtool.h.
const GET_COUNTS: u32 = 0x37;
const GET_NAMES: u32 = 0x1b;
const GET_VALUES: u32 = 0x1d;
const STATISTICS: u32 = 1;

/// Bytes of a name.
const NAME: usize = 32;

/// Room for this many counters. A veth has at most 4096 queues each way (`rtnl_create_link` in net/core/rtnetlink.c),
/// with nine counters in all for one of each.
const ROOM: usize = 1 << 16;

/// Counters of a veth, by name, as the driver reports them.
pub type Counters = Vec<(String, u64)>;

/// The driver's counters of devices in `netns`, in the order of `devices`; empty for a device that does not exist.
///
/// # Errors
/// The namespace cannot be entered, or the kernel refuses for another reason.
pub fn counters(netns: &Netns, devices: &[&IfName]) -> Result<Vec<Counters>> {
    let all = || {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        // Words, so that 64-bit values are aligned.
        let mut buffer = vec![0_u64; ROOM];
        devices.iter().map(|device| of_device(&socket, device, &mut buffer)).collect::<io::Result<Vec<_>>>()
    };
    netns.run(all)?.doing("read the drivers' counters in namespace", netns)
}

fn of_device(socket: &OwnedFd, device: &IfName, buffer: &mut [u64]) -> io::Result<Counters> {
    match read(socket, device, buffer) {
        Err(Errno::ENODEV | Errno::EOPNOTSUPP) => Ok(Counters::new()),
        other => Ok(other?),
    }
}

fn read(socket: &OwnedFd, device: &IfName, buffer: &mut [u64]) -> nix::Result<Counters> {
    // `struct ethtool_sset_info`: command, a reserved word, a mask of sets, and the number of strings in each.
    buffer[..3].copy_from_slice(&[u64::from(GET_COUNTS), 1 << STATISTICS, 0]);
    ethtool(socket, device, buffer)?;
    let count = words(buffer[2])[0] as usize;
    if buffer[1] == 0 || count > ROOM * size_of::<u64>() / NAME - 1 {
        return Ok(Counters::new());
    }
    // `struct ethtool_gstrings`: command, set, number of names; the names follow directly.
    buffer[..2].copy_from_slice(&[pair(GET_NAMES, STATISTICS), 0]);
    ethtool(socket, device, buffer)?;
    let reported = (words(buffer[1])[0] as usize).min(count);
    let bytes: &[u8] = bytemuck::cast_slice(buffer);
    let name = |chunk: &[u8]| {
        let end = chunk.iter().position(|byte| *byte == 0).unwrap_or(NAME);
        String::from_utf8_lossy(&chunk[..end]).into_owned()
    };
    let names: Vec<String> = bytes[12..].chunks_exact(NAME).take(reported).map(name).collect();
    // `struct ethtool_stats`: command, number of values; the values follow.
    buffer[0] = pair(GET_VALUES, u32::try_from(names.len()).unwrap_or(u32::MAX));
    ethtool(socket, device, buffer)?;
    Ok(names.into_iter().zip(buffer[1..].iter().copied()).collect())
}

/// Passes a command to the kernel, which writes the reply to the buffer.
fn ethtool(socket: &OwnedFd, device: &IfName, buffer: &mut [u64]) -> nix::Result<()> {
    // SAFETY: zero bytes are a valid value of all fields.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(device.as_str().bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_data = buffer.as_mut_ptr().cast();
    // SAFETY: the kernel reads a command from the buffer, and writes its reply there. For a veth the reply is never
    // longer than the buffer: see `ROOM`. The request outlives the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) }).map(drop)
}

/// Two consecutive words in memory.
fn pair(first: u32, second: u32) -> u64 {
    bytemuck::cast([first, second])
}

/// The two words of a 64-bit value in memory order.
fn words(value: u64) -> [u32; 2] {
    bytemuck::cast(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::sandbox::{in_new_namespace, run};

    #[test]
    fn a_veth_counts_by_queue_and_one_that_is_gone_counts_nothing() {
        in_new_namespace(|| {
            let _ = run("ip", &["link", "add", "name", "va", "numrxqueues", "2", "type", "veth"]);
            let names: Vec<IfName> = vec!["va".parse().unwrap(), "gone".parse().unwrap()];
            let found = counters(&Netns::current().unwrap(), &names.iter().collect::<Vec<_>>()).unwrap();
            let judge = run("ethtool", &["-S", "va"]);
            let of_judge = |line: &str| {
                let (name, value) = line.trim().split_once(": ")?;
                Some((name.to_owned(), value.parse().ok()?))
            };
            let reported: Counters = judge.lines().filter_map(of_judge).collect();
            assert!(reported.len() > 10, "{judge}");
            assert_eq!(found, [reported, Vec::new()]);
        });
    }
}
