//! Headers of tar entries, as the target takes them: nothing in them is believed.

use tar::{EntryType, GnuSparseHeader, Header};

use super::reader::Kind;
use crate::archive::{EXTENTS_MAX, Extent, NAME_SIZE_MAX, PATH_SIZE_MAX, Timestamp, pax};

/// What is wrong with a header.
pub(super) type Wrong = String;

/// What the entries before an entry say of it.
#[derive(Debug, Default)]
pub(super) struct Extension {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    mtime: Option<Timestamp>,
    owner: Option<u64>,
    group: Option<u64>,
    owner_name: Option<Vec<u8>>,
    group_name: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: PaxSparse,
}

#[derive(Debug, Default)]
struct PaxSparse {
    major: Option<u64>,
    minor: Option<u64>,
    real_size: Option<u64>,
    path: Option<Vec<u8>>,
    other: bool,
}

/// What a header says, with what came before it.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) owner_name: Vec<u8>,
    pub(super) group_name: Vec<u8>,
    pub(super) mtime: Timestamp,
    /// Bytes that follow.
    pub(super) size: u64,
    /// Where they go.
    pub(super) layout: Layout,
}

/// How the bytes of a file are laid out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One after the other.
    Plain,
    /// In a map in the header and what follows it; the size of the file.
    InHeader(u64),
    /// In a map before the bytes; the size of the file.
    InBody(u64),
}

impl Extension {
    /// Takes the records of a pax header.
    pub(super) fn take_records(&mut self, mut records: &[u8]) -> Result<(), Wrong> {
        while !records.is_empty() {
            let split = pax::split_first(records).ok_or("a pax record is malformed")?;
            let (key, value, rest) = split;
            self.take_record(key, value)
                .ok_or_else(|| format!("pax record {} lies", String::from_utf8_lossy(key)))?;
            records = rest;
        }
        Ok(())
    }

    fn take_record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"mtime" => self.mtime = Some(pax::parse_time(value)?),
            b"uid" => self.owner = Some(pax::decimal(value)?),
            b"gid" => self.group = Some(pax::decimal(value)?),
            b"uname" => self.owner_name = Some(value.to_vec()),
            b"gname" => self.group_name = Some(value.to_vec()),
            b"size" => self.size = Some(pax::decimal(value)?),
            b"GNU.sparse.major" => self.sparse.major = Some(pax::decimal(value)?),
            b"GNU.sparse.minor" => self.sparse.minor = Some(pax::decimal(value)?),
            b"GNU.sparse.realsize" => self.sparse.real_size = Some(pax::decimal(value)?),
            b"GNU.sparse.name" => self.sparse.path = Some(value.to_vec()),
            other => {
                self.sparse.other |= other.starts_with(b"GNU.sparse.");
                if let Some(name) = other.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((xattr_name(name)?, value.to_vec()));
                }
            }
        }
        Some(())
    }

    /// Reads a header that is not itself an extension.
    pub(super) fn fields(&mut self, header: &Header) -> Result<Fields, Wrong> {
        let old = header.as_old();
        let (layout, path) = self.layout(header)?;
        let path = path.or(self.path.take());
        let raw = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let path =
            clean(&raw).map_err(|what| format!("{what}: {}", String::from_utf8_lossy(&raw)))?;
        let named = |what: &str| format!("{what}: {}", String::from_utf8_lossy(&path));
        let link = self.link.take();
        let link = link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let size = self
            .size
            .or(number(&old.size))
            .ok_or_else(|| named("the size is malformed"))?;
        let kind = match header.entry_type() {
            EntryType::Regular if old.linkflag == [0] && raw.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Fifo => Kind::Fifo,
            EntryType::Symlink => Kind::Symlink(symlink(link).map_err(named)?),
            EntryType::Link => Kind::Hard(clean(&link.unwrap_or_default()).map_err(named)?),
            EntryType::Char | EntryType::Block => return Err(named("it is a device")),
            other => return Err(named(&format!("type {:?} is not known", other.as_byte()))),
        };
        if kind != Kind::File && (size != 0 || layout != Layout::Plain) {
            return Err(named("it has content, and is not a file"));
        }
        if path.is_empty() && kind != Kind::Directory {
            return Err(named("the root is not a directory"));
        }
        let id = |extension: Option<u64>, field: &[u8]| {
            let id = u32::try_from(extension.or(number(field))?).ok();
            id.filter(|&id| id != u32::MAX)
        };
        let mode = number(&old.mode).and_then(|mode| u32::try_from(mode).ok());
        let names = owner_names(header);
        Ok(Fields {
            mode: mode.ok_or_else(|| named("the mode is malformed"))? & 0o7777,
            uid: id(self.owner, &old.uid).ok_or_else(|| named("the owner is malformed"))?,
            gid: id(self.group, &old.gid).ok_or_else(|| named("the group is malformed"))?,
            owner_name: self.owner_name.take().unwrap_or(names.0),
            group_name: self.group_name.take().unwrap_or(names.1),
            mtime: match self.mtime {
                Some(mtime) => mtime,
                None => seconds(&old.mtime).ok_or_else(|| named("the time is malformed"))?,
            },
            path,
            kind,
            size,
            layout,
        })
    }

    fn layout(&mut self, header: &Header) -> Result<(Layout, Option<Vec<u8>>), Wrong> {
        let sparse = std::mem::take(&mut self.sparse);
        match (sparse.major, sparse.minor, sparse.real_size) {
            (Some(1), Some(0), Some(size)) if !sparse.other => {
                Ok((Layout::InBody(size), sparse.path))
            }
            (None, None, None) if !sparse.other => match header.as_gnu() {
                Some(gnu) if header.entry_type() == EntryType::GNUSparse => {
                    let size =
                        number(&gnu.realsize).ok_or("the size of a sparse file is malformed")?;
                    Ok((Layout::InHeader(size), None))
                }
                None if header.entry_type() == EntryType::GNUSparse => {
                    Err("a sparse file has no map".into())
                }
                _ => Ok((Layout::Plain, None)),
            },
            _ => Err("a sparse file is of a format that is not known".into()),
        }
    }
}

/// Reads a block as a header; nothing if its checksum is wrong.
pub(super) fn checked(block: &[u8; 512]) -> Option<&Header> {
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    let field = &block[148..156];
    let fields: u64 = field.iter().map(|&byte| u64::from(byte)).sum();
    let sum = sum - fields + 8 * u64::from(b' ');
    (number(field) == Some(sum)).then(|| Header::from_byte_slice(block))
}

/// Appends the runs of a sparse map in a header. False if there is one too many.
pub(super) fn take_extents(slots: &[GnuSparseHeader], extents: &mut Vec<Extent>) -> bool {
    for slot in slots.iter().filter(|slot| !slot.is_empty()) {
        let (Some(offset), Some(len)) = (number(&slot.offset), number(&slot.numbytes)) else {
            return false;
        };
        if extents.len() == EXTENTS_MAX {
            return false;
        }
        extents.push(Extent { offset, len });
    }
    true
}

/// Whether runs of data follow one another, and are as long as is said.
pub(super) fn is_map(extents: &[Extent], stored: u64, real_size: u64) -> bool {
    let (mut end, mut sum) = (0u64, 0u64);
    for extent in extents {
        let next = extent.offset.checked_add(extent.len);
        match next {
            Some(next) if extent.offset >= end && next <= real_size => end = next,
            _ => return false,
        }
        sum += extent.len;
    }
    sum == stored && i64::try_from(real_size).is_ok()
}

/// The components of a path, without `.`; refused if it leads elsewhere.
fn clean(raw: &[u8]) -> Result<Vec<u8>, &'static str> {
    if raw.first() == Some(&b'/') {
        return Err("a path is absolute");
    }
    if raw.contains(&0) {
        return Err("a path contains NUL");
    }
    let mut path = Vec::with_capacity(raw.len());
    for name in raw.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => continue,
            b".." => return Err("a path leads out"),
            _ if name.len() > NAME_SIZE_MAX => return Err("a name is too long"),
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
    }
    if path.len() > PATH_SIZE_MAX {
        return Err("a path is too long");
    }
    Ok(path)
}

fn symlink(link: Option<Vec<u8>>) -> Result<Vec<u8>, &'static str> {
    let link = link.unwrap_or_default();
    match link.len() {
        1..=PATH_SIZE_MAX if !link.contains(&0) => Ok(link),
        _ => Err("a symlink leads nowhere"),
    }
}

/// GNU tar's way of writing a name into a pax key.
fn xattr_name(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    let mut rest = encoded;
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after) {
            (b'%', [b'2', b'5', after @ ..]) => (b'%', after),
            (b'%', [b'3', b'D', after @ ..]) => (b'=', after),
            _ => (byte, after),
        };
        name.push(byte);
        rest = after;
    }
    (!name.contains(&0) && (1..=NAME_SIZE_MAX).contains(&name.len())).then_some(name)
}

fn owner_names(header: &Header) -> (Vec<u8>, Vec<u8>) {
    (
        header.username_bytes().unwrap_or_default().to_vec(),
        header.groupname_bytes().unwrap_or_default().to_vec(),
    )
}

/// A time in a header: as a number, or negative in base 256.
fn seconds(field: &[u8; 12]) -> Option<Timestamp> {
    let seconds = if field[0] == 0xff {
        i64::from_be_bytes(field[4..].try_into().expect("eight bytes")).min(-1)
    } else {
        i64::try_from(number(field)?).ok()?
    };
    Some(Timestamp { seconds, nanos: 0 })
}

/// A number in a header: octal, or base 256 after a byte of 0x80. An empty field is 0.
fn number(field: &[u8]) -> Option<u64> {
    if let [0x80, rest @ ..] = field {
        let (high, low) = rest.split_at(rest.len().saturating_sub(8));
        if high.iter().any(|&byte| byte != 0) {
            return None;
        }
        return Some(low.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)));
    }
    let text = field.trim_ascii_start();
    let end = memchr::memchr2(0, b' ', text).unwrap_or(text.len());
    let mut value = 0u64;
    for &digit in &text[..end] {
        if !(b'0'..=b'7').contains(&digit) {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(u64::from(digit - b'0'))?;
    }
    Some(value)
}
