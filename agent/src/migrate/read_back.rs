//! Reads a target back, and hashes what it holds as the snapshot's streams are hashed.

use std::{
    collections::{HashMap, VecDeque},
    ffi::{OsStr, OsString},
    fs, slice, thread,
};

use crossbeam_channel::bounded;
use protocol::{
    cut::Cutter,
    keys::ClassIdentity,
    list::{ContentHasher, Segment},
    manifest::{Engine, ListRef, Stream, StreamKind},
    migration::{Content, Migrated},
    seal::Opener,
};

use super::MigrateError;
use crate::{
    blocks::Blocks,
    import::{ImportError, Planned},
    intake::{Body, Intake},
    open::OpenSnapshot,
    progress::Progress,
    reading,
    source::{self, Source, SourceError},
};

/// Messages that wait to be hashed.
const QUEUE: usize = 4;

/// Reads the targets of an import back: what the snapshot says of each stream, and what is there.
///
/// # Errors
/// A target cannot be read, or a list of the snapshot is not in the store any more.
pub fn read_back(
    blocks: &Blocks<'_>,
    snapshot: &OpenSnapshot,
    planned: &[Planned<'_>],
    progress: &Progress,
) -> Result<Vec<Migrated>, MigrateError> {
    let mut migrated = Vec::new();
    for part in planned {
        let mut found = HashMap::new();
        for target in readings(part) {
            found = contents(blocks, snapshot, part, &target, progress)?;
            if all_same(part, &found) {
                break;
            }
        }
        migrated.extend(part.streams.iter().map(|stream| Migrated {
            source: part.source.name.clone(),
            kind: stream.meta.kind,
            name: stream.meta.name.clone(),
            snapshot: said(stream),
            restored: found.remove(&key(stream.meta.kind, &stream.meta.name)),
        }));
    }
    Ok(migrated)
}

/// What the snapshot says of a stream.
fn said(stream: &Stream) -> Content {
    Content {
        bytes: stream.meta.bytes,
        rows: stream.meta.rows,
        hash: stream.meta.content.clone(),
    }
}

fn all_same(part: &Planned<'_>, found: &HashMap<Key, Content>) -> bool {
    part.streams.iter().all(|stream| {
        let key = key(stream.meta.kind, &stream.meta.name);
        found.get(&key) == Some(&said(stream))
    })
}

/// The ways to read a target back. A file that was exported alone is in a directory now.
fn readings(part: &Planned<'_>) -> Vec<OsString> {
    let mut readings = vec![part.into.clone()];
    if part.source.engine == Engine::Tree
        && let Ok(mut entries) = fs::read_dir(&part.into)
        && let (Some(Ok(only)), None) = (entries.next(), entries.next())
        && only.file_type().is_ok_and(|kind| kind.is_file())
    {
        readings.insert(0, only.path().into_os_string());
    }
    readings
}

/// Tables are found by their names. What else a source has is there once, and may have been named after it.
type Key = (StreamKind, String);

fn key(kind: StreamKind, name: &str) -> Key {
    let name = if kind == StreamKind::Table { name } else { "" };
    (kind, name.to_owned())
}

fn contents(
    blocks: &Blocks<'_>,
    snapshot: &OpenSnapshot,
    part: &Planned<'_>,
    target: &OsStr,
    progress: &Progress,
) -> Result<HashMap<Key, Content>, MigrateError> {
    let compared = |stream: &&&Stream| {
        !part.partial || matches!(stream.meta.kind, StreamKind::Table | StreamKind::Tree)
    };
    let mut wanted: HashMap<Key, Recut<'_>> = HashMap::new();
    for stream in part.streams.iter().filter(compared) {
        let recut = Recut::new(blocks, &snapshot.identities, stream)?;
        wanted.insert(key(stream.meta.kind, &stream.meta.name), recut);
    }
    let mut source = source::open_restored(target, part.source.engine)?;
    hash(source.as_mut(), &mut wanted, progress)?;
    let done = wanted.into_iter();
    Ok(done.map(|(key, recut)| (key, recut.finish())).collect())
}

/// Reads a source, and gives its streams to those who want them.
fn hash(
    source: &mut dyn Source,
    wanted: &mut HashMap<Key, Recut<'_>>,
    progress: &Progress,
) -> Result<(), MigrateError> {
    let (pieces, cut) = bounded(QUEUE);
    // Where the source would be cut does not matter: it is cut again.
    let intake =
        Intake::new(Cutter::new(&[0; 32]), pieces, Box::new(|_| None)).with_progress(progress);
    let opened = intake.opened();
    thread::scope(|threads| {
        let reader = threads.spawn(move || source.read(&intake).map(drop));
        let mut failed = None;
        for message in cut {
            let Body::Piece { bytes, rows } = message.body else {
                continue;
            };
            let decl = opened.stream(message.stream);
            if let Some(recut) = wanted.get_mut(&key(decl.kind, &decl.name))
                && failed.is_none()
            {
                failed = recut.take(&bytes, rows).err();
            }
        }
        let read = reader
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (failed, read) {
            (Some(failed), _) => Err(failed),
            (None, Err(SourceError::Stopped(_))) => Err(ImportError::Interrupted.into()),
            (None, read) => Ok(read?),
        }
    })
}

/// Hashes a stream that is cut into pieces as long as those of a snapshot.
struct Recut<'a> {
    blocks: &'a Blocks<'a>,
    opener: Opener<'a>,
    lists: slice::Iter<'a, ListRef>,
    lens: VecDeque<u32>,
    piece: blake3::Hasher,
    /// Length of the piece so far, and what is left of it.
    len: u64,
    left: u64,
    hasher: ContentHasher,
    bytes: u64,
    rows: Option<u64>,
}

impl<'a> Recut<'a> {
    fn new(
        blocks: &'a Blocks<'a>,
        identities: &'a [ClassIdentity],
        stream: &'a Stream,
    ) -> Result<Self, MigrateError> {
        let opener = Opener::new(identities);
        Ok(Self {
            blocks,
            opener: opener.map_err(|error| MigrateError::Damaged(reading::chain(&error)))?,
            lists: stream.lists.iter(),
            lens: VecDeque::new(),
            piece: blake3::Hasher::new(),
            len: 0,
            left: 0,
            hasher: ContentHasher::default(),
            bytes: 0,
            rows: stream.meta.rows.map(|_| 0),
        })
    }

    fn take(&mut self, mut bytes: &[u8], rows: u32) -> Result<(), MigrateError> {
        self.bytes += bytes.len() as u64;
        self.rows = self.rows.map(|sum| sum + u64::from(rows));
        while !bytes.is_empty() {
            if self.left == 0 {
                self.end_piece();
                self.left = self.next_len()?;
            }
            let now = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (part, rest) = bytes.split_at(now);
            self.piece.update(part);
            self.len += now as u64;
            self.left -= now as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// The length of the next piece; what comes after the last one is one more.
    fn next_len(&mut self) -> Result<u64, MigrateError> {
        while self.lens.is_empty() {
            let Some(list) = self.lists.next() else {
                return Ok(u64::MAX);
            };
            let progress = Progress::default();
            let segments = reading::segments(self.blocks, &mut self.opener, list, &progress)?;
            let segments = segments.map_err(MigrateError::Damaged)?;
            self.lens.extend(segments.iter().map(|segment| segment.len));
        }
        Ok(self.lens.pop_front().map_or(u64::MAX, u64::from))
    }

    fn end_piece(&mut self) {
        if self.len == 0 {
            return;
        }
        self.hasher.push(&Segment {
            block: [0; 32],
            piece: *self.piece.finalize().as_bytes(),
            // A longer one is none of the snapshot's, whatever it is taken for.
            len: u32::try_from(self.len).unwrap_or(u32::MAX),
            rows: 0,
        });
        self.piece.reset();
        self.len = 0;
    }

    fn finish(mut self) -> Content {
        self.end_piece();
        Content {
            bytes: self.bytes,
            rows: self.rows,
            hash: blake3::Hash::from(self.hasher.finish()).to_string(),
        }
    }
}
