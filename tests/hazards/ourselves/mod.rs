//! Hazards that vethpath itself brings.

mod agent;
mod hostile;
mod interrupted;
mod labs;
mod requirements;
