//! Writes CARv1.

use std::io::{self, Seek, SeekFrom, Write};

use cid::Cid;

use super::header_bytes;
use crate::block::{Block, raw_cid};

/// Writes blocks as a CARv1.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Begins a CAR whose roots are known, or that has none.
    ///
    /// # Errors
    /// The header cannot be written.
    pub fn new(mut out: W, roots: &[Cid]) -> io::Result<Self> {
        out.write_all(&header_bytes(roots))?;
        Ok(Self { out })
    }

    /// Begins a CAR whose one root is not known yet; see [`Writer::set_root`].
    ///
    /// # Errors
    /// The header cannot be written.
    pub fn with_root_later(out: W) -> io::Result<Self> {
        Self::new(out, &[raw_cid(&[0; 32])])
    }

    /// Appends a block.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, block: &Block) -> io::Result<()> {
        self.write_checked(block.cid(), block.bytes())
    }

    /// Appends a block that the caller has checked in its own way.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_checked(&mut self, cid: &Cid, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(&section_bytes(cid, bytes.len()))?;
        self.out.write_all(bytes)
    }

    /// Flushes, and gives back what was written to.
    ///
    /// # Errors
    /// It cannot be flushed.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write + Seek> Writer<W> {
    /// Writes the root over the one that [`Writer::with_root_later`] left open. The CAR must
    /// begin at the beginning of the file, and `root` be a CIDv1 of SHA-256, codec below 128.
    ///
    /// # Errors
    /// The header would be of another length; or it cannot be written.
    pub fn set_root(&mut self, root: &Cid) -> io::Result<()> {
        let header = header_bytes(&[*root]);
        if header.len() != super::HEADER_LEN_ONE_ROOT {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "only a CIDv1 of SHA-256 fits into the header",
            ));
        }
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header)?;
        self.out.seek(SeekFrom::End(0))?;
        Ok(())
    }
}

/// What stands before the bytes of a block of this length: the section's length, and the CID.
#[must_use]
pub fn section_bytes(cid: &Cid, block_len: usize) -> Vec<u8> {
    let cid = cid.to_bytes();
    let mut buffer = unsigned_varint::encode::usize_buffer();
    let len = unsigned_varint::encode::usize(cid.len() + block_len, &mut buffer);
    let mut out = Vec::with_capacity(len.len() + cid.len());
    out.extend_from_slice(len);
    out.extend_from_slice(&cid);
    out
}
