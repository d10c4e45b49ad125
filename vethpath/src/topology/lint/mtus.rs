//! Frames that a host may send and that are too large for another device on the segment. A bridge drops them
//! silently (`is_skb_forwardable` in net/core/dev.c).

use super::net::{Net, Station};
use crate::topology::{fault::Sink, trunks::Joint};

/// The default MTU of Ethernet devices, in bytes.
const USUAL: u32 = 1500;

pub(super) fn warn(net: &Net<'_>, joints: &[Joint], sink: &mut Sink) {
    for stations in &net.segments {
        // The two ends of a cable have the same MTU, or the file is rejected.
        let on_bridges = || stations.iter().map(|&n| &net.stations[n]).filter(|s| s.bridge.is_some());
        let Some(least) = on_bridges().min_by_key(|station| mtu(net, station)) else { continue };
        let Some(most) =
            on_bridges().max_by_key(|station| (mtu(net, station), std::cmp::Reverse(station.span.start)))
        else {
            continue;
        };
        if mtu(net, most) > mtu(net, least) {
            between_hosts(net, most, least, sink);
            continue;
        }
        trunks(net, most, joints, sink);
    }
}

fn between_hosts(net: &Net<'_>, most: &Station<'_>, least: &Station<'_>, sink: &mut Sink) {
    let (large, small) = (mtu(net, most), mtu(net, least));
    let message = format!(
        "`{}` may send {large} bytes at once, and `{}` on the same segment takes {small}: what is larger is lost",
        most.title(),
        least.title()
    );
    let hint = "give all on a segment the same MTU, at best by `mtu` of the bridge";
    let written = |station: &Station<'_>| station.interface.and_then(|i| i.mtu.clone());
    let (span, other) = match (written(most), written(least)) {
        (Some(most), _) => (most.span, least.span),
        (None, Some(least)) => (least.span, most.span),
        (None, None) => (most.span.clone(), least.span),
    };
    sink.warn(&span, message, hint).also(other, "the other");
}

/// A trunk has the smaller `mtu` of its two bridges, regardless of the hosts on them.
fn trunks(net: &Net<'_>, most: &Station<'_>, joints: &[Joint], sink: &mut Sink) {
    let large = mtu(net, most);
    let bridges = &net.declared.bridges;
    for joint in joints.iter().filter(|joint| net.segment_of_bridge[joint.value.0] == most.segment) {
        let (a, b) = (&bridges[joint.value.0], &bridges[joint.value.1]);
        let small = [a, b].iter().filter_map(|bridge| bridge.mtu.as_ref()).map(|mtu| mtu.value).min();
        let small = small.unwrap_or(USUAL);
        if large > small {
            let message = format!(
                "`{}` may send {large} bytes at once, and the trunk `{}` - `{}` takes {small}: what is larger is lost",
                most.title(),
                a.name.value,
                b.name.value
            );
            let hint = format!("write mtu = {large} under both bridges");
            sink.warn(&joint.span, message, hint).also(most.span, "sends more");
            return;
        }
    }
}

fn mtu(net: &Net<'_>, station: &Station<'_>) -> u32 {
    let own = station.interface.and_then(|interface| interface.mtu.as_ref());
    let theirs = station.bridge.and_then(|bridge| net.declared.bridges[bridge].mtu.as_ref());
    own.or(theirs).map_or(USUAL, |mtu| mtu.value)
}
