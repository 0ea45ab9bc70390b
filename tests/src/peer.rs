//! A peer that speaks Bitswap as a test wants it to, and may lie.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use agent::bitswap::{PROTOCOLS, message::WireMessage};
use bytes::Bytes;
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder,
    futures::{AsyncReadExt, AsyncWriteExt, StreamExt},
    identify,
    identity::Keypair,
    noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use tokio::{runtime::Runtime, sync::mpsc};

const PROTOCOL: StreamProtocol = StreamProtocol::new(PROTOCOLS[0]);

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    streams: libp2p_stream::Behaviour,
}

/// A peer of the test's own.
pub struct RawPeer {
    runtime: Runtime,
    control: libp2p_stream::Control,
    dials: mpsc::Sender<Multiaddr>,
    connections: Arc<AtomicUsize>,
    /// Its id.
    pub id: PeerId,
    /// Where it listens, with its id.
    pub address: String,
}

impl std::fmt::Debug for RawPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawPeer({})", self.address)
    }
}

impl RawPeer {
    /// Starts a peer that answers each message with what `answer` makes of it: whole messages
    /// without their lengths, each on a stream of its own.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(answer: impl Fn(WireMessage) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let (mut swarm, address) = runtime.block_on(listening(|key| Behaviour {
            identify: identify(key),
            streams: libp2p_stream::Behaviour::new(),
        }));
        let id = *swarm.local_peer_id();
        let mut control = swarm.behaviour().streams.new_control();
        let incoming = control.accept(PROTOCOL).expect("nobody else accepts it");
        let (dials, mut dialled) = mpsc::channel::<Multiaddr>(64);
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        runtime.spawn(async move {
            loop {
                tokio::select! {
                    event = swarm.select_next_some() => match event {
                        SwarmEvent::ConnectionEstablished { .. } => {
                            counted.fetch_add(1, Ordering::Relaxed);
                        }
                        SwarmEvent::ConnectionClosed { .. } => {
                            counted.fetch_sub(1, Ordering::Relaxed);
                        }
                        _ => {}
                    },
                    Some(address) = dialled.recv() => swarm.dial(address).expect("an address"),
                }
            }
        });
        runtime.spawn(serve(incoming, control.clone(), Arc::new(answer)));
        Self {
            runtime,
            control,
            dials,
            connections,
            id,
            address: format!("{address}/p2p/{id}"),
        }
    }

    /// Connects with an address, and waits until that is done.
    ///
    /// # Panics
    /// It does not happen in time.
    pub fn dial(&self, address: &str) {
        let address: Multiaddr = address.parse().expect("an address");
        let before = self.connections();
        self.dials.blocking_send(address).expect("it runs");
        self.wait_for(|connections| connections > before);
    }

    /// Waits until the number of connections is as expected.
    ///
    /// # Panics
    /// It does not happen in time.
    pub fn wait_for(&self, expected: impl Fn(usize) -> bool) {
        let began = std::time::Instant::now();
        while !expected(self.connections()) {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::yield_now();
        }
    }

    /// How many connections it has.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Opens a stream and sends these bytes as they are. Nothing if the peer at the other end does
    /// not take them. The stream stays open as long as what is returned.
    pub fn send_raw(&self, to: PeerId, bytes: &[u8]) -> Option<Stream> {
        self.send_by(to, PROTOCOL, bytes)
    }

    /// The same, on a stream of any protocol.
    pub fn send_by(&self, to: PeerId, protocol: StreamProtocol, bytes: &[u8]) -> Option<Stream> {
        let mut control = self.control.clone();
        self.runtime.block_on(async move {
            let mut stream = control.open_stream(to, protocol).await.ok()?;
            stream.write_all(bytes).await.ok()?;
            stream.flush().await.ok()?;
            Some(stream)
        })
    }

    /// Opens a stream and sends a message. Nothing if the peer does not take it.
    pub fn send(&self, to: PeerId, message: &[u8]) -> Option<Stream> {
        self.send_raw(to, &framed(message))
    }
}

/// A swarm of some behaviour that listens, and where.
pub(crate) async fn listening<B: NetworkBehaviour>(
    behaviour: impl FnOnce(&Keypair) -> B,
) -> (Swarm<B>, Multiaddr) {
    let builder = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .expect("TCP");
    let mut swarm = builder
        .with_behaviour(|key| behaviour(key))
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build();
    let address = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
    swarm.listen_on(address).expect("listens");
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return (swarm, address);
        }
    }
}

/// What tells others who a peer is.
pub(crate) fn identify(key: &Keypair) -> identify::Behaviour {
    let config = identify::Config::new("ipfs/0.1.0".to_owned(), key.public());
    identify::Behaviour::new(config)
}

async fn serve(
    mut incoming: libp2p_stream::IncomingStreams,
    control: libp2p_stream::Control,
    answer: Arc<impl Fn(WireMessage) -> Vec<Vec<u8>> + Send + Sync + 'static>,
) {
    while let Some((peer, mut stream)) = incoming.next().await {
        let (mut control, answer) = (control.clone(), answer.clone());
        tokio::spawn(async move {
            while let Some(message) = next(&mut stream).await {
                for reply in answer(message) {
                    let Ok(mut back) = control.open_stream(peer, PROTOCOL).await else {
                        return;
                    };
                    if back.write_all(&framed(&reply)).await.is_err() {
                        return;
                    }
                    let _ = back.close().await;
                }
            }
        });
    }
}

async fn next(stream: &mut Stream) -> Option<WireMessage> {
    let mut length = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.ok()?;
        length.push(byte[0]);
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let (length, _) = unsigned_varint::decode::usize(&length).ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    WireMessage::decode(Bytes::from(body)).ok()
}

/// A message with its length before it.
#[must_use]
pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut buffer = unsigned_varint::encode::usize_buffer();
    [
        unsigned_varint::encode::usize(message.len(), &mut buffer),
        message,
    ]
    .concat()
}

/// A message as it is sent, without its length.
#[must_use]
pub fn encoded(message: &WireMessage) -> Vec<u8> {
    message.encode().concat()
}
