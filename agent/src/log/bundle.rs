//! Bundles: a part of a log in one file for an auditor, made and checked.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    thread,
};

use cid::Cid;
use protocol::{
    block::{Block, CODEC_DAG_CBOR},
    car::{self, CarError},
    log::{
        bundle::{self, Audited, BUNDLE_ENTRIES_MAX, Bundle, BundleError, Trust},
        chain::{read_ahead, read_all_ahead},
        detail::Disclosure,
        entry::{Draft, EntryError, UnverifiedEntry},
        tree::{prove_inclusion, prove_range},
    },
    note::PublicKey,
};
use store::{StoreError, log::LogReader};

use super::{
    LogError,
    details::{self, DetailsError, SealedDetails},
    in_order::InOrder,
    keys_of,
};
use crate::keys::Identities;

/// Largest file that is read as a bundle, in bytes.
const FILE_SIZE_MAX: u64 = 2 << 30;
/// Entries that one thread reads at a time.
const PART_ENTRIES: u64 = 256;

/// Why there is no bundle, or it does not hold.
#[derive(Debug, thiserror::Error)]
pub enum BundleFileError {
    /// The log cannot be read, or does not hold.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log does not go so far, or the range is empty or too long.
    #[error("entries {first} to {last} are not {BUNDLE_ENTRIES_MAX} or fewer of a log of {size}")]
    Range {
        /// First that was asked for.
        first: u64,
        /// Last that was asked for.
        last: u64,
        /// The size of the log.
        size: u64,
    },
    /// What it is made of, or what it is, does not hold.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Details cannot be read.
    #[error(transparent)]
    Details(#[from] DetailsError),
    /// It cannot be written.
    #[error("cannot write the bundle")]
    Write(#[source] io::Error),
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// It is no CAR, or a block of it is damaged.
    #[error("the bundle is damaged")]
    Car(#[from] CarError),
    /// A block of it is not what it should be there.
    #[error("block {number} of the bundle, {cid}, is not one that should be there")]
    Block {
        /// Its number, from 0.
        number: u64,
        /// Its CID.
        cid: Cid,
    },
    /// An entry of it is none.
    #[error("block {number} of the bundle is no entry")]
    Entry {
        /// Its number, from 0.
        number: u64,
        /// What is wrong with it.
        #[source]
        reason: EntryError,
    },
    /// It ends before its last entry.
    #[error("the bundle is cut off: it has {found} blocks, and its root names {expected}")]
    CutOff {
        /// Blocks that its root names.
        expected: u64,
        /// Blocks that there are.
        found: u64,
    },
}

impl From<StoreError> for BundleFileError {
    fn from(error: StoreError) -> Self {
        Self::Log(error.into())
    }
}

/// What goes into a bundle besides entries and proofs.
#[derive(Debug, Default)]
pub struct Inclusions<'a> {
    /// The home that details are in.
    pub home: Option<&'a Path>,
    /// Put the sealed details in, for auditors to open.
    pub sealed: bool,
    /// Names of the details to disclose, and what opens them.
    pub disclose: Option<(&'a [String], &'a Identities)>,
    /// A policy of witnesses.
    pub policy: Option<String>,
    /// Fork proofs.
    pub forks: Vec<String>,
}

/// Writes a bundle of some entries of a log. Returns how many blocks of sealed details it has.
///
/// # Errors
/// The log has no such entries, or cannot be read; or the bundle cannot be written.
pub fn write_bundle(
    reader: &LogReader,
    range: RangeInclusive<u64>,
    with: &Inclusions<'_>,
    out: impl Write,
) -> Result<u64, BundleFileError> {
    let size = reader.head().size;
    let (first, last) = (*range.start(), *range.end());
    let count = last.checked_sub(first).map(|more| more + 1);
    let count = count.filter(|count| last < size && *count <= BUNDLE_ENTRIES_MAX);
    let count = count.ok_or(BundleFileError::Range { first, last, size })?;
    let node = |level, index| reader.node(level, index);
    let mut controls = Vec::new();
    let mut blocks = Vec::new();
    for index in reader.marks()? {
        if !range.contains(&index) {
            controls.push((index, prove_inclusion(index, size, node)?));
            let entry = UnverifiedEntry::parse(&reader.entry(index)?);
            blocks.push(entry.map_err(|reason| LogError::Entry { index, reason })?);
        }
    }
    let mut sealed = Vec::new();
    let mut disclosures = Vec::new();
    let kept = match with.home {
        Some(home) if with.sealed || with.disclose.is_some() => Some(SealedDetails::of_home(home)?),
        _ => None,
    };
    let entries = reader.entries(first..last + 1)?;
    let key = keys_of(reader)?.key_at(first).to_owned();
    for (index, entry) in range.clone().zip(read_all_ahead(&entries, Some(key))) {
        let entry = entry.map_err(|reason| LogError::Entry { index, reason })?;
        if let Some(kept) = &kept {
            details_of(&entry, with, kept, &mut sealed, &mut disclosures)?;
        }
        blocks.push(entry);
    }
    let bundle = Bundle {
        checkpoint: String::from_utf8_lossy(&reader.head().note).into_owned(),
        first,
        count,
        range: prove_range(first..last + 1, size, node)?,
        controls,
        policy: with.policy.clone(),
        forks: with.forks.clone(),
        disclosures,
        sealed: sealed.len() as u64,
    };
    // What does not hold here would not hold anywhere.
    bundle::verify(&bundle, blocks.clone(), Trust::default())?;
    let root = bundle.block()?;
    let mut car = car::Writer::new(out, &[*root.cid()]).map_err(BundleFileError::Write)?;
    let blocks = blocks.iter().map(UnverifiedEntry::block);
    for block in [root]
        .into_iter()
        .chain(blocks)
        .chain(sealed.iter().cloned())
    {
        car.write(&block).map_err(BundleFileError::Write)?;
    }
    car.finish().map_err(BundleFileError::Write)?;
    Ok(sealed.len() as u64)
}

/// Adds what is wanted of an entry's details. Those that were erased are left out.
fn details_of(
    entry: &UnverifiedEntry,
    with: &Inclusions<'_>,
    kept: &SealedDetails,
    sealed: &mut Vec<Block>,
    disclosures: &mut Vec<Disclosure>,
) -> Result<(), BundleFileError> {
    let draft = entry.draft_unverified();
    let Some(cid) = &draft.sealed else {
        return Ok(());
    };
    let block = match kept.block(draft.seq, cid) {
        Err(DetailsError::Missing { .. }) => return Ok(()),
        found => found?,
    };
    if let Some((names, identities)) = with.disclose {
        let details = details::open(&block, identities)?;
        let wanted = names.iter();
        disclosures.extend(wanted.filter_map(|name| details.disclose(draft.seq, name)));
    }
    if with.sealed {
        sealed.push(block);
    }
    Ok(())
}

/// Whether a file begins as a bundle does.
#[must_use]
pub fn is_bundle(start: &[u8]) -> bool {
    car::Reader::new(start)
        .is_ok_and(|car| matches!(car.roots(), [root] if root.codec() == CODEC_DAG_CBOR))
}

/// Reads a bundle, and checks all of it. Returns what it proves, its root, and the sealed details in it.
///
/// # Errors
/// It cannot be read; or the first thing that does not hold.
pub fn verify_bundle(
    path: &Path,
    trust: Trust<'_>,
) -> Result<(Audited, Bundle, Vec<Block>), BundleFileError> {
    let failed = |cause| BundleFileError::Read {
        path: path.to_owned(),
        cause,
    };
    let file = File::open(path).map_err(failed)?;
    let mut car = car::Reader::new(BufReader::new(file.take(FILE_SIZE_MAX)))?;
    let first = car.next_block()?;
    let root = first.filter(|block| car.roots() == [*block.cid()]);
    let root = root.ok_or(BundleError::Malformed)?;
    let bundle = Bundle::parse(root.bytes())?;
    let entries = read_entries(&mut car, &bundle)?;
    let expected = entries.len() as u64;
    let mut sealed = Vec::new();
    let mut number = expected;
    while let Some(block) = car.next_block()? {
        number += 1;
        if number > expected + bundle.sealed {
            let cid = *block.cid();
            return Err(BundleFileError::Block { number, cid });
        }
        sealed.push(block);
    }
    if number < expected + bundle.sealed {
        return Err(cut_off(&bundle, number));
    }
    let audited = bundle::verify(&bundle, entries, trust)?;
    // Of sealed details only those are there that an entry names, in its order.
    let mut named = audited.sealed.iter();
    for (block, number) in sealed.iter().zip(expected + 1..) {
        if !named.any(|cid| cid == block.cid()) {
            let cid = *block.cid();
            return Err(BundleFileError::Block { number, cid });
        }
    }
    Ok((audited, bundle, sealed))
}

/// Reads the entries of a bundle, which come after its root: those that change the log's keys, and then those of the
/// range, of which the signatures are checked by all cores.
fn read_entries(
    car: &mut car::Reader<impl Read>,
    bundle: &Bundle,
) -> Result<Vec<UnverifiedEntry>, BundleFileError> {
    let controls = bundle.controls.len() as u64;
    let end = controls + bundle.count;
    let mut entries = read_part(part_of(car, bundle, 1..=controls, None))?;
    let earlier = entries.iter().map(UnverifiedEntry::draft_unverified);
    let mut key = last_key(earlier.take_while(|draft| draft.seq < bundle.first));
    thread::scope(|scope| {
        let mut parts = InOrder::start(scope, read_part);
        let mut next = controls + 1;
        while next <= end {
            let last = end.min(next + PART_ENTRIES - 1);
            let part = part_of(car, bundle, next..=last, key);
            next = match part.failed {
                // What comes before may not hold either, and is told first.
                Some(_) => end + 1,
                None => last + 1,
            };
            let read = match key {
                Some(_) => parts.give(part),
                // It begins with the first entry of the log, which has the key.
                None => Some(read_part(part)),
            };
            if let Some(read) = read {
                let read = read?;
                key = last_key(read.iter().map(UnverifiedEntry::draft_unverified)).or(key);
                entries.extend(read);
            }
        }
        while let Some(read) = parts.next() {
            entries.extend(read?);
        }
        Ok(entries)
    })
}

/// The key that a log has after some of its entries, if they change it.
fn last_key<'a>(drafts: impl Iterator<Item = &'a Draft>) -> Option<PublicKey> {
    let control = drafts.filter_map(|draft| draft.control.as_ref()).last()?;
    PublicKey::new(control.key()).ok()
}

/// Some blocks of a bundle with their numbers, and the key that the log had before them.
struct Part {
    blocks: Vec<(u64, Block)>,
    key: Option<PublicKey>,
    /// Why there are no more.
    failed: Option<BundleFileError>,
}

fn part_of(
    car: &mut car::Reader<impl Read>,
    bundle: &Bundle,
    numbers: RangeInclusive<u64>,
    key: Option<PublicKey>,
) -> Part {
    let mut part = Part {
        blocks: Vec::new(),
        key,
        failed: None,
    };
    for number in numbers {
        match car.next_block() {
            Ok(Some(block)) => part.blocks.push((number, block)),
            Ok(None) => part.failed = Some(cut_off(bundle, number - 1)),
            Err(error) => part.failed = Some(error.into()),
        }
        if part.failed.is_some() {
            break;
        }
    }
    part
}

fn read_part(part: Part) -> Result<Vec<UnverifiedEntry>, BundleFileError> {
    let read = read_ahead(part.blocks.iter().map(|(_, block)| block.bytes()), part.key);
    let mut entries = Vec::with_capacity(part.blocks.len());
    for (entry, (number, block)) in read.zip(&part.blocks) {
        let number = *number;
        let entry = entry.map_err(|reason| BundleFileError::Entry { number, reason })?;
        if entry.cid() != *block.cid() {
            let cid = *block.cid();
            return Err(BundleFileError::Block { number, cid });
        }
        entries.push(entry);
    }
    part.failed.map_or(Ok(entries), Err)
}

fn cut_off(bundle: &Bundle, found: u64) -> BundleFileError {
    let entries = bundle.controls.len() as u64 + bundle.count;
    BundleFileError::CutOff {
        expected: entries + bundle.sealed + 1,
        found: found + 1,
    }
}
