//! The exchange of blocks, simulated: many engines, links with delay, loss and reordering, and peers
//! that misbehave. Every run has a seed, which is printed when it fails.

mod hostile;
mod pipe;
mod restart;
mod serving;
mod swarm;
mod transfer;
mod world;
