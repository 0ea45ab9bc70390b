//! The streams of one connection: what comes in is read, what goes out is written in turn.
//!
//! Kubo opens a stream for each message, in bursts; each stream that comes is read, up to a cap.
//! What goes out has two streams that stay open: one for wants and answers, one for blocks, so that
//! a question does not wait behind megabytes.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Ready,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Instant,
};

use libp2p::{
    Stream, StreamProtocol,
    core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol,
        handler::{
            ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound, ProtocolsChange,
        },
    },
};

use super::stream::{Activity, Memory, Received, next_message, write_message};
use crate::{
    bitswap::{
        MessageId, PROTOCOLS, Protocol,
        message::{MessageError, VerifiedMessage, WireMessage},
    },
    node::limits::{ACTIVITY_EVERY, INBOUND_STREAMS_MAX, STREAM_OPEN_WAIT},
};

/// What a connection is told.
#[derive(Debug)]
pub(crate) struct Send {
    pub(super) id: MessageId,
    pub(super) message: WireMessage,
    /// Whether to use a new stream.
    pub(super) again: bool,
}

/// What a connection tells.
#[derive(Debug)]
pub(crate) enum Told {
    /// The peer speaks Bitswap.
    Speaks(Protocol),
    /// A message came.
    Message(VerifiedMessage),
    /// Something else came.
    Malformed(MessageError),
    /// Bytes of a message came.
    Receiving,
    /// Bytes of a message were taken.
    Sending,
    /// All bytes of a message were taken.
    Sent(MessageId),
    /// A message was lost.
    SendFailed(MessageId),
}

/// The protocols, to be agreed on for a stream; just one where it is known that the peer speaks it, so
/// that a message goes with the offer, and not a round trip after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agree {
    known: Option<Protocol>,
}

impl UpgradeInfo for Agree {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        let mut names: Vec<StreamProtocol> = PROTOCOLS.map(StreamProtocol::new).into();
        names.retain(|name| self.known.is_none_or(|known| version(name) == known));
        names.into_iter()
    }
}

impl InboundUpgrade<Stream> for Agree {
    type Output = (Stream, Protocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        std::future::ready(Ok((stream, version(&name))))
    }
}

impl OutboundUpgrade<Stream> for Agree {
    type Output = (Stream, Protocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        std::future::ready(Ok((stream, version(&name))))
    }
}

fn version(name: &StreamProtocol) -> Protocol {
    if name.as_ref() == PROTOCOLS[0] {
        Protocol::V1_2
    } else {
        Protocol::V1_1
    }
}

/// Which of the outbound streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Wants and answers.
    Words,
    /// Blocks.
    Blocks,
}

/// Reads and writes the streams of one connection.
pub(crate) struct Handler {
    inbound: FuturesUnordered<BoxFuture<'static, (Received, Stream)>>,
    words: Outbound,
    blocks: Outbound,
    activity: Arc<Activity>,
    activity_told: Instant,
    memory: Memory,
    events: VecDeque<Told>,
    spoken: Option<Protocol>,
}

/// One of the outbound streams, and what waits for it.
struct Outbound {
    queue: VecDeque<Send>,
    state: State,
}

enum State {
    Closed,
    Opening,
    Idle(Stream),
    Writing(BoxFuture<'static, (MessageId, Option<Stream>)>),
}

impl Handler {
    /// For a connection with a peer that may be known to speak a version.
    pub(super) fn new(memory: Memory, spoken: Option<Protocol>) -> Self {
        let outbound = || Outbound {
            queue: VecDeque::new(),
            state: State::Closed,
        };
        Self {
            inbound: FuturesUnordered::new(),
            words: outbound(),
            blocks: outbound(),
            activity: Arc::default(),
            activity_told: Instant::now(),
            memory,
            events: VecDeque::new(),
            spoken,
        }
    }

    fn lane(&mut self, lane: Lane) -> &mut Outbound {
        match lane {
            Lane::Words => &mut self.words,
            Lane::Blocks => &mut self.blocks,
        }
    }

    /// The better of the versions that the peer was seen to speak counts.
    fn speaks(&mut self, protocol: Protocol) {
        if self.spoken != Some(protocol) && self.spoken != Some(Protocol::V1_2) {
            self.spoken = Some(protocol);
            self.events.push_back(Told::Speaks(protocol));
        }
    }

    fn read(&mut self, mut stream: Stream) {
        let (activity, memory) = (self.activity.clone(), self.memory.clone());
        let reading = async move {
            let received = next_message(&mut stream, &activity, &memory).await;
            (received, stream)
        };
        self.inbound.push(reading.boxed());
    }

    fn accept(&mut self, mut stream: Stream, protocol: Protocol) {
        self.speaks(protocol);
        if self.inbound.len() >= INBOUND_STREAMS_MAX {
            tracing::debug!("a peer opens more streams than it may");
            return;
        }
        stream.ignore_for_keep_alive();
        self.read(stream);
    }

    /// What came, if anything did.
    fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Option<Told> {
        loop {
            match self.inbound.poll_next_unpin(cx) {
                Poll::Ready(Some((Received::Message(message), stream))) => {
                    self.read(stream);
                    return Some(Told::Message(message));
                }
                Poll::Ready(Some((Received::Malformed(error), _))) => {
                    return Some(Told::Malformed(error));
                }
                Poll::Ready(Some((Received::Ended, _))) => {}
                Poll::Ready(None) | Poll::Pending => return None,
            }
        }
    }

    /// Tells now and then that something moves.
    fn poll_activity(&mut self) -> Option<Told> {
        if self.activity_told.elapsed() < ACTIVITY_EVERY {
            return None;
        }
        let told = if self.activity.received.swap(false, Ordering::Relaxed) {
            Told::Receiving
        } else if self.activity.sent.swap(false, Ordering::Relaxed) {
            Told::Sending
        } else {
            return None;
        };
        self.activity_told = Instant::now();
        Some(told)
    }
}

impl Outbound {
    /// Goes on writing. True if a stream is to be opened.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        activity: &Arc<Activity>,
        events: &mut VecDeque<Told>,
    ) -> bool {
        loop {
            if let State::Writing(writing) = &mut self.state {
                let Poll::Ready((id, stream)) = writing.poll_unpin(cx) else {
                    return false;
                };
                events.push_back(match stream {
                    Some(_) => Told::Sent(id),
                    None => Told::SendFailed(id),
                });
                self.state = stream.map_or(State::Closed, State::Idle);
            }
            let Some(next) = self.queue.front() else {
                return false;
            };
            if next.again && matches!(self.state, State::Idle(_)) {
                self.state = State::Closed;
            }
            match std::mem::replace(&mut self.state, State::Opening) {
                State::Idle(stream) => {
                    let next = self.queue.pop_front().expect("there is one at the front");
                    self.state = State::Writing(write(stream, next, activity.clone()));
                }
                State::Closed => return true,
                other => {
                    self.state = other;
                    return false;
                }
            }
        }
    }

    /// A stream was opened.
    fn opened(&mut self, mut stream: Stream) {
        stream.ignore_for_keep_alive();
        if let Some(next) = self.queue.front_mut() {
            next.again = false;
        }
        self.state = State::Idle(stream);
    }

    /// No stream could be opened: everything that waits for it is lost.
    fn failed(&mut self, events: &mut VecDeque<Told>) {
        self.state = State::Closed;
        events.extend(self.queue.drain(..).map(|lost| Told::SendFailed(lost.id)));
    }

    fn is_busy(&self) -> bool {
        !self.queue.is_empty() || matches!(self.state, State::Writing(_))
    }
}

fn write(
    mut stream: Stream,
    next: Send,
    activity: Arc<Activity>,
) -> BoxFuture<'static, (MessageId, Option<Stream>)> {
    async move {
        match write_message(&mut stream, &next.message, &activity).await {
            Ok(()) => (next.id, Some(stream)),
            Err(error) => {
                tracing::debug!(%error, "a message was lost");
                (next.id, None)
            }
        }
    }
    .boxed()
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Send;
    type ToBehaviour = Told;
    type InboundProtocol = Agree;
    type OutboundProtocol = Agree;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Lane;

    fn listen_protocol(&self) -> SubstreamProtocol<Agree> {
        SubstreamProtocol::new(Agree { known: None }, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.words.is_busy()
            || self.blocks.is_busy()
            || self.activity.reading.load(Ordering::Relaxed) > 0
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Agree, Lane, Told>> {
        for lane in [Lane::Words, Lane::Blocks] {
            let (activity, mut events) = (self.activity.clone(), VecDeque::new());
            let open = self.lane(lane).poll(cx, &activity, &mut events);
            self.events.append(&mut events);
            if open {
                let known = self.spoken;
                let protocol = SubstreamProtocol::new(Agree { known }, lane);
                let protocol = protocol.with_timeout(STREAM_OPEN_WAIT);
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
        }
        let told = self
            .events
            .pop_front()
            .or_else(|| self.poll_inbound(cx))
            .or_else(|| self.poll_activity());
        match told {
            Some(told) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(told)),
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, send: Send) {
        let lane = if send.message.blocks.is_empty() {
            Lane::Words
        } else {
            Lane::Blocks
        };
        self.lane(lane).queue.push_back(send);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Agree, Agree, (), Lane>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol),
                ..
            }) => self.accept(stream, protocol),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, protocol),
                info: lane,
            }) => {
                self.speaks(protocol);
                self.lane(lane).opened(stream);
            }
            ConnectionEvent::DialUpgradeError(error) => {
                tracing::debug!(error = %error.error, "no stream for blocks");
                let mut events = VecDeque::new();
                self.lane(error.info).failed(&mut events);
                self.events.append(&mut events);
            }
            ConnectionEvent::RemoteProtocolsChange(ProtocolsChange::Added(added)) => {
                let names: Vec<&StreamProtocol> = added.collect();
                let has = |name: &str| names.iter().any(|n| n.as_ref() == name);
                if has(PROTOCOLS[0]) {
                    self.speaks(Protocol::V1_2);
                } else if has(PROTOCOLS[1]) {
                    self.speaks(Protocol::V1_1);
                }
            }
            _ => {}
        }
    }
}
