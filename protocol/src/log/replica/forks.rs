//! Fork proofs: made, heard, and told.

use super::{
    Keeping, Replica,
    events::{Effect, Misbehaviour, Peer},
    limits::{FORK_AGAIN_AFTER_MS, FORKS_PER_ORIGIN_MAX, UNJUDGED_FORKS_MAX},
    stretch::{evidence, signers},
    wire::Message,
};
use crate::log::{
    checkpoint::{Origin, SignedCheckpoint},
    cosignature::CosignerKey,
    fork::{Blame, Fork, ForkError, Signer, UnverifiedFork},
    keys::KeyHistory,
    tree::Hash,
};

impl Replica {
    /// Two checkpoints of a log do not go together, and if their sizes differ, hashes from the smaller to the
    /// larger show it. The second is not kept.
    pub(super) fn apart(
        &mut self,
        origin: &Origin,
        one: &SignedCheckpoint,
        two: &SignedCheckpoint,
        hashes: Vec<Hash>,
    ) {
        let Some(log) = self.logs.get_mut(origin) else {
            return;
        };
        // Whatever comes of it, it is not looked at again.
        let said = two.checkpoint();
        log.settle(said.size(), *said.root());
        let signers = log.keys.as_ref().and_then(|keys| signers(keys, [one, two]));
        let evidence = evidence([one, two], hashes);
        for witness in self.witnesses.clone() {
            let signer = Signer::Witness(witness.clone());
            if let Ok(fork) = Fork::new(evidence.clone(), [signer.clone(), signer]) {
                self.accuse(witness, fork);
            }
        }
        if let Some(fork) = signers.and_then(|signers| Fork::new(evidence, signers).ok()) {
            self.convict(origin, fork);
        }
    }

    /// A proof about a log is true.
    fn convict(&mut self, origin: &Origin, fork: Fork) {
        let Some(log) = self.logs.get_mut(origin) else {
            return;
        };
        let blame = log.keys.as_ref().map(|keys| fork.blame(keys));
        let frozen = match blame {
            Some(Blame::Log) if log.fork.is_none() => true,
            Some(Blame::FormerKey) => {
                if log.forks.len() >= FORKS_PER_ORIGIN_MAX || log.forks.contains(&fork) {
                    return;
                }
                log.forks.push(fork.clone());
                false
            }
            _ => return,
        };
        if frozen {
            log.fork = Some(fork.clone());
            log.fork_kept = false;
            log.open.clear();
            log.holders.clear();
            self.stopped |= log.own;
            self.hungry.remove(origin);
        }
        self.keep_fork(origin, fork, frozen);
    }

    /// A proof about a witness is true.
    fn accuse(&mut self, witness: CosignerKey, fork: Fork) {
        let known = Origin::new(fork.origin()).ok();
        if let Some(origin) = known.filter(|_| !self.accused.contains(&witness)) {
            self.accused.push(witness);
            self.keep_fork(&origin, fork, false);
        }
    }

    fn keep_fork(&mut self, origin: &Origin, fork: Fork, frozen: bool) {
        let (origin, fork) = (origin.clone(), Box::new(fork));
        let ticket = self.keep(Keeping::Fork {
            origin: origin.clone(),
            fork: fork.clone(),
            frozen,
        });
        self.out.push(Effect::KeepFork {
            ticket,
            origin,
            fork,
            frozen,
        });
    }

    /// A peer passes on a fork proof.
    pub(super) fn fork_heard(&mut self, now: u64, peer: Peer, fork: UnverifiedFork) {
        if !self.may(now, peer) {
            return;
        }
        let signer = fork.signers_unverified()[0].clone();
        let (name, known) = match &signer {
            Signer::Log(key) => {
                let origin = Origin::new(key.name()).ok();
                let Some((origin, log)) = origin.and_then(|name| self.logs.get_key_value(&name))
                else {
                    return;
                };
                if log.fork.is_some() {
                    return;
                }
                let keys = log.keys.iter().flat_map(KeyHistory::keys);
                (
                    Some(origin.clone()),
                    keys.cloned().map(Signer::Log).collect(),
                )
            }
            Signer::Witness(key) if self.witnesses.contains(key) => (None, vec![signer.clone()]),
            Signer::Witness(_) => return,
        };
        let again = fork.clone();
        match (fork.verify(&known), name, signer) {
            (Ok(fork), Some(origin), _) => self.convict(&origin, fork),
            (Ok(fork), None, Signer::Witness(key)) => self.accuse(key, fork),
            (Err(ForkError::OtherSigner { .. }), Some(origin), _) => {
                self.unjudged(peer, origin, again)
            }
            (Ok(_), ..) => {}
            (Err(_), ..) => self.score(peer, Misbehaviour::WrongFork),
        }
    }

    /// A proof is about keys that are not known: they may be told of in what is missing, which who proves it has.
    fn unjudged(&mut self, peer: Peer, origin: Origin, fork: UnverifiedFork) {
        let Some(log) = self.logs.get_mut(&origin) else {
            return;
        };
        if !log.holders.iter().any(|(holder, _)| *holder == peer) {
            log.held_by(peer, log.edge.size() + 1);
        }
        self.hunger(&origin);
        if !self.unjudged.iter().any(|(_, other)| *other == fork) {
            self.unjudged.push_back((origin, fork));
            if self.unjudged.len() > UNJUDGED_FORKS_MAX {
                self.unjudged.pop_front();
            }
        }
    }

    /// More keys of a log may be known.
    pub(super) fn judge_again(&mut self, origin: &Origin) {
        let unjudged = std::mem::take(&mut self.unjudged).into_iter();
        let (forks, others): (Vec<_>, Vec<_>) = unjudged.partition(|(of, _)| of == origin);
        self.unjudged = others.into();
        for (origin, fork) in forks {
            let keys = self.logs.get(&origin).and_then(|log| log.keys.as_ref());
            let known: Vec<_> = keys
                .iter()
                .flat_map(|keys| keys.keys())
                .cloned()
                .map(Signer::Log)
                .collect();
            match fork.clone().verify(&known) {
                Ok(fork) => self.convict(&origin, fork),
                Err(ForkError::OtherSigner { .. }) => self.unjudged.push_back((origin, fork)),
                Err(_) => {}
            }
        }
    }

    /// A peer speaks of a log that is known to be forked. If the proof could not be kept, it is tried again.
    pub(super) fn tell_fork(&mut self, now: u64, peer: Peer, origin: &Origin) {
        let log = self.logs.get(origin);
        let known = log.and_then(|log| Some((log.fork.clone()?, log.fork_kept)));
        let (Some((fork, is_kept)), Some(state)) = (known, self.peers.get_mut(&peer)) else {
            return;
        };
        let told = state.told_ms.get(origin);
        if told.is_some_and(|told| now < told + FORK_AGAIN_AFTER_MS) {
            return;
        }
        let frozen = |keeping: &Keeping| match keeping {
            Keeping::Fork {
                origin: of, frozen, ..
            } => *frozen && of == origin,
            _ => false,
        };
        if is_kept {
            state.told_ms.insert(origin.clone(), now);
            let message = Message::Fork(Box::new(fork.into()));
            self.out.push(Effect::Send { peer, message });
        } else if !self.keeps.values().any(frozen) {
            state.told_ms.insert(origin.clone(), now);
            self.keep_fork(origin, fork, true);
        }
    }

    /// A proof is not durable, and nobody is told of it. What it accuses stays so, and it is kept when it is heard of again.
    pub(super) fn fork_not_kept(&mut self, origin: &Origin, fork: &Fork, frozen: bool) {
        if frozen {
            return;
        }
        if let Some(log) = self.logs.get_mut(origin) {
            log.forks.retain(|other| other != fork);
        }
        self.accused
            .retain(|witness| fork.signers()[0] != Signer::Witness(witness.clone()));
    }
}
