//! Rules made wrong on purpose, by writing to the maps behind the agent's back.

use super::world::World;

/// Something wrong in the accelerated world.
pub(crate) trait Sabotage {
    /// Makes it wrong; the agent has just put it right.
    fn spoil(&mut self, world: &World);
    /// Puts back what the agent left.
    fn restore(&mut self, world: &World);
}
