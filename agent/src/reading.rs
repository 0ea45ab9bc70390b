//! Reading: segment lists -> blocks -> checked, opened pieces, in order and in parallel.

use std::{collections::BTreeMap, fmt, sync::atomic::Ordering, thread};

use cid::Cid;
use crossbeam_channel::{Receiver, Sender, bounded};
use protocol::{
    keys::ClassIdentity,
    list::{self, ContentHasher, Segment},
    manifest::{ListRef, Stream},
    seal::Opener,
};

use crate::{
    blocks::{Blocks, BlocksError},
    progress::Progress,
};

/// Pieces in flight: read, opened, or waiting for their turn. Bounds memory.
const WINDOW: usize = 32;

/// A part of a stream that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Name of the stream.
    pub stream: String,
    /// Number of the segment in its stream, from 0; nothing if a whole list is lost.
    pub segment: Option<u64>,
    /// CID of the block.
    pub cid: Cid,
    /// Where the lost bytes begin in the stream.
    pub offset: u64,
    /// How many bytes of the stream are lost.
    pub bytes: u64,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.segment {
            Some(segment) => write!(f, "stream {} segment {segment}", self.stream)?,
            None => write!(f, "a list of stream {}", self.stream)?,
        }
        write!(f, " ({} bytes, {}): {}", self.bytes, self.cid, self.reason)
    }
}

impl std::error::Error for Damage {}

/// The next thing that a reader of streams learns.
#[derive(Debug)]
pub enum Item {
    /// A piece, checked.
    Piece {
        /// Its bytes.
        bytes: Vec<u8>,
        /// What its list says of it.
        segment: Segment,
    },
    /// A piece that was not asked for.
    Skipped(Segment),
    /// What should be here is damaged.
    Damaged(Damage),
    /// The stream ends. The content hash is that of the lists that could be read.
    End {
        /// Content hash according to the lists.
        content: [u8; 32],
    },
}

struct Job {
    seq: u64,
    work: Work,
}

enum Work {
    Open { segment: Segment, place: Place },
    Ready(Item),
}

#[derive(Clone)]
struct Place {
    stream: String,
    number: u64,
    offset: u64,
}

/// Which segments are wanted, by CID and number: all of them, or a sample.
pub type Wanted<'a> = dyn Fn(&Segment) -> bool + Sync + 'a;

/// The pieces of several streams, one stream after the other.
#[derive(Debug)]
pub struct Pieces {
    results: Receiver<(u64, Result<Item, BlocksError>)>,
    tickets: Receiver<()>,
    early: BTreeMap<u64, Result<Item, BlocksError>>,
    next: u64,
}

impl Pieces {
    /// The next item; nothing after the end of the last stream.
    ///
    /// # Errors
    /// The store or the CAR file failed. Damage is no error but an item.
    pub fn next_item(&mut self) -> Result<Option<Item>, BlocksError> {
        while !self.early.contains_key(&self.next) {
            match self.results.recv() {
                Ok((seq, result)) => drop(self.early.insert(seq, result)),
                Err(_) => return Ok(None),
            }
        }
        let result = self.early.remove(&self.next).expect("just seen");
        self.next += 1;
        // Nobody waits for the ticket if the reading threads are done.
        let _ = self.tickets.try_recv();
        result.map(Some)
    }
}

/// Reads streams: `body` is given their pieces, in order, opened by as many threads as there are cores.
pub fn read<R>(
    blocks: &Blocks<'_>,
    identities: &[ClassIdentity],
    streams: &[&Stream],
    wanted: &Wanted<'_>,
    progress: &Progress,
    body: impl FnOnce(&mut Pieces) -> R,
) -> R {
    let (jobs, todo) = bounded(WINDOW);
    let (results, done) = bounded(WINDOW);
    let (tickets, taken) = bounded(WINDOW);
    thread::scope(|scope| {
        let workers = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(64);
        for _ in 0..workers {
            let (todo, results): (Receiver<Job>, Sender<_>) = (todo.clone(), results.clone());
            scope.spawn(move || work(blocks, identities, progress, &todo, &results));
        }
        drop((todo, results));
        scope.spawn(move || {
            let planner = Planner {
                blocks,
                identities,
                wanted,
                progress,
                jobs,
                tickets,
                seq: 0,
            };
            planner.run(streams);
        });
        let mut pieces = Pieces {
            results: done,
            tickets: taken,
            early: BTreeMap::new(),
            next: 0,
        };
        body(&mut pieces)
    })
}

fn work(
    blocks: &Blocks<'_>,
    identities: &[ClassIdentity],
    progress: &Progress,
    todo: &Receiver<Job>,
    results: &Sender<(u64, Result<Item, BlocksError>)>,
) {
    let mut opener = Opener::new(identities).ok();
    for Job { seq, work } in todo {
        let result = match work {
            Work::Ready(item) => Ok(item),
            Work::Open { segment, place } => {
                open(blocks, opener.as_mut(), &segment, place, progress)
            }
        };
        if results.send((seq, result)).is_err() {
            return;
        }
    }
}

fn open(
    blocks: &Blocks<'_>,
    opener: Option<&mut Opener<'_>>,
    segment: &Segment,
    place: Place,
    progress: &Progress,
) -> Result<Item, BlocksError> {
    let piece = piece(
        blocks,
        opener,
        &segment.cid(),
        segment.len as usize,
        progress,
    )?
    .and_then(|bytes| {
        let matches = *blake3::hash(&bytes).as_bytes() == segment.piece;
        if matches {
            Ok(bytes)
        } else {
            Err("its plaintext does not match its hash".to_owned())
        }
    });
    Ok(match piece {
        Ok(bytes) => Item::Piece {
            bytes,
            segment: *segment,
        },
        Err(reason) => Item::Damaged(Damage {
            stream: place.stream,
            segment: Some(place.number),
            cid: segment.cid(),
            offset: place.offset,
            bytes: u64::from(segment.len),
            reason,
        }),
    })
}

/// Fetches, checks and opens one sealed object; the inner error says why that cannot be.
fn piece(
    blocks: &Blocks<'_>,
    opener: Option<&mut Opener<'_>>,
    cid: &Cid,
    len: usize,
    progress: &Progress,
) -> Result<Result<Vec<u8>, String>, BlocksError> {
    let Some(unverified) = blocks.block(cid)? else {
        return Ok(Err("its block is missing".into()));
    };
    progress
        .bytes_read
        .fetch_add(unverified.bytes.len() as u64, Ordering::Relaxed);
    let block = match unverified.verify() {
        Ok(block) => block,
        Err(_) => return Ok(Err("its block does not match its CID".into())),
    };
    let opener = opener.expect("zstd makes a decompressor unless memory ran out");
    Ok(opener.open(block.bytes(), len).map_err(|err| chain(&err)))
}

/// Fetches, checks and opens a segment list; the inner error says why that cannot be.
pub(crate) fn segments(
    blocks: &Blocks<'_>,
    opener: &mut Opener<'_>,
    listed: &ListRef,
    progress: &Progress,
) -> Result<Result<Vec<Segment>, String>, BlocksError> {
    let (cid, len) = (listed.cid(), listed.len as usize);
    let text = piece(blocks, Some(opener), &cid, len, progress)?;
    let segments = text.and_then(|text| list::parse(&text).map_err(|err| err.to_string()));
    Ok(segments.and_then(|segments| {
        let bytes: u64 = segments.iter().map(|s| u64::from(s.len)).sum();
        if segments.len() == listed.segments as usize && bytes == listed.bytes {
            Ok(segments)
        } else {
            Err("it is not what the manifest says of it".into())
        }
    }))
}

/// An error and its causes in one line.
pub(crate) fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        text = format!("{text}: {err}");
        cause = err.source();
    }
    text
}

struct Planner<'a> {
    blocks: &'a Blocks<'a>,
    identities: &'a [ClassIdentity],
    wanted: &'a Wanted<'a>,
    progress: &'a Progress,
    jobs: Sender<Job>,
    tickets: Sender<()>,
    seq: u64,
}

/// The consumer went away.
struct Gone;

impl Planner<'_> {
    fn run(mut self, streams: &[&Stream]) {
        let Ok(mut opener) = Opener::new(self.identities) else {
            return;
        };
        for stream in streams {
            if self.stream(stream, &mut opener).is_err() {
                return;
            }
        }
    }

    fn stream(&mut self, stream: &Stream, opener: &mut Opener<'_>) -> Result<(), Gone> {
        let mut hasher = ContentHasher::default();
        let mut place = Place {
            stream: stream.meta.name.clone(),
            number: 0,
            offset: 0,
        };
        for listed in &stream.lists {
            let segments = match segments(self.blocks, opener, listed, self.progress) {
                Ok(segments) => segments,
                Err(err) => Err(chain(&err)),
            };
            match segments {
                Ok(segments) => self.segments(&segments, &mut place, &mut hasher)?,
                Err(reason) => {
                    self.send(Work::Ready(Item::Damaged(Damage {
                        stream: place.stream.clone(),
                        segment: None,
                        cid: listed.cid(),
                        offset: place.offset,
                        bytes: listed.bytes,
                        reason,
                    })))?;
                    place.number += u64::from(listed.segments);
                    place.offset += listed.bytes;
                }
            }
        }
        self.send(Work::Ready(Item::End {
            content: hasher.finish(),
        }))
    }

    fn segments(
        &mut self,
        segments: &[Segment],
        place: &mut Place,
        hasher: &mut ContentHasher,
    ) -> Result<(), Gone> {
        for segment in segments {
            hasher.push(segment);
            let work = if (self.wanted)(segment) {
                Work::Open {
                    segment: *segment,
                    place: place.clone(),
                }
            } else {
                Work::Ready(Item::Skipped(*segment))
            };
            self.send(work)?;
            place.number += 1;
            place.offset += u64::from(segment.len);
        }
        Ok(())
    }

    fn send(&mut self, work: Work) -> Result<(), Gone> {
        if self.progress.stop.load(Ordering::Relaxed) {
            return Err(Gone);
        }
        self.tickets.send(()).map_err(|_| Gone)?;
        let job = Job {
            seq: self.seq,
            work,
        };
        self.seq += 1;
        self.jobs.send(job).map_err(|_| Gone)
    }
}
