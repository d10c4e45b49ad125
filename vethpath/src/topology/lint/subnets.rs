//! Two devices of one namespace in the same subnet.

use std::collections::HashMap;

use ipnet::IpNet;

use super::net::{Net, is_alone, is_link_local};
use crate::topology::{fault::Sink, read::At};

/// The kernel adds the connected route of an address when its device comes up, after existing routes to the same
/// subnet (`fib_add_ifaddr` in net/ipv4/fib_frontend.c appends; `fib6_add_rt2node` in net/ipv6/ip6_fib.c inserts
/// after those of the same metric). The first route is used: that of the device that `up` brings up first.
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
