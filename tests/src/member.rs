//! A member of a federation that says of logs what a test wants it to, true or not.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use libp2p::{
    PeerId, Stream, StreamProtocol,
    futures::{AsyncReadExt, AsyncWriteExt, StreamExt},
    gossipsub, identify,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use protocol::{log::replica::Message, note::VerifierKey};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
};

use crate::{
    federation::until,
    peer::{identify, listening},
};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/souverain/log/1");
const TOPIC: &str = "souverain/log/1";
/// Longer than any node takes, so that it is the node that refuses.
const GOSSIP_SIZE_MAX: usize = 4 << 20;
/// What is to be said and waits, at most.
const SAYS_MAX: usize = 1024;

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    streams: libp2p_stream::Behaviour,
    gossip: gossipsub::Behaviour,
}

/// What was gossiped, and whether it could be.
type Gossip = (Vec<u8>, oneshot::Sender<bool>);

/// A member of the test's own.
pub struct RawMember {
    _runtime: Runtime,
    says: mpsc::Sender<(PeerId, Vec<u8>)>,
    gossips: mpsc::Sender<Gossip>,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    connections: Arc<AtomicUsize>,
    /// Its id.
    pub id: PeerId,
    /// Where it listens, with its id.
    pub address: String,
}

impl std::fmt::Debug for RawMember {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawMember({})", self.address)
    }
}

impl RawMember {
    /// Starts a member that answers each message on a stream with what `answer` makes of it and who said it.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(answer: impl Fn(PeerId, Message) -> Vec<Message> + Send + Sync + 'static) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let (says, to_say) = mpsc::channel(SAYS_MAX);
        let (gossips, mut to_gossip) = mpsc::channel::<Gossip>(1);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (hearing, counted) = (heard.clone(), connections.clone());
        let (mut swarm, address) = runtime.block_on(listening(|key| Behaviour {
            identify: identify(key),
            streams: libp2p_stream::Behaviour::new(),
            gossip: gossip(),
        }));
        let id = *swarm.local_peer_id();
        let mut control = swarm.behaviour().streams.new_control();
        let incoming = control.accept(PROTOCOL).expect("nobody else accepts it");
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
                        SwarmEvent::Behaviour(BehaviourEvent::Gossip(
                            gossipsub::Event::Message { message, .. },
                        )) => hearing.lock().expect("no panic").push(message.data),
                        _ => {}
                    },
                    Some((bytes, done)) = to_gossip.recv() => {
                        let topic = gossipsub::IdentTopic::new(TOPIC);
                        let gossiped = swarm.behaviour_mut().gossip.publish(topic, bytes);
                        let _ = done.send(gossiped.is_ok());
                    }
                }
            }
        });
        runtime.spawn(speak(control, to_say));
        runtime.spawn(hear(incoming, says.clone(), Arc::new(answer)));
        Self {
            _runtime: runtime,
            says,
            gossips,
            heard,
            connections,
            id,
            address: format!("{address}/p2p/{id}"),
        }
    }

    /// What others pass to `peer add`.
    #[must_use]
    pub fn invite(&self, log: &VerifierKey) -> String {
        format!("{} {log}", self.address)
    }

    /// Says something on its stream to a member.
    ///
    /// # Panics
    /// Nothing is said any more.
    pub fn say(&self, to: PeerId, message: &Message) {
        self.say_raw(to, &message.encode());
    }

    /// Says what need not be a message.
    ///
    /// # Panics
    /// Nothing is said any more.
    pub fn say_raw(&self, to: PeerId, bytes: &[u8]) {
        let said = self.says.blocking_send((to, framed(bytes)));
        said.expect("it runs");
    }

    /// Gossips what need not be a message, and not be true. It may do so again.
    ///
    /// # Panics
    /// Nobody listens.
    pub fn gossip(&self, bytes: &[u8]) {
        until("somebody listens", || self.try_gossip(bytes).then_some(()));
    }

    /// The same, if anybody listens.
    ///
    /// # Panics
    /// It has ended.
    #[must_use]
    pub fn try_gossip(&self, bytes: &[u8]) -> bool {
        let (done, gossiped) = oneshot::channel();
        let sent = self.gossips.blocking_send((bytes.to_vec(), done));
        sent.expect("it runs");
        gossiped.blocking_recv().expect("it runs")
    }

    /// What it heard as gossip, in order.
    ///
    /// # Panics
    /// Its task has ended.
    #[must_use]
    pub fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().expect("no panic").clone()
    }

    /// How many connections it has.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Behind its length, as on a stream.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("short");
    [&length.to_be_bytes()[..], bytes].concat()
}

fn gossip() -> gossipsub::Behaviour {
    let number = AtomicUsize::new(0);
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .max_transmit_size(GOSSIP_SIZE_MAX)
        // So that it says things again, and hears them again.
        .message_id_fn(move |_| {
            let number = number.fetch_add(1, Ordering::Relaxed);
            gossipsub::MessageId::new(&number.to_be_bytes())
        })
        .build()
        .expect("its constants go together");
    let authenticity = gossipsub::MessageAuthenticity::Anonymous;
    let mut gossip = gossipsub::Behaviour::new(authenticity, config).expect("it needs no key");
    let topic = gossipsub::IdentTopic::new(TOPIC);
    gossip.subscribe(&topic).expect("nothing filters topics");
    gossip
}

/// One stream to each member, for all that is said to it.
async fn speak(mut control: libp2p_stream::Control, mut to_say: mpsc::Receiver<(PeerId, Vec<u8>)>) {
    let mut streams: HashMap<PeerId, Stream> = HashMap::new();
    while let Some((to, bytes)) = to_say.recv().await {
        let stream = match streams.remove(&to) {
            Some(stream) => Some(stream),
            None => control.open_stream(to, PROTOCOL).await.ok(),
        };
        // A member that listens no more is told nothing.
        let Some(mut stream) = stream else { continue };
        if stream.write_all(&bytes).await.is_ok() && stream.flush().await.is_ok() {
            streams.insert(to, stream);
        }
    }
}

async fn hear(
    mut incoming: libp2p_stream::IncomingStreams,
    says: mpsc::Sender<(PeerId, Vec<u8>)>,
    answer: Arc<impl Fn(PeerId, Message) -> Vec<Message> + Send + Sync + 'static>,
) {
    while let Some((from, mut stream)) = incoming.next().await {
        let (says, answer) = (says.clone(), answer.clone());
        tokio::spawn(async move {
            while let Some(message) = next(&mut stream).await {
                for reply in answer(from, message) {
                    if says.send((from, framed(&reply.encode()))).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

async fn next(stream: &mut Stream) -> Option<Message> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.ok()?;
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(Message::decode(&bytes).expect("a node says messages only"))
}
