//! The sealing threads: piece -> known, or compressed and encrypted.

use std::{
    collections::HashMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use protocol::{
    block::{Block, digest_of},
    keys::ClassRecipient,
    list::Segment,
    seal::Sealer,
};
use store::Store;

use super::{ExportError, ExportOptions, Outcomes, Pieces, is_usable};
use crate::{
    catalog::{self, Kept},
    home::ClassSecrets,
    intake::Body,
    keyring::ExportKeys,
};

/// What became of one message of a stream.
pub(super) struct Outcome {
    pub(super) stream: u32,
    pub(super) index: u64,
    pub(super) done: Done,
}

pub(super) enum Done {
    /// The piece was sealed now.
    Sealed {
        key: [u8; 32],
        block: Block,
        kept: Kept,
    },
    /// The piece was sealed before.
    Known(Kept),
    /// Whatever is not a piece.
    Passed(Body),
}

/// How pieces are sealed in one export.
pub(super) struct Sealing<'a> {
    store: Option<&'a Store>,
    keys: &'a ExportKeys,
    dedup: &'a [u8; 32],
    pub(super) options: &'a ExportOptions,
    fresh: Mutex<HashMap<[u8; 32], Option<Kept>>>,
    sealed: Condvar,
}

impl<'a> Sealing<'a> {
    pub(super) fn new(
        store: Option<&'a Store>,
        keys: &'a ExportKeys,
        secrets: &'a ClassSecrets,
        options: &'a ExportOptions,
    ) -> Self {
        Self {
            store,
            keys,
            dedup: &secrets.dedup,
            options,
            fresh: Mutex::default(),
            sealed: Condvar::new(),
        }
    }

    pub(super) fn sealer(&self) -> Result<Sealer, ExportError> {
        let recipient: ClassRecipient = self.keys.recipient.clone();
        Ok(Sealer::new(
            Box::new(recipient),
            self.options.level,
            self.options.padded,
        )?)
    }

    /// Seals until there are no more messages.
    pub(super) fn work(&self, pieces: &Pieces, outcomes: &Outcomes) -> Result<(), ExportError> {
        let mut sealer = self.sealer()?;
        for message in pieces {
            let done = match message.body {
                Body::Piece { bytes, rows } => self.piece(&mut sealer, &bytes, rows)?,
                other => Done::Passed(other),
            };
            let outcome = Outcome {
                stream: message.stream,
                index: message.index,
                done,
            };
            if outcomes.send(outcome).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Finds or seals one piece.
    pub(super) fn piece(
        &self,
        sealer: &mut Sealer,
        bytes: &[u8],
        rows: u32,
    ) -> Result<Done, ExportError> {
        let piece = *blake3::hash(bytes).as_bytes();
        let key = *blake3::keyed_hash(self.dedup, &piece).as_bytes();
        if let Some(kept) = self.find(&key)? {
            // Rows are of the place, not of the piece: a tree and a table may share bytes.
            let segment = Segment {
                rows,
                ..kept.segment
            };
            return Ok(Done::Known(Kept { segment, ..kept }));
        }
        let sealed = self.seal(sealer, bytes, piece, rows);
        self.settle(&key, sealed.as_ref().ok().map(|(_, kept)| *kept));
        let (block, kept) = sealed?;
        Ok(Done::Sealed { key, block, kept })
    }

    /// Forgets what was sealed by this export, once it can be found in the store.
    pub(super) fn forget_durable(&self) {
        // What was sealed during the commit is on its way there.
        let in_store = |key: &[u8; 32]| {
            self.store
                .is_some_and(|store| matches!(catalog::piece(store, key), Ok(Some(_))))
        };
        self.lock()
            .retain(|key, kept| kept.is_none() || !in_store(key));
    }

    /// Finds a piece that is in the store, or was sealed by this export; waits if another
    /// thread is at it. Nothing found means that the caller must seal it and `settle` it.
    fn find(&self, key: &[u8; 32]) -> Result<Option<Kept>, ExportError> {
        let mut fresh = self.lock();
        loop {
            match fresh.get(key) {
                Some(Some(kept)) => return Ok(Some(*kept)),
                Some(None) => {
                    fresh = self
                        .sealed
                        .wait(fresh)
                        .unwrap_or_else(PoisonError::into_inner)
                }
                None => break,
            }
        }
        if let Some(store) = self.store {
            let known = catalog::piece(store, key)?;
            if let Some(kept) = known.filter(|kept| is_usable(self.store, self.keys, kept)) {
                return Ok(Some(kept));
            }
        }
        fresh.insert(*key, None);
        Ok(None)
    }

    fn settle(&self, key: &[u8; 32], kept: Option<Kept>) {
        let mut fresh = self.lock();
        match kept {
            Some(kept) => fresh.insert(*key, Some(kept)),
            None => fresh.remove(key),
        };
        self.sealed.notify_all();
    }

    fn seal(
        &self,
        sealer: &mut Sealer,
        bytes: &[u8],
        piece: [u8; 32],
        rows: u32,
    ) -> Result<(Block, Kept), ExportError> {
        let len = u32::try_from(bytes.len()).expect("a piece is below 1 MiB");
        let block = Block::sealed(sealer.seal(bytes)?);
        let digest = digest_of(block.cid()).expect("sealed blocks are sha2-256");
        let sealed_len = block.bytes().len();
        let kept = Kept {
            segment: Segment {
                block: digest,
                piece,
                len,
                rows,
            },
            sealed_len: u32::try_from(sealed_len).expect("a sealed piece is at most 1 MiB"),
            epoch: self.keys.epoch.number,
        };
        Ok((block, kept))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Option<Kept>>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
