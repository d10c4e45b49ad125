//! Events for changes of a namespace's ruleset.
//!
//! Mirrors `nf_tables_commit`, which ends with `nf_tables_gen_notify` (net/netfilter/nf_tables_api.c).

use netlink_sys::Socket;

use super::kind;
use crate::kernel::{Context, Result, exchange::messages};

const NFNLGRP_NFTABLES: u32 = 7;

/// Subscribes the socket to an event for every change of nftables in its namespace. The socket must be new, and is
/// used for nothing else. ENOBUFS on receive means that events were lost.
///
/// # Errors
/// The kernel refuses the bind or the membership.
pub fn subscribe(socket: &mut Socket) -> Result<()> {
    // An unbound socket would miss changes that the kernel makes by itself, such as the removal of a chain with its
    // device. Those events exclude the port number 0.
    socket
        .bind_auto()
        .and_then(|_| socket.add_membership(NFNLGRP_NFTABLES))
        .doing("subscribe to", "the nft events of the namespace")
}

/// Whether a datagram from a [subscribed](subscribe) socket reports a changed ruleset. A malformed datagram counts as
/// a change.
#[must_use]
pub fn is_change(datagram: &[u8]) -> bool {
    const TRACE: u16 = kind::NFNL_SUBSYS_NFTABLES | 17;
    messages(datagram).any(|message| match message {
        Ok(message) => message.kind & 0xff00 == kind::NFNL_SUBSYS_NFTABLES && message.kind != TRACE,
        Err(_) => true,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use netlink_sys::protocols::NETLINK_NETFILTER;
    use nix::libc;

    use super::*;
    use crate::kernel::{
        exchange::message,
        sandbox::{in_new_namespace, nft},
    };

    #[test]
    fn other_subsystems_and_traces_are_no_change() {
        assert!(is_change(&message(kind::NEW_RULE, 0, 0, &[0; 4])));
        assert!(!is_change(&message(1 << 8, 0, 0, &[0; 4])));
        assert!(!is_change(&message(kind::NFNL_SUBSYS_NFTABLES | 17, 0, 0, &[0; 4])));
        assert!(is_change(&[0; 7]));
        assert!(!is_change(&[]));
    }

    /// Waits for a change, then drains the socket.
    fn changed(socket: &Socket) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut seen = false;
        loop {
            // The clock is read first, so that events received by the deadline count even if this thread runs late.
            let is_late = Instant::now() > deadline;
            let mut buffer = Vec::with_capacity(65_536);
            match socket.recv_from(&mut buffer, libc::MSG_DONTWAIT) {
                Ok(_) => seen |= is_change(&buffer),
                Err(_) if seen || is_late => return seen,
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    #[test]
    fn every_kind_of_change_is_told() {
        in_new_namespace(|| {
            let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
            subscribe(&mut socket).unwrap();
            for command in [
                "add table netdev t",
                "add chain netdev t c { type filter hook ingress device lo priority 0; }",
                "add rule netdev t c accept",
                "flush chain netdev t c",
                "delete table netdev t",
            ] {
                nft(command);
                assert!(changed(&socket), "{command}");
            }
        });
    }
}
