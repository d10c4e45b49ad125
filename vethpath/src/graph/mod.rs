//! A lab as a graph: its parts, their connections, and what they do at the moment. Drawn in `output`.

mod build;
mod live;
mod model;

pub use build::MOST_NODES;
pub use live::live;
pub use model::{Graph, Health, Kind, Link, LinkKind, Live, Node};
