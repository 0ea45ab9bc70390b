//! The engine: one value that holds what is wanted, asked, owed and sent.

use std::{collections::VecDeque, time::Duration};

use libp2p_identity::PeerId;

use super::events::{Config, Effect, Input, Now, PeerCounts};

/// The exchange of one node, without its I/O.
///
/// Everything that happens goes into [`Engine::handle`]; what is to be done comes out of
/// [`Engine::effect`], until it is empty. What it holds is bounded by [`super::limits`].
#[derive(Debug)]
pub struct Engine {
    config: Config,
    effects: VecDeque<Effect>,
}

impl Engine {
    /// An engine without peers or sessions.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            effects: VecDeque::new(),
        }
    }

    /// Takes in something that happened. Inputs about peers, sessions and tickets that are unknown
    /// change nothing.
    pub fn handle(&mut self, _now: Now, input: Input) {
        if let Input::SetRates { rates } = input {
            self.config.rates = rates;
        }
    }

    /// The next thing to do, if there is one; to be called until there is none after each input.
    pub fn effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Input::Tick`] is due, on the clock of [`Now::elapsed`]; `None` while nothing is waited for.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        None
    }

    /// What went to and came from a connected peer.
    #[must_use]
    pub fn counts(&self, _peer: &PeerId) -> Option<PeerCounts> {
        None
    }
}
