//! Where sources hand over what they read: streams are cut into pieces here.
//!
//! A [`StreamWriter`] cuts in the thread of its source and sends pieces down a
//! bounded channel; sealing happens on the other side.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{catalog::Kept, progress::Progress};
use crossbeam_channel::Sender;
use protocol::{
    cut::{Boundary, Cutter, PIECE_SIZE_MAX},
    manifest::{Column, StreamKind},
};

/// What a source says of a stream when it opens it.
#[derive(Clone, Debug)]
pub struct StreamDecl {
    /// Index of the source.
    pub source: u32,
    /// Place of the stream in the order in which its source is restored.
    pub position: u32,
    /// What the stream is to its source.
    pub kind: StreamKind,
    /// Name, unique within the source.
    pub name: String,
    /// File that `recover.sh` appends the stream to; see [`recovery_file`].
    pub file: String,
    /// Columns in the order of the rows' values, of a table.
    pub columns: Vec<Column>,
}

/// What goes down the channel. `index` counts the messages of one stream from 0.
#[derive(Debug)]
pub struct Message {
    /// The stream's number, in the order of opening.
    pub stream: u32,
    /// Place among the stream's messages.
    pub index: u64,
    /// What it is.
    pub body: Body,
}

/// What a source did.
#[derive(Debug)]
pub enum Body {
    /// A piece was cut.
    Piece {
        /// Its bytes.
        bytes: Vec<u8>,
        /// Rows that end in it.
        rows: u32,
    },
    /// A unit turned out to be unchanged; these are its segments.
    Reused(Vec<Kept>),
    /// All pieces since the last unit began make this unit.
    UnitEnd([u8; 32]),
    /// The stream is complete.
    End(StreamEnd),
}

/// What is known when a stream is complete.
#[derive(Debug)]
pub struct StreamEnd {
    /// What was said at the beginning.
    pub decl: StreamDecl,
    /// Bytes before the first row.
    pub head: u32,
    /// Bytes after the last row.
    pub tail: u32,
}

/// The export was stopped: by a failure elsewhere, or by the user.
#[derive(Debug, thiserror::Error)]
#[error("the export was stopped")]
pub struct Stopped;

/// Looks up the segments of an unchanged unit.
pub type UnitLookup<'a> = dyn Fn(&[u8; 32]) -> Option<Vec<Kept>> + Send + Sync + 'a;

/// Takes the streams of all sources of one export.
pub struct Intake<'a> {
    cutter: Cutter,
    pieces: Sender<Message>,
    units: Box<UnitLookup<'a>>,
    streams: AtomicU64,
    progress: Progress,
}

impl std::fmt::Debug for Intake<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Intake")
    }
}

impl<'a> Intake<'a> {
    /// Makes an intake that sends what is cut to `pieces`.
    #[must_use]
    pub fn new(cutter: Cutter, pieces: Sender<Message>, units: Box<UnitLookup<'a>>) -> Self {
        Self {
            cutter,
            pieces,
            units,
            streams: AtomicU64::new(0),
            progress: Progress::default(),
        }
    }

    /// Counts what is read in `progress`, and obeys its stop switch.
    #[must_use]
    pub fn with_progress(self, progress: &Progress) -> Self {
        Self {
            progress: progress.clone(),
            ..self
        }
    }

    /// Opens a stream. Streams may be written from several threads at once.
    pub fn stream(&self, decl: StreamDecl) -> StreamWriter<'_> {
        let number = self.streams.fetch_add(1, Ordering::Relaxed);
        let boundary = match decl.kind {
            StreamKind::Tree => Boundary::Byte,
            StreamKind::Before | StreamKind::Table | StreamKind::After => Boundary::Row,
        };
        StreamWriter {
            intake: self,
            stream: u32::try_from(number).expect("fewer than 2^32 streams"),
            index: 0,
            boundary,
            counts_rows: decl.kind == StreamKind::Table,
            buffer: Vec::with_capacity(BUFFER_SIZE),
            cut: 0,
            head: 0,
            head_lines_pending: 0,
            decl,
        }
    }
}

/// Twice the largest piece, so that what is left after a cut is seldom moved.
const BUFFER_SIZE: usize = 2 * PIECE_SIZE_MAX;

/// Cuts one stream into pieces.
#[derive(Debug)]
pub struct StreamWriter<'a> {
    intake: &'a Intake<'a>,
    stream: u32,
    index: u64,
    boundary: Boundary,
    counts_rows: bool,
    decl: StreamDecl,
    buffer: Vec<u8>,
    /// How much of the buffer has been cut off already.
    cut: usize,
    head: u32,
    head_lines_pending: u32,
}

impl StreamWriter<'_> {
    /// Writes what comes before the rows. Before any [`StreamWriter::write`]; shorter than a piece.
    ///
    /// # Errors
    /// The export was stopped.
    pub fn head(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        self.head += u32::try_from(bytes.len()).map_err(|_| Stopped)?;
        self.head_lines_pending += lines(bytes);
        self.write(bytes)
    }

    /// Writes content: whole rows or parts of them, each row ending in a newline; or bytes of a tar.
    ///
    /// # Errors
    /// The export was stopped.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Stopped> {
        if self.intake.progress.stop.load(Ordering::Relaxed) {
            return Err(Stopped);
        }
        self.intake
            .progress
            .bytes_read
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        while !bytes.is_empty() {
            let room = BUFFER_SIZE - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == BUFFER_SIZE {
                self.cut_while(PIECE_SIZE_MAX)?;
                self.buffer.drain(..self.cut);
                self.cut = 0;
            }
        }
        Ok(())
    }

    /// Begins a unit: a run of content that is known by a key without being read. True if the
    /// segments of an earlier export stand in for it; the caller then skips it. If false, the
    /// caller writes it and calls [`StreamWriter::unit_end`] with the same key.
    ///
    /// # Errors
    /// The export was stopped.
    pub fn unit_begin(&mut self, key: &[u8; 32]) -> Result<bool, Stopped> {
        self.cut_all()?;
        let Some(segments) = (self.intake.units)(key) else {
            return Ok(false);
        };
        self.send(Body::Reused(segments))?;
        Ok(true)
    }

    /// Ends a unit that was written.
    ///
    /// # Errors
    /// The export was stopped.
    pub fn unit_end(&mut self, key: [u8; 32]) -> Result<(), Stopped> {
        self.cut_all()?;
        self.send(Body::UnitEnd(key))
    }

    /// Ends a unit that was written but must not be reused, since it changed while it was read.
    ///
    /// # Errors
    /// The export was stopped.
    pub fn unit_abandon(&mut self) -> Result<(), Stopped> {
        self.unit_end([0; 32])
    }

    /// Completes the stream with what comes after the rows: nothing, or one line.
    ///
    /// # Errors
    /// The export was stopped.
    pub fn finish(mut self, tail: &[u8]) -> Result<(), Stopped> {
        self.write(tail)?;
        while !self.rest().is_empty() {
            let len = self.intake.cutter.first(self.rest(), self.boundary);
            let last = len == self.rest().len();
            self.emit(len, if last { lines(tail) } else { 0 })?;
        }
        let end = StreamEnd {
            decl: self.decl.clone(),
            head: self.head,
            tail: u32::try_from(tail.len()).map_err(|_| Stopped)?,
        };
        self.send(Body::End(end))
    }

    /// Cuts pieces while at least `rest` bytes, and some, are buffered.
    fn cut_while(&mut self, rest: usize) -> Result<(), Stopped> {
        while !self.rest().is_empty() && self.rest().len() >= rest {
            let len = self.intake.cutter.first(self.rest(), self.boundary);
            self.emit(len, 0)?;
        }
        Ok(())
    }

    /// Cuts here: what comes next starts a piece, whatever came before it.
    ///
    /// # Errors
    /// The export was stopped.
    pub fn cut_all(&mut self) -> Result<(), Stopped> {
        self.cut_while(0)?;
        self.buffer.clear();
        self.cut = 0;
        Ok(())
    }

    /// What is buffered and not cut off yet.
    fn rest(&self) -> &[u8] {
        &self.buffer[self.cut..]
    }

    fn emit(&mut self, len: usize, not_rows: u32) -> Result<(), Stopped> {
        let bytes = self.rest()[..len].to_vec();
        self.cut += len;
        let rows = if self.counts_rows {
            let all = lines(&bytes);
            let head = self.head_lines_pending.min(all);
            self.head_lines_pending -= head;
            (all - head).saturating_sub(not_rows)
        } else {
            0
        };
        self.send(Body::Piece { bytes, rows })
    }

    fn send(&mut self, body: Body) -> Result<(), Stopped> {
        let message = Message {
            stream: self.stream,
            index: self.index,
            body,
        };
        self.index += 1;
        self.intake.pieces.send(message).map_err(|_| Stopped)
    }
}

fn lines(bytes: &[u8]) -> u32 {
    u32::try_from(memchr::memchr_iter(b'\n', bytes).count()).unwrap_or(u32::MAX)
}

/// The file that `recover.sh` gathers a source's streams in: `0-name.ext`, in plain ASCII.
#[must_use]
pub fn recovery_file(source: u32, name: &str, extension: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
            c
        } else {
            '_'
        }
    };
    let name: String = name.chars().take(64).map(safe).collect();
    format!("{source}-{name}.{extension}")
}
