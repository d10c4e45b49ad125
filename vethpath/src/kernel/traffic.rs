//! Queueing disciplines and tc filters of a port.

use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NlasIterator, Parseable as _};
use netlink_packet_route::tc::{TcAttribute, TcFilterBpfOption, TcMessage, TcOption};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use super::{
    Context, NetlinkError, Result, RouteSocket,
    netlink::{self, Attributes},
};

/// `RTM_NEWQDISC`, `RTM_DELQDISC`, `RTM_GETQDISC`, `RTM_NEWTFILTER` and `RTM_GETTFILTER` of linux/rtnetlink.h.
const NEW_QDISC: u16 = 36;
const DELETE_QDISC: u16 = 37;
const GET_QDISC: u16 = 38;
const NEW_FILTER: u16 = 44;
const GET_FILTER: u16 = 46;

/// The parent and the handle of a `clsact` or `ingress` qdisc, and the parents of the filters at its hooks
/// (linux/pkt_sched.h).
const CLSACT_PARENT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

/// `struct tcmsg`.
const HEADER: usize = 20;

/// A qdisc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QdiscFacts {
    /// The device it is on.
    pub ifindex: u32,
    /// Its kind, such as `tbf` or `clsact`. Empty if the kernel did not report one.
    pub kind: String,
}

/// A tc filter, or the classifier instance that all filters of a priority and protocol belong to. A dump contains
/// each instance once, as an entry of its own (`tcf_chain_dump` in net/sched/cls_api.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterFacts {
    /// Its priority. Lower ones run first.
    pub priority: u16,
    /// Its handle at that priority. 0 is the instance.
    pub handle: u32,
    /// The id of its BPF program, if it has one.
    pub program: Option<u32>,
}

impl FilterFacts {
    /// `tcm_info` is `TC_H_MAKE(priority << 16, protocol)`.
    fn parse(message: &TcMessage) -> Self {
        let priority = u16::try_from(message.header.info >> 16).unwrap_or(u16::MAX);
        let options = message.attributes.iter().filter_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        });
        let program = options.flatten().find_map(|option| match option {
            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(*id),
            _ => None,
        });
        Self { priority, handle: message.header.handle.into(), program }
    }
}

/// The filters at the ingress hook of a link in the calling thread's namespace.
///
/// # Errors
/// The kernel refuses the dump. A link without such a hook has no filters.
pub fn ingress_filters(ifindex: u32) -> Result<Vec<FilterFacts>> {
    let socket = Socket::new(NETLINK_ROUTE).doing("list filters of interface", ifindex)?;
    filters(&socket, ifindex, INGRESS).doing("list filters of interface", ifindex)
}

/// Runs a program at the ingress hook of a link that has no qdisc: adds a `clsact` qdisc and a filter of priority 1, whose
/// program decides itself (`direct-action`).
///
/// # Errors
/// The kernel refuses the qdisc or the filter.
pub(super) fn run_at_ingress(
    socket: &Socket,
    ifindex: u32,
    program: &OwnedFd,
) -> std::result::Result<(), NetlinkError> {
    const KIND: u16 = 1;
    const OPTIONS: u16 = 2;
    const BPF_FD: u16 = 6;
    const BPF_NAME: u16 = 7;
    const BPF_FLAGS: u16 = 8;
    const DIRECT_ACTION: u32 = 1;
    const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;
    // `TC_H_MAKE(priority << 16, protocol)`, with `ETH_P_ALL` in network byte order.
    let info = 1 << 16 | u32::from(3_u16.to_be());
    let qdisc = Attributes::default().text(KIND, "clsact");
    let header_of_qdisc = header(ifindex, CLSACT_HANDLE, CLSACT_PARENT);
    let _ = netlink::request(socket, NEW_QDISC, NEW, &qdisc.behind(&header_of_qdisc))?;
    let mut header_of_filter = header(ifindex, 0, INGRESS);
    header_of_filter[16..].copy_from_slice(&info.to_ne_bytes());
    let options = Attributes::default()
        .bytes(BPF_FD, &program.as_raw_fd().to_ne_bytes())
        .text(BPF_NAME, "probe")
        .bytes(BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
    let filter = Attributes::default().text(KIND, "bpf").nested(OPTIONS, &options);
    let _ = netlink::request(socket, NEW_FILTER, NEW, &filter.behind(&header_of_filter))?;
    Ok(())
}

/// Removes the `clsact` qdisc of a link in the calling thread's namespace, if it has no filters and no shared block.
///
/// # Errors
/// The kernel refuses.
pub fn remove_empty_clsact(ifindex: u32) -> Result<()> {
    let remove = || -> std::result::Result<(), NetlinkError> {
        let socket = Socket::new(NETLINK_ROUTE).map_err(NetlinkError::Send)?;
        let qdiscs = netlink::dump(&socket, GET_QDISC, &header(ifindex, 0, 0))?;
        let is_empty = qdiscs.iter().any(|qdisc| is_unshared_clsact(qdisc, ifindex))
            && filters(&socket, ifindex, INGRESS)?.is_empty()
            && filters(&socket, ifindex, EGRESS)?.is_empty();
        if is_empty {
            let _ =
                netlink::request(&socket, DELETE_QDISC, 0, &header(ifindex, CLSACT_HANDLE, CLSACT_PARENT))?;
        }
        Ok(())
    };
    remove().doing("remove the clsact qdisc of interface", ifindex)
}

fn filters(
    socket: &Socket,
    ifindex: u32,
    parent: u32,
) -> std::result::Result<Vec<FilterFacts>, NetlinkError> {
    let replies = netlink::dump(socket, GET_FILTER, &header(ifindex, 0, parent))?;
    replies.iter().map(|reply| Ok(FilterFacts::parse(&parse(reply)?))).collect()
}

fn parse(payload: &[u8]) -> std::result::Result<TcMessage, NetlinkError> {
    TcMessage::parse(payload)
        .map_err(|_| NetlinkError::Malformed("a message about traffic control cannot be parsed"))
}

/// A `struct tcmsg`.
fn header(ifindex: u32, handle: u32, parent: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    for (at, word) in [(4, ifindex), (8, handle), (12, parent)] {
        header[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    header
}

/// Whether a reply describes a `clsact` qdisc of the link, without a shared block.
fn is_unshared_clsact(reply: &[u8], ifindex: u32) -> bool {
    const KIND: u16 = 1;
    const INGRESS_BLOCK: u16 = 13;
    const EGRESS_BLOCK: u16 = 14;
    let Some((header, rest)) = reply.split_first_chunk::<HEADER>() else { return false };
    let (mut clsact, mut shared) = (false, header[4..8] != ifindex.to_ne_bytes());
    for attribute in NlasIterator::new(rest) {
        let Ok(attribute) = attribute else { return false };
        match attribute.kind() {
            KIND => clsact = attribute.value() == b"clsact\0",
            INGRESS_BLOCK | EGRESS_BLOCK => shared = true,
            _ => {}
        }
    }
    clsact && !shared
}

impl RouteSocket {
    /// All qdiscs of the namespace.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub fn qdiscs(&self) -> Result<Vec<QdiscFacts>> {
        let mut qdiscs = Vec::new();
        let dumped = self.dump_each(GET_QDISC, &header(0, 0, 0), |payload| {
            let message = parse(payload)?;
            let kind = message
                .attributes
                .into_iter()
                .find_map(|a| if let TcAttribute::Kind(kind) = a { Some(kind) } else { None });
            let ifindex = message.header.index.unsigned_abs();
            qdiscs.push(QdiscFacts { ifindex, kind: kind.unwrap_or_default() });
            Ok(())
        });
        dumped.doing("list qdiscs of", self.netns())?;
        Ok(qdiscs)
    }

    /// The tc filters at the ingress and at the egress hook of a link's `clsact` qdisc.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub fn clsact_filters(&self, ifindex: u32) -> Result<(Vec<FilterFacts>, Vec<FilterFacts>)> {
        let filters = |parent| filters(self.socket(), ifindex, parent).doing("list filters of", self.netns());
        Ok((filters(INGRESS)?, filters(EGRESS)?))
    }
}

#[cfg(test)]
mod tests {
    use nix::net::if_::if_nametoindex;

    use super::*;
    use crate::kernel::sandbox::{in_new_namespace, run};

    #[test]
    fn a_clsact_that_somebody_uses_stays() {
        in_new_namespace(|| {
            let tc = |arguments: &str| run("tc", &arguments.split(' ').collect::<Vec<_>>());
            let _ = run("ip", &["link", "add", "name", "va", "type", "veth", "peer", "name", "vb"]);
            let [va, vb] = ["va", "vb"].map(|name| if_nametoindex(name).unwrap());
            let is_there = || tc("qdisc show dev va").contains("clsact");
            remove_empty_clsact(va).unwrap();
            for hook in ["ingress", "egress"] {
                let _ = tc("qdisc add dev va clsact");
                let _ = tc(&format!(
                    "filter add dev va {hook} prio 7 protocol ip u32 match ip dst 1.2.3.4 flowid 1:1"
                ));
                assert_eq!(ingress_filters(va).unwrap().is_empty(), hook == "egress");
                remove_empty_clsact(va).unwrap();
                assert!(is_there(), "{hook}");
                let _ = tc(&format!("filter del dev va {hook}"));
                remove_empty_clsact(vb).unwrap();
                assert!(is_there(), "of another link");
                remove_empty_clsact(va).unwrap();
                assert!(!is_there());
            }
            let _ = tc("qdisc add dev va ingress_block 21 clsact");
            remove_empty_clsact(va).unwrap();
            assert!(is_there(), "its filters are those of a block");
            assert_eq!(ingress_filters(vb).unwrap(), []);
        });
    }
}
