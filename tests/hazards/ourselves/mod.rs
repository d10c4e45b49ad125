//! Ourselves.

mod agent;
mod hostile;
mod interrupted;
mod labs;
mod rights;
