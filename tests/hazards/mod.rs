//! Every row of the list of hazards: what breaks when a bridge is bypassed, and how vethpath handles it. The table in
//! `docs/equivalence.md` leads from each row to its tests here.

pub(crate) mod common;
mod delivery;
mod ourselves;
mod policy;
mod state;
mod table;

pub(crate) use delivery::offloads::transfer;
