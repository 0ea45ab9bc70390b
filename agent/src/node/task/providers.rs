//! What the task does for the DHT: tells it what everyone may have here, and asks it who has what.

use std::{collections::HashSet, time::Duration};

use cid::Cid;
use libp2p::{
    kad::{self, GetProvidersOk, QueryResult, RecordKey},
    swarm::dial_opts::DialOpts,
};
use tokio::time::Instant;

use super::Task;
use crate::{
    bitswap::SessionId,
    node::{limits::DHT_PROVIDED_MAX, session::SessionEvent},
};

/// How long after a peer of the DHT became known it is told what is provided.
const TELL_AFTER: Duration = Duration::from_secs(1);
/// With more peers of the DHT than this, what was told them is spread widely enough.
const TOLD_MIN: usize = 20;

/// What is provided to the DHT, and what is asked of it.
#[derive(Debug, Default)]
pub(super) struct Provided {
    roots: HashSet<Cid>,
    /// When to tell the DHT again.
    tell_at: Option<Instant>,
    /// Sessions that wait for providers.
    finding: Vec<(kad::QueryId, SessionId)>,
}

impl Provided {
    /// When [`Task::tell_dht`] is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.tell_at
    }
}

impl Task {
    /// Provides these snapshots, and no others.
    pub(super) fn provide(&mut self, roots: Vec<Cid>) {
        let Some(dht) = self.swarm.behaviour_mut().dht.as_mut() else {
            return;
        };
        if roots.len() > DHT_PROVIDED_MAX {
            tracing::warn!(
                limit = DHT_PROVIDED_MAX,
                "more snapshots are public than the DHT is told of"
            );
        }
        let roots: HashSet<Cid> = roots.into_iter().take(DHT_PROVIDED_MAX).collect();
        for root in self.provided.roots.difference(&roots) {
            dht.stop_providing(&key(root));
        }
        self.provided.roots = roots;
        self.tell_dht();
    }

    /// Tells the DHT what is provided. It is told again when it grows, and twice a day by itself.
    pub(super) fn tell_dht(&mut self) {
        self.provided.tell_at = None;
        let Some(dht) = self.swarm.behaviour_mut().dht.as_mut() else {
            return;
        };
        for root in &self.provided.roots {
            if let Err(error) = dht.start_providing(key(root)) {
                tracing::warn!(%root, %error, "the DHT is not told of a snapshot");
            }
        }
    }

    /// Asks the DHT who has a snapshot, for a session.
    pub(super) fn find(&mut self, session: SessionId, root: &Cid) {
        match self.swarm.behaviour_mut().dht.as_mut() {
            Some(dht) => {
                let query = dht.get_providers(key(root));
                self.provided.finding.push((query, session));
            }
            None => drop(self.sessions.tell(session, SessionEvent::Searched)),
        }
    }

    /// How many snapshots the DHT is told of.
    pub(super) fn provided(&self) -> usize {
        self.provided.roots.len()
    }

    pub(super) fn on_dht(&mut self, event: kad::Event) {
        match event {
            kad::Event::RoutingUpdated {
                is_new_peer: true, ..
            } if !self.provided.roots.is_empty() => {
                let dht = self.swarm.behaviour_mut().dht.as_mut();
                let known = dht.map_or(0, |dht| dht.kbuckets().map(|b| b.num_entries()).sum());
                if known <= TOLD_MIN {
                    let at = Instant::now() + TELL_AFTER;
                    self.provided.tell_at.get_or_insert(at);
                }
            }
            kad::Event::OutboundQueryProgressed {
                id, result, step, ..
            } => self.on_query(id, result, step.last),
            _ => {}
        }
    }

    fn on_query(&mut self, id: kad::QueryId, result: QueryResult, last: bool) {
        let mut finding = self.provided.finding.iter();
        let Some(&(_, session)) = finding.find(|(query, _)| *query == id) else {
            return;
        };
        if let QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) =
            result
        {
            let own = *self.swarm.local_peer_id();
            for peer in providers.into_iter().filter(|peer| *peer != own) {
                self.ask(session, peer);
                // The DHT knows where it is, for as long as the query runs.
                let dial = DialOpts::peer_id(peer).build();
                if !self.peers.contains_key(&peer)
                    && let Err(error) = self.swarm.dial(dial)
                {
                    tracing::debug!(%peer, %error, "not dialled");
                }
            }
        }
        if last {
            self.provided.finding.retain(|(query, _)| *query != id);
            self.sessions.tell(session, SessionEvent::Searched);
        }
    }
}

/// The key of a snapshot, as all of IPFS has it: the hash of its root, whatever its CID's version.
fn key(root: &Cid) -> RecordKey {
    RecordKey::new(&root.hash().to_bytes())
}
