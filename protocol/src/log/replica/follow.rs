//! What is heard of a log: whether it goes with what is kept, or proves a fork.

use super::{
    Keeping, Reads, Replica,
    events::{Effect, Misbehaviour, Peer, Reading, Stretch, Ticket},
    log::Log,
    stretch::{Longer, beginning, verified},
    wire::Message,
};
use crate::{
    log::{
        checkpoint::{Origin, SignedCheckpoint, UnverifiedCheckpoint},
        cosignature::{self, CosignerKey},
        keys::KeyHistory,
    },
    note::SignatureLine,
};

impl Replica {
    /// A peer says that a log has a checkpoint, and that it has what that covers.
    pub(super) fn heard(&mut self, now: u64, peer: Peer, checkpoint: &UnverifiedCheckpoint) {
        let said = checkpoint.checkpoint_unverified();
        let (origin, size) = (said.origin().clone(), said.size());
        let Some(log) = self.logs.get_mut(&origin) else {
            return;
        };
        if log.fork.is_some() {
            return self.tell_fork(now, peer, &origin);
        }
        if log.is_settled(size, said.root()) {
            return self.cosigned(now, peer, checkpoint);
        }
        if !self.may(now, peer) {
            return;
        }
        let Some(log) = self.logs.get_mut(&origin) else {
            return;
        };
        // No log of this kind signs other lines.
        let signed = match (&log.keys, said.extensions()) {
            (_, [_, ..]) => return self.score(peer, Misbehaviour::ForgedCheckpoint),
            (Some(keys), _) => verified(keys, checkpoint),
            (None, _) => None,
        };
        if let Some(signed) = signed {
            log.held_by(peer, size);
            let signed = self.trimmed(&origin, signed);
            return self.seen(&origin, signed);
        }
        if size > log.edge.size() {
            // It may be signed by a key that is told of in what is missing.
            log.held_by(peer, size);
            return self.hunger(&origin);
        }
        // What a key signed that was revoked is no lie of whoever passes it on.
        let once = |keys: &KeyHistory| keys.keys().any(|key| checkpoint.note().verify(key).is_ok());
        if !log.keys.as_ref().is_some_and(once) {
            self.score(peer, Misbehaviour::ForgedCheckpoint);
        }
    }

    /// A log has signed a checkpoint that it is not known to go with what is kept.
    pub(super) fn seen(&mut self, origin: &Origin, signed: SignedCheckpoint) {
        let Some(log) = self.logs.get_mut(origin).filter(|log| log.fork.is_none()) else {
            return;
        };
        let said = signed.checkpoint();
        if log.is_settled(said.size(), said.root()) {
            return;
        }
        if log.own && said.size() > log.size() {
            self.behind(&signed);
        }
        let Some(log) = self
            .logs
            .get_mut(origin)
            .filter(|log| !log.own || !self.stopped)
        else {
            return;
        };
        if let Some(other) = log.contradicts(&signed).cloned() {
            return self.apart(origin, &other, &signed, Vec::new());
        }
        log.open(signed);
        self.compare(origin);
        self.hunger(origin);
    }

    /// Looks whether a checkpoint that is smaller than what is kept goes with it.
    pub(super) fn compare(&mut self, origin: &Origin) {
        let Some(log) = self.logs.get_mut(origin) else {
            return;
        };
        let Some(held) = log.checkpoint.clone() else {
            return;
        };
        let size = held.checkpoint().size();
        let smaller = log.open.iter().find(|open| open.checkpoint().size() < size);
        let Some(smaller) = smaller.filter(|_| !log.comparing && log.fork.is_none()) else {
            return;
        };
        let smaller = smaller.clone();
        log.comparing = true;
        let wanted = Reading {
            origin: origin.clone(),
            from: smaller.checkpoint().size(),
            size,
            entries_max: 0,
        };
        let ticket = Ticket(self.name());
        let reads = Reads::Compare {
            origin: origin.clone(),
            smaller,
            held,
        };
        self.reads.insert(ticket, reads);
        self.out.push(Effect::Read { ticket, wanted });
    }

    pub(super) fn compared(
        &mut self,
        origin: &Origin,
        smaller: SignedCheckpoint,
        held: &SignedCheckpoint,
        stretch: Option<Stretch>,
    ) {
        let Some(log) = self.logs.get_mut(origin) else {
            return;
        };
        log.comparing = false;
        let hashes = stretch.map(|stretch| stretch.grown).unwrap_or_default();
        let said = smaller.checkpoint();
        match beginning(said.size(), &hashes, held.checkpoint()) {
            Some(root) if root == *said.root() => log.settle(said.size(), root),
            Some(_) => self.apart(origin, held, &smaller, hashes),
            // It cannot be read, which is no fault of the log's: it is looked at again when it is heard of again.
            None => log
                .open
                .retain(|open| open.checkpoint() != smaller.checkpoint()),
        }
        self.compare(origin);
    }

    /// The own log signed what it does not have.
    pub(super) fn behind(&mut self, seen: &SignedCheckpoint) {
        let size = seen.checkpoint().size();
        if self.stopped || size <= self.owed {
            return;
        }
        self.owed = size;
        self.stopped = self.signs;
        self.out.push(Effect::Behind {
            seen: seen.clone(),
            heals: !self.stopped,
        });
    }

    /// The own log may have all again that it was seen to have.
    pub(super) fn heal(&mut self) {
        let own = self.own.as_ref().and_then(|own| self.logs.get(own));
        let Some(log) = own.filter(|_| self.owed > 0 && !self.stopped) else {
            return;
        };
        let is_whole = log.size() >= self.owed && log.size() == log.edge.size();
        if is_whole && !log.is_longer() && !log.asking && !log.keeping {
            self.owed = 0;
            self.out.push(Effect::Healed);
        }
    }

    /// What was to be kept is durable.
    pub(super) fn kept(&mut self, keeping: Keeping) {
        match keeping {
            Keeping::Longer { origin, longer } => {
                let Longer {
                    keys,
                    edge,
                    checkpoint,
                    settled,
                } = *longer;
                let Some(log) = self.logs.get_mut(&origin) else {
                    return;
                };
                log.keeping = false;
                log.keys = Some(keys);
                log.edge = edge;
                for (size, root) in settled {
                    log.settle(size, root);
                }
                log.holders.retain(|(_, size)| *size > log.edge.size());
                if log.edge.size() == checkpoint.checkpoint().size() {
                    log.reach(checkpoint.clone());
                    if log.fork.is_none() {
                        let message = Message::Announce(checkpoint.into());
                        self.out.push(Effect::Announce { message });
                    }
                } else {
                    log.target = Some(checkpoint);
                }
                self.judge_again(&origin);
                self.compare(&origin);
                self.hunger(&origin);
            }
            Keeping::Cosigned { origin, checkpoint } => {
                let Some(log) = self.logs.get_mut(&origin) else {
                    return;
                };
                log.keeping = false;
                log.checkpoint = Some(checkpoint.clone());
                let message = Message::Announce(checkpoint.into());
                self.out.push(Effect::Announce { message });
                self.hunger(&origin);
            }
            Keeping::Fork {
                origin,
                fork,
                frozen,
            } => {
                let message = Message::Fork(Box::new((*fork).into()));
                self.out.push(Effect::Announce { message });
                if frozen {
                    if let Some(log) = self.logs.get_mut(&origin) {
                        log.fork_kept = true;
                    }
                    self.out.push(Effect::Frozen { origin });
                }
            }
            Keeping::Memory { call, checkpoint } => self.remembered(call, checkpoint),
        }
    }

    /// What was to be kept is not durable, and may be tried again.
    pub(super) fn not_kept(&mut self, keeping: Keeping) {
        match keeping {
            Keeping::Longer { origin, .. } | Keeping::Cosigned { origin, .. } => {
                if let Some(log) = self.logs.get_mut(&origin) {
                    log.keeping = false;
                    // Not at once: when it is heard of again.
                    log.holders.clear();
                }
            }
            Keeping::Fork {
                origin,
                fork,
                frozen,
            } => self.fork_not_kept(&origin, &fork, frozen),
            Keeping::Memory { call, checkpoint } => self.not_remembered(call, &checkpoint),
        }
    }

    /// A checkpoint without signatures but those of its log and of members that are witnesses.
    pub(super) fn trimmed(&self, origin: &Origin, signed: SignedCheckpoint) -> SignedCheckpoint {
        let keys = self.logs.get(origin).and_then(|log| log.keys.as_ref());
        match keys {
            Some(keys) => self.trimmed_by(keys, signed),
            None => signed,
        }
    }

    pub(super) fn trimmed_by(
        &self,
        keys: &KeyHistory,
        signed: SignedCheckpoint,
    ) -> SignedCheckpoint {
        if signed.note().signatures().len() == 1 {
            return signed;
        }
        let mut of_log = keys.keys().filter(|key| signed.note().verify(key).is_ok());
        let Some(mut only) = of_log.find_map(|key| signed.only(key).ok()) else {
            return signed;
        };
        for line in self.cosignatures(&signed.into()) {
            // There is room: it was under a checkpoint.
            let _ = only.push(line);
        }
        only
    }

    /// The good cosignatures under a checkpoint of members that are witnesses.
    fn cosignatures(&self, checkpoint: &UnverifiedCheckpoint) -> Vec<SignatureLine> {
        let note = checkpoint.note();
        let good = |key: &&CosignerKey| cosignature::verify(note, key).is_ok();
        let lines = self.witnesses.iter().filter(good).filter_map(|key| {
            let signature = note.signature_of(key).ok()?;
            Some(SignatureLine::new(key, signature))
        });
        lines.collect()
    }

    /// A checkpoint that is kept may have been cosigned since.
    fn cosigned(&mut self, now: u64, peer: Peer, checkpoint: &UnverifiedCheckpoint) {
        let said = checkpoint.checkpoint_unverified();
        let origin = said.origin();
        let held = |log: &Log| {
            let held = log.checkpoint.clone();
            held.filter(|held| held.checkpoint() == said && !log.keeping && !log.own)
        };
        let Some(held) = self.logs.get(origin).and_then(held) else {
            return;
        };
        let more = self.witnesses.iter().any(|key| {
            checkpoint.note().signature_of(key).is_ok() && held.note().signature_of(key).is_err()
        });
        if !more || !self.may(now, peer) {
            return;
        }
        let mut cosigned = held.clone();
        for line in self.cosignatures(checkpoint) {
            let _ = cosigned.push(line);
        }
        let Some(log) = self.logs.get_mut(origin).filter(|_| cosigned != held) else {
            return;
        };
        log.keeping = true;
        let first = log.edge.size();
        let origin = origin.clone();
        let ticket = self.keep(Keeping::Cosigned {
            origin: origin.clone(),
            checkpoint: cosigned.clone(),
        });
        self.out.push(Effect::Keep {
            ticket,
            origin,
            first,
            entries: Vec::new(),
            checkpoint: cosigned,
        });
    }
}
