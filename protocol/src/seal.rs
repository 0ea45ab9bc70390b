//! Sealing: piece -> zstd frame -> padding -> age file, and back.
//!
//! A sealed object is one age file. What `age -d` gives is one zstd frame that
//! states its content size and window, and, where padding was asked for, one
//! skippable frame of zeros that `zstd -d` passes over.

use std::io::{Read, Write};

use crate::{block::BLOCK_SIZE_MAX, cut::PIECE_SIZE_MAX};

/// Bytes that only their recipients can read. Made by [`Sealer`] and by the capsule alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

impl Sealed {
    #[cfg(test)]
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Takes back sealed bytes that were kept.
    ///
    /// # Errors
    /// They are not an age file.
    pub fn from_age(bytes: Vec<u8>) -> Result<Self, OpenError> {
        age::Decryptor::new_buffered(&bytes[..]).map_err(OpenError::Decrypt)?;
        Ok(Self(bytes))
    }

    /// The sealed bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The sealed bytes, by value.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Splits into pieces of at most [`BLOCK_SIZE_MAX`] bytes, each still sealed.
    #[must_use]
    pub fn split(self) -> Vec<Sealed> {
        if self.0.len() <= BLOCK_SIZE_MAX {
            return vec![self];
        }
        self.0
            .chunks(BLOCK_SIZE_MAX)
            .map(|chunk| Self(chunk.to_vec()))
            .collect()
    }
}

/// zstd's default level, and ours.
pub const LEVEL_DEFAULT: i32 = 3;

const SKIPPABLE_MAGIC: [u8; 4] = 0x184D_2A50u32.to_le_bytes();
const SKIPPABLE_HEADER: usize = 8;
/// Bit of a frame's descriptor: the window is the content, and no byte says so.
const SINGLE_SEGMENT: u8 = 0x20;
const WINDOW_LOG_MAX: u32 = 27;
const WINDOW_SIZE_MAX: u64 = 1 << WINDOW_LOG_MAX;

/// What may be sealed in one object, in bytes of plaintext.
pub const PLAIN_SIZE_MAX: usize = 64 << 20;

/// Why something could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Compression failed.
    #[error("cannot compress")]
    Compress(#[source] std::io::Error),
    /// A recipient refused, or recipients do not go together.
    #[error("cannot encrypt to these recipients")]
    Encrypt(#[source] age::EncryptError),
    /// Writing the age file failed.
    #[error("cannot encrypt")]
    Write(#[source] std::io::Error),
}

/// Why a sealed object could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The bytes are not an age file, or were changed, or are for somebody else.
    #[error("cannot decrypt")]
    Decrypt(#[source] age::DecryptError),
    /// None of the identities at hand is among the recipients.
    #[error("no identity matches its recipients")]
    NoMatchingIdentity,
    /// The age payload ends early or was changed.
    #[error("sealed bytes are damaged")]
    Damaged(#[source] std::io::Error),
    /// The plaintext does not begin with a zstd frame that states its size.
    #[error("content is not a zstd frame that states its size")]
    NotAFrame,
    /// The frame asks for more memory than any is given.
    #[error("the frame asks for a window of more than {} MiB", WINDOW_SIZE_MAX >> 20)]
    Window,
    /// The frame states another size than was promised.
    #[error("expected {expected} bytes, the frame holds {found}")]
    Size {
        /// Bytes promised.
        expected: u64,
        /// Bytes that the frame states.
        found: u64,
    },
    /// The frame does not decompress.
    #[error("cannot decompress")]
    Decompress(#[source] std::io::Error),
    /// Something other than padding follows the frame.
    #[error("unexpected bytes after the frame")]
    Trailing,
}

/// Compresses, pads and encrypts pieces to the recipients of one class.
pub struct Sealer {
    recipients: Vec<Box<dyn age::Recipient + Send + Sync>>,
    compressor: zstd::bulk::Compressor<'static>,
    padded: bool,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer")
            .field("padded", &self.padded)
            .finish_non_exhaustive()
    }
}

impl Sealer {
    /// Makes a sealer. `level` is zstd's; `padded` adds Padmé padding.
    ///
    /// # Errors
    /// zstd does not know the level.
    pub fn new(
        recipient: Box<dyn age::Recipient + Send + Sync>,
        level: i32,
        padded: bool,
    ) -> Result<Self, SealError> {
        Ok(Self {
            recipients: vec![recipient],
            compressor: zstd::bulk::Compressor::new(level).map_err(SealError::Compress)?,
            padded,
        })
    }

    /// Compresses a piece, and pads it if asked to: what the age file will hold.
    ///
    /// # Errors
    /// zstd ran out of memory.
    pub fn compress(&mut self, piece: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut framed = self
            .compressor
            .compress(piece)
            .map_err(SealError::Compress)?;
        if self.padded {
            pad(&mut framed);
        }
        Ok(framed)
    }

    /// Seals a piece.
    ///
    /// # Errors
    /// As [`Sealer::compress`]; or a recipient refused.
    pub fn seal(&mut self, piece: &[u8]) -> Result<Sealed, SealError> {
        let framed = self.compress(piece)?;
        encrypt(
            self.recipients.iter().map(|r| &**r as &dyn age::Recipient),
            &framed,
        )
    }
}

/// Encrypts bytes as one age file.
pub(crate) fn encrypt<'a>(
    recipients: impl Iterator<Item = &'a dyn age::Recipient>,
    plain: &[u8],
) -> Result<Sealed, SealError> {
    let encryptor = age::Encryptor::with_recipients(recipients).map_err(SealError::Encrypt)?;
    let tags = plain.len() / (64 << 10) + 1;
    let out = Vec::with_capacity(plain.len() + 16 * tags + 1024);
    let mut writer = encryptor.wrap_output(out).map_err(SealError::Write)?;
    writer.write_all(plain).map_err(SealError::Write)?;
    writer.finish().map(Sealed).map_err(SealError::Write)
}

/// Decrypts one age file of at most `size_max` bytes of plaintext.
pub(crate) fn decrypt<'a>(
    identities: impl Iterator<Item = &'a dyn age::Identity>,
    sealed: &[u8],
) -> Result<Vec<u8>, OpenError> {
    let decryptor = age::Decryptor::new_buffered(sealed).map_err(OpenError::Decrypt)?;
    let mut reader = decryptor.decrypt(identities).map_err(|err| match err {
        age::DecryptError::NoMatchingKeys => OpenError::NoMatchingIdentity,
        err => OpenError::Decrypt(err),
    })?;
    // Never reallocated, so no copy of the plaintext is left behind: it is
    // always shorter than the sealed bytes.
    let mut plain = Vec::with_capacity(sealed.len());
    reader.read_to_end(&mut plain).map_err(OpenError::Damaged)?;
    Ok(plain)
}

/// Opens sealed objects with the identities of a snapshot's classes.
pub struct Opener<'a> {
    identities: &'a [crate::keys::ClassIdentity],
    decompressor: zstd::bulk::Decompressor<'static>,
}

impl std::fmt::Debug for Opener<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opener({} identities)", self.identities.len())
    }
}

impl<'a> Opener<'a> {
    /// Makes an opener.
    ///
    /// # Errors
    /// zstd ran out of memory.
    pub fn new(identities: &'a [crate::keys::ClassIdentity]) -> Result<Self, OpenError> {
        let mut decompressor = zstd::bulk::Decompressor::new().map_err(OpenError::Decompress)?;
        decompressor
            .set_parameter(zstd::zstd_safe::DParameter::WindowLogMax(WINDOW_LOG_MAX))
            .map_err(OpenError::Decompress)?;
        Ok(Self {
            identities,
            decompressor,
        })
    }

    /// Opens a sealed piece that holds exactly `len` bytes.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is returned unless everything was verified.
    pub fn open(&mut self, sealed: &[u8], len: usize) -> Result<Vec<u8>, OpenError> {
        let framed = self.decrypt(sealed)?;
        let found = content_size(&framed)?;
        if found != len as u64 || len > PIECE_SIZE_MAX {
            return Err(OpenError::Size {
                expected: len as u64,
                found,
            });
        }
        self.unframe(&framed, len)
    }

    /// Opens a sealed object of at most [`PLAIN_SIZE_MAX`] bytes.
    ///
    /// # Errors
    /// As [`Opener::open`].
    pub fn open_bounded(&mut self, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let framed = self.decrypt(sealed)?;
        let found = content_size(&framed)?;
        match usize::try_from(found) {
            Ok(len) if len <= PLAIN_SIZE_MAX => self.unframe(&framed, len),
            _ => Err(OpenError::Size {
                expected: PLAIN_SIZE_MAX as u64,
                found,
            }),
        }
    }

    fn decrypt(&self, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        decrypt(
            self.identities.iter().map(|i| i as &dyn age::Identity),
            sealed,
        )
    }

    fn unframe(&mut self, framed: &[u8], len: usize) -> Result<Vec<u8>, OpenError> {
        let frame_len = zstd::zstd_safe::find_frame_compressed_size(framed)
            .map_err(|_| OpenError::NotAFrame)?;
        let (frame, padding) = framed.split_at(frame_len);
        check_padding(frame_len, padding)?;
        let plain = self
            .decompressor
            .decompress(frame, len)
            .map_err(OpenError::Decompress)?;
        if plain.len() == len {
            Ok(plain)
        } else {
            Err(OpenError::Size {
                expected: len as u64,
                found: plain.len() as u64,
            })
        }
    }
}

fn content_size(framed: &[u8]) -> Result<u64, OpenError> {
    if framed.get(..4) != Some(&zstd::zstd_safe::MAGICNUMBER.to_le_bytes()) {
        return Err(OpenError::NotAFrame);
    }
    let size = zstd::zstd_safe::get_frame_content_size(framed)
        .ok()
        .flatten()
        .ok_or(OpenError::NotAFrame)?;
    match framed[4..] {
        // libzstd holds to its limit of the window only when it streams.
        [descriptor, window, ..] if descriptor & SINGLE_SEGMENT == 0 => {
            let base = 1u64 << (10 + (window >> 3));
            let window = base + base / 8 * u64::from(window & 7);
            (window <= WINDOW_SIZE_MAX)
                .then_some(size)
                .ok_or(OpenError::Window)
        }
        _ => Ok(size),
    }
}

/// Appends the skippable frame that brings `framed` to its padded length.
fn pad(framed: &mut Vec<u8>) {
    let total = padded_len(framed.len());
    let body = total - framed.len() - SKIPPABLE_HEADER;
    framed.extend_from_slice(&SKIPPABLE_MAGIC);
    framed.extend_from_slice(
        &u32::try_from(body)
            .expect("padding is below 4 GiB")
            .to_le_bytes(),
    );
    framed.resize(total, 0);
}

fn check_padding(frame_len: usize, padding: &[u8]) -> Result<(), OpenError> {
    if padding.is_empty() {
        return Ok(());
    }
    let body = padding.get(SKIPPABLE_HEADER..).ok_or(OpenError::Trailing)?;
    let expected = padded_len(frame_len) - frame_len;
    let stated = u32::try_from(body.len()).map_err(|_| OpenError::Trailing)?;
    if padding[..4] == SKIPPABLE_MAGIC
        && padding[4..8] == stated.to_le_bytes()
        && padding.len() == expected
        && body.iter().all(|&b| b == 0)
    {
        Ok(())
    } else {
        Err(OpenError::Trailing)
    }
}

/// Length of a padded frame: Padmé of the frame and the header of its padding.
#[must_use]
pub fn padded_len(frame_len: usize) -> usize {
    padme(frame_len + SKIPPABLE_HEADER)
}

/// The Padmé length of `len`, at most 12 % larger (Nikitin et al., *Reducing Metadata
/// Leakage from Encrypted Files and Communication with PURBs*, PETS 2019).
#[must_use]
pub fn padme(len: usize) -> usize {
    if len < 2 {
        return len;
    }
    let exponent = usize::BITS - 1 - len.leading_zeros();
    let significant = u32::BITS - exponent.leading_zeros();
    let mask = (1usize << (exponent - significant)) - 1;
    (len + mask) & !mask
}
