//! From a file to a [`Topology`] that cannot be wrong. Pure: no I/O, no kernel.

mod derive;
mod model;
mod names;

pub use derive::{altname, derived_mac, lab_mark, pair_mark, port_mac, port_name};
pub use model::{
    Bridge, Cable, CableEnd, Datapath, Interface, Namespace, Pair, Place, Route, Sysctl, Topology, Trunk,
    TrunkEnd,
};
pub use names::{IfName, LabName, Mac, NameError, NsName};
