//! Gathering: what was sealed, in stream order, into lists, a manifest and a root.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::Ordering,
    thread::{Scope, ScopedJoinHandle},
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use protocol::{
    block::Block,
    keys::capsule::Mode,
    list::{ContentHasher, List, ListBuilder},
    manifest::{
        ListRef, MANIFEST_SIZE_MAX, Manifest, SnapshotMeta, SourceMeta, Stream, StreamKind,
        StreamMeta,
    },
    seal::Sealer,
    snapshot::{Object, Parts, assemble},
};
use store::{Store, StoreError};

use super::{
    COMMIT_COST, Destination, ExportError, ExportReport, join,
    seal::{Done, Outcome, Sealing},
};
use crate::{
    catalog::{self, Kept, SnapshotRecord, UNIT_SEGMENTS_MAX},
    intake::{Body, StreamEnd},
    keyring::ExportKeys,
    progress::Progress,
};

/// A stream that is being gathered.
#[derive(Default)]
struct Open {
    next: u64,
    early: BTreeMap<u64, Done>,
    builder: ListBuilder,
    lists: Vec<ListRef>,
    hasher: ContentHasher,
    unit: Vec<Kept>,
    bytes: u64,
    rows: u64,
}

/// Gathers one export.
pub(super) struct Gather<'a, 'd> {
    sealing: &'a Sealing<'a>,
    destination: Destination<'d>,
    progress: &'a Progress,
    open: HashMap<u32, Open>,
    finished: Vec<(u32, Stream)>,
    entries: Vec<Object>,
    report: ExportReport,
    sealed: u64,
    uncommitted: u64,
}

impl<'a, 'd> Gather<'a, 'd> {
    pub(super) fn new(
        sealing: &'a Sealing<'a>,
        destination: Destination<'d>,
        progress: &'a Progress,
    ) -> Self {
        Self {
            sealing,
            destination,
            progress,
            open: HashMap::new(),
            finished: Vec::new(),
            entries: Vec::new(),
            report: ExportReport::default(),
            sealed: 0,
            uncommitted: 0,
        }
    }

    /// Takes outcomes until there are no more.
    pub(super) fn run<'scope>(
        mut self,
        outcomes: &Receiver<Outcome>,
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<Finish<'a, 'd>, ExportError>
    where
        'a: 'scope,
        'd: 'scope,
    {
        let mut sealer = self.sealing.sealer()?;
        let committer = match &self.destination {
            Destination::Store(store) => Some(Committer::spawn(store, self.sealing, scope)),
            _ => None,
        };
        let taken = self.take_all(outcomes, &mut sealer, committer.as_ref());
        let committed = committer.map_or(Ok(()), Committer::join);
        // A commit that failed is why no more was taken.
        committed?;
        taken?;
        Ok(Finish {
            gather: self,
            sealer,
        })
    }

    fn take_all(
        &mut self,
        outcomes: &Receiver<Outcome>,
        sealer: &mut Sealer,
        committer: Option<&Committer<'_>>,
    ) -> Result<(), ExportError> {
        for outcome in outcomes {
            let done = match outcome.done {
                Done::Sealed { key, block, kept } => {
                    self.keep(&key, block, &kept)?;
                    Done::Known(kept)
                }
                other => other,
            };
            let open = self.open.entry(outcome.stream).or_default();
            open.early.insert(outcome.index, done);
            self.advance(outcome.stream, sealer)?;
            if let Some(committer) =
                committer.filter(|_| self.uncommitted >= self.sealing.options.commit_every)
            {
                committer.nudge()?;
                self.uncommitted = 0;
            }
        }
        Ok(())
    }

    /// Handles what is next in a stream, as far as it has come.
    fn advance(&mut self, number: u32, sealer: &mut Sealer) -> Result<(), ExportError> {
        loop {
            let open = self.open.get_mut(&number).expect("opened by the caller");
            let Some(done) = open.early.remove(&open.next) else {
                return Ok(());
            };
            open.next += 1;
            match done {
                Done::Known(kept) => self.push(number, kept, sealer)?,
                Done::Sealed { .. } => unreachable!("blocks are kept as they come"),
                Done::Passed(Body::Reused(unit)) => {
                    for kept in unit {
                        let len = u64::from(kept.segment.len);
                        self.progress
                            .bytes_skipped
                            .fetch_add(len, Ordering::Relaxed);
                        self.push(number, kept, sealer)?;
                    }
                    self.open_mut(number).unit.clear();
                }
                Done::Passed(Body::UnitEnd(key)) => self.end_unit(number, key)?,
                Done::Passed(Body::End(end)) => return self.end_stream(number, end, sealer),
                Done::Passed(Body::Piece { .. }) => unreachable!("pieces are found or sealed"),
            }
        }
    }

    fn open_mut(&mut self, number: u32) -> &mut Open {
        self.open.entry(number).or_default()
    }

    fn push(&mut self, number: u32, kept: Kept, sealer: &mut Sealer) -> Result<(), ExportError> {
        self.entries.push(Object {
            block: kept.segment.block,
            len: kept.sealed_len,
        });
        let open = self.open_mut(number);
        open.hasher.push(&kept.segment);
        open.bytes += u64::from(kept.segment.len);
        open.rows += u64::from(kept.segment.rows);
        if open.unit.len() <= UNIT_SEGMENTS_MAX {
            open.unit.push(kept);
        }
        match open.builder.push(&kept.segment) {
            Some(list) => self.seal_list(number, &list, sealer),
            None => Ok(()),
        }
    }

    fn end_unit(&mut self, number: u32, key: [u8; 32]) -> Result<(), ExportError> {
        let unit = std::mem::take(&mut self.open_mut(number).unit);
        // An all-zero key marks a unit that must not be remembered.
        if key == [0; 32] || unit.len() > UNIT_SEGMENTS_MAX {
            return Ok(());
        }
        if let Destination::Store(store) = &self.destination {
            catalog::set_unit(store, &key, &unit)?;
        }
        Ok(())
    }

    fn end_stream(
        &mut self,
        number: u32,
        end: StreamEnd,
        sealer: &mut Sealer,
    ) -> Result<(), ExportError> {
        if let Some(list) = self.open_mut(number).builder.finish() {
            self.seal_list(number, &list, sealer)?;
        }
        let open = self.open.remove(&number).expect("an open stream ends");
        let rows = (end.decl.kind == StreamKind::Table).then_some(open.rows);
        self.report.bytes += open.bytes;
        self.report.rows += open.rows;
        self.report.streams += 1;
        let meta = StreamMeta {
            source: end.decl.source,
            kind: end.decl.kind,
            name: end.decl.name,
            head: end.head,
            tail: end.tail,
            bytes: open.bytes,
            rows,
            columns: end.decl.columns,
            content: blake3::Hash::from(open.hasher.finish()).to_string(),
        };
        let stream = Stream {
            file: end.decl.file,
            meta,
            lists: open.lists,
        };
        self.finished.push((end.decl.position, stream));
        Ok(())
    }

    /// Seals a list as a piece like any other, so that an unchanged one is reused.
    fn seal_list(
        &mut self,
        number: u32,
        list: &List,
        sealer: &mut Sealer,
    ) -> Result<(), ExportError> {
        let kept = match self.sealing.piece(sealer, list.text.as_bytes(), 0)? {
            Done::Sealed { key, block, kept } => {
                self.keep(&key, block, &kept)?;
                kept
            }
            Done::Known(kept) => kept,
            Done::Passed(_) => unreachable!("a piece is found or sealed"),
        };
        self.entries.push(Object {
            block: kept.segment.block,
            len: kept.sealed_len,
        });
        self.open_mut(number).lists.push(ListRef {
            block: kept.segment.block,
            len: kept.segment.len,
            segments: list.segments,
            bytes: list.bytes,
        });
        Ok(())
    }

    /// Hands a new block to the destination, and stages its record.
    fn keep(&mut self, key: &[u8; 32], block: Block, kept: &Kept) -> Result<(), ExportError> {
        let len = u64::from(kept.sealed_len);
        match &mut self.destination {
            // One commit covers both, or a crash between two would have the piece sealed again.
            Destination::Store(store) => catalog::put_piece(store, key, kept, block)?,
            Destination::Car(write) => write(&block).map_err(ExportError::Car)?,
            Destination::DryRun(_) => {}
        }
        self.sealed += 1;
        self.report.bytes_written += len;
        self.uncommitted += len + COMMIT_COST;
        self.progress
            .bytes_written
            .fetch_add(len, Ordering::Relaxed);
        Ok(())
    }
}

/// Everything is sealed; what is left is the manifest and the public nodes.
pub(super) struct Finish<'a, 'd> {
    gather: Gather<'a, 'd>,
    sealer: Sealer,
}

impl Finish<'_, '_> {
    /// Writes manifest and root, and makes the snapshot durable.
    pub(super) fn snapshot(
        self,
        sources: Vec<SourceMeta>,
        snapshot: SnapshotMeta,
        keys: &ExportKeys,
    ) -> Result<ExportReport, ExportError> {
        let Gather {
            mut destination,
            mut finished,
            mut entries,
            mut report,
            sealed,
            progress,
            ..
        } = self.gather;
        report.bytes_read = progress.bytes_read.load(Ordering::Relaxed);
        report.warnings = sources
            .iter()
            .flat_map(|s| s.warnings.iter().cloned())
            .collect();
        finished.sort_by_key(|(position, stream)| (stream.meta.source, *position));
        let streams = finished.into_iter().map(|(_, stream)| stream).collect();
        let mut record = SnapshotRecord {
            created: snapshot.created.clone(),
            mode: snapshot.mode,
            epoch: keys.epoch.number,
            bytes: report.bytes,
            segments: 0,
            sources: sources.iter().map(|s| s.name.clone()).collect(),
        };
        let capsule = keys
            .capsule
            .clone()
            .filter(|_| snapshot.mode == Mode::Portable);
        let text = Manifest {
            snapshot,
            sources,
            streams,
        }
        .encode();
        if text.len() > MANIFEST_SIZE_MAX {
            return Err(ExportError::ManifestTooLarge { size: text.len() });
        }
        entries.sort_unstable();
        entries.dedup();
        report.segments = entries.len() as u64;
        report.segments_reused = report.segments.saturating_sub(sealed);
        record.segments = report.segments;
        let mut sealer = self.sealer;
        let parts = Parts {
            capsule,
            manifest: sealer.seal(text.as_bytes())?,
            objects: &mut entries,
        };
        let root = assemble(parts, &mut |block: Block| {
            let len = block.bytes().len() as u64;
            if put(&mut destination, block)? {
                report.bytes_written += len;
            }
            Ok::<(), ExportError>(())
        })?;
        if matches!(destination, Destination::DryRun(_)) {
            return Ok(report);
        }
        if let Destination::Store(store) = destination {
            // Blocks first: a crash between the two leaves blocks that nothing names.
            store.commit()?;
            catalog::set_snapshot(store, &root, &record)?;
            store.commit()?;
        }
        report.root = Some(root);
        Ok(report)
    }
}

fn put(destination: &mut Destination<'_>, block: Block) -> Result<bool, ExportError> {
    match destination {
        // These are few, and of known content: a damaged copy need not stay.
        Destination::Store(store) => Ok(store.put_checked(block)?),
        Destination::Car(write) => write(&block).map(|()| true).map_err(ExportError::Car),
        Destination::DryRun(Some(store)) => Ok(!store.contains(block.cid())?),
        Destination::DryRun(None) => Ok(true),
    }
}

/// Makes what is in the store durable, beside the export.
struct Committer<'scope> {
    nudges: Sender<()>,
    thread: ScopedJoinHandle<'scope, Result<(), StoreError>>,
}

impl<'scope> Committer<'scope> {
    fn spawn<'a: 'scope>(
        store: &'a Store,
        sealing: &'a Sealing<'a>,
        scope: &'scope Scope<'scope, '_>,
    ) -> Self {
        let (nudges, nudged) = bounded::<()>(1);
        let thread = scope.spawn(move || {
            for () in nudged {
                store.commit()?;
                sealing.forget_durable();
            }
            Ok(())
        });
        Self { nudges, thread }
    }

    /// Asks for a commit, unless one is waiting. If committing failed, the reason comes from `join`.
    fn nudge(&self) -> Result<(), ExportError> {
        match self.nudges.try_send(()) {
            Ok(()) | Err(TrySendError::Full(())) => Ok(()),
            Err(TrySendError::Disconnected(())) => Err(ExportError::Interrupted),
        }
    }

    fn join(self) -> Result<(), ExportError> {
        drop(self.nudges);
        Ok(join(self.thread)?)
    }
}
