//! Ourselves.

mod agent;
mod hostile;
mod interrupted;
mod kernel;
mod labs;
mod rights;
