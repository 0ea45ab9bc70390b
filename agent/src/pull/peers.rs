//! What is known of the peers that a snapshot is pulled from, and when there is no more hope.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use cid::Cid;
use libp2p::PeerId;

use super::{Fetched, PeerShare, PullError, fetch::FetchError};
use crate::node::SessionEvent;

/// How long nobody may be reachable who never was.
const UNREACHABLE_WAIT: Duration = Duration::from_secs(5);
/// How long nobody may be reachable after somebody was.
const GONE_WAIT: Duration = Duration::from_secs(30);
/// How long nothing may come although somebody is there.
const STALLED_WAIT: Duration = Duration::from_secs(120);
/// How long a block may be missing when every peer has been asked.
const MISSING_WAIT: Duration = Duration::from_secs(1);
/// How long a peer may take until it is connected, or cannot be reached.
const SETTLE_WAIT: Duration = Duration::from_secs(15);

/// A peer, or a gateway by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Provider {
    Peer(PeerId),
    Gateway(usize),
}

/// The peers of a pull, gateways among them.
#[derive(Debug)]
pub(super) struct Peers {
    peers: BTreeMap<Provider, Peer>,
    /// Whether more may be found.
    searching: bool,
    began: Instant,
    /// When something came, or somebody, or when somebody went.
    moved: Instant,
    was_connected: bool,
    missing: Option<(Instant, Cid)>,
}

#[derive(Debug, Default)]
struct Peer {
    state: State,
    share: PeerShare,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Unknown,
    Connected,
    /// With the reason.
    Gone(String),
    /// It is kept out, for a reason.
    KeptOut(String),
}

impl Peer {
    fn new(name: String) -> Self {
        let share = PeerShare {
            peer: name,
            ..PeerShare::default()
        };
        let state = State::Unknown;
        Self { state, share }
    }
}

impl Peers {
    /// The gateways that are named; peers are found, if there are any.
    pub(super) fn new(gateways: &[String], searching: bool) -> Self {
        let now = Instant::now();
        let gateway =
            |(number, url): (usize, &String)| (Provider::Gateway(number), Peer::new(url.clone()));
        Self {
            peers: gateways.iter().enumerate().map(gateway).collect(),
            searching,
            began: now,
            moved: now,
            was_connected: false,
            missing: None,
        }
    }

    /// Notes that a block came.
    pub(super) fn sent(&mut self, now: Instant, from: Option<Provider>, len: usize) {
        self.moved = now;
        self.missing = None;
        if let Some(peer) = from.and_then(|peer| self.peers.get_mut(&peer)) {
            peer.share.blocks += 1;
            peer.share.bytes += len as u64;
        }
    }

    /// Notes what became of a peer, or of a block.
    pub(super) fn on_event(&mut self, now: Instant, event: SessionEvent) {
        match event {
            SessionEvent::Found(id) => {
                let peer = || Peer::new(id.to_string());
                self.peers.entry(Provider::Peer(id)).or_insert_with(peer);
            }
            SessionEvent::Searched => self.searching = false,
            SessionEvent::Connected(peer) => {
                self.moved = now;
                self.was_connected = true;
                // The new peer has not been asked yet.
                self.missing = None;
                self.set(&peer, State::Connected);
            }
            SessionEvent::Disconnected(peer) => {
                self.moved = now;
                tracing::debug!(%peer, "a peer is gone");
                self.set(&peer, State::Gone("it went away".to_owned()));
            }
            SessionEvent::Unreachable { peer, why } => {
                let state = self
                    .peers
                    .get(&Provider::Peer(peer))
                    .map(|peer| &peer.state);
                // A second connection that fails says nothing of the first.
                if !matches!(state, Some(State::Connected)) {
                    self.set(&peer, State::Gone(why));
                }
            }
            SessionEvent::Misbehaved { peer, reason } => {
                self.set(&peer, State::KeptOut(reason.to_string()));
            }
            SessionEvent::Missing(cids) => {
                if let (None, Some(cid)) = (self.missing, cids.first()) {
                    self.missing = Some((now, *cid));
                }
            }
            SessionEvent::Block { .. }
            | SessionEvent::Fetched(_)
            | SessionEvent::Refused { .. }
            | SessionEvent::Stopped => {}
        }
    }

    /// Notes what became of asking a gateway.
    pub(super) fn on_fetched(&mut self, now: Instant, fetched: &Fetched) {
        let from = Provider::Gateway(fetched.gateway);
        let state = match &fetched.outcome {
            Ok(block) => {
                self.sent(now, Some(from), block.bytes().len());
                State::Connected
            }
            Err(FetchError::Missing | FetchError::Later(_)) => State::Connected,
            Err(FetchError::Failed(why)) => State::Gone(why.clone()),
            Err(FetchError::Refused(why)) => State::KeptOut((*why).to_owned()),
        };
        if matches!(state, State::Connected) {
            self.was_connected = true;
        }
        self.set_provider(&from, state);
    }

    fn set(&mut self, peer: &PeerId, state: State) {
        self.set_provider(&Provider::Peer(*peer), state);
    }

    fn set_provider(&mut self, provider: &Provider, state: State) {
        if let Some(peer) = self.peers.get_mut(provider)
            && !matches!(peer.state, State::KeptOut(_))
        {
            peer.state = state;
        }
    }

    /// Notes that nobody could be asked for anything, by who pulls: they are not what is slow.
    pub(super) fn held_back(&mut self, now: Instant) {
        self.moved = now;
    }

    /// Whether there is hope that anything comes.
    pub(super) fn check(&self, now: Instant, root: &Cid) -> Result<(), PullError> {
        if self.peers.is_empty() {
            return match self.searching {
                true => Ok(()),
                false => Err(PullError::NoProvider { root: *root }),
            };
        }
        if self.count(|state| matches!(state, State::KeptOut(_))) == self.peers.len() {
            return Err(PullError::Unreachable { why: self.why() });
        }
        let quiet = now.saturating_duration_since(self.moved);
        let connected = self.count(|state| matches!(state, State::Connected));
        let unknown = self.count(|state| matches!(state, State::Unknown));
        let asked_all = unknown == 0 && !self.searching;
        let settled = asked_all || now.saturating_duration_since(self.began) > SETTLE_WAIT;
        if connected == 0 && settled {
            let wait = if self.was_connected {
                GONE_WAIT
            } else {
                UNREACHABLE_WAIT
            };
            if quiet > wait {
                return Err(PullError::Unreachable { why: self.why() });
            }
        }
        if let Some((since, cid)) = self.missing
            && settled
            && connected > 0
            && now.saturating_duration_since(since) > MISSING_WAIT
        {
            return Err(PullError::Missing { cid });
        }
        if quiet > STALLED_WAIT {
            return Err(PullError::Stalled { after: quiet });
        }
        Ok(())
    }

    /// What each peer sent.
    pub(super) fn shares(self) -> Vec<PeerShare> {
        self.peers.into_values().map(|peer| peer.share).collect()
    }

    fn count(&self, is: impl Fn(&State) -> bool) -> usize {
        self.peers.values().filter(|peer| is(&peer.state)).count()
    }

    fn why(&self) -> Vec<String> {
        self.peers
            .values()
            .map(|peer| match (&peer.share.peer, &peer.state) {
                (name, State::Gone(why) | State::KeptOut(why)) => format!("{name}: {why}"),
                (name, State::Unknown | State::Connected) => format!("{name}: no answer"),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bitswap::Misbehaviour;

    const SECOND: Duration = Duration::from_secs(1);

    fn two() -> (Peers, PeerId, PeerId, Instant) {
        let (one, other) = (PeerId::random(), PeerId::random());
        let mut peers = Peers::new(&[], true);
        let start = peers.began;
        assert!(
            peers.check(start + 60 * SECOND, &root()).is_ok(),
            "searching"
        );
        peers.on_event(start, SessionEvent::Found(one));
        peers.on_event(start, SessionEvent::Found(other));
        peers.on_event(start, SessionEvent::Searched);
        (peers, one, other, start)
    }

    fn root() -> Cid {
        protocol::block::raw_cid(&[9; 32])
    }

    #[test]
    fn gives_up_when_nobody_was_found() {
        let mut peers = Peers::new(&[], true);
        let start = peers.began;
        assert!(peers.check(start, &root()).is_ok());
        peers.on_event(start, SessionEvent::Searched);
        let error = peers.check(start, &root()).expect_err("no hope");
        assert!(matches!(error, PullError::NoProvider { .. }), "{error}");
    }

    fn unreachable(peer: PeerId) -> SessionEvent {
        let why = "refused".to_owned();
        SessionEvent::Unreachable { peer, why }
    }

    #[test]
    fn gives_up_when_nobody_can_be_reached() {
        let (mut peers, one, other, start) = two();
        peers.on_event(start, unreachable(one));
        assert!(
            peers.check(start + 9 * SECOND, &root()).is_ok(),
            "one is not known"
        );
        peers.on_event(start, unreachable(other));
        assert!(peers.check(start + 4 * SECOND, &root()).is_ok());
        let error = peers
            .check(start + 6 * SECOND, &root())
            .expect_err("no hope");
        assert!(error.to_string().contains("refused"), "{error}");

        peers.on_event(start, SessionEvent::Connected(one));
        peers.on_event(start, unreachable(one));
        assert!(
            peers.check(start + 60 * SECOND, &root()).is_ok(),
            "it is connected"
        );
        peers.on_event(start, SessionEvent::Disconnected(one));
        assert!(
            peers.check(start + 29 * SECOND, &root()).is_ok(),
            "it may come back"
        );
        assert!(peers.check(start + 31 * SECOND, &root()).is_err());
    }

    #[test]
    fn gives_up_at_once_when_all_are_kept_out() {
        let (mut peers, one, other, start) = two();
        for peer in [one, other] {
            assert!(peers.check(start, &root()).is_ok());
            let reason = Misbehaviour::WrongBlock;
            peers.on_event(start, SessionEvent::Misbehaved { peer, reason });
            peers.on_event(start, SessionEvent::Disconnected(peer));
        }
        let error = peers.check(start, &root()).expect_err("no hope");
        assert!(error.to_string().contains("none of those"), "{error}");
    }

    #[test]
    fn gives_up_a_block_that_nobody_has_when_all_were_asked() {
        let (mut peers, one, other, start) = two();
        let cid = protocol::block::raw_cid(&[1; 32]);
        let missing = || SessionEvent::Missing(vec![cid]);
        peers.on_event(start, SessionEvent::Connected(one));
        peers.on_event(start, missing());
        assert!(
            peers.check(start + 3 * SECOND, &root()).is_ok(),
            "the other may have it"
        );
        peers.on_event(start + 3 * SECOND, SessionEvent::Connected(other));
        assert!(
            peers.check(start + 6 * SECOND, &root()).is_ok(),
            "it is being asked"
        );
        peers.on_event(start + 6 * SECOND, missing());
        assert!(peers.check(start + 6 * SECOND, &root()).is_ok());
        let error = peers
            .check(start + 8 * SECOND, &root())
            .expect_err("no hope");
        assert!(matches!(error, PullError::Missing { cid: which } if which == cid));
        peers.sent(start + 8 * SECOND, Some(Provider::Peer(other)), 7);
        assert!(
            peers.check(start + 8 * SECOND, &root()).is_ok(),
            "something came"
        );
        assert!(
            peers.check(start + 200 * SECOND, &root()).is_err(),
            "nothing comes"
        );
        let bytes: Vec<u64> = peers.shares().iter().map(|share| share.bytes).collect();
        assert_eq!(bytes.iter().sum::<u64>(), 7);
    }
}
