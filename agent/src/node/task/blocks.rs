//! What the task does for the exchange of blocks: sessions, and what the store is asked.

use std::{collections::HashSet, sync::Arc};

use libp2p::PeerId;
use tokio::{sync::oneshot, task::spawn_blocking, time::Instant};

use super::Task;
use crate::{
    bitswap::{Input, SessionId},
    node::{
        Providers,
        exchange::{self, Exchange},
        session::{Inbox, SessionEvent},
    },
};

impl Task {
    pub(super) fn exchange(&mut self) -> &mut Exchange {
        &mut self.swarm.behaviour_mut().exchange
    }

    pub(super) fn open_session(
        &mut self,
        from: Providers,
        reply: oneshot::Sender<(SessionId, Arc<Inbox>)>,
    ) {
        let (session, inbox) = self.sessions.open(Vec::new());
        self.exchange().handle(Input::OpenSession { session });
        match from {
            Providers::Named(peers) => {
                for (peer, address) in peers {
                    self.ask(session, peer);
                    let connected = self.peers.contains_key(&peer);
                    self.dialling.want(Instant::now(), peer, address, connected);
                }
                self.sessions.tell(session, SessionEvent::Searched);
            }
            Providers::Known(root) => {
                // One that is named may be on its way to be connected.
                let known: HashSet<PeerId> =
                    self.peers.keys().chain(&self.named).copied().collect();
                for peer in known {
                    self.ask(session, peer);
                }
                self.find(session, &root);
            }
        }
        if reply.send((session, inbox)).is_err() {
            self.close_session(session);
        }
    }

    /// Lets a session ask a peer too.
    pub(super) fn ask(&mut self, session: SessionId, peer: PeerId) {
        if !self.sessions.add(session, peer) {
            return;
        }
        self.exchange().handle(Input::AddPeer { session, peer });
        self.sessions.tell(session, SessionEvent::Found(peer));
        if self.peers.get(&peer).is_some_and(|peer| peer.speaks) {
            self.sessions.tell(session, SessionEvent::Connected(peer));
        }
        self.widen(peer);
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
