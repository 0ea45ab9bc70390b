//! What nodes of a federation say of logs: streams between two of them, and gossip. Who is no member is not heard.
//!
//! A message on a stream stands behind its length in four bytes, big-endian. Each member has one stream to the other,
//! which is opened again when it breaks. What is lost then is made up for by the next exchange of frontiers.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    futures::{AsyncReadExt, AsyncWriteExt, StreamExt},
    gossipsub::{self, IdentTopic, MessageAcceptance, MessageId, TopicHash},
};
use libp2p_stream::{Control, IncomingStreams};
use protocol::log::replica::{
    Message, Misbehaviour,
    limits::{GOSSIP_SIZE_MAX, MESSAGE_SIZE_MAX},
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::AbortHandle,
    time::timeout,
};

use super::{
    limits::{
        BLAME_MAX, COSIGNING_MAX, LOG_BYTES_MAX, LOG_MESSAGES_MAX, LOG_STREAMS_MAX,
        STREAM_OPEN_WAIT, STREAM_STEP_WAIT,
    },
    witness::{self, WITNESS_PROTOCOL},
};
use crate::log::{
    following::{GossipId, Port, Say, Told, Verdict, gossip_id},
    witnessing::Witnessing,
};

/// The protocol of streams.
pub(super) const LOG_PROTOCOL: StreamProtocol = StreamProtocol::new("/souverain/log/1");
/// The topic of gossip.
const TOPIC: &str = "souverain/log/1";
/// What the room for messages is counted in, in bytes.
const ROOM_UNIT: usize = 1 << 10;
/// Gossip that is remembered.
const GOSSIPED_MAX: usize = 1024;
/// What gossip knows of a peer that is no member: below the least that is heard.
const STRANGER: f64 = -1000.0;

/// What a node needs to carry what replicas say.
pub(super) struct Talk {
    told: mpsc::UnboundedSender<Told>,
    witnessing: Witnessing,
    /// Requests to cosign that are read and answered.
    cosigning: Arc<Semaphore>,
    control: Control,
    members: HashMap<PeerId, Vec<Multiaddr>>,
    room: Arc<Semaphore>,
    speakers: HashMap<PeerId, mpsc::Sender<Vec<u8>>>,
    listeners: HashMap<PeerId, Vec<AbortHandle>>,
    blames: HashMap<PeerId, (u32, Instant)>,
    /// Members that are dialled because they are.
    pub(super) dialled: HashSet<PeerId>,
    /// What was gossiped here or by others, the latest last.
    gossiped: VecDeque<GossipId>,
}

/// Where streams of others come in.
pub(super) struct Incoming {
    messages: IncomingStreams,
    requests: IncomingStreams,
}

/// A stream of another peer.
pub(super) enum InboundStream {
    /// With messages of a replica.
    Messages(PeerId, Stream),
    /// With a request to cosign.
    Request(PeerId, Stream),
}

impl Incoming {
    /// The next one.
    pub(super) async fn next(&mut self) -> Option<InboundStream> {
        tokio::select! {
            next = self.messages.next() => next.map(|(peer, s)| InboundStream::Messages(peer, s)),
            next = self.requests.next() => next.map(|(peer, s)| InboundStream::Request(peer, s)),
        }
    }
}

impl Talk {
    /// What replicas say, and where streams of others come in.
    pub(super) fn new(port: Port, mut control: Control) -> (Self, mpsc::Receiver<Say>, Incoming) {
        let mut accept = |protocol| control.accept(protocol).expect("it is accepted once");
        let incoming = Incoming {
            messages: accept(LOG_PROTOCOL),
            requests: accept(WITNESS_PROTOCOL),
        };
        let talk = Self {
            told: port.told,
            witnessing: port.witnessing,
            cosigning: Arc::new(Semaphore::new(COSIGNING_MAX)),
            control,
            members: HashMap::new(),
            room: Arc::new(Semaphore::new(LOG_BYTES_MAX / ROOM_UNIT)),
            speakers: HashMap::new(),
            listeners: HashMap::new(),
            blames: HashMap::new(),
            dialled: HashSet::new(),
            gossiped: VecDeque::new(),
        };
        (talk, port.says, incoming)
    }

    /// Puts others in the place of the members. Returns who is new, who is reached elsewhere, and who is not one any more.
    pub(super) fn members(
        &mut self,
        members: HashMap<PeerId, Vec<Multiaddr>>,
    ) -> (Vec<PeerId>, Vec<PeerId>, Vec<PeerId>) {
        let before = std::mem::replace(&mut self.members, members);
        let (mut new, mut moved) = (Vec::new(), Vec::new());
        for (peer, addresses) in &self.members {
            match before.get(peer) {
                None => new.push(*peer),
                Some(before) if before != addresses => moved.push(*peer),
                Some(_) => {}
            }
        }
        let gone = before.into_keys();
        let gone = gone.filter(|peer| !self.members.contains_key(peer));
        (new, moved, gone.collect())
    }

    /// Where a member is reached; nothing if the peer is none.
    pub(super) fn member(&self, peer: &PeerId) -> Option<&[Multiaddr]> {
        self.members.get(peer).map(Vec::as_slice)
    }

    /// A member is connected; or is a member since it is, if that is `late`.
    pub(super) fn connected(
        &mut self,
        peer: PeerId,
        late: bool,
        gossip: &mut gossipsub::Behaviour,
    ) {
        let blame = self.blames.get(&peer).map_or(0, |(blame, _)| *blame);
        gossip.set_application_score(&peer, -f64::from(blame));
        self.tell(Told::Connected { peer, late });
    }

    /// A peer that is no member is connected.
    pub(super) fn stranger(&self, peer: PeerId, gossip: &mut gossipsub::Behaviour) {
        gossip.set_application_score(&peer, STRANGER);
    }

    /// A peer is gone, or is no member any more.
    pub(super) fn gone(&mut self, peer: PeerId) {
        self.speakers.remove(&peer);
        for listener in self.listeners.remove(&peer).unwrap_or_default() {
            listener.abort();
        }
        self.tell(Told::Gone(peer));
    }

    /// Says something to a member. If too much waits to be said, it is not.
    pub(super) fn send(&mut self, peer: PeerId, bytes: Vec<u8>) {
        if !self.members.contains_key(&peer) {
            return;
        }
        let control = &self.control;
        let speaker = self.speakers.entry(peer).or_insert_with(|| {
            let (speaker, messages) = mpsc::channel(LOG_MESSAGES_MAX);
            tokio::spawn(speak(peer, control.clone(), messages));
            speaker
        });
        if speaker.try_send(bytes).is_err() {
            tracing::debug!(%peer, "too much waits to be said");
        }
    }

    /// Takes in a stream.
    pub(super) fn listen(&mut self, peer: PeerId, stream: Stream) {
        if !self.members.contains_key(&peer) {
            return;
        }
        let listeners = self.listeners.entry(peer).or_default();
        listeners.retain(|listener| !listener.is_finished());
        if listeners.len() >= LOG_STREAMS_MAX {
            // Of streams that broke on the way this end hears last.
            listeners.remove(0).abort();
        }
        let (told, room) = (self.told.clone(), self.room.clone());
        let listening = tokio::spawn(async move {
            if let Err(error) = listen(peer, stream, &told, &room).await {
                tracing::debug!(%peer, %error, "a stream of messages ended");
            }
        });
        listeners.push(listening.abort_handle());
    }

    /// Answers a request to cosign. If too many are being answered, it is not.
    pub(super) fn cosign(&self, peer: PeerId, stream: Stream) {
        let Ok(place) = self.cosigning.clone().try_acquire_owned() else {
            return;
        };
        if !self.members.contains_key(&peer) {
            return;
        }
        let witnessing = self.witnessing.clone();
        tokio::spawn(async move {
            if let Err(error) = witness::serve(stream, &witnessing).await {
                tracing::debug!(%peer, %error, "a request to cosign is not answered");
            }
            drop(place);
        });
    }

    /// Asks a member to cosign.
    pub(super) fn ask(
        &self,
        peer: PeerId,
        body: Vec<u8>,
        reply: oneshot::Sender<io::Result<(u16, Vec<u8>)>>,
    ) {
        let control = self.control.clone();
        tokio::spawn(async move {
            // Who asked may not wait for the answer any more.
            let _ = reply.send(witness::ask(control, peer, &body).await);
        });
    }

    /// Takes in gossip. It is passed on when it is known to be true.
    pub(super) fn heard(
        &mut self,
        from: PeerId,
        id: &MessageId,
        bytes: &[u8],
        gossip: &mut gossipsub::Behaviour,
    ) {
        let verdict = if !self.members.contains_key(&from) {
            MessageAcceptance::Ignore
        } else if let Some(message) = gossiped(bytes) {
            let units = units(bytes.len());
            match self.room.clone().try_acquire_many_owned(units) {
                Ok(room) => {
                    self.was_gossiped(gossip_id(bytes));
                    return self.tell(Told::Said {
                        peer: from,
                        message: Box::new(message),
                        gossip: Some(gossip_id(bytes)),
                        room,
                    });
                }
                Err(_) => MessageAcceptance::Ignore,
            }
        } else {
            self.tell(Told::Nonsense(from));
            MessageAcceptance::Reject
        };
        gossip.report_message_validation_result(id, &from, verdict);
    }

    /// Gossips something, unless it was.
    pub(super) fn publish(&mut self, bytes: Vec<u8>, gossip: &mut gossipsub::Behaviour) {
        let id = gossip_id(&bytes);
        if self.gossiped.contains(&id) {
            return;
        }
        match gossip.publish(topic(), bytes) {
            Ok(_) => self.was_gossiped(id),
            Err(error) => tracing::debug!(%error, "not gossiped"),
        }
    }

    fn was_gossiped(&mut self, id: GossipId) {
        self.gossiped.push_back(id);
        if self.gossiped.len() > GOSSIPED_MAX {
            self.gossiped.pop_front();
        }
    }

    /// Counts what a member did. True if it is to be kept out.
    pub(super) fn blame(
        &mut self,
        peer: PeerId,
        because: Misbehaviour,
        gossip: &mut gossipsub::Behaviour,
    ) -> bool {
        let weight = match because {
            Misbehaviour::Silent => return false,
            Misbehaviour::Flood => 10,
            Misbehaviour::ForgedCheckpoint | Misbehaviour::WrongFork | Misbehaviour::WrongRange => {
                25
            }
        };
        tracing::warn!(%peer, ?because, "a member of the federation breaks the rules");
        let now = Instant::now();
        let (blame, since) = self.blames.entry(peer).or_insert((0, now));
        // A point a second is forgiven.
        let forgiven = u32::try_from(since.elapsed().as_secs()).unwrap_or(u32::MAX);
        *blame = blame.saturating_sub(forgiven) + weight;
        *since = now;
        let is_out = *blame >= BLAME_MAX;
        gossip.set_application_score(&peer, -f64::from(*blame));
        if is_out {
            self.blames.remove(&peer);
        }
        is_out
    }

    fn tell(&self, told: Told) {
        // If the thread has ended, the agent ends.
        let _ = self.told.send(told);
    }
}

/// Passes gossip on, or does not.
pub(super) fn judge(id: &[u8], from: &PeerId, verdict: Verdict, gossip: &mut gossipsub::Behaviour) {
    let acceptance = match verdict {
        Verdict::True => MessageAcceptance::Accept,
        Verdict::Unknown => MessageAcceptance::Ignore,
        Verdict::Lie => MessageAcceptance::Reject,
    };
    gossip.report_message_validation_result(&MessageId::new(id), from, acceptance);
}

/// Gossip that nothing is passed on of before it is judged.
///
/// # Panics
/// Never: what it is made with is constant.
pub(super) fn gossip() -> gossipsub::Behaviour {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .validate_messages()
        .max_transmit_size(2 * GOSSIP_SIZE_MAX)
        .message_id_fn(|message| MessageId::new(&gossip_id(&message.data)))
        .duplicate_cache_time(Duration::from_secs(120))
        .build()
        .expect("its constants go together");
    let authenticity = gossipsub::MessageAuthenticity::Anonymous;
    let mut gossip = gossipsub::Behaviour::new(authenticity, config).expect("it needs no key");
    let topic_params = gossipsub::TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.0,
        first_message_deliveries_weight: 0.0,
        // Logs may have nothing to say for long.
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        // Lies are blamed for, which counts as the application's score; if they counted twice, who gossips them
        // would not be heard any more before it is blamed for enough of them to be kept out.
        invalid_message_deliveries_weight: 0.0,
        ..gossipsub::TopicScoreParams::default()
    };
    let params = gossipsub::PeerScoreParams {
        topics: HashMap::from([(topic_hash(), topic_params)]),
        app_specific_weight: 1.0,
        // Members are known by their keys, and may well be behind one address.
        ip_colocation_factor_weight: 0.0,
        ..gossipsub::PeerScoreParams::default()
    };
    gossip
        .with_peer_score(params, gossipsub::PeerScoreThresholds::default())
        .expect("it is set once, with good constants");
    gossip
        .subscribe(&IdentTopic::new(TOPIC))
        .expect("nothing filters topics");
    gossip
}

fn topic() -> IdentTopic {
    IdentTopic::new(TOPIC)
}

fn topic_hash() -> TopicHash {
    topic().hash()
}

/// What may be gossiped.
fn gossiped(bytes: &[u8]) -> Option<Message> {
    let message = Message::decode(bytes.get(..bytes.len().min(GOSSIP_SIZE_MAX + 1))?).ok()?;
    let may = matches!(message, Message::Announce(_) | Message::Fork(_));
    (may && bytes.len() <= GOSSIP_SIZE_MAX).then_some(message)
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(ROOM_UNIT).max(1)).unwrap_or(u32::MAX)
}

/// Says what is to be said to a member, one message after the other.
async fn speak(peer: PeerId, mut control: Control, mut messages: mpsc::Receiver<Vec<u8>>) {
    let mut stream: Option<Stream> = None;
    while let Some(message) = messages.recv().await {
        // A stream may have broken since the last message.
        for _ in 0..2 {
            let said = say(peer, &mut control, stream.take(), &message).await;
            match said {
                Ok(open) => {
                    stream = Some(open);
                    break;
                }
                Err(error) => tracing::debug!(%peer, %error, "a message is not said"),
            }
        }
    }
}

async fn say(
    peer: PeerId,
    control: &mut Control,
    stream: Option<Stream>,
    message: &[u8],
) -> io::Result<Stream> {
    let mut stream = match stream {
        Some(stream) => stream,
        None => timeout(STREAM_OPEN_WAIT, control.open_stream(peer, LOG_PROTOCOL))
            .await?
            .map_err(io::Error::other)?,
    };
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    timeout(STREAM_STEP_WAIT, async {
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(message).await?;
        stream.flush().await
    })
    .await??;
    Ok(stream)
}

/// Hears a member for as long as it speaks.
async fn listen(
    peer: PeerId,
    mut stream: Stream,
    told: &mpsc::UnboundedSender<Told>,
    room: &Arc<Semaphore>,
) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length).await?;
        let length = u32::from_be_bytes(length) as usize;
        let message = if length <= MESSAGE_SIZE_MAX {
            let room = room.clone().acquire_many_owned(units(length)).await;
            let room = room.expect("the semaphore is never closed");
            let mut bytes = vec![0; length];
            timeout(STREAM_STEP_WAIT, stream.read_exact(&mut bytes)).await??;
            Message::decode(&bytes).ok().map(|message| (message, room))
        } else {
            None
        };
        let said = match message {
            Some((message, room)) => Told::Said {
                peer,
                message: Box::new(message),
                gossip: None,
                room,
            },
            None => Told::Nonsense(peer),
        };
        let is_nonsense = matches!(said, Told::Nonsense(_));
        if told.send(said).is_err() || is_nonsense {
            return Ok(());
        }
    }
}
