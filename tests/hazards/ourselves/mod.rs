//! Hazards that vethpath itself brings.

mod agent;
mod hostile;
mod interrupted;
mod kernel;
mod labs;
mod rights;
