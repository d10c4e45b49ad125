//! `up` makes a lab what its file says, whatever its state was, and touches nothing else.

mod changes;
mod clsact;
mod counts;
mod datapaths;
mod drift;
mod forwarding;
mod killed;
mod labs;
mod owners;
mod quiet;
mod random;
mod stuck;
mod taken_off;
mod undone;
