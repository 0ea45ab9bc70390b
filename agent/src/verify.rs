//! Verify: every byte against its CID; with an identity, every plaintext against its hash.

use std::{
    collections::HashSet,
    ops::Range,
    sync::{Mutex, PoisonError, atomic::Ordering},
    thread,
};

use cid::Cid;
use crossbeam_channel::bounded;
use protocol::{
    block::{check, digest_of},
    list::Segment,
    manifest::{Stream, StreamKind},
    snapshot::{Object, Visit, folder, walk},
};

use crate::{
    blocks::{Blocks, BlocksError},
    open::OpenSnapshot,
    progress::Progress,
    reading::{self, Damage, Item, Pieces, Wanted},
};

/// Which share of the segments is read, from 0 to 1, and the seed that chooses them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The share.
    pub share: f64,
    /// Random bytes: another seed chooses other segments.
    pub seed: [u8; 32],
}

impl Sample {
    fn draw(&self, block: &[u8; 32]) -> u32 {
        let draw = blake3::keyed_hash(&self.seed, block);
        let [a, b, c, d, ..] = *draw.as_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    fn wants(&self, block: &[u8; 32]) -> bool {
        f64::from(self.draw(block)) < self.share * (f64::from(u32::MAX) + 1.0)
    }
}

/// Whether anything was drawn, and what was closest to it: a sample of little is one, not none.
#[derive(Clone, Copy, Debug)]
struct Drawn<T> {
    any: bool,
    closest: Option<(u32, T)>,
}

impl<T: Copy> Drawn<T> {
    fn new() -> Self {
        Self {
            any: false,
            closest: None,
        }
    }

    fn pass(&mut self, draw: u32, what: T) {
        if self.closest.is_none_or(|(least, _)| draw < least) {
            self.closest = Some((draw, what));
        }
    }

    /// What is to be taken after all, since nothing was.
    fn instead(&self) -> Option<T> {
        self.closest.filter(|_| !self.any).map(|(_, what)| what)
    }
}

/// A block that is missing, damaged, or not what should be in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDamage {
    /// Where it is, from the root.
    pub path: String,
    /// Its CID.
    pub cid: Cid,
    /// What is wrong.
    pub reason: String,
}

/// What a keyless verification found.
#[derive(Clone, Debug, Default)]
pub struct KeylessReport {
    /// Blocks that were read and match.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Segments and lists that the snapshot names.
    pub segments: u64,
    /// What is missing, damaged or does not belong there.
    pub damage: Vec<BlockDamage>,
}

/// What a verification with an identity found.
#[derive(Clone, Debug, Default)]
pub struct OpenedReport {
    /// Segments that were opened and match.
    pub segments: u64,
    /// Their plaintext bytes.
    pub bytes: u64,
    /// Rows counted in them.
    pub rows: u64,
    /// What is damaged, by stream and segment.
    pub damage: Vec<Damage>,
    /// What the manifest says that is not so.
    pub lies: Vec<String>,
}

/// The segments and lists that a directory `s/` names, as far as it could be read.
#[derive(Clone, Debug, Default)]
pub struct Named {
    blocks: HashSet<[u8; 32]>,
    /// The paths of what is damaged: `s` and folders below it name more than is known.
    damaged: HashSet<String>,
}

impl Named {
    /// Whether a folder that is damaged may name the block.
    fn may_be_unread(&self, block: &[u8; 32]) -> bool {
        self.damaged.contains("s") || self.damaged.contains(&format!("s/{}", folder(block)))
    }
}

const QUEUE: usize = 64;

/// Checks every block of a snapshot against its CID, and the shape of the whole. What its
/// directory names comes with it.
///
/// # Errors
/// The store or the file failed; damage is reported, not returned.
pub fn keyless(
    blocks: &Blocks<'_>,
    root: &Cid,
    sample: Option<&Sample>,
    progress: &Progress,
) -> Result<(KeylessReport, Named), BlocksError> {
    let (todo, entries) = bounded::<Object>(QUEUE);
    let total = Mutex::new(KeylessReport::default());
    let lock = || total.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        let workers = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(64);
        let handles: Vec<_> = (0..workers)
            .map(|_| {
                let (entries, lock) = (entries.clone(), &lock);
                scope.spawn(move || {
                    for object in entries {
                        let checked = segment(blocks, &object, progress)?;
                        let mut total = lock();
                        match checked {
                            Ok(bytes) => {
                                total.blocks += 1;
                                total.bytes += bytes;
                            }
                            Err(damage) => total.damage.push(damage),
                        }
                    }
                    Ok::<(), BlocksError>(())
                })
            })
            .collect();
        drop(entries);
        let mut damage = Vec::new();
        let mut named = Named::default();
        let mut drawn = Drawn::new();
        let walked = walk(root, &mut |cid| blocks.block(cid), &mut |visit| {
            match visit {
                Visit::Public { .. } => {}
                Visit::Damage(found) => {
                    named.damaged.insert(found.path.clone());
                    damage.push(BlockDamage {
                        reason: reading::chain(&found.reason),
                        path: found.path,
                        cid: found.cid,
                    });
                }
                Visit::Object(object) => {
                    named.blocks.insert(object.block);
                    match sample {
                        _ if progress.stop.load(Ordering::Relaxed) => {}
                        Some(sample) if !sample.wants(&object.block) => {
                            drawn.pass(sample.draw(&object.block), object);
                        }
                        _ => {
                            drawn.any = true;
                            // If all workers failed, the reason comes from them.
                            let _ = todo.send(object);
                        }
                    }
                }
            }
            Ok::<(), BlocksError>(())
        });
        if let Some(object) = drawn.instead() {
            let _ = todo.send(object);
        }
        drop(todo);
        for handle in handles {
            handle
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        let walked = walked?;
        let mut total = std::mem::take(&mut *lock());
        total.segments = walked.objects;
        total.blocks += walked.public_blocks;
        total.bytes += walked.public_bytes;
        total.damage.extend(damage);
        Ok((total, named))
    })
}

fn segment(
    blocks: &Blocks<'_>,
    object: &Object,
    progress: &Progress,
) -> Result<Result<u64, BlockDamage>, BlocksError> {
    let cid = object.cid();
    let damage = |reason: &str| BlockDamage {
        path: format!("s/{}/{cid}", folder(&object.block)),
        cid,
        reason: reason.to_owned(),
    };
    let Some(unverified) = blocks.block(&cid)? else {
        return Ok(Err(damage("missing")));
    };
    let len = unverified.bytes.len() as u64;
    progress.bytes_read.fetch_add(len, Ordering::Relaxed);
    if check(&cid, &unverified.bytes).is_err() {
        return Ok(Err(damage("does not match its CID")));
    }
    if len != u64::from(object.len) {
        return Ok(Err(damage("has another size than its directory says")));
    }
    Ok(Ok(len))
}

/// Opens every segment and checks plaintext hashes, lengths, row counts and content hashes; and
/// that the lists name what the directory names.
///
/// # Errors
/// The store or the file failed; damage and lies are reported, not returned.
pub fn opened(
    blocks: &Blocks<'_>,
    snapshot: &OpenSnapshot,
    named: &Named,
    sample: Option<&Sample>,
    progress: &Progress,
) -> Result<OpenedReport, BlocksError> {
    let wants = |segment: &Segment| sample.is_none_or(|sample| sample.wants(&segment.block));
    let (report, drawn) = opened_of(blocks, snapshot, named, &wants, sample, progress)?;
    let Some(block) = drawn.instead() else {
        return Ok(report);
    };
    let wants = |segment: &Segment| segment.block == block;
    Ok(opened_of(blocks, snapshot, named, &wants, sample, progress)?.0)
}

/// Opens the segments that are wanted, and says whether there were any.
fn opened_of(
    blocks: &Blocks<'_>,
    snapshot: &OpenSnapshot,
    named: &Named,
    wanted: &Wanted<'_>,
    sample: Option<&Sample>,
    progress: &Progress,
) -> Result<(OpenedReport, Drawn<[u8; 32]>), BlocksError> {
    let streams: Vec<&Stream> = snapshot.manifest.streams.iter().collect();
    let mut listed: HashSet<[u8; 32]> = HashSet::with_capacity(named.blocks.len());
    let mut report = OpenedReport::default();
    let mut drawn = Drawn::new();
    reading::read(
        blocks,
        &snapshot.identities,
        &streams,
        wanted,
        progress,
        |pieces| {
            for stream in &streams {
                listed.extend(stream.lists.iter().map(|list| list.block));
                let mut opening = Opening {
                    listed: &mut listed,
                    report: &mut report,
                    drawn: &mut drawn,
                    sample,
                };
                if !opening.stream(stream, pieces)? {
                    break;
                }
            }
            Ok::<(), BlocksError>(())
        },
    )?;
    let lists_whole = report.damage.iter().all(|d| d.segment.is_some());
    let extra = named.blocks.difference(&listed).count();
    if lists_whole && extra > 0 {
        report
            .lies
            .push(format!("{extra} blocks below s/ are in no segment list"));
    }
    let absent = listed.difference(&named.blocks);
    let absent = absent.filter(|block| !named.may_be_unread(block)).count();
    if absent > 0 {
        report
            .lies
            .push(format!("{absent} blocks of segment lists are not below s/"));
    }
    Ok((report, drawn))
}

/// What is learnt from opening the streams of a snapshot.
struct Opening<'a> {
    listed: &'a mut HashSet<[u8; 32]>,
    report: &'a mut OpenedReport,
    drawn: &'a mut Drawn<[u8; 32]>,
    sample: Option<&'a Sample>,
}

impl Opening<'_> {
    /// False if it was stopped.
    fn stream(&mut self, stream: &Stream, pieces: &mut Pieces) -> Result<bool, BlocksError> {
        let Self {
            listed,
            report,
            drawn,
            sample,
        } = self;
        let meta = &stream.meta;
        let mut lie = |what: &str, expected: &str, found: &str| {
            let name = &meta.name;
            report.lies.push(format!(
                "stream {name}: the manifest says {what} {expected}, found {found}"
            ));
        };
        let body = u64::from(meta.head)..meta.bytes - u64::from(meta.tail);
        let (mut offset, mut rows, mut listed_rows, mut damaged) = (0u64, 0u64, 0u64, false);
        let mut skipped_rows = 0u64;
        loop {
            match pieces.next_item()? {
                None => return Ok(false),
                Some(Item::Piece { bytes, segment }) => {
                    listed.insert(segment.block);
                    drawn.any = true;
                    report.segments += 1;
                    report.bytes += bytes.len() as u64;
                    listed_rows += u64::from(segment.rows);
                    rows += lines_within(&bytes, offset, &body);
                    offset += bytes.len() as u64;
                }
                Some(Item::Skipped(segment)) => {
                    listed.insert(segment.block);
                    offset += u64::from(segment.len);
                    skipped_rows += u64::from(segment.rows);
                    listed_rows += u64::from(segment.rows);
                    if let Some(sample) = sample {
                        drawn.pass(sample.draw(&segment.block), segment.block);
                    }
                }
                Some(Item::Damaged(damage)) => {
                    offset += damage.bytes;
                    listed.extend(digest_of(&damage.cid));
                    damaged = true;
                    drawn.any = true;
                    report.damage.push(damage);
                }
                Some(Item::End { content }) => {
                    let content = blake3::Hash::from(content).to_string();
                    if offset != meta.bytes {
                        lie("bytes", &meta.bytes.to_string(), &offset.to_string());
                    }
                    if damaged {
                        return Ok(true);
                    }
                    if content != meta.content {
                        lie("content hash", &meta.content, &content);
                    }
                    if let (Some(expected), StreamKind::Table) = (meta.rows, meta.kind) {
                        let all = rows + skipped_rows;
                        if expected != all || (expected != listed_rows && sample.is_none()) {
                            lie("rows", &expected.to_string(), &all.to_string());
                        }
                        report.rows += rows;
                    }
                    return Ok(true);
                }
            }
        }
    }
}

/// Newlines of a piece at `offset` that fall into `body`.
fn lines_within(piece: &[u8], offset: u64, body: &Range<u64>) -> u64 {
    let end = offset + piece.len() as u64;
    let from = body.start.clamp(offset, end) - offset;
    let to = body.end.clamp(offset, end) - offset;
    let index = |n: u64| usize::try_from(n).expect("within a piece");
    memchr::memchr_iter(b'\n', &piece[index(from)..index(to).max(index(from))]).count() as u64
}
