//! A session: some blocks that are wanted of some peers, for a thread that takes them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use cid::Cid;
use libp2p::PeerId;
use protocol::block::Block;
use tokio::sync::{mpsc, oneshot};

use super::{
    Command, Handle, Providers, Stopped,
    limits::{SESSION_BYTES_GO_ON, SESSION_BYTES_HELD},
};
use crate::{
    bitswap::{Misbehaviour, RefusedBecause, SessionId, Wanted},
    pull::Fetched,
};

/// What comes out of a session.
#[derive(Debug)]
pub(crate) enum SessionEvent {
    /// A wanted block, checked.
    Block { peer: Option<PeerId>, block: Block },
    /// A block cannot be wanted.
    Refused { cid: Cid, because: RefusedBecause },
    /// No connected peer has these blocks, or gives them.
    Missing(Vec<Cid>),
    /// A peer may have the snapshot.
    Found(PeerId),
    /// No more peers are looked for.
    Searched,
    /// A peer is connected, and can be asked for blocks.
    Connected(PeerId),
    /// A peer is not connected any more.
    Disconnected(PeerId),
    /// A peer could not be reached this time.
    Unreachable { peer: PeerId, why: String },
    /// A peer broke the rules, and is kept out.
    Misbehaved { peer: PeerId, reason: Misbehaviour },
    /// What became of asking a gateway.
    Fetched(Fetched),
    /// The node has stopped.
    Stopped,
}

/// What waits to be taken. It is bounded by what the engine asks for at once.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    came: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<SessionEvent>,
    bytes: usize,
    held: bool,
}

impl Inbox {
    /// Adds an event. True if so much waits now that no more is to be asked for.
    pub(crate) fn put(&self, event: SessionEvent) -> bool {
        let mut waiting = self.waiting.lock().expect("no panic while it is held");
        waiting.bytes += size(&event);
        waiting.events.push_back(event);
        let hold = !waiting.held && waiting.bytes > SESSION_BYTES_HELD;
        waiting.held |= hold;
        self.came.notify_one();
        hold
    }

    /// Takes the next event, if one comes in time; and says whether more can be asked for again.
    pub(crate) fn take(&self, wait: Duration) -> (Option<SessionEvent>, bool) {
        let waiting = self.waiting.lock().expect("no panic while it is held");
        let (mut waiting, _) = self
            .came
            .wait_timeout_while(waiting, wait, |waiting| waiting.events.is_empty())
            .expect("no panic while it is held");
        let event = waiting.events.pop_front();
        waiting.bytes -= event.as_ref().map_or(0, size);
        let go_on = waiting.held && waiting.bytes < SESSION_BYTES_GO_ON;
        waiting.held &= !go_on;
        (event, go_on)
    }
}

fn size(event: &SessionEvent) -> usize {
    match event {
        SessionEvent::Block { block, .. } => block.bytes().len(),
        // Peers need not wait for what gateways send: it is bounded by what they are asked for.
        _ => 0,
    }
}

/// Sessions, as the task that owns the swarm has them.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    next: u64,
    open: HashMap<SessionId, OpenSession>,
}

#[derive(Debug)]
struct OpenSession {
    inbox: Arc<Inbox>,
    peers: Vec<PeerId>,
}

impl Sessions {
    /// Opens a session.
    pub(super) fn open(&mut self, peers: Vec<PeerId>) -> (SessionId, Arc<Inbox>) {
        self.next += 1;
        let id = SessionId(self.next);
        let inbox = Arc::new(Inbox::default());
        let open = OpenSession {
            inbox: inbox.clone(),
            peers,
        };
        self.open.insert(id, open);
        (id, inbox)
    }

    /// Adds a peer to a session that is open. True if it was not of it.
    pub(super) fn add(&mut self, id: SessionId, peer: PeerId) -> bool {
        match self.open.get_mut(&id) {
            Some(open) if !open.peers.contains(&peer) => {
                open.peers.push(peer);
                true
            }
            _ => false,
        }
    }

    /// Closes a session. Returns the peers that no other one has.
    pub(super) fn close(&mut self, id: SessionId) -> Vec<PeerId> {
        let Some(closed) = self.open.remove(&id) else {
            return Vec::new();
        };
        let mut peers = closed.peers;
        peers.retain(|peer| !self.has(peer));
        peers
    }

    /// Whether a session wants something of a peer.
    pub(super) fn has(&self, peer: &PeerId) -> bool {
        self.open
            .values()
            .any(|session| session.peers.contains(peer))
    }

    /// Tells a session something. True if it takes what comes too slowly.
    pub(super) fn tell(&self, id: SessionId, event: SessionEvent) -> bool {
        self.open.get(&id).is_some_and(|open| open.inbox.put(event))
    }

    /// Tells something to all sessions of a peer.
    pub(super) fn tell_of(&self, peer: &PeerId, event: impl Fn() -> SessionEvent) {
        for open in self.open.values() {
            if open.peers.contains(peer) {
                open.inbox.put(event());
            }
        }
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        for open in self.open.values() {
            open.inbox.put(SessionEvent::Stopped);
        }
    }
}

/// A session, as the thread has it that takes the blocks. Its calls block, so it is no use to async
/// code. It is closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    id: SessionId,
    inbox: Arc<Inbox>,
    commands: mpsc::Sender<Command>,
}

impl Handle {
    /// Opens a session.
    pub(crate) fn open_session(&self, from: Providers) -> Result<Session, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .blocking_send(Command::OpenSession { from, reply })
            .map_err(|_| Stopped)?;
        let (id, inbox) = answer.blocking_recv().map_err(|_| Stopped)?;
        Ok(Session {
            id,
            inbox,
            commands: self.commands.clone(),
        })
    }
}

impl Session {
    /// Where what comes is put.
    pub(crate) fn inbox(&self) -> Arc<Inbox> {
        self.inbox.clone()
    }

    /// Wants more blocks.
    pub(crate) fn want(&self, wants: Vec<Wanted>) -> Result<(), Stopped> {
        let session = self.id;
        self.tell(Command::Want { session, wants })
    }

    /// What comes next, if anything does in time.
    pub(crate) fn next(&self, wait: Duration) -> Result<Option<SessionEvent>, Stopped> {
        let (event, go_on) = self.inbox.take(wait);
        if go_on {
            self.tell(Command::GoOn { session: self.id })?;
        }
        match event {
            Some(SessionEvent::Stopped) => Err(Stopped),
            event => Ok(event),
        }
    }

    fn tell(&self, command: Command) -> Result<(), Stopped> {
        self.commands.blocking_send(command).map_err(|_| Stopped)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // If the node has stopped, its sessions are closed anyway.
        let _ = self.tell(Command::CloseSession { session: self.id });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(size: usize) -> SessionEvent {
        let bytes = vec![0; size];
        let cid = protocol::block::raw_cid(&protocol::block::sha256(&bytes));
        SessionEvent::Block {
            peer: None,
            block: Block::verify(cid, bytes).expect("its own hash"),
        }
    }

    #[test]
    fn holds_when_too_much_waits_and_goes_on_when_some_of_it_is_taken() {
        let inbox = Inbox::default();
        let size = 1 << 20;
        let held = (0..100).position(|_| inbox.put(block(size)));
        assert_eq!(held, Some(SESSION_BYTES_HELD / size));
        assert!(!inbox.put(block(size)), "it is said once");
        let taken = (0..100).position(|_| inbox.take(Duration::ZERO).1);
        let waiting = SESSION_BYTES_HELD / size + 2;
        assert_eq!(taken, Some(waiting - SESSION_BYTES_GO_ON / size));
    }

    #[test]
    fn peers_of_other_sessions_stay() {
        let mut sessions = Sessions::default();
        let (one, two) = (PeerId::random(), PeerId::random());
        let (first, _) = sessions.open(vec![one, two]);
        let (second, inbox) = sessions.open(vec![two]);
        assert_eq!(sessions.close(first), [one]);
        sessions.tell_of(&one, || SessionEvent::Connected(one));
        sessions.tell_of(&two, || SessionEvent::Connected(two));
        let (event, _) = inbox.take(Duration::ZERO);
        assert!(matches!(event, Some(SessionEvent::Connected(peer)) if peer == two));
        assert_eq!(sessions.close(second), [two]);
        assert!(sessions.close(second).is_empty());
    }
}
