//! Asking peers for what is missing, and taking their answers.

use super::{
    Keeping, Replica,
    events::{Effect, Misbehaviour, Peer},
    limits::{
        ANSWER_WAIT_MS, EXCHANGE_SOON_MS, RANGE_ENTRIES_MAX, RANGE_ENTRIES_MIN, REQUESTS_MAX,
        REQUESTS_PER_PEER_MAX,
    },
    stretch::{Found, Longer, beginning, check, verified},
    wire::{Message, Range, Request},
};
use crate::log::checkpoint::{Origin, SignedCheckpoint};

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) peer: Peer,
    pub(super) origin: Origin,
    pub(super) until_ms: u64,
    /// How large the log was, or the checkpoint that it is asked whether it goes with the peer's.
    from: u64,
    against: Option<SignedCheckpoint>,
}

impl Replica {
    /// A log may have become longer than what is kept.
    pub(super) fn hunger(&mut self, origin: &Origin) {
        let hungry = self.logs.get(origin).is_some_and(|log| {
            let over = log.fork.is_some() || (log.own && self.stopped);
            !over && !log.asking && !log.keeping && log.is_longer()
        });
        if hungry {
            self.hungry.insert(origin.clone());
        } else {
            self.hungry.remove(origin);
        }
    }

    /// Asks for all that is missing, as far as may be asked at once.
    pub(super) fn ask(&mut self, now: u64) {
        let mut after = None;
        while self.requests.len() < REQUESTS_MAX {
            let rest = match &after {
                None => self.hungry.first(),
                Some(after) => self
                    .hungry
                    .range(after..)
                    .nth(usize::from(self.hungry.contains(after))),
            };
            let Some(origin) = rest.cloned() else {
                return;
            };
            self.ask_for(now, &origin);
            after = Some(origin);
        }
    }

    fn ask_for(&mut self, now: u64, origin: &Origin) {
        let Some(log) = self.logs.get(origin) else {
            return;
        };
        if log.holders.is_empty() {
            // The log signed more than any peer is known to have: they will say who has it.
            self.hungry.remove(origin);
            let soon = now.max(self.exchanged_ms + EXCHANGE_SOON_MS);
            self.exchange_at_ms = self.exchange_at_ms.map(|at_ms| at_ms.min(soon));
            return;
        }
        let holders = log.holders.iter().map(|(peer, _)| *peer);
        let free: Vec<Peer> = holders
            .filter(|peer| {
                let state = self.peers.get(peer);
                state.is_some_and(|state| state.asked < REQUESTS_PER_PEER_MAX)
            })
            .collect();
        if let Some(peer) = self.random.choose(&free).copied() {
            self.hungry.remove(origin);
            let from = log.edge.size();
            self.request(now, peer, origin, from, None);
        }
    }

    fn request(
        &mut self,
        now: u64,
        peer: Peer,
        origin: &Origin,
        from: u64,
        against: Option<SignedCheckpoint>,
    ) {
        let id = self.name();
        let (Some(log), Some(state)) = (self.logs.get_mut(origin), self.peers.get_mut(&peer))
        else {
            return;
        };
        log.asking = true;
        state.asked += 1;
        let entries_max = match against {
            None => state.range_max,
            Some(_) => 0,
        };
        let asked = Asked {
            peer,
            origin: origin.clone(),
            until_ms: now + ANSWER_WAIT_MS,
            from,
            against,
        };
        self.requests.insert(id, asked);
        let message = Message::Request(Request {
            id,
            origin: origin.clone(),
            from,
            entries_max,
        });
        self.out.push(Effect::Send { peer, message });
    }

    /// A request was answered, or will not be.
    pub(super) fn unasked(&mut self, origin: &Origin) {
        if let Some(log) = self.logs.get_mut(origin) {
            log.asking = false;
        }
        self.hunger(origin);
    }

    /// Gives up the requests whose time is over.
    pub(super) fn expire(&mut self, now: u64) {
        while let Some(first) = self.requests.first_entry()
            && first.get().until_ms <= now
        {
            let asked = first.remove();
            if let Some(state) = self.peers.get_mut(&asked.peer) {
                state.asked -= 1;
                // It may be slow, and not silent.
                state.range_max = (state.range_max / 2).max(RANGE_ENTRIES_MIN);
            }
            if let Some(log) = self.logs.get_mut(&asked.origin) {
                log.forget(asked.peer);
            }
            self.score(asked.peer, Misbehaviour::Silent);
            self.unasked(&asked.origin);
        }
    }

    /// A peer answered.
    pub(super) fn answered(&mut self, now: u64, peer: Peer, range: &Range) {
        // What comes too late was asked of another peer.
        let Some(asked) = (self.requests)
            .get(&range.id)
            .filter(|asked| asked.peer == peer)
        else {
            return;
        };
        let origin = asked.origin.clone();
        let Some(asked) = self.requests.remove(&range.id) else {
            return;
        };
        if let Some(state) = self.peers.get_mut(&peer) {
            state.asked -= 1;
            state.range_max = (state.range_max * 2).min(RANGE_ENTRIES_MAX as u64);
        }
        let said = range.checkpoint.checkpoint_unverified();
        if *said.origin() != origin || !said.extensions().is_empty() {
            self.score(peer, Misbehaviour::WrongRange);
        } else if let Some(against) = asked.against {
            self.judge(&origin, &against, range);
        } else {
            self.extend(now, peer, &origin, asked.from, range);
        }
        self.unasked(&origin);
    }

    /// A peer answered with what comes after the entries that are kept.
    fn extend(&mut self, now: u64, peer: Peer, origin: &Origin, from: u64, range: &Range) {
        let said = range.checkpoint.checkpoint_unverified();
        let Some(log) = self.logs.get_mut(origin).filter(|log| log.fork.is_none()) else {
            return;
        };
        log.forget(peer);
        if log.edge.size() != from {
            return;
        }
        if said.size() <= from {
            return self.heard(now, peer, &range.checkpoint);
        }
        let found = check(origin, log.keys.as_ref(), &log.edge, &log.open, range);
        match found {
            Found::Longer(longer) => {
                log.held_by(peer, said.size());
                self.take_longer(origin, *longer, range);
            }
            Found::Apart(signed) => {
                let signed = self.trimmed(origin, signed);
                self.stands_apart(now, peer, origin, signed, range);
            }
            Found::Unknown => {}
            Found::Wrong => self.score(peer, Misbehaviour::WrongRange),
        }
    }

    fn take_longer(&mut self, origin: &Origin, longer: Longer, range: &Range) {
        let checkpoint = self.trimmed_by(&longer.keys, longer.checkpoint.clone());
        if self.own.as_ref() == Some(origin) {
            self.behind(&checkpoint);
            if self.stopped {
                return;
            }
        }
        let Some(log) = self.logs.get_mut(origin) else {
            return;
        };
        if let Some(other) = log.contradicts(&checkpoint).cloned() {
            return self.apart(origin, &other, &checkpoint, Vec::new());
        }
        log.keeping = true;
        let first = log.edge.size();
        let longer = Longer {
            checkpoint: checkpoint.clone(),
            ..longer
        };
        let ticket = self.keep(Keeping::Longer {
            origin: origin.clone(),
            longer: Box::new(longer),
        });
        self.out.push(Effect::Keep {
            ticket,
            origin: origin.clone(),
            first,
            entries: range.entries.clone(),
            checkpoint,
        });
    }

    /// The log signed a checkpoint of a tree that does not begin with what is kept.
    fn stands_apart(
        &mut self,
        now: u64,
        peer: Peer,
        origin: &Origin,
        signed: SignedCheckpoint,
        range: &Range,
    ) {
        let Some(log) = self.logs.get(origin) else {
            return;
        };
        if let Some(held) = log
            .checkpoint
            .clone()
            .filter(|_| log.size() == log.edge.size())
        {
            return self.apart(origin, &held, &signed, range.grown.clone());
        }
        // What is kept ends where no checkpoint does: so the one beyond it has to be compared.
        let Some(target) = log.target.clone() else {
            return;
        };
        let size = target.checkpoint().size();
        if signed.checkpoint().size() > size {
            self.request(now, peer, origin, size, Some(target));
        } else {
            self.seen(origin, signed);
        }
    }

    /// A peer answered whether its checkpoint goes with another one.
    fn judge(&mut self, origin: &Origin, against: &SignedCheckpoint, range: &Range) {
        let said = range.checkpoint.checkpoint_unverified();
        let size = against.checkpoint().size();
        let keys = self.logs.get(origin).and_then(|log| log.keys.as_ref());
        let signed = keys.and_then(|keys| verified(keys, &range.checkpoint));
        let begins = beginning(size, &range.grown, said);
        if let (Some(signed), Some(root)) = (signed, begins)
            && root != *against.checkpoint().root()
        {
            let signed = self.trimmed(origin, signed);
            self.apart(origin, against, &signed, range.grown.clone());
        }
    }
}
