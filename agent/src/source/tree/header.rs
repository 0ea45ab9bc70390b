//! Headers of tar entries, as the source writes them.

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use super::walk::Meta;
use crate::archive::{BLOCK_SIZE, Extent, Timestamp, owners::Owners, padding, pax};

/// What a header has room for in a name or a link target.
const FIELD_SIZE: usize = 100;
/// The last second that a header has room for in octal.
const OCTAL_SECONDS_MAX: i64 = (1 << 33) - 1;

/// What the headers of one entry say.
pub(super) struct Head<'a> {
    pub(super) name: &'a [u8],
    pub(super) entry_type: EntryType,
    pub(super) meta: &'a Meta,
    pub(super) link: &'a [u8],
    pub(super) xattrs: &'a [(Vec<u8>, Vec<u8>)],
    pub(super) sparse: Option<Sparse<'a>>,
    /// Bytes that follow, without padding.
    pub(super) size: u64,
}

/// Where the data of a sparse file are.
#[derive(Clone, Copy)]
pub(super) struct Sparse<'a> {
    pub(super) extents: &'a [Extent],
    pub(super) real_size: u64,
}

impl Head<'_> {
    /// Appends all headers of the entry.
    pub(super) fn write(&self, owners: &Owners, out: &mut Vec<u8>) {
        let records = self.records();
        if !records.is_empty() {
            special(EntryType::XHeader, b"././@PaxHeader", &records, out);
        }
        for (kind, value) in [
            (EntryType::GNULongName, self.name),
            (EntryType::GNULongLink, self.link),
        ] {
            if value.len() > FIELD_SIZE {
                let terminated = [value, b"\0"].concat();
                special(kind, b"././@LongLink", &terminated, out);
            }
        }
        let mut header = Header::new_gnu();
        put(&mut header.as_old_mut().name, self.name);
        put(&mut header.as_old_mut().linkname, self.link);
        header.set_entry_type(self.entry_type);
        header.set_mode(self.meta.mode & 0o7777);
        header.set_uid(self.meta.uid.into());
        header.set_gid(self.meta.gid.into());
        let gnu = header.as_gnu_mut().expect("made as one");
        put(&mut gnu.uname, owners.user(self.meta.uid).as_bytes());
        put(&mut gnu.gname, owners.group(self.meta.gid).as_bytes());
        let seconds = self.meta.mtime.seconds.clamp(0, OCTAL_SECONDS_MAX);
        header.set_mtime(seconds.unsigned_abs());
        header.set_size(self.size);
        match self.sparse {
            None => {
                header.set_cksum();
                out.extend_from_slice(header.as_bytes());
            }
            Some(sparse) => sparse.write(header, out),
        }
    }

    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let Timestamp { seconds, nanos } = self.meta.mtime;
        if nanos != 0 || !(0..=OCTAL_SECONDS_MAX).contains(&seconds) {
            let time = pax::time(self.meta.mtime);
            pax::push(&mut records, b"mtime", time.as_bytes());
        }
        for (name, value) in self.xattrs {
            let mut key = b"SCHILY.xattr.".to_vec();
            for &byte in name {
                match byte {
                    b'%' => key.extend_from_slice(b"%25"),
                    b'=' => key.extend_from_slice(b"%3D"),
                    other => key.push(other),
                }
            }
            pax::push(&mut records, &key, value);
        }
        records
    }
}

impl Sparse<'_> {
    fn write(self, mut header: Header, out: &mut Vec<u8>) {
        let mut extents = self.extents.to_vec();
        let end = extents.last().map_or(0, |last| last.offset + last.len);
        if end < self.real_size {
            // A run of nothing at the end says how long the file is to those who do not look elsewhere.
            extents.push(Extent {
                offset: self.real_size,
                len: 0,
            });
        }
        let gnu = header.as_gnu_mut().expect("made as one");
        gnu.set_real_size(self.real_size);
        let (inline, more) = extents.split_at(extents.len().min(gnu.sparse.len()));
        put_extents(&mut gnu.sparse, inline);
        gnu.set_is_extended(!more.is_empty());
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        let mut blocks = more.chunks(21).peekable();
        while let Some(chunk) = blocks.next() {
            let mut block = GnuExtSparseHeader::new();
            put_extents(block.sparse_mut(), chunk);
            block.set_is_extended(blocks.peek().is_some());
            out.extend_from_slice(block.as_bytes());
        }
    }
}

fn put_extents(slots: &mut [GnuSparseHeader], extents: &[Extent]) {
    for (slot, extent) in slots.iter_mut().zip(extents) {
        slot.set_offset(extent.offset);
        slot.set_length(extent.len);
    }
}

/// Appends an entry that says more of the one after it.
fn special(kind: EntryType, name: &[u8], content: &[u8], out: &mut Vec<u8>) {
    let mut header = Header::new_gnu();
    put(&mut header.as_old_mut().name, name);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(content.len() as u64);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(content);
    out.extend_from_slice(&[0; BLOCK_SIZE][..padding(content.len() as u64)]);
}

fn put(field: &mut [u8], value: &[u8]) {
    let len = value.len().min(field.len());
    field[..len].copy_from_slice(&value[..len]);
}
