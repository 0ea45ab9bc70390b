//! The witness: it cosigns a checkpoint only if it follows from the one that it cosigned before, and has
//! remembered it first. See <https://c2sp.org/tlog-witness>.

use std::collections::BTreeMap;

use super::{
    Keeping, Replica,
    events::{AddCheckpoint, Effect, Refusal},
    limits::COSIGNS_MAX,
    stretch::verified,
};
use crate::log::{
    checkpoint::{Origin, SignedCheckpoint},
    tree::{empty_root, verify_consistency},
};

/// What a witness remembers.
#[derive(Debug)]
pub(super) struct Witness {
    /// Durable: the last checkpoint of each log that was cosigned, or is about to be.
    cosigned: BTreeMap<Origin, SignedCheckpoint>,
    /// Logs of which another checkpoint is becoming durable.
    busy: Vec<Origin>,
}

impl Witness {
    pub(super) fn new(cosigned: BTreeMap<Origin, SignedCheckpoint>) -> Self {
        Self {
            cosigned,
            busy: Vec::new(),
        }
    }

    fn consider(&self, request: &AddCheckpoint, signed: &SignedCheckpoint) -> Result<(), Refusal> {
        let said = signed.checkpoint();
        if request.old_size > said.size() {
            return Err(Refusal::Shrinks);
        }
        if self.busy.contains(said.origin()) || self.busy.len() >= COSIGNS_MAX {
            return Err(Refusal::Busy);
        }
        let last = self.cosigned.get(said.origin());
        let last = last.map(SignedCheckpoint::checkpoint);
        let (size, root) = last.map_or((0, empty_root()), |last| (last.size(), *last.root()));
        if request.old_size != size {
            return Err(Refusal::Conflict { size });
        }
        verify_consistency(size, &root, said.size(), said.root(), &request.proof)
            .map_err(|_| Refusal::WrongProof)
    }
}

impl Replica {
    pub(super) fn add_checkpoint(&mut self, call: u64, request: AddCheckpoint) {
        let refuse = |because| Effect::Refuse { call, because };
        let said = request.checkpoint.checkpoint_unverified();
        let origin = said.origin().clone();
        let log = self.logs.get(&origin);
        let keys = log.and_then(|log| log.keys.as_ref().map(|keys| (log, keys)));
        let (Some(_), Some((log, keys))) = (&self.witness, keys) else {
            return self.out.push(refuse(Refusal::UnknownLog));
        };
        let signed = verified(keys, &request.checkpoint);
        let signed = signed.filter(|_| log.fork.is_none() && said.extensions().is_empty());
        let Some(signed) = signed else {
            return self.out.push(refuse(Refusal::Forbidden));
        };
        let signed = self.trimmed(&origin, signed);
        let (Some(witness), Some(log)) = (&mut self.witness, self.logs.get(&origin)) else {
            return;
        };
        let considered = witness.consider(&request, &signed);
        if considered.is_ok() && log.contradicts(&signed).is_none() {
            let last = witness.cosigned.get(&origin);
            if last.is_some_and(|last| last.checkpoint() == signed.checkpoint()) {
                self.out.push(Effect::Cosign {
                    call,
                    checkpoint: signed.clone(),
                });
            } else {
                witness.busy.push(origin.clone());
                let checkpoint = signed.clone();
                let ticket = self.keep(Keeping::Memory { call, checkpoint });
                let checkpoint = signed.clone();
                self.out.push(Effect::KeepCosigned { ticket, checkpoint });
            }
        } else {
            let because = considered.err().unwrap_or(Refusal::Forbidden);
            self.out.push(refuse(because));
        }
        // Whatever was asked for, the log signed it.
        self.seen(&origin, signed);
    }

    /// The witness remembers: now it may say so.
    pub(super) fn remembered(&mut self, call: u64, checkpoint: SignedCheckpoint) {
        let origin = checkpoint.checkpoint().origin();
        if let Some(witness) = &mut self.witness {
            witness.busy.retain(|busy| busy != origin);
            witness.cosigned.insert(origin.clone(), checkpoint.clone());
            self.out.push(Effect::Cosign { call, checkpoint });
        }
    }

    pub(super) fn not_remembered(&mut self, call: u64, checkpoint: &SignedCheckpoint) {
        let origin = checkpoint.checkpoint().origin();
        if let Some(witness) = &mut self.witness {
            witness.busy.retain(|busy| busy != origin);
        }
        let because = Refusal::Busy;
        self.out.push(Effect::Refuse { call, because });
    }
}
