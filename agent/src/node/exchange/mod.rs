//! The exchange of blocks: the Bitswap engine on real connections.
//!
//! Owns the engine, its timer, and which connection a message goes over. What is in the store, and
//! who may have it, is asked of the node's task with [`Event`]s and answered with inputs.

mod handler;
mod stream;

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use cid::Cid;
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol as Part,
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour,
        NotifyHandler, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};
use protocol::block::Block;
use tokio::time::Sleep;

use super::{NodeError, NodeOptions, budget::Budgets, clock::Clock, limits::TICK_MIN};
use crate::bitswap::{
    Config, Effect, Engine, Input, MessageId, Misbehaviour, PeerCounts, Protocol, RefusedBecause,
    SessionId, Ticket,
};
use handler::{Handler, Send, Told};
use stream::Memory;

/// What the exchange asks of the node, and tells it.
#[derive(Debug)]
pub(super) enum Event {
    /// Say of each block whether this peer may have it, and whether it is here.
    Lookup {
        ticket: Ticket,
        peer: PeerId,
        cids: Vec<Cid>,
    },
    /// Read blocks that a peer may have.
    Load {
        ticket: Ticket,
        peer: PeerId,
        cids: Vec<Cid>,
    },
    /// A wanted block came.
    Block {
        session: SessionId,
        peer: Option<PeerId>,
        block: Block,
    },
    /// A block cannot be wanted.
    Refused {
        session: SessionId,
        cid: Cid,
        because: RefusedBecause,
    },
    /// No connected peer of the session has these blocks.
    Missing { session: SessionId, cids: Vec<Cid> },
    /// A peer can be asked for blocks.
    Speaks { peer: PeerId },
    /// A peer broke the rules.
    Misbehaved { peer: PeerId, reason: Misbehaviour },
}

/// Bitswap with all peers.
pub(super) struct Exchange {
    engine: Engine,
    peers: HashMap<PeerId, Vec<Connection>>,
    /// What connected peers were seen to speak.
    spoken: HashMap<PeerId, Protocol>,
    /// Messages that were given to a connection.
    sending: HashMap<MessageId, Sending>,
    memory: Memory,
    clock: Clock,
    timer: Option<Pin<Box<Sleep>>>,
    ticked: Option<Instant>,
    events: VecDeque<ToSwarm<Event, Send>>,
}

/// A connection that messages may go over.
#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    way: Way,
    /// Bytes of blocks that it was given, and has not sent.
    unsent_bytes: usize,
}

/// What a connection goes over; the first is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Tcp,
    Quic,
    /// A relay is in between, which is slow, and limited.
    Relayed,
}

impl Way {
    fn of(address: &Multiaddr) -> Self {
        let has = |wanted: Part<'_>| address.iter().any(|part| part == wanted);
        if has(Part::P2pCircuit) {
            Self::Relayed
        } else if has(Part::QuicV1) {
            Self::Quic
        } else {
            Self::Tcp
        }
    }
}

/// A message that a connection was given.
#[derive(Debug)]
struct Sending {
    peer: PeerId,
    connection: ConnectionId,
    /// Those of its blocks.
    bytes: usize,
}

impl Exchange {
    /// Starts an engine that draws on `budgets` with whoever else does.
    pub(super) fn start(
        options: &NodeOptions,
        budgets: &Budgets,
        after_kill: bool,
    ) -> Result<Self, NodeError> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|_| NodeError::Random)?;
        let config = Config {
            seed: u64::from_be_bytes(seed),
            rates: options.rates.clone(),
            uploads: budgets.upload.bucket.clone(),
            downloads: budgets.download.bucket.clone(),
            after_kill,
        };
        Ok(Self {
            engine: Engine::new(config),
            peers: HashMap::new(),
            spoken: HashMap::new(),
            sending: HashMap::new(),
            memory: Memory::default(),
            clock: budgets.clock.clone(),
            timer: None,
            ticked: None,
            events: VecDeque::new(),
        })
    }

    /// Tells the engine something.
    pub(super) fn handle(&mut self, input: Input) {
        self.engine.handle(self.clock.now(), input);
    }

    /// What went to and came from a peer.
    pub(super) fn counts(&self, peer: &PeerId) -> PeerCounts {
        self.engine.counts(peer).unwrap_or_default()
    }

    fn handler(&self, peer: &PeerId) -> Handler {
        Handler::new(self.memory.clone(), self.spoken.get(peer).copied())
    }

    fn connected(&mut self, peer: PeerId, id: ConnectionId, address: &Multiaddr) {
        let way = Way::of(address);
        let connections = self.peers.entry(peer).or_default();
        let connection = Connection {
            id,
            way,
            unsent_bytes: 0,
        };
        // The direct ones come first, the oldest of them at the front.
        let place = connections
            .iter()
            .position(|other| other.way == Way::Relayed && way != Way::Relayed)
            .unwrap_or(connections.len());
        connections.insert(place, connection);
    }

    fn disconnected(&mut self, peer: PeerId, id: ConnectionId) {
        let lost: Vec<MessageId> = self
            .sending
            .iter()
            .filter(|(_, sending)| sending.connection == id)
            .map(|(message, _)| *message)
            .collect();
        for message in &lost {
            self.sending.remove(message);
        }
        let Some(connections) = self.peers.get_mut(&peer) else {
            return;
        };
        connections.retain(|connection| connection.id != id);
        if connections.is_empty() {
            self.peers.remove(&peer);
            self.spoken.remove(&peer);
            self.handle(Input::Disconnected { peer });
            return;
        }
        for message in lost {
            self.handle(Input::SendFailed { peer, message });
        }
    }

    /// Does what the engine wants done.
    fn drain(&mut self) {
        while let Some(effect) = self.engine.effect() {
            let event = match effect {
                Effect::Send {
                    peer,
                    id,
                    message,
                    again,
                } => {
                    self.send(peer, Send { id, message, again });
                    continue;
                }
                Effect::Silent { peer } => {
                    tracing::debug!(%peer, "owes answers, and is silent");
                    continue;
                }
                Effect::Stalled { peer } => {
                    tracing::warn!(%peer, "takes nothing of what it asked for");
                    self.events.push_back(ToSwarm::CloseConnection {
                        peer_id: peer,
                        connection: CloseConnection::All,
                    });
                    continue;
                }
                Effect::Lookup { ticket, peer, cids } => Event::Lookup { ticket, peer, cids },
                Effect::Load { ticket, peer, cids } => Event::Load { ticket, peer, cids },
                Effect::Block {
                    session,
                    peer,
                    block,
                } => Event::Block {
                    session,
                    peer,
                    block,
                },
                Effect::Refused {
                    session,
                    cid,
                    because,
                } => Event::Refused {
                    session,
                    cid,
                    because,
                },
                Effect::Missing { session, cids } => Event::Missing { session, cids },
                Effect::Misbehaved { peer, reason } => Event::Misbehaved { peer, reason },
            };
            self.events.push_back(ToSwarm::GenerateEvent(event));
        }
    }

    fn send(&mut self, peer: PeerId, send: Send) {
        let Some(connections) = self.peers.get_mut(&peer) else {
            let message = send.id;
            return self.handle(Input::SendFailed { peer, message });
        };
        // Another connection may do better than the one over which the peer was silent.
        if send.again && connections.len() > 1 && connections[1].way != Way::Relayed {
            connections.rotate_left(1);
        }
        let bytes = send.message.blocks.iter().map(|b| b.bytes.len()).sum();
        // Blocks are spread over all connections of the kind; words go over one, in their order.
        let way = connections[0].way;
        let alike = connections
            .iter_mut()
            .take(if bytes == 0 { 1 } else { usize::MAX })
            .filter(|connection| connection.way == way);
        let Some(chosen) = alike.min_by_key(|connection| connection.unsent_bytes) else {
            return;
        };
        chosen.unsent_bytes += bytes;
        let connection = chosen.id;
        let sending = Sending {
            peer,
            connection,
            bytes,
        };
        self.sending.insert(send.id, sending);
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: send,
        });
    }

    /// A connection is done with a message.
    fn done(&mut self, message: MessageId) {
        let Some(done) = self.sending.remove(&message) else {
            return;
        };
        let connections = self.peers.get_mut(&done.peer);
        let mut connections = connections.into_iter().flatten();
        if let Some(connection) = connections.find(|c| c.id == done.connection) {
            connection.unsent_bytes -= done.bytes;
        }
    }

    /// Whether the engine's deadline has come.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.engine.deadline() else {
            self.timer = None;
            return false;
        };
        let soonest = self.ticked.map_or(self.clock.started(), |at| at + TICK_MIN);
        let deadline = (self.clock.started() + deadline).max(soonest);
        let deadline = tokio::time::Instant::from_std(deadline);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).is_ready()
    }
}

impl NetworkBehaviour for Exchange {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(&peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(&peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(made) => {
                let address = made.endpoint.get_remote_address();
                self.connected(made.peer_id, made.connection_id, address);
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.disconnected(closed.peer_id, closed.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        _: ConnectionId,
        told: THandlerOutEvent<Self>,
    ) {
        let input = match told {
            Told::Speaks(protocol) => {
                self.spoken.insert(peer, protocol);
                let event = Event::Speaks { peer };
                self.events.push_back(ToSwarm::GenerateEvent(event));
                Input::Connected { peer, protocol }
            }
            Told::Message(message) => Input::Message { peer, message },
            Told::Malformed(error) => Input::Malformed { peer, error },
            Told::Receiving => Input::Receiving { peer },
            Told::Sending => Input::Sending { peer },
            Told::Sent(message) => {
                self.done(message);
                Input::Sent { peer, message }
            }
            Told::SendFailed(message) => {
                self.done(message);
                Input::SendFailed { peer, message }
            }
        };
        self.handle(input);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            self.drain();
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            if !self.poll_timer(cx) {
                return Poll::Pending;
            }
            self.timer = None;
            self.ticked = Some(Instant::now());
            self.handle(Input::Tick);
        }
    }
}
