//! The task that owns the swarm.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::{ConnectedPoint, transport::ListenerId, upgrade::Version},
    futures::{FutureExt, StreamExt, stream::FuturesUnordered},
    gossipsub, identify,
    identity::Keypair,
    mdns,
    multiaddr::Protocol,
    ping,
    swarm::{ConnectionId, SwarmEvent, dial_opts::DialOpts},
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

mod blocks;
mod logs;
mod providers;
mod widen;

use logs::{next_say, next_stream};
use providers::Provided;

use super::{
    Command, Handle, NodeError, NodeOptions, PeerStatus, Status,
    behaviour::{Behaviour, BehaviourEvent, OWN_DHT, PUBLIC_DHT},
    budget::Budgets,
    dialling::Dialling,
    exchange::Exchange,
    limits::{
        ADDRESSES_PER_PEER_MAX, AGENT_NAME_LEN_MAX, COMMANDS_MAX, EVENTS_PER_CONNECTION, IDLE_WAIT,
        LISTEN_WAIT, STOP_WAIT, STREAMS_NEGOTIATING_MAX,
    },
    session::{SessionEvent, Sessions},
    talk::{Incoming, Talk},
    traffic::Traffic,
    transport,
};
use crate::{
    bitswap::Input,
    log::following::{Port, Say},
    shelf::Shelf,
};

/// Starts a node, and returns when it listens, with its addresses. Must be called within a runtime.
/// `after_kill` is whether the node of this key that ran before was killed.
///
/// # Errors
/// The options make no sense, or an address cannot be listened on.
pub(crate) async fn start(
    key: &Keypair,
    options: &NodeOptions,
    budgets: &Budgets,
    shelf: Arc<Shelf>,
    port: Option<Port>,
    after_kill: bool,
) -> Result<(Handle, Vec<Multiaddr>, JoinHandle<()>), NodeError> {
    let listen = options.listen()?;
    let peers = options.peers()?;
    let traffic = Arc::new(Traffic::default());
    let (transport, relay_client) =
        transport::build(key, options.private.as_ref(), traffic.clone())?;
    let exchange = Exchange::start(options, budgets, after_kill)?;
    let behaviour = Behaviour::new(key, relay_client, options, port.is_some(), exchange)?;
    let control = behaviour.streams.new_control();
    let (talk, says, incoming) = match port.map(|port| Talk::new(port, control)) {
        Some((talk, says, incoming)) => (Some(talk), Some(says), Some(incoming)),
        None => (None, None, None),
    };
    let config = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE_WAIT)
        .with_max_negotiating_inbound_streams(STREAMS_NEGOTIATING_MAX)
        .with_substream_upgrade_protocol_override(Version::V1Lazy)
        .with_notify_handler_buffer_size(EVENTS_PER_CONNECTION)
        .with_per_connection_event_buffer_size(EVENTS_PER_CONNECTION.get());
    let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
    let mut task = Task {
        swarm: Swarm::new(transport, behaviour, key.public().to_peer_id(), config),
        commands: receiver,
        dialling: Dialling::default(),
        named: peers.iter().map(|(peer, _)| *peer).collect(),
        sessions: Sessions::default(),
        provided: Provided::default(),
        shelf,
        work: FuturesUnordered::new(),
        peers: HashMap::new(),
        traffic,
        started: Instant::now(),
        talk,
        says,
        incoming,
    };
    task.listen(listen).await?;
    if options.relay {
        // A relay that knows of no address where it is reached is none: it has none to give.
        let reached: Vec<Multiaddr> = task.swarm.listeners().cloned().collect();
        for address in reached {
            task.swarm.add_external_address(address);
        }
    }
    for (peer, address) in peers {
        task.dialling.want(Instant::now(), peer, address, false);
    }
    let addresses = task.addresses();
    let download = budgets.download.clone();
    let handle = Handle { commands, download };
    Ok((handle, addresses, tokio::spawn(task.run())))
}

struct Task {
    swarm: Swarm<Behaviour>,
    commands: mpsc::Receiver<Command>,
    dialling: Dialling,
    /// Peers to stay connected with, whatever happens.
    named: HashSet<PeerId>,
    sessions: Sessions,
    provided: Provided,
    shelf: Arc<Shelf>,
    /// What the store is asked. Bounded by the engine, which asks only so much at once.
    work: FuturesUnordered<JoinHandle<Input>>,
    peers: HashMap<PeerId, Peer>,
    traffic: Arc<Traffic>,
    started: Instant,
    /// What is said of logs, if this node follows any.
    talk: Option<Talk>,
    says: Option<mpsc::Receiver<Say>>,
    incoming: Option<Incoming>,
}

/// A peer with a connection.
#[derive(Debug, Default)]
struct Peer {
    connections: BTreeMap<ConnectionId, ConnectedPoint>,
    agent: Option<String>,
    rtt: Option<Duration>,
    /// Whether it can be asked for blocks.
    speaks: bool,
    /// Whether more connections with it were opened, because it is far away.
    widened: bool,
}

impl Task {
    /// Listens, and waits until each listener has an address.
    async fn listen(&mut self, addresses: Vec<Multiaddr>) -> Result<(), NodeError> {
        let mut awaited: HashMap<ListenerId, Multiaddr> = HashMap::new();
        for address in addresses {
            let id = self
                .swarm
                .listen_on(address.clone())
                .map_err(|cause| NodeError::Listen {
                    address: address.clone(),
                    cause,
                })?;
            awaited.insert(id, address);
        }
        let deadline = Instant::now() + LISTEN_WAIT;
        while !awaited.is_empty() {
            let Ok(event) = tokio::time::timeout_at(deadline, self.swarm.select_next_some()).await
            else {
                let address = awaited.into_values().next().expect("it is not empty");
                return Err(NodeError::ListenTimeout { address });
            };
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } => {
                    awaited.remove(listener_id);
                }
                SwarmEvent::ListenerClosed { listener_id, .. } => {
                    if let Some(address) = awaited.remove(listener_id) {
                        return Err(NodeError::ListenTimeout { address });
                    }
                }
                _ => {}
            }
            self.on_event(event);
        }
        // A listener on all interfaces has an address for each.
        while let Some(Some(event)) = self.swarm.next().now_or_never() {
            self.on_event(event);
        }
        Ok(())
    }

    /// Runs until it is told to stop, or all handles are gone.
    async fn run(mut self) {
        loop {
            let (redial, tell_dht) = (self.dialling.next(), self.provided.next());
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                command = self.commands.recv() => match command {
                    Some(Command::Stop) | None => break,
                    Some(command) => self.on_command(command),
                },
                Some(done) = self.work.next() => match done {
                    Ok(input) => self.exchange().handle(input),
                    Err(error) => tracing::error!(%error, "the store could not be asked"),
                },
                Some(say) = next_say(&mut self.says) => self.say(say),
                Some(stream) = next_stream(&mut self.incoming) => self.listen_to(stream),
                () = due(redial) => self.redial(),
                () = due(tell_dht) => self.tell_dht(),
            }
        }
        self.close().await;
    }

    /// Says goodbye to all peers.
    async fn close(mut self) {
        // Who waits for blocks is told first.
        self.sessions = Sessions::default();
        self.commands.close();
        let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in connected {
            // It is an error only if the peer is gone already.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.network_info().num_peers() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        if timeout(STOP_WAIT, closed).await.is_err() {
            tracing::debug!("some connections did not close in time");
        }
    }

    fn redial(&mut self) {
        for (peer, addresses) in self.dialling.due(Instant::now()) {
            let dial = DialOpts::peer_id(peer).addresses(addresses).build();
            if let Err(error) = self.swarm.dial(dial) {
                tracing::debug!(%peer, %error, "not dialled");
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            // Who asked may not wait for the answer any more.
            Command::Status(reply) => drop(reply.send(self.status())),
            Command::OpenSession { from, reply } => self.open_session(from, reply),
            Command::Changed { public } => {
                self.provide(public);
                self.exchange().handle(Input::Changed);
            }
            Command::Want { session, wants } => {
                self.exchange().handle(Input::Want { session, wants });
            }
            Command::GoOn { session } => self.exchange().handle(Input::Hold {
                session,
                held: false,
            }),
            Command::CloseSession { session } => self.close_session(session),
            Command::Cosign { peer, body, reply } => self.cosign(peer, body, reply),
            // The loop that takes the commands ends with it.
            Command::Stop => {}
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                tracing::debug!(peer = %peer_id, address = %endpoint.get_remote_address(), "connected");
                self.dialling.connected(&peer_id);
                let peer = self.peers.entry(peer_id).or_default();
                let is_first = peer.connections.is_empty();
                peer.connections.insert(connection_id, endpoint);
                if is_first {
                    self.talk_with(peer_id, false);
                }
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                num_established,
                cause,
                ..
            } => {
                tracing::debug!(peer = %peer_id, ?cause, "connection closed");
                if num_established == 0 {
                    self.peers.remove(&peer_id);
                    self.talk_no_more_with(peer_id);
                    self.dialling.disconnected(Instant::now(), &peer_id);
                    self.sessions
                        .tell_of(&peer_id, || SessionEvent::Disconnected(peer_id));
                } else if let Some(peer) = self.peers.get_mut(&peer_id) {
                    peer.connections.remove(&connection_id);
                    peer.widened = false;
                }
            }
            SwarmEvent::IncomingConnectionError {
                send_back_addr,
                error,
                ..
            } => tracing::debug!(address = %send_back_addr, %error, "connection refused"),
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                tracing::debug!(peer = ?peer_id, %error, "not connected");
                if let Some(peer) = peer_id {
                    let why = describe(&error);
                    self.sessions.tell_of(&peer, || SessionEvent::Unreachable {
                        peer,
                        why: why.clone(),
                    });
                }
            }
            SwarmEvent::ListenerClosed {
                addresses, reason, ..
            } => tracing::error!(?addresses, ?reason, "does not listen any more"),
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener failed for a moment");
            }
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Exchange(event) => self.on_exchange(event),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.identified(peer_id, info);
            }
            BehaviourEvent::Ping(ping::Event {
                peer: peer_id,
                result: Ok(rtt),
                ..
            }) => {
                if let Some(peer) = self.peers.get_mut(&peer_id) {
                    peer.rtt = Some(rtt);
                }
                self.widen(peer_id);
            }
            BehaviourEvent::Dht(event) => self.on_dht(event),
            BehaviourEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            }) => self.gossip_heard(propagation_source, &message_id, &message.data),
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.discovered(found),
            _ => {}
        }
    }

    fn identified(&mut self, id: PeerId, info: identify::Info) {
        if let Some(peer) = self.peers.get_mut(&id) {
            let printable = |c: &char| !c.is_control();
            let name = info.agent_version.chars().filter(printable);
            peer.agent = Some(name.take(AGENT_NAME_LEN_MAX).collect());
        }
        self.widen(id);
        if let Some(dht) = self.swarm.behaviour_mut().dht.as_mut()
            && dht
                .protocol_names()
                .iter()
                .any(|own| (*own == OWN_DHT || *own == PUBLIC_DHT) && info.protocols.contains(own))
        {
            for address in info.listen_addrs.into_iter().take(ADDRESSES_PER_PEER_MAX) {
                dht.add_address(&id, address);
            }
        }
    }

    /// Connects with peers of the local network.
    fn discovered(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        let mut addresses: HashMap<PeerId, Vec<Multiaddr>> = HashMap::new();
        for (peer, address) in found {
            addresses.entry(peer).or_default().push(address);
        }
        for (peer, mut addresses) in addresses {
            if self.peers.contains_key(&peer) {
                continue;
            }
            addresses.truncate(ADDRESSES_PER_PEER_MAX);
            let dial = DialOpts::peer_id(peer).addresses(addresses).build();
            if let Err(error) = self.swarm.dial(dial) {
                tracing::debug!(%peer, %error, "not dialled");
            }
        }
    }

    /// Addresses that are listened on, with the peer id.
    fn addresses(&self) -> Vec<Multiaddr> {
        let own = *self.swarm.local_peer_id();
        let unique: HashSet<Multiaddr> = self
            .swarm
            .listeners()
            .map(|address| with_peer(address.clone(), own))
            .collect();
        let mut addresses: Vec<Multiaddr> = unique.into_iter().collect();
        addresses.sort_by_key(ToString::to_string);
        addresses
    }

    fn status(&self) -> Status {
        let mut peers: Vec<PeerStatus> = self
            .peers
            .iter()
            .filter_map(|(id, peer)| {
                let first = peer.connections.values().next()?;
                let counts = self.swarm.behaviour().exchange.counts(id);
                Some(PeerStatus {
                    peer: id.to_string(),
                    address: first.get_remote_address().to_string(),
                    inbound: first.is_listener(),
                    connections: peer.connections.len(),
                    agent: peer.agent.clone(),
                    rtt_us: peer.rtt.map(|rtt| rtt.as_micros() as u64),
                    blocks_sent: counts.sent_blocks,
                    block_bytes_sent: counts.sent_bytes,
                    blocks_received: counts.received_blocks,
                    block_bytes_received: counts.received_bytes,
                })
            })
            .collect();
        peers.sort_by(|a, b| a.peer.cmp(&b.peer));
        let texts = |addresses: Vec<Multiaddr>| addresses.iter().map(ToString::to_string).collect();
        Status {
            peer: self.swarm.local_peer_id().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            listening: texts(self.addresses()),
            external: texts(self.swarm.external_addresses().cloned().collect()),
            bytes_received: self.traffic.received(),
            bytes_sent: self.traffic.sent(),
            provided: self.provided(),
            peers,
        }
    }
}

/// Waits until a time, or for ever.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The address, with the peer's id at its end.
fn with_peer(address: Multiaddr, peer: PeerId) -> Multiaddr {
    match address.iter().last() {
        Some(Protocol::P2p(last)) if last == peer => address,
        _ => address.with(Protocol::P2p(peer)),
    }
}

/// An error with its causes, in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
