//! Checks in a temporary network namespace, which ends with its thread.

use std::path::Path;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_sys::{
    Socket,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_SOCK_DIAG},
};
use nix::sched::{CloneFlags, unshare};

use super::Check;
use crate::kernel::{
    Netns, Source,
    netfilter::{self, THREAD_NET},
    netlink::{self, Attributes, NetlinkError},
    packet_sockets,
};

const NAMESPACES: &str = "network namespaces";

pub(super) fn checks() -> Vec<Check> {
    let thread = std::thread::Builder::new().name("probe".to_owned()).spawn(|| {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
            let found = format!("cannot be made: {}", std::io::Error::from(errno));
            return vec![Check::missing(
                NAMESPACES,
                found,
                "run vethpath as root, on a kernel with CONFIG_NET_NS",
            )];
        }
        let links = ["veth", "bridge"].map(link);
        [vec![Check::ok(NAMESPACES, "supported")], links.into(), vec![nf_tables(), packet_diag()]].concat()
    });
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(checks)) => checks,
        Ok(Err(_)) => vec![Check::missing(NAMESPACES, "the probe panicked", "report this as a bug")],
        Err(error) => {
            vec![Check::missing(NAMESPACES, error.to_string(), "raise the limit of threads (ulimit -u)")]
        }
    }
}

fn link(kind: &str) -> Check {
    let advice =
        format!("use a kernel with CONFIG_{}, or see that `modprobe {kind}` works", kind.to_uppercase());
    match Socket::new(NETLINK_ROUTE).map_err(NetlinkError::Send).and_then(|socket| make_link(&socket, kind)) {
        Ok(()) => Check::ok(kind, "supported"),
        Err(error) => Check::missing(kind, format!("cannot be made: {error}"), advice),
    }
}

/// RTM_NEWLINK with only a kind (`rtnl_newlink`, net/core/rtnetlink.c).
fn make_link(socket: &Socket, kind: &str) -> Result<(), NetlinkError> {
    const RTM_NEWLINK: u16 = 16;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_INFO_KIND: u16 = 1;
    let any_interface = [0; 16];
    let kind = Attributes::default().text(IFLA_INFO_KIND, kind);
    let payload = Attributes::default().nested(IFLA_LINKINFO, &kind).behind(&any_interface);
    netlink::request(socket, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &payload).map(drop)
}

fn nf_tables() -> Check {
    const NAME: &str = "nf_tables";
    let advice = "`nat = true` cannot be had: use a kernel with CONFIG_NF_TABLES and CONFIG_NFT_MASQ";
    let supported = match Socket::new(NETLINK_NETFILTER) {
        Err(error) if error.raw_os_error() == Some(nix::libc::EPROTONOSUPPORT) => Ok(false),
        opened => opened.map_err(NetlinkError::Send).and_then(|socket| netfilter::is_supported(&socket)),
    };
    match supported {
        Ok(true) => Check::ok(NAME, "supported"),
        Ok(false) => Check::warning(NAME, "not supported", advice),
        Err(error) => Check::warning(NAME, format!("cannot be tried: {error}"), advice),
    }
}

/// Checks that packet sockets can be listed, by `packet_diag` or by the file of every kernel with packet sockets.
fn packet_diag() -> Check {
    const NAME: &str = "packet_diag";
    let advice = "a tcpdump cannot be noticed, so no frame takes the fast path: mount /proc";
    let taps = Netns::current().and_then(|here| {
        let mut source = Source::new(&here, NETLINK_SOCK_DIAG);
        packet_sockets::taps(source.socket()?, Path::new(THREAD_NET))
    });
    match taps {
        Ok(_) => Check::ok(NAME, "supported"),
        Err(error) => Check::warning(NAME, error.to_string(), advice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{
        probe::Status,
        sandbox::{in_new_namespace, run},
    };

    #[test]
    fn links_are_tried_for_real() {
        in_new_namespace(|| {
            assert_eq!(["veth", "bridge"].map(|kind| link(kind).status), [Status::Ok; 2]);
            let shown = run("ip", &["-d", "link"]);
            assert!(shown.contains("veth") && shown.contains("bridge"), "{shown}");
            let unknown = link("no-such-kind");
            assert_eq!(unknown.status, Status::Missing);
            assert!(unknown.found.contains("os error 95"), "{unknown:?}");
        });
    }

    #[test]
    fn nothing_is_left_behind() {
        in_new_namespace(|| {
            let before = run("ip", &["-o", "link"]);
            checks();
            assert_eq!(run("ip", &["-o", "link"]), before);
        });
    }
}
