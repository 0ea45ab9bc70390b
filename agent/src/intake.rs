//! Where sources hand over what they read: streams are cut into pieces here.
//!
//! A [`StreamWriter`] cuts in the thread of its source and sends pieces down a
//! bounded channel; sealing happens on the other side.

use std::sync::{Arc, Mutex, atomic::Ordering};

use bytes::{Bytes, BytesMut};
use crossbeam_channel::Sender;
use protocol::{
    cut::{Boundary, Cutter, PIECE_SIZE_MAX},
    manifest::{Column, StreamKind},
};

use crate::{catalog::Kept, progress::Progress};

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
        bytes: Bytes,
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
    opened: Opened,
    progress: Progress,
}

/// What was said of each stream when it was opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opened(Arc<Mutex<Vec<StreamDecl>>>);

impl Opened {
    fn push(&self, decl: StreamDecl) -> usize {
        let mut opened = self.0.lock().expect("no panic while it is held");
        opened.push(decl);
        opened.len() - 1
    }

    /// What was said of the stream of a number.
    pub(crate) fn stream(&self, number: u32) -> StreamDecl {
        self.0.lock().expect("no panic while it is held")[number as usize].clone()
    }
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
            opened: Opened::default(),
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

    /// The streams that were opened, and those that will be.
    pub(crate) fn opened(&self) -> Opened {
        self.opened.clone()
    }

    /// Opens a stream. Streams may be written from several threads at once.
    pub fn stream(&self, decl: StreamDecl) -> StreamWriter<'_> {
        let number = self.opened.push(decl.clone());
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
            buffer: Buffer::default(),
            head: 0,
            head_lines_pending: 0,
            decl,
        }
    }
}

/// Size of a buffer: several pieces, so that little of it is moved into the next one.
const BUFFER_SIZE: usize = 4 << 20;
/// Most buffers that wait for their pieces to be sealed, to be used again.
const SPENT_MAX: usize = 4;

/// What was read of one stream and not cut off yet. Pieces are parts of it, not copies.
#[derive(Debug, Default)]
struct Buffer {
    bytes: BytesMut,
    /// How much of it was read.
    filled: usize,
    /// What is left of earlier ones: nothing but the hold on their memory.
    spent: Vec<BytesMut>,
}

impl Buffer {
    fn is_full(&self) -> bool {
        self.filled == self.bytes.len()
    }

    /// Takes what was read. Then [`Buffer::put_back`] makes room again.
    fn take(&mut self) -> Bytes {
        self.bytes
            .split_to(std::mem::take(&mut self.filled))
            .freeze()
    }

    /// Returns what was not cut off of what was taken.
    fn put_back(&mut self, rest: &[u8]) {
        if self.bytes.len() <= rest.len() {
            self.renew();
        }
        self.bytes[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    /// Goes on in a buffer of which all pieces are sealed, or in a new one.
    fn renew(&mut self) {
        let mut old = std::mem::take(&mut self.bytes);
        old.clear();
        self.spent.push(old);
        let free = self
            .spent
            .iter_mut()
            .position(|spent| spent.try_reclaim(BUFFER_SIZE));
        self.bytes = match free {
            Some(free) => self.spent.remove(free),
            None => BytesMut::with_capacity(BUFFER_SIZE),
        };
        if self.spent.len() > SPENT_MAX {
            self.spent.remove(0);
        }
        self.bytes.resize(BUFFER_SIZE, 0);
    }
}

/// Cuts one stream into pieces.
#[derive(Debug)]
pub struct StreamWriter<'a> {
    intake: &'a Intake<'a>,
    stream: u32,
    index: u64,
    boundary: Boundary,
    counts_rows: bool,
    decl: StreamDecl,
    buffer: Buffer,
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
        while !bytes.is_empty() {
            let room = self.room()?;
            let len = room.len().min(bytes.len());
            room[..len].copy_from_slice(&bytes[..len]);
            bytes = &bytes[len..];
            self.wrote(len);
        }
        Ok(())
    }

    /// Room for content that is read straight into it: some bytes, whatever they hold.
    /// [`StreamWriter::wrote`] says how many of them were written.
    ///
    /// # Errors
    /// The export was stopped.
    pub fn room(&mut self) -> Result<&mut [u8], Stopped> {
        if self.intake.progress.stop.load(Ordering::Relaxed) {
            return Err(Stopped);
        }
        if self.buffer.is_full() {
            self.cut_while(PIECE_SIZE_MAX)?;
        }
        Ok(&mut self.buffer.bytes[self.buffer.filled..])
    }

    /// Takes as content the first `len` bytes of the [`StreamWriter::room`].
    pub fn wrote(&mut self, len: usize) {
        self.buffer.filled += len;
        let read = &self.intake.progress.bytes_read;
        read.fetch_add(len as u64, Ordering::Relaxed);
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
        let mut rest = self.buffer.take();
        while !rest.is_empty() {
            let piece = self.first(&mut rest);
            let not_rows = if rest.is_empty() { lines(tail) } else { 0 };
            self.emit(piece, not_rows)?;
        }
        let end = StreamEnd {
            decl: self.decl.clone(),
            head: self.head,
            tail: u32::try_from(tail.len()).map_err(|_| Stopped)?,
        };
        self.send(Body::End(end))
    }

    /// Cuts here: what comes next starts a piece, whatever came before it.
    ///
    /// # Errors
    /// The export was stopped.
    pub fn cut_all(&mut self) -> Result<(), Stopped> {
        self.cut_while(0)
    }

    /// Cuts pieces while at least `rest_min` bytes, and some, are left.
    fn cut_while(&mut self, rest_min: usize) -> Result<(), Stopped> {
        let mut rest = self.buffer.take();
        while !rest.is_empty() && rest.len() >= rest_min {
            let piece = self.first(&mut rest);
            self.emit(piece, 0)?;
        }
        self.buffer.put_back(&rest);
        Ok(())
    }

    /// Cuts the first piece off.
    fn first(&self, rest: &mut Bytes) -> Bytes {
        rest.split_to(self.intake.cutter.first(rest, self.boundary))
    }

    fn emit(&mut self, bytes: Bytes, not_rows: u32) -> Result<(), Stopped> {
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
