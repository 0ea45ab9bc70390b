//! Import: checked pieces in, a database or a directory out.

mod plan;

use std::{
    io::{self, BufRead, Read},
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use protocol::manifest::{Engine, Stream, StreamKind};

use crate::{
    blocks::{Blocks, BlocksError},
    open::OpenSnapshot,
    progress::Progress,
    reading::{self, Damage, Item, Pieces},
    target::{self, Content, ImportOptions, Target, TargetError},
    url,
};

pub use plan::{Planned, Selection, choose, plan};

/// What became of one source.
#[derive(Clone, Debug)]
pub struct SourceReport {
    /// Its name.
    pub source: String,
    /// Its kind.
    pub engine: Engine,
    /// Where it was restored to, without secrets.
    pub target: String,
    /// Streams, in order: name, bytes, rows, entries.
    pub streams: Vec<StreamDone>,
}

/// What became of one stream.
#[derive(Clone, Debug)]
pub struct StreamDone {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: StreamKind,
    /// Its bytes.
    pub bytes: u64,
    /// Rows inserted.
    pub rows: u64,
    /// Files, links and directories made.
    pub entries: u64,
    /// What was left out, and why.
    pub skipped: Vec<String>,
}

/// Why an import failed. Targets are then as they were, unless [`ImportError::PartlyDone`].
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Blocks cannot be read.
    #[error(transparent)]
    Blocks(#[from] BlocksError),
    /// A target cannot take the data.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A part of a stream is damaged.
    #[error("{0}")]
    Damaged(Damage),
    /// A stream is not what the manifest says of it.
    #[error("stream {stream}: the manifest says {what} {expected}, found {found}")]
    Lie {
        /// Name of the stream.
        stream: String,
        /// What it lies about.
        what: &'static str,
        /// What it says.
        expected: String,
        /// What is true.
        found: String,
    },
    /// Nothing in the snapshot has this name.
    #[error("no {what} is called {name}; there are: {known}")]
    NoSuch {
        /// A source or a stream.
        what: &'static str,
        /// The name.
        name: String,
        /// What there is.
        known: String,
    },
    /// Several sources, and a target that takes one.
    #[error("the snapshot holds several sources ({known}), and the target takes one")]
    SeveralSources {
        /// Their names.
        known: String,
        /// Those of them that a directory does not take either.
        unfit: String,
    },
    /// Several sources, and some of them are nothing that a directory can take.
    #[error("a directory cannot take {unfit}")]
    UnfitForDirectory {
        /// Databases that are no files, and names that are no names of files.
        unfit: String,
        /// The other sources.
        fit: String,
    },
    /// A later source failed to become visible after an earlier one had.
    #[error("{done} of {all} sources were restored, then one failed")]
    PartlyDone {
        /// How many are visible.
        done: usize,
        /// How many there are.
        all: usize,
        /// Why.
        #[source]
        cause: TargetError,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

/// The directory that several sources are restored below, if it was made for them.
struct SharedDirectory(PathBuf);

impl SharedDirectory {
    /// The directory above the first target, if it is not there.
    fn missing(first: &Path) -> Option<&Path> {
        first
            .parent()
            .filter(|path| !path.as_os_str().is_empty() && !path.exists())
    }

    /// Says why it could not be made; each target looks at what is there already.
    fn check(first: &Path) -> Result<(), TargetError> {
        let Some(path) = Self::missing(first) else {
            return Ok(());
        };
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        std::fs::metadata(above.unwrap_or(Path::new(".")))
            .map(drop)
            .map_err(|cause| TargetError::Io {
                path: path.to_owned(),
                cause,
            })
    }

    fn make(first: &Path) -> Result<Option<Self>, TargetError> {
        let Some(path) = Self::missing(first) else {
            return Ok(None);
        };
        std::fs::create_dir(path).map_err(|cause| TargetError::Io {
            path: path.to_owned(),
            cause,
        })?;
        Ok(Some(Self(path.to_owned())))
    }
}

impl Drop for SharedDirectory {
    fn drop(&mut self) {
        // It stays if anything was restored into it: only an empty directory can be removed.
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Opens and checks the targets as [`import`] would, and changes nothing.
///
/// # Errors
/// Those that [`import`] would have before it reads anything.
pub fn check(planned: &[Planned<'_>], options: ImportOptions) -> Result<(), ImportError> {
    if let [first, _, ..] = planned {
        SharedDirectory::check(Path::new(&first.into))?;
    }
    for part in planned {
        target::open(&part.into, part.source.engine)?.check(part.source, part.options(options))?;
    }
    Ok(())
}

/// Restores what was planned.
///
/// All targets become visible at the end, one right after the other.
///
/// # Errors
/// See [`ImportError`].
pub fn import(
    blocks: &Blocks<'_>,
    snapshot: &OpenSnapshot,
    planned: &[Planned<'_>],
    options: ImportOptions,
    progress: &Progress,
) -> Result<Vec<SourceReport>, ImportError> {
    let streams: Vec<&Stream> = planned
        .iter()
        .flat_map(|p| p.streams.iter().copied())
        .collect();
    let total = streams.iter().map(|s| s.meta.bytes).sum();
    progress.bytes_total.store(total, Ordering::Relaxed);
    let _shared = match planned {
        [first, _, ..] => SharedDirectory::make(Path::new(&first.into))?,
        _ => None,
    };
    let mut targets: Vec<Box<dyn Target>> = Vec::with_capacity(planned.len());
    for part in planned {
        let mut target = target::open(&part.into, part.source.engine)?;
        target.begin(part.source, part.options(options))?;
        targets.push(target);
    }
    let reports = reading::read(
        blocks,
        &snapshot.identities,
        &streams,
        &|_| true,
        progress,
        |pieces| {
            let mut reports = Vec::with_capacity(planned.len());
            for (part, target) in planned.iter().zip(&mut targets) {
                let mut done = Vec::with_capacity(part.streams.len());
                for stream in &part.streams {
                    done.push(one(target.as_mut(), stream, pieces, options, progress)?);
                }
                reports.push(SourceReport {
                    source: part.source.name.clone(),
                    engine: part.source.engine,
                    target: url::redact(&part.into.to_string_lossy()),
                    streams: done,
                });
            }
            Ok::<_, ImportError>(reports)
        },
    )?;
    let all = targets.len();
    for (done, target) in targets.into_iter().enumerate() {
        match target.commit() {
            Ok(()) => {}
            Err(cause) if done == 0 => return Err(cause.into()),
            Err(cause) => return Err(ImportError::PartlyDone { done, all, cause }),
        }
    }
    Ok(reports)
}

fn one(
    target: &mut dyn Target,
    stream: &Stream,
    pieces: &mut Pieces,
    options: ImportOptions,
    progress: &Progress,
) -> Result<StreamDone, ImportError> {
    let meta = &stream.meta;
    let mut content = StreamContent::new(pieces, stream, options.skip_damaged, progress);
    let sql = matches!(meta.kind, StreamKind::Before | StreamKind::After);
    let taken = if options.skip_damaged && sql {
        whole_or_nothing(target, stream, &mut content)
    } else {
        target.stream(meta, &mut content)
    };
    let report = match taken {
        Ok(report) => report,
        // What is wrong with the content explains best why a target did not want it.
        Err(refusal) => return Err(content.failure.take().unwrap_or(refusal.into())),
    };
    content.drain()?;
    let mut skipped = report.skipped;
    let damaged = !content.damage.is_empty() || !skipped.is_empty();
    skipped.extend(content.damage.iter().map(ToString::to_string));
    if let (Some(expected), false) = (meta.rows, damaged)
        && report.rows != expected
    {
        return Err(lie(stream, "rows", expected, report.rows));
    }
    Ok(StreamDone {
        name: meta.name.clone(),
        kind: meta.kind,
        bytes: meta.bytes,
        rows: report.rows,
        entries: report.entries,
        skipped,
    })
}

/// SQL with a hole in it is not run at all.
fn whole_or_nothing(
    target: &mut dyn Target,
    stream: &Stream,
    content: &mut StreamContent<'_>,
) -> Result<target::StreamReport, TargetError> {
    let failed = |cause| TargetError::Content {
        stream: stream.meta.name.clone(),
        cause,
    };
    let mut sql = Vec::new();
    content
        .take(SQL_SIZE_MAX)
        .read_to_end(&mut sql)
        .map_err(failed)?;
    if content.damage.is_empty() {
        return target.stream(&stream.meta, &mut Whole(io::Cursor::new(sql)));
    }
    if stream.meta.kind == StreamKind::Before {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidData,
            content.damage[0].clone(),
        )));
    }
    Ok(target::StreamReport::default())
}

/// SQL of a schema, in bytes, that is held in memory.
const SQL_SIZE_MAX: u64 = 256 << 20;

struct Whole(io::Cursor<Vec<u8>>);

impl Read for Whole {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl BufRead for Whole {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, len: usize) {
        self.0.consume(len);
    }
}

impl Content for Whole {
    fn gaps(&self) -> &[Range<u64>] {
        &[]
    }
}

fn lie(
    stream: &Stream,
    what: &'static str,
    expected: impl ToString,
    found: impl ToString,
) -> ImportError {
    ImportError::Lie {
        stream: stream.meta.name.clone(),
        what,
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

/// One stream, read from the pieces of several.
struct StreamContent<'a> {
    pieces: &'a mut Pieces,
    stream: &'a Stream,
    skip_damaged: bool,
    progress: &'a Progress,
    piece: Vec<u8>,
    at: usize,
    /// Zeros to deliver in place of what is lost.
    zeros: u64,
    offset: u64,
    ended: bool,
    gaps: Vec<Range<u64>>,
    damage: Vec<Damage>,
    failure: Option<ImportError>,
}

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl<'a> StreamContent<'a> {
    fn new(
        pieces: &'a mut Pieces,
        stream: &'a Stream,
        skip_damaged: bool,
        progress: &'a Progress,
    ) -> Self {
        Self {
            pieces,
            stream,
            skip_damaged,
            progress,
            piece: Vec::new(),
            at: 0,
            zeros: 0,
            offset: 0,
            ended: false,
            gaps: Vec::new(),
            damage: Vec::new(),
            failure: None,
        }
    }

    /// Reads what the target left, to the end of the stream.
    fn drain(&mut self) -> Result<(), ImportError> {
        while !self.ended && self.failure.is_none() {
            self.at = self.piece.len();
            self.zeros = 0;
            if self.advance().is_err() {
                break;
            }
        }
        self.failure.take().map_or(Ok(()), Err)
    }

    fn fail(&mut self, failure: ImportError) -> io::Error {
        let text = failure.to_string();
        self.failure = Some(failure);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }

    fn advance(&mut self) -> io::Result<()> {
        if self.failure.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the stream failed before",
            ));
        }
        match self.pieces.next_item() {
            Ok(Some(Item::Piece { bytes, .. })) => {
                self.offset += bytes.len() as u64;
                self.progress
                    .bytes_written
                    .fetch_add(bytes.len() as u64, Ordering::Relaxed);
                self.piece = bytes;
                self.at = 0;
                Ok(())
            }
            Ok(Some(Item::Damaged(damage))) => self.damaged(damage),
            Ok(Some(Item::Skipped(_))) => unreachable!("an import wants all segments"),
            Ok(Some(Item::End { content })) => self.end(content),
            Ok(None) => Err(self.fail(ImportError::Interrupted)),
            Err(err) => Err(self.fail(err.into())),
        }
    }

    fn damaged(&mut self, damage: Damage) -> io::Result<()> {
        if !self.skip_damaged {
            return Err(self.fail(ImportError::Damaged(damage)));
        }
        self.gaps.push(self.offset..self.offset + damage.bytes);
        self.offset += damage.bytes;
        if self.stream.meta.kind == StreamKind::Tree {
            self.zeros = damage.bytes;
        }
        self.damage.push(damage);
        Ok(())
    }

    fn end(&mut self, content: [u8; 32]) -> io::Result<()> {
        self.ended = true;
        let meta = &self.stream.meta;
        if self.offset != meta.bytes {
            return Err(self.fail(lie(self.stream, "bytes", meta.bytes, self.offset)));
        }
        let found = blake3::Hash::from(content).to_string();
        let lists_whole = self.damage.iter().all(|d| d.segment.is_some());
        if lists_whole && found != meta.content {
            return Err(self.fail(lie(self.stream, "content hash", &meta.content, found)));
        }
        Ok(())
    }
}

impl Read for StreamContent<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let have = self.fill_buf()?;
        let len = have.len().min(out.len());
        out[..len].copy_from_slice(&have[..len]);
        self.consume(len);
        Ok(len)
    }
}

impl BufRead for StreamContent<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.piece.len() && self.zeros == 0 && !self.ended {
            self.advance()?;
        }
        if self.at < self.piece.len() {
            return Ok(&self.piece[self.at..]);
        }
        let zeros = self.zeros.min(ZEROS.len() as u64);
        Ok(&ZEROS[..usize::try_from(zeros).expect("at most 64 KiB")])
    }

    fn consume(&mut self, len: usize) {
        if self.at < self.piece.len() {
            self.at += len;
        } else {
            self.zeros -= len as u64;
        }
    }
}

impl Content for StreamContent<'_> {
    fn gaps(&self) -> &[Range<u64>] {
        &self.gaps
    }
}
