//! Reads CARv1, and the CARv1 in a CARv2.

use std::io::{self, Read};

use cid::Cid;

use super::{
    CID_LEN_MAX, CarError, HEADER_SIZE_MAX, SECTION_SIZE_MAX,
    header::{self, Header, V2_PRAGMA},
    take_cid,
};
use crate::block::{Block, CODEC_DAG_PB, UnverifiedBlock};

const V2_HEADER_LEN: u64 = 40;
const VARINT_LEN_MAX: usize = 10;

/// Reads the blocks of a CAR, one at a time.
///
/// Reads byte by byte where lengths stand: give it a [`std::io::BufReader`].
/// After an error there is nothing more to read.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// How far into the file reading has come.
    offset: u64,
    /// Where the blocks end, if the file says so.
    end: Option<u64>,
    version: u64,
    roots: Vec<Cid>,
    last_node: Option<Cid>,
    failed: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// It is not that of a CAR of version 1 or 2; or it cannot be read.
    pub fn new(input: R) -> Result<Self, CarError> {
        let mut reader = Self {
            input,
            offset: 0,
            end: None,
            version: 1,
            roots: Vec::new(),
            last_node: None,
            failed: false,
        };
        let mut header = reader.header()?;
        if header.version == 2 {
            reader.enter_v2(&header)?;
            header = reader.header()?;
        }
        match header {
            Header {
                version: 1,
                roots: Some(roots),
            } => reader.roots = roots,
            Header { version: 1, .. } => {
                return Err(CarError::Header { what: "no roots" });
            }
            Header { version, .. } => return Err(CarError::Version { version }),
        }
        Ok(reader)
    }

    /// The roots that the header names.
    #[must_use]
    pub fn roots(&self) -> &[Cid] {
        &self.roots
    }

    /// The version of the file, 1 or 2.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The last dag-pb block that was read: at the end of a CAR that was written to a pipe,
    /// whose header names no root, the root.
    #[must_use]
    pub fn last_node(&self) -> Option<&Cid> {
        self.last_node.as_ref()
    }

    /// How many bytes of the file were read.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads the next block and leaves checking it to the caller, who may do so elsewhere.
    ///
    /// # Errors
    /// The CAR is cut off or malformed, or cannot be read.
    pub fn next_unverified(&mut self) -> Result<Option<UnverifiedBlock>, CarError> {
        if self.failed {
            return Ok(None);
        }
        let block = self.section();
        self.failed = !matches!(block, Ok(Some(_)));
        if let Ok(Some(block)) = &block
            && block.cid.codec() == CODEC_DAG_PB
        {
            self.last_node = Some(block.cid);
        }
        block
    }

    /// Reads the next block and checks it against its CID.
    ///
    /// # Errors
    /// As [`Reader::next_unverified`]; or the block does not match.
    pub fn next_block(&mut self) -> Result<Option<Block>, CarError> {
        let offset = self.offset;
        let Some(block) = self.next_unverified()? else {
            return Ok(None);
        };
        match block.verify() {
            Ok(block) => Ok(Some(block)),
            Err(source) => {
                self.failed = true;
                Err(CarError::Block { offset, source })
            }
        }
    }

    fn header(&mut self) -> Result<Header, CarError> {
        let offset = self.offset;
        let len = self
            .length(HEADER_SIZE_MAX, |what| CarError::Header { what })?
            .ok_or(CarError::CutOff { offset })?;
        header::parse(&self.bytes(len)?)
    }

    fn enter_v2(&mut self, pragma: &Header) -> Result<(), CarError> {
        let bad = |what| CarError::Header { what };
        if pragma.roots.is_some() || self.offset != V2_PRAGMA.len() as u64 {
            return Err(bad("version 2 with roots"));
        }
        self.version = 2;
        let header = self.bytes(V2_HEADER_LEN as usize)?;
        let number = |at: usize| {
            let bytes = header[at..at + 8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        };
        // 16 bytes of characteristics, which are about the index.
        let (start, size) = (number(16), number(24));
        let padding = start
            .checked_sub(self.offset)
            .ok_or(bad("its data begin within the header"))?;
        let end = start.checked_add(size).ok_or(bad("its data end nowhere"))?;
        let skipped = io::copy(&mut self.input.by_ref().take(padding), &mut io::sink())
            .map_err(CarError::Io)?;
        if skipped < padding {
            let offset = self.offset;
            return Err(CarError::CutOff { offset });
        }
        self.offset = start;
        self.end = Some(end);
        Ok(())
    }

    fn section(&mut self) -> Result<Option<UnverifiedBlock>, CarError> {
        let offset = self.offset;
        let bad = |what| CarError::Section { offset, what };
        let Some(len) = self.length(SECTION_SIZE_MAX, bad)? else {
            return Ok(None);
        };
        let mut first = Vec::new();
        self.append(&mut first, len.min(CID_LEN_MAX))?;
        let (cid, rest) = take_cid(&first).ok_or(bad("not a CID"))?;
        let mut bytes = Vec::with_capacity(rest.len() + len - first.len());
        bytes.extend_from_slice(rest);
        self.append(&mut bytes, len - first.len())?;
        Ok(Some(UnverifiedBlock { cid, bytes }))
    }

    /// Reads a length of at least 1; none at the end of the file.
    fn length(
        &mut self,
        max: usize,
        bad: impl Fn(&'static str) -> CarError,
    ) -> Result<Option<usize>, CarError> {
        let mut varint = [0; VARINT_LEN_MAX];
        let start = self.offset;
        for at in 0..VARINT_LEN_MAX {
            if self.end.is_some_and(|end| self.offset >= end) || !self.byte(&mut varint[at])? {
                return match (at, self.end) {
                    // A file that says where it ends has to reach there.
                    (0, None) => Ok(None),
                    (0, Some(end)) if self.offset == end => Ok(None),
                    _ => Err(CarError::CutOff { offset: start }),
                };
            }
            if varint[at] < 0x80 {
                let (len, _) = unsigned_varint::decode::usize(&varint[..=at])
                    .map_err(|_| bad("its length is not a canonical varint"))?;
                return match len {
                    0 => Err(bad("it is empty")),
                    len if len > max => Err(bad("it is too long")),
                    len => Ok(Some(len)),
                };
            }
        }
        Err(bad("its length is not a canonical varint"))
    }

    fn byte(&mut self, byte: &mut u8) -> Result<bool, CarError> {
        loop {
            match self.input.read(std::slice::from_mut(byte)) {
                Ok(read) => {
                    self.offset += read as u64;
                    return Ok(read == 1);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CarError::Io(error)),
            }
        }
    }

    fn bytes(&mut self, len: usize) -> Result<Vec<u8>, CarError> {
        let mut bytes = Vec::with_capacity(len);
        self.append(&mut bytes, len)?;
        Ok(bytes)
    }

    fn append(&mut self, bytes: &mut Vec<u8>, len: usize) -> Result<(), CarError> {
        let (offset, len) = (self.offset, len as u64);
        if self.end.is_some_and(|end| end - offset < len) {
            return Err(CarError::CutOff { offset });
        }
        let read = self.input.by_ref().take(len).read_to_end(bytes);
        let read = read.map_err(CarError::Io)? as u64;
        self.offset += read;
        if read == len {
            Ok(())
        } else {
            Err(CarError::CutOff { offset })
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Block, CarError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_block().transpose()
    }
}
