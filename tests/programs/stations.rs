//! Senders and receivers, and whether their entries are valid.

use vethpath_common::Reason;

use super::{
    case::{Case, Verdict, case, fast, pass},
    frames::Frame,
    world::{Agent, FOREIGN, GROUP, Port, STALE},
};

pub(crate) fn cases() -> Vec<Case> {
    use Reason as R;
    let frame = || Frame::udp4(100);
    let nobody = [0x02, 0xff, 0, 0, 0, 1];
    vec![
        fast("a known pair", frame()),
        fast("the second station of each", frame().from(Port::A.mac(2)).to(Port::B.mac(2))),
        case("the way back", frame().at(Port::B).to(Port::A.mac(1)), Verdict::Peer(Port::A)),
        case("by way of the port", frame().to(Port::Via.mac(1)), Verdict::Via(Port::Via)),
        fast("from where delivery is by the port", frame().at(Port::Via)),
        // The agent.
        pass("before the agent", R::Lease, frame()).when(Agent::NotYet),
        pass("after the agent", R::Lease, frame()).when(Agent::Gone),
        pass("an ARP frame after the agent", R::Lease, Frame::raw(0x0806, &[0; 28])).when(Agent::Gone),
        pass("nobody's port after the agent", R::Lease, frame().at(Port::Unrecorded)).when(Agent::Gone),
        pass("all is void", R::Stale, frame()).when(Agent::Voiding),
        // Senders.
        pass("an unknown source", R::UnknownSource, frame().from(nobody)),
        pass("a source that has moved here", R::UnknownSource, frame().from(Port::Alone.mac(1))),
        pass("the receiver's own address", R::UnknownSource, frame().from(Port::B.mac(1))),
        pass("a source of another domain", R::UnknownSource, frame().from(Port::A.mac(FOREIGN))),
        pass("no source", R::UnknownSource, frame().from([0; 6])),
        pass("a group as the source", R::UnknownSource, frame().from(GROUP)),
        pass("a stale source", R::Stale, frame().from(Port::A.mac(STALE))),
        // Receivers.
        pass("an unknown destination", R::UnknownDestination, frame().to(nobody)),
        pass("no destination", R::UnknownDestination, frame().to([0; 6])),
        pass("another segment", R::UnknownDestination, frame().to(Port::Elsewhere.mac(1))),
        pass("from another segment", R::UnknownDestination, frame().at(Port::Elsewhere).to(Port::B.mac(1))),
        pass("a port that is not armed", R::UnknownDestination, frame().to(Port::Unarmed.mac(1))),
        pass("a stale destination", R::Stale, frame().to(Port::B.mac(STALE))),
        pass("the same port", R::SamePort, frame().to(Port::A.mac(2))),
        pass("to itself", R::SamePort, frame().to(Port::A.mac(1))),
        pass("a group with an entry", R::Group, frame().to(GROUP)),
        // Trunks.
        case("across a trunk", frame().to(Port::Far.mac(1)), Verdict::Peer(Port::Far)),
        fast("and back", frame().at(Port::Far)),
        case(
            "behind the trunk",
            frame().at(Port::Far).to(Port::FarChecked.mac(1)),
            Verdict::Peer(Port::FarChecked),
        ),
        pass("a sender that the far bridge does not know", R::Unlearned, {
            frame().from(Port::A.mac(2)).to(Port::Far.mac(1))
        }),
        case(
            "to where the far bridge checks",
            frame().to(Port::FarChecked.mac(1)),
            Verdict::Peer(Port::FarChecked),
        ),
        pass("what the far bridge would drop", R::Unchecked, {
            Frame::udp4(100).with(0, 0x46).to(Port::FarChecked.mac(1))
        }),
        // Isolation.
        pass("isolated both", R::Isolated, frame().at(Port::Alone).to(Port::Lonely.mac(1))),
        pass("isolated, the same port", R::SamePort, frame().at(Port::Alone).to(Port::Alone.mac(2))),
        case("to an isolated port", frame().to(Port::Alone.mac(1)), Verdict::Peer(Port::Alone)),
        fast("from an isolated port", frame().at(Port::Alone).to(Port::B.mac(1))),
        // Ports.
        pass("a port that is not armed", R::Port, frame().at(Port::Unarmed)),
        pass("a port without a record", R::Port, frame().at(Port::Unrecorded)),
        pass("ARP where it is not armed", R::Arp, Frame::raw(0x0806, &[0; 28]).at(Port::Unarmed)),
    ]
}
