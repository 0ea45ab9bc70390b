//! Reads a tar entry by entry, and finds its way again after damage.

use std::io;

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::{
    header::{self, Extension, Layout, Wrong},
    skipped::Skipped,
};
use crate::{
    archive::{BLOCK_SIZE, EXTENTS_MAX, Extent, PATH_SIZE_MAX, Timestamp, padding, pax},
    target::{Content, TargetError},
};

/// What an entry is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    /// Another name of the file at this path.
    Hard(Vec<u8>),
    Symlink(Vec<u8>),
    Fifo,
}

/// An entry.
#[derive(Debug)]
pub(super) struct Entry {
    /// Below the root; empty for the root itself.
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) attributes: Attributes,
    /// Size of the file, holes included.
    pub(super) size: u64,
    /// Where its data go, in order.
    pub(super) extents: Vec<Extent>,
}

/// What is said of a file beside its content.
#[derive(Debug)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) owner_name: Vec<u8>,
    pub(super) group_name: Vec<u8>,
    pub(super) mtime: Timestamp,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads the tar in a stream.
pub(super) struct Reader<'a> {
    content: &'a mut dyn Content,
    stream: &'a str,
    at: u64,
    end: u64,
    skip_damaged: bool,
    /// Bytes of the entry before, padding included, that nobody has taken.
    left: u64,
    padding: u64,
    /// Where the damage began, while the next good header is searched.
    lost_at: Option<u64>,
    damaged: bool,
    pub(super) skipped: Skipped,
}

/// Takes bytes of a file at an offset.
pub(super) type Sink<'a> = dyn FnMut(u64, &[u8]) -> Result<(), TargetError> + 'a;

/// What is at the place of a header.
enum Found {
    Header(Box<[u8; BLOCK_SIZE]>),
    Zeros,
    Junk,
    Damage,
    End,
}

impl<'a> Reader<'a> {
    /// Reads `content`, which is to have `len` bytes.
    pub(super) fn new(
        content: &'a mut dyn Content,
        stream: &'a str,
        len: u64,
        skip_damaged: bool,
    ) -> Self {
        Self {
            content,
            stream,
            at: 0,
            end: len,
            skip_damaged,
            left: 0,
            padding: 0,
            lost_at: None,
            damaged: false,
            skipped: Skipped::default(),
        }
    }

    /// Whether something was damaged, so that not all that is found need be true.
    pub(super) fn was_damaged(&self) -> bool {
        self.damaged
    }

    pub(super) fn hostile(&self, what: impl Into<String>) -> TargetError {
        TargetError::Hostile {
            stream: self.stream.to_owned(),
            what: what.into(),
        }
    }

    /// The next entry; what is left of the one before is passed over.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, TargetError> {
        let left = std::mem::take(&mut self.left) + std::mem::take(&mut self.padding);
        self.pass(left)?;
        let mut extension = Extension::default();
        loop {
            let block = match self.find()? {
                Found::Header(block) => block,
                Found::Zeros if self.lost_at.is_none() => return self.finish().map(|()| None),
                Found::Zeros | Found::Junk if self.lost_at.is_some() => continue,
                Found::Zeros | Found::Junk => return Err(self.hostile("a header is malformed")),
                Found::Damage => {
                    extension = Extension::default();
                    continue;
                }
                Found::End if self.lost_at.is_some() => {
                    self.found_again(self.at);
                    return Ok(None);
                }
                Found::End => return Err(self.hostile("it ends early")),
            };
            let header = Header::from_byte_slice(&*block);
            let start = self.at - BLOCK_SIZE as u64;
            let result = if is_special(header.entry_type()) {
                self.extend(&mut extension, header).map(|()| None)
            } else {
                self.entry(std::mem::take(&mut extension), header).map(Some)
            };
            match result {
                Ok(taken) if self.is_damaged(start) => {
                    drop(taken);
                    self.lose(start);
                    extension = Extension::default();
                }
                Ok(None) => self.found_again(start),
                Ok(Some(entry)) => {
                    self.found_again(start);
                    return Ok(Some(entry));
                }
                Err(Failure::Wrong(_)) if self.lost_at.is_some() || self.is_damaged(start) => {
                    self.lose(start);
                    extension = Extension::default();
                }
                Err(Failure::Wrong(what)) => return Err(self.hostile(what)),
                Err(Failure::Read(error)) => return Err(error),
            }
        }
    }

    /// Hands over the data of a file with their offsets. False if some of them are damaged.
    pub(super) fn body(
        &mut self,
        entry: &Entry,
        write: &mut Sink<'_>,
    ) -> Result<bool, TargetError> {
        let start = self.at;
        for extent in &entry.extents {
            let (mut offset, end) = (extent.offset, extent.offset + extent.len);
            while offset < end {
                let bytes = fill(self.content, self.stream)?;
                if bytes.is_empty() {
                    return Err(self.hostile("it ends early"));
                }
                let len = usize::try_from(end - offset).unwrap_or(usize::MAX);
                let bytes = &bytes[..len.min(bytes.len())];
                write(offset, bytes)?;
                let len = bytes.len();
                self.content.consume(len);
                offset += len as u64;
                self.at += len as u64;
                self.left -= len as u64;
            }
        }
        let damaged = self.is_damaged(start);
        self.damaged |= damaged;
        Ok(!damaged)
    }

    fn find(&mut self) -> Result<Found, TargetError> {
        let start = self.at;
        let Some(block) = self.block()? else {
            return Ok(Found::End);
        };
        if self.is_damaged(start) {
            self.lose(start);
            return Ok(Found::Damage);
        }
        if block.iter().all(|&byte| byte == 0) {
            return Ok(Found::Zeros);
        }
        Ok(match header::checked(&block) {
            Some(_) => Found::Header(block),
            None => Found::Junk,
        })
    }

    /// Takes in an entry that says more of the one after it.
    fn extend(&mut self, extension: &mut Extension, header: &Header) -> Result<(), Failure> {
        let size = self.stored_size(header)?;
        let size_max = match header.entry_type() {
            EntryType::XHeader | EntryType::XGlobalHeader => pax::RECORDS_SIZE_MAX,
            _ => PATH_SIZE_MAX + 1,
        };
        if size > size_max as u64 {
            return Err(Failure::wrong("a pax header or a long name is too long"));
        }
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < size {
            let block = self.block().map_err(Failure::Read)?;
            bytes.extend_from_slice(&*block.ok_or_else(|| Failure::wrong("it ends early"))?);
        }
        bytes.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        match header.entry_type() {
            EntryType::XHeader => extension.take_records(&bytes).map_err(Failure::Wrong)?,
            // Comments, as git writes them.
            EntryType::XGlobalHeader => {}
            kind => {
                if bytes.last() == Some(&0) {
                    bytes.pop();
                }
                match kind {
                    EntryType::GNULongName => extension.path = Some(bytes),
                    _ => extension.link = Some(bytes),
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, mut extension: Extension, header: &Header) -> Result<Entry, Failure> {
        let old = header.as_old();
        let cut = |field: &[u8; 100], long: &Option<Vec<u8>>| long.is_none() && field[99] != 0;
        if self.lost_at.is_some()
            && (cut(&old.name, &extension.path) || cut(&old.linkname, &extension.link))
        {
            return Err(Failure::wrong("its whole name was before it"));
        }
        let fields = extension.fields(header).map_err(Failure::Wrong)?;
        self.left = fields.size;
        self.padding = padding(fields.size) as u64;
        if fields.size > self.end.saturating_sub(self.at) {
            self.left = 0;
            self.padding = 0;
            let path = String::from_utf8_lossy(&fields.path);
            return Err(Failure::Wrong(format!("{path} is larger than the tar")));
        }
        let (mut extents, size) = self.extents(&fields.layout, header)?;
        if !header::is_map(&extents, self.left, size) {
            self.left = 0;
            self.padding = 0;
            let path = String::from_utf8_lossy(&fields.path);
            return Err(Failure::Wrong(format!("the map of {path} lies")));
        }
        extents.retain(|extent| extent.len > 0);
        Ok(Entry {
            path: fields.path,
            kind: fields.kind,
            size,
            extents,
            attributes: Attributes {
                mode: fields.mode,
                uid: fields.uid,
                gid: fields.gid,
                owner_name: fields.owner_name,
                group_name: fields.group_name,
                mtime: fields.mtime,
                xattrs: extension.xattrs,
            },
        })
    }

    fn extents(&mut self, layout: &Layout, header: &Header) -> Result<(Vec<Extent>, u64), Failure> {
        let mut extents = Vec::new();
        let size = match *layout {
            Layout::Plain => {
                let len = self.left;
                extents.push(Extent { offset: 0, len });
                len
            }
            Layout::InHeader(size) => {
                let gnu = header.as_gnu();
                let gnu = gnu.ok_or_else(|| Failure::wrong("a sparse file has no map"))?;
                self.map_in_header(gnu, &mut extents)?;
                size
            }
            Layout::InBody(size) => {
                self.map_in_body(&mut extents)?;
                size
            }
        };
        Ok((extents, size))
    }

    fn map_in_header(
        &mut self,
        gnu: &tar::GnuHeader,
        extents: &mut Vec<Extent>,
    ) -> Result<(), Failure> {
        let wrong = || Failure::wrong("the map of a sparse file is malformed");
        let mut more = gnu.is_extended();
        if !header::take_extents(&gnu.sparse, extents) {
            return Err(wrong());
        }
        for _ in 0..=EXTENTS_MAX / 21 {
            if !more {
                return Ok(());
            }
            let block = self.block().map_err(Failure::Read)?.ok_or_else(wrong)?;
            let mut extended = GnuExtSparseHeader::new();
            extended.as_mut_bytes().copy_from_slice(&*block);
            more = extended.is_extended();
            if !header::take_extents(extended.sparse(), extents) {
                return Err(wrong());
            }
        }
        if more { Err(wrong()) } else { Ok(()) }
    }

    /// Reads the map of pax's sparse format 1.0: decimal numbers, one a line, filled up to a block.
    fn map_in_body(&mut self, extents: &mut Vec<Extent>) -> Result<(), Failure> {
        let wrong = || Failure::wrong("the map of a sparse file is malformed");
        let (mut numbers, mut line) = (Vec::new(), Vec::new());
        let mut wanted = 1;
        while numbers.len() < wanted {
            self.left = self.left.checked_sub(BLOCK_SIZE as u64).ok_or_else(wrong)?;
            let block = self.block().map_err(Failure::Read)?.ok_or_else(wrong)?;
            for &byte in &*block {
                if numbers.len() == wanted {
                    break;
                }
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                numbers.push(
                    pax::decimal(&line)
                        .filter(|_| line.len() < 21)
                        .ok_or_else(wrong)?,
                );
                line.clear();
                if numbers.len() == 1 {
                    let pairs = usize::try_from(numbers[0]).unwrap_or(usize::MAX);
                    if pairs > EXTENTS_MAX {
                        return Err(wrong());
                    }
                    wanted = 1 + 2 * pairs;
                }
            }
        }
        let pairs = numbers[1..].chunks_exact(2);
        extents.extend(pairs.map(|pair| Extent {
            offset: pair[0],
            len: pair[1],
        }));
        Ok(())
    }

    fn stored_size(&self, header: &Header) -> Result<u64, Failure> {
        header
            .entry_size()
            .map_err(|_| Failure::wrong("the size of a pax header or a long name is malformed"))
    }

    /// Reads to the end, where only zeros may be.
    fn finish(&mut self) -> Result<(), TargetError> {
        loop {
            let bytes = fill(self.content, self.stream)?;
            if bytes.is_empty() {
                return Ok(());
            }
            if bytes.iter().any(|&byte| byte != 0) {
                return Err(self.hostile("something follows its end"));
            }
            let len = bytes.len();
            self.content.consume(len);
            self.at += len as u64;
        }
    }

    fn pass(&mut self, mut left: u64) -> Result<(), TargetError> {
        while left > 0 {
            let bytes = fill(self.content, self.stream)?;
            if bytes.is_empty() {
                return Err(self.hostile("it ends early"));
            }
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            self.content.consume(len);
            self.at += len as u64;
            left -= len as u64;
        }
        Ok(())
    }

    /// The next block; nothing at the end.
    fn block(&mut self) -> Result<Option<Box<[u8; BLOCK_SIZE]>>, TargetError> {
        let mut block = Box::new([0; BLOCK_SIZE]);
        let mut len = 0;
        while len < BLOCK_SIZE {
            let bytes = fill(self.content, self.stream)?;
            if bytes.is_empty() {
                break;
            }
            let part = bytes.len().min(BLOCK_SIZE - len);
            block[len..len + part].copy_from_slice(&bytes[..part]);
            self.content.consume(part);
            len += part;
        }
        self.at += len as u64;
        match len {
            0 => Ok(None),
            BLOCK_SIZE => Ok(Some(block)),
            _ => Err(self.hostile("it ends inside a block")),
        }
    }

    /// Whether something between `start` and here is damaged. Damage is found in order.
    fn is_damaged(&self, start: u64) -> bool {
        let after_start = |gap: &&std::ops::Range<u64>| gap.end > start;
        let mut gaps = self.content.gaps().iter().rev().take_while(after_start);
        self.skip_damaged && gaps.any(|gap| gap.start < self.at)
    }

    fn lose(&mut self, at: u64) {
        self.lost_at.get_or_insert(at);
        self.left = 0;
        self.padding = 0;
        self.damaged = true;
    }

    fn found_again(&mut self, at: u64) {
        if let Some(from) = self.lost_at.take() {
            self.skipped.note(format!(
                "entries in bytes {from} to {at} of the tar are damaged, their names too"
            ));
        }
    }
}

/// Why an entry cannot be read.
enum Failure {
    Wrong(Wrong),
    Read(TargetError),
}

impl Failure {
    fn wrong(what: &str) -> Self {
        Self::Wrong(what.to_owned())
    }
}

fn is_special(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::XHeader
            | EntryType::XGlobalHeader
            | EntryType::GNULongName
            | EntryType::GNULongLink
    )
}

fn fill<'c>(content: &'c mut dyn Content, stream: &str) -> Result<&'c [u8], TargetError> {
    content
        .fill_buf()
        .map_err(|cause: io::Error| TargetError::Content {
            stream: stream.to_owned(),
            cause,
        })
}
