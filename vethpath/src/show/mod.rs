//! The current state of a lab in the kernel, next to its topology. It is rendered in `output`.

mod metrics;
mod model;
mod observe;

pub use metrics::Metrics;
pub use model::{
    Bridge, Cable, Interface, Lab, Leads, LinkState, Namespace, NextHop, Port, Route, TAKES_NO_XDP_TX, Trunk,
};
pub use observe::observe;
