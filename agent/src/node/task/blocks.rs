//! What the task does for the exchange of blocks: sessions, and what the store is asked.

use std::sync::Arc;

use libp2p::{
    Multiaddr, PeerId,
    core::ConnectedPoint,
    swarm::dial_opts::{DialOpts, PeerCondition},
};
use tokio::{sync::oneshot, task::spawn_blocking, time::Instant};

use super::Task;
use crate::{
    bitswap::{Input, SessionId},
    node::{
        behaviour::AGENT,
        exchange::{self, Exchange},
        limits::{CONNECTIONS_FAR, FAR},
        session::{Inbox, SessionEvent},
    },
};

impl Task {
    pub(super) fn exchange(&mut self) -> &mut Exchange {
        &mut self.swarm.behaviour_mut().exchange
    }

    pub(super) fn open_session(
        &mut self,
        peers: Vec<(PeerId, Multiaddr)>,
        reply: oneshot::Sender<(SessionId, Arc<Inbox>)>,
    ) {
        let mut ids: Vec<PeerId> = peers.iter().map(|(peer, _)| *peer).collect();
        ids.sort();
        ids.dedup();
        let (session, inbox) = self.sessions.open(ids.clone());
        self.exchange().handle(Input::OpenSession { session });
        for peer in ids {
            self.exchange().handle(Input::AddPeer { session, peer });
            if self.peers.get(&peer).is_some_and(|peer| peer.speaks) {
                self.sessions.tell(session, SessionEvent::Connected(peer));
            }
            self.widen(peer);
        }
        for (peer, address) in peers {
            let connected = self.peers.contains_key(&peer);
            self.dialling.want(Instant::now(), peer, address, connected);
        }
        if reply.send((session, inbox)).is_err() {
            self.close_session(session);
        }
    }

    /// Opens more connections with a peer that is far away, and that blocks are wanted of: what one of
    /// them carries is bounded by its window and by what gets lost. Other programs send over one alone.
    pub(super) fn widen(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let is_ours = |agent: &String| agent.starts_with(AGENT);
        if peer.widened
            || !peer.rtt.is_some_and(|rtt| rtt >= FAR)
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

    pub(super) fn close_session(&mut self, session: SessionId) {
        self.exchange().handle(Input::CloseSession { session });
        for peer in self.sessions.close(session) {
            if !self.named.contains(&peer) {
                self.dialling.forget(&peer);
            }
        }
    }

    /// Does what the exchange of blocks asks for.
    pub(super) fn on_exchange(&mut self, event: exchange::Event) {
        use exchange::Event;
        match event {
            Event::Lookup { ticket, peer, cids } => {
                let shelf = self.shelf.clone();
                self.work.push(spawn_blocking(move || Input::Found {
                    ticket,
                    answers: shelf.answers(&peer, &cids),
                }));
            }
            Event::Load { ticket, peer, cids } => {
                let shelf = self.shelf.clone();
                self.work.push(spawn_blocking(move || Input::Loaded {
                    ticket,
                    blocks: shelf.load(&peer, &cids),
                }));
            }
            Event::Block {
                session,
                peer,
                block,
            } => {
                if self
                    .sessions
                    .tell(session, SessionEvent::Block { peer, block })
                {
                    let held = true;
                    self.exchange().handle(Input::Hold { session, held });
                }
            }
            Event::Refused {
                session,
                cid,
                because,
            } => drop(
                self.sessions
                    .tell(session, SessionEvent::Refused { cid, because }),
            ),
            Event::Speaks { peer } => {
                if let Some(known) = self.peers.get_mut(&peer) {
                    known.speaks = true;
                }
                self.sessions
                    .tell_of(&peer, || SessionEvent::Connected(peer));
            }
            Event::Missing { session, cids } => {
                self.sessions.tell(session, SessionEvent::Missing(cids));
            }
            Event::Misbehaved { peer, reason } => {
                if self.swarm.behaviour_mut().admission.ban(peer) {
                    tracing::warn!(%peer, %reason, "a peer is kept out");
                }
                self.sessions
                    .tell_of(&peer, || SessionEvent::Misbehaved { peer, reason });
            }
        }
    }
}
