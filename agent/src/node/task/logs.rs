//! What the task does for the replica of logs: members, and what is said among them.

use std::io;

use libp2p::{
    Multiaddr, PeerId,
    gossipsub::{self, MessageId},
    multiaddr::Protocol,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::Task;
use crate::{
    log::following::Say,
    node::talk::{self, InboundStream, Incoming, Talk},
};

impl Task {
    fn talk(&mut self) -> Option<(&mut Talk, &mut gossipsub::Behaviour)> {
        let gossip = self.swarm.behaviour_mut().gossip.as_mut()?;
        Some((self.talk.as_mut()?, gossip))
    }

    /// The first connection with a peer is there; or it has been, if that is `late`, and the peer is a member now.
    pub(super) fn talk_with(&mut self, peer: PeerId, late: bool) {
        let Some((talk, gossip)) = self.talk() else {
            return;
        };
        match talk.member(&peer) {
            Some(_) => talk.connected(peer, late, gossip),
            None => talk.stranger(peer, gossip),
        }
    }

    /// The last connection with a peer is gone.
    pub(super) fn talk_no_more_with(&mut self, peer: PeerId) {
        if let Some(talk) = self.talk.as_mut()
            && talk.member(&peer).is_some()
        {
            talk.gone(peer);
        }
    }

    pub(super) fn gossip_heard(&mut self, from: PeerId, id: &MessageId, bytes: &[u8]) {
        if let Some((talk, gossip)) = self.talk() {
            talk.heard(from, id, bytes, gossip);
        }
    }

    pub(super) fn listen_to(&mut self, stream: InboundStream) {
        if let Some(talk) = &mut self.talk {
            match stream {
                InboundStream::Messages(peer, stream) => talk.listen(peer, stream),
                InboundStream::Request(peer, stream) => talk.cosign(peer, stream),
            }
        }
    }

    pub(super) fn cosign(
        &mut self,
        peer: PeerId,
        body: Vec<u8>,
        reply: oneshot::Sender<io::Result<(u16, Vec<u8>)>>,
    ) {
        let connected = self.peers.contains_key(&peer);
        if let Some(talk) = self.talk.as_ref().filter(|_| connected) {
            talk.ask(peer, body, reply);
        }
    }

    pub(super) fn say(&mut self, say: Say) {
        let Some((talk, gossip)) = self.talk() else {
            return;
        };
        match say {
            Say::Send { peer, bytes } => talk.send(peer, bytes),
            Say::Publish(bytes) => talk.publish(bytes, gossip),
            Say::Judge {
                gossip: id,
                from,
                verdict,
            } => talk::judge(&id, &from, verdict, gossip),
            Say::Blame(peer, because) => {
                if talk.blame(peer, because, gossip)
                    && self.swarm.behaviour_mut().admission.ban(peer)
                {
                    tracing::warn!(%peer, "a member of the federation is kept out");
                }
            }
            Say::Members(members) => {
                let (new, moved, gone) = talk.members(members);
                for peer in new {
                    self.join(peer);
                }
                for peer in moved {
                    self.forget(peer);
                    self.reach(peer);
                }
                for peer in gone {
                    self.leave(peer);
                }
            }
        }
    }

    /// A peer has become a member, which it is good to be connected with.
    fn join(&mut self, peer: PeerId) {
        self.reach(peer);
        if self.peers.contains_key(&peer) {
            self.talk_with(peer, true);
        }
    }

    /// Stays connected with a member where it is said to be.
    fn reach(&mut self, peer: PeerId) {
        let connected = self.peers.contains_key(&peer);
        let addresses = self.talk.as_ref().and_then(|talk| talk.member(&peer));
        let addresses: Vec<Multiaddr> = addresses
            .into_iter()
            .flatten()
            .filter(|address| leads_somewhere(address))
            .cloned()
            .collect();
        if !addresses.is_empty()
            && self.named.insert(peer)
            && let Some(talk) = &mut self.talk
        {
            talk.dialled.insert(peer);
        }
        for address in addresses {
            self.dialling.want(Instant::now(), peer, address, connected);
        }
    }

    /// Does not dial a member any more because it is one.
    fn forget(&mut self, peer: PeerId) {
        if self
            .talk
            .as_mut()
            .is_some_and(|talk| talk.dialled.remove(&peer))
        {
            self.dialling.forget(&peer);
            self.named.remove(&peer);
        }
    }

    /// A peer is no member any more. Connections that others need stay.
    fn leave(&mut self, peer: PeerId) {
        self.forget(peer);
        if self.peers.contains_key(&peer)
            && let Some((talk, gossip)) = self.talk()
        {
            talk.gone(peer);
            talk.stranger(peer, gossip);
        }
    }
}

/// Whether an address has more than the id of its peer.
fn leads_somewhere(address: &Multiaddr) -> bool {
    address.iter().any(|part| !matches!(part, Protocol::P2p(_)))
}

/// What replicas say next, if this node follows any logs.
pub(super) async fn next_say(says: &mut Option<mpsc::Receiver<Say>>) -> Option<Say> {
    match says {
        Some(says) => says.recv().await,
        None => None,
    }
}

/// The next stream of another member, if this node follows any logs.
pub(super) async fn next_stream(incoming: &mut Option<Incoming>) -> Option<InboundStream> {
    match incoming {
        Some(incoming) => incoming.next().await,
        None => None,
    }
}
