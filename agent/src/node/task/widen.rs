//! Several connections with a peer that is far away.

use libp2p::{
    PeerId,
    core::ConnectedPoint,
    swarm::dial_opts::{DialOpts, PeerCondition},
};

use super::Task;
use crate::node::{
    behaviour::AGENT,
    limits::{CONNECTIONS_FAR, FAR},
};

impl Task {
    /// Opens more connections with a peer that is far away, and that blocks are wanted of: what one of
    /// them carries is bounded by its window and by what gets lost. Other programs send over one alone.
    pub(super) fn widen(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let is_ours = |agent: &String| agent.starts_with(AGENT);
        if peer.widened
            || peer.rtt.is_none_or(|rtt| rtt < FAR)
            || !peer.agent.as_ref().is_some_and(is_ours)
            || !self.sessions.has(&id)
        {
            return;
        }
        let dialled = peer.connections.values().find_map(|point| match point {
            ConnectedPoint::Dialer { address, .. } if !point.is_relayed() => Some(address.clone()),
            _ => None,
        });
        let Some(address) = dialled else {
            return;
        };
        peer.widened = true;
        for _ in peer.connections.len()..CONNECTIONS_FAR {
            let dial = DialOpts::peer_id(id)
                .condition(PeerCondition::Always)
                .addresses(vec![address.clone()])
                .allocate_new_port()
                .build();
            if let Err(error) = self.swarm.dial(dial) {
                tracing::debug!(peer = %id, %error, "not dialled");
            }
        }
    }
}
