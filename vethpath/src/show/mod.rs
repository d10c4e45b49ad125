//! A lab as it stands in the kernel, next to what its file says: data first, rendering in `output`.

mod bridges;
mod model;
mod observe;

pub use model::{Bridge, Cable, Interface, Lab, Leads, LinkState, Namespace, Port, TAKES_NO_XDP_TX, Trunk};
pub use observe::observe;
