//! Queueing disciplines: what somebody has put on a port.

use netlink_packet_route::tc::{TcAttribute, TcMessage};

use super::{Result, Rtnl, dump, error::Context};

/// A qdisc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QdiscFacts {
    /// The device it is on.
    pub ifindex: u32,
    /// Its kind, such as `tbf` or `clsact`; empty if the kernel did not say.
    pub kind: String,
}

/// A tc filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterFacts {
    /// Its priority: lower ones run first.
    pub priority: u16,
    /// Its number at that priority.
    pub handle: u32,
}

impl FilterFacts {
    /// `None` for a chain's head. `tcm_info` is `TC_H_MAKE(priority << 16, protocol)`.
    fn parse(message: &TcMessage) -> Option<Self> {
        let handle = u32::from(message.header.handle);
        let priority = u16::try_from(message.header.info >> 16).ok()?;
        (handle != 0).then_some(Self { priority, handle })
    }
}

impl Rtnl {
    /// All qdiscs of the namespace.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub async fn qdiscs(&self) -> Result<Vec<QdiscFacts>> {
        let messages: Vec<TcMessage> =
            dump::all(self.handle.qdisc().get().execute()).await.doing("list qdiscs of", self.netns())?;
        let parse = |message: TcMessage| {
            let kind = message
                .attributes
                .into_iter()
                .find_map(|a| if let TcAttribute::Kind(kind) = a { Some(kind) } else { None });
            QdiscFacts { ifindex: message.header.index.unsigned_abs(), kind: kind.unwrap_or_default() }
        };
        Ok(messages.into_iter().map(parse).collect())
    }

    /// The tc filters at the ingress and at the egress hook of a link's `clsact` qdisc.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub async fn clsact_filters(&self, ifindex: u32) -> Result<(Vec<FilterFacts>, Vec<FilterFacts>)> {
        let index = i32::try_from(ifindex).unwrap_or(i32::MAX);
        let mut handle = self.handle.traffic_filter(index);
        let ingress: Vec<TcMessage> =
            dump::all(handle.get().ingress().execute()).await.doing("list filters of", self.netns())?;
        let egress: Vec<TcMessage> =
            dump::all(handle.get().egress().execute()).await.doing("list filters of", self.netns())?;
        // Each filter is listed once as itself and once as its chain's head, which has no handle.
        let facts = |messages: Vec<TcMessage>| messages.iter().filter_map(FilterFacts::parse).collect();
        Ok((facts(ingress), facts(egress)))
    }
}
