//! What the node speaks with its peers.

use libp2p::{
    StreamProtocol, autonat,
    connection_limits::{self, ConnectionLimits},
    dcutr, gossipsub, identify,
    identity::Keypair,
    kad::{self, store::MemoryStore, store::MemoryStoreConfig},
    mdns, memory_connection_limits, ping, relay,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};

use super::{
    Dht, Listen, NodeError, NodeOptions,
    admission::Admission,
    exchange::Exchange,
    limits::{
        CONNECTIONS_INBOUND_MAX, CONNECTIONS_MAX, CONNECTIONS_PENDING_INBOUND_MAX,
        CONNECTIONS_PENDING_OUTBOUND_MAX, CONNECTIONS_PER_PEER_MAX, DHT_PROVIDED_MAX,
        DHT_QUERY_WAIT, DHT_RECORD_SIZE_MAX, DHT_RECORDS_MAX, MEMORY_MAX, RELAYED_BYTES_MAX,
        RELAYED_TIME_MAX,
    },
    talk,
};

/// The DHT of nodes of this program.
pub(super) const OWN_DHT: StreamProtocol = StreamProtocol::new("/souverain/kad/1.0.0");
/// The DHT that IPFS nodes share.
pub(super) const PUBLIC_DHT: StreamProtocol = StreamProtocol::new("/ipfs/kad/1.0.0");
/// What identify says of the program, before its version.
pub(super) const AGENT: &str = "souverain/";
/// What identify says of the family of protocols.
const PROTOCOL_VERSION: &str = "ipfs/0.1.0";

/// All protocols. What refuses connections comes first.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    pub(super) admission: Admission,
    pub(super) exchange: Exchange,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(super) dht: Toggle<kad::Behaviour<MemoryStore>>,
    mdns: Toggle<mdns::tokio::Behaviour>,
    relay_client: relay::client::Behaviour,
    relay: Toggle<relay::Behaviour>,
    hole_punching: dcutr::Behaviour,
    reachability: autonat::v2::client::Behaviour,
    reachability_server: autonat::v2::server::Behaviour,
    pub(super) gossip: Toggle<gossipsub::Behaviour>,
    pub(super) streams: libp2p_stream::Behaviour,
}

impl Behaviour {
    /// Puts the protocols together; with gossip of logs if it `talks` of them.
    pub(super) fn new(
        key: &Keypair,
        relay_client: relay::client::Behaviour,
        options: &NodeOptions,
        talks: bool,
        exchange: Exchange,
    ) -> Result<Self, NodeError> {
        let peer = key.public().to_peer_id();
        let mdns = options
            .mdns
            .then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), peer))
            .transpose()
            .map_err(NodeError::Mdns)?;
        let relay = options
            .relay
            .then(|| relay::Behaviour::new(peer, relayed()));
        let identify = identify::Config::new(PROTOCOL_VERSION.to_owned(), key.public())
            .with_agent_version(format!("{AGENT}{}", env!("CARGO_PKG_VERSION")))
            .with_push_listen_addr_updates(true);
        Ok(Self {
            limits: connection_limits::Behaviour::new(connection_limits()),
            memory: memory_connection_limits::Behaviour::with_max_bytes(MEMORY_MAX),
            admission: Admission::default(),
            exchange,
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping::Config::new()),
            dht: dht(peer, options).into(),
            mdns: mdns.into(),
            relay_client,
            relay: relay.into(),
            hole_punching: dcutr::Behaviour::new(peer),
            reachability: autonat::v2::client::Behaviour::default(),
            reachability_server: autonat::v2::server::Behaviour::default(),
            gossip: talks.then(talk::gossip).into(),
            streams: libp2p_stream::Behaviour::new(),
        })
    }
}

/// Who runs a relay lets snapshots through it, and not only what it takes to meet.
fn relayed() -> relay::Config {
    relay::Config {
        max_circuit_duration: RELAYED_TIME_MAX,
        max_circuit_bytes: RELAYED_BYTES_MAX,
        ..relay::Config::default()
    }
}

fn connection_limits() -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_established(Some(CONNECTIONS_MAX))
        .with_max_established_incoming(Some(CONNECTIONS_INBOUND_MAX))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER_MAX))
        .with_max_pending_incoming(Some(CONNECTIONS_PENDING_INBOUND_MAX))
        .with_max_pending_outgoing(Some(CONNECTIONS_PENDING_OUTBOUND_MAX))
}

fn dht(peer: libp2p::PeerId, options: &NodeOptions) -> Option<kad::Behaviour<MemoryStore>> {
    let mut config = kad::Config::new(match options.dht {
        Dht::Off => return None,
        Dht::Own => OWN_DHT,
        Dht::Public => PUBLIC_DHT,
    });
    config
        .set_query_timeout(DHT_QUERY_WAIT)
        .set_kbucket_inserts(kad::BucketInserts::OnConnected);
    let store = MemoryStoreConfig {
        max_records: DHT_RECORDS_MAX,
        max_value_bytes: DHT_RECORD_SIZE_MAX,
        max_provided_keys: DHT_PROVIDED_MAX,
        ..MemoryStoreConfig::default()
    };
    let store = MemoryStore::with_config(peer, store);
    let mut dht = kad::Behaviour::with_config(peer, store, config);
    // In the public one who cannot be reached from everywhere only asks, as everyone there does.
    if options.dht == Dht::Own && options.listen != Listen::Nowhere {
        dht.set_mode(Some(kad::Mode::Server));
    }
    Some(dht)
}
