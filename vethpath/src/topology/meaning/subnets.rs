//! Two devices of one namespace in one subnet.

use std::collections::HashMap;

use ipnet::IpNet;

use super::net::{Net, is_alone, is_link_local};
use crate::topology::{fault::Sink, read::At};

/// The connected route of an address is there when its device comes up, after those of the same
/// subnet (`fib_add_ifaddr` in net/ipv4/fib_frontend.c appends, `fib6_add_rt2node` in
/// net/ipv6/ip6_fib.c puts behind those of its metric), and the first one is taken: that of the
/// device that `up` raises first.
pub(super) fn warn(net: &Net<'_>, sink: &mut Sink) {
    for stations in net.places.values() {
        let mut first: HashMap<IpNet, (usize, &At<IpNet>)> = HashMap::new();
        for &n in stations.iter().filter(|&&n| net.stations[n].up) {
            for at in net.stations[n].addresses {
                if is_link_local(at.value.addr()) || is_alone(at.value) {
                    continue;
                }
                let &mut (winner, address) = first.entry(at.value.trunc()).or_insert((n, at));
                if winner != n {
                    let (winner, loser) = (net.stations[winner].title(), net.stations[n].title());
                    let subnet = at.value.trunc();
                    let message = format!(
                        "`{winner}` and `{loser}` are in one subnet, {subnet}: its route goes by `{winner}`"
                    );
                    let hint = format!(
                        "what is sent to {subnet} never leaves by `{loser}`; give each a subnet of its own"
                    );
                    sink.warn(&at.span, message, hint)
                        .label("loses")
                        .also(&address.span, "wins: it comes up first");
                }
            }
        }
    }
}
