//! Content-defined cut points, keyed with a secret of the tenant.
//!
//! A gear hash (Xia et al., *FastCDC*, ATC 2016) with a secret table finds
//! candidates; a candidate is a cut only if a keyed BLAKE3 of the 64 bytes
//! before it says so. The second step is what keeps cut points from telling an
//! observer the table, the known weakness of keyed rolling hashes (Alexeev,
//! Percival, Zhang, *Chunking Attacks on File Backup Services using
//! Content-Defined Chunking*, 2025).

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Smallest piece that a cut leaves behind, in bytes; only the last piece of a run is smaller.
pub const PIECE_SIZE_MIN: usize = 320 << 10;
/// Largest piece, in bytes. Sealed, and padded, even an incompressible one stays below
/// [`crate::block::BLOCK_SIZE_MAX`].
pub const PIECE_SIZE_MAX: usize = 960 << 10;

const WINDOW: usize = 64;
const CANDIDATE_MASK: u64 = !(u64::MAX >> 11);
const CONFIRM_ONE_IN: u8 = 32;

/// Where a stream may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// At any byte.
    Byte,
    /// After a newline, where one is in reach: rows stay whole.
    Row,
}

/// Finds cut points under one secret.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Cutter {
    gear: Box<[u64; 256]>,
    confirm: [u8; 32],
}

impl std::fmt::Debug for Cutter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cutter")
    }
}

impl Cutter {
    /// Derives the cut points of a class from its 32-byte secret.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        let mut gear = Box::new([0u64; 256]);
        let mut reader = blake3::Hasher::new_derive_key("souverain 1 cut gear")
            .update(secret)
            .finalize_xof();
        for slot in gear.iter_mut() {
            let mut bytes = [0; 8];
            reader.fill(&mut bytes);
            *slot = u64::from_le_bytes(bytes);
        }
        Self {
            gear,
            confirm: blake3::derive_key("souverain 1 cut confirm", secret),
        }
    }

    /// Length of the first piece of `data`, which holds the whole rest of the stream or at
    /// least [`PIECE_SIZE_MAX`] bytes of it.
    #[must_use]
    pub fn first(&self, data: &[u8], boundary: Boundary) -> usize {
        if data.len() <= PIECE_SIZE_MIN {
            return data.len();
        }
        let data = &data[..data.len().min(PIECE_SIZE_MAX)];
        let cut = self.candidate(data);
        match boundary {
            Boundary::Byte => cut,
            Boundary::Row => row_end(data, cut),
        }
    }

    fn candidate(&self, data: &[u8]) -> usize {
        let start = PIECE_SIZE_MIN - WINDOW;
        let mut hash = 0u64;
        for &byte in &data[start..PIECE_SIZE_MIN] {
            hash = (hash << 1).wrapping_add(self.gear[usize::from(byte)]);
        }
        for (offset, &byte) in data[PIECE_SIZE_MIN..].iter().enumerate() {
            hash = (hash << 1).wrapping_add(self.gear[usize::from(byte)]);
            if hash & CANDIDATE_MASK == 0 {
                let end = PIECE_SIZE_MIN + offset + 1;
                let seal = blake3::keyed_hash(&self.confirm, &data[end - WINDOW..end]);
                if seal.as_bytes()[0] < u8::MAX / CONFIRM_ONE_IN + 1 {
                    return end;
                }
            }
        }
        data.len()
    }
}

/// The end of the row that `cut` falls into; before it, if the row is out of reach.
fn row_end(data: &[u8], cut: usize) -> usize {
    if data[cut - 1] == b'\n' {
        return cut;
    }
    if let Some(next) = memchr::memchr(b'\n', &data[cut..]) {
        return cut + next + 1;
    }
    match memchr::memrchr(b'\n', &data[..cut]) {
        Some(last) => last + 1,
        None => data.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, seed: u8) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new()
            .update(&[seed])
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    }

    fn pieces(cutter: &Cutter, mut data: &[u8], boundary: Boundary) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while !data.is_empty() {
            let (piece, rest) = data.split_at(cutter.first(data, boundary));
            out.push(piece.to_vec());
            data = rest;
        }
        out
    }

    #[test]
    fn pieces_are_whole_and_within_bounds() {
        let data = noise(20 << 20, 1);
        let pieces = pieces(&Cutter::new(&[7; 32]), &data, Boundary::Byte);
        assert_eq!(pieces.concat(), data);
        let (last, rest) = pieces.split_last().expect("some");
        assert!(last.len() <= PIECE_SIZE_MAX);
        assert!(
            rest.iter()
                .all(|p| (PIECE_SIZE_MIN..=PIECE_SIZE_MAX).contains(&p.len()))
        );
        let mean = data.len() / pieces.len();
        assert!((360 << 10..420 << 10).contains(&mean), "mean {mean}");
    }

    #[test]
    fn an_insertion_changes_few_pieces() {
        let before = noise(20 << 20, 2);
        let mut after = before.clone();
        let at = 9 << 20;
        after.splice(at..at, noise(13_000, 3));
        let cutter = Cutter::new(&[7; 32]);
        let old = pieces(&cutter, &before, Boundary::Byte);
        let new = pieces(&cutter, &after, Boundary::Byte);
        let fresh = new.iter().filter(|p| !old.contains(p)).count();
        assert!(fresh <= 5, "{fresh} fresh pieces");
    }

    #[test]
    fn another_secret_cuts_elsewhere() {
        let data = noise(8 << 20, 4);
        let lens = |secret| -> Vec<usize> {
            pieces(&Cutter::new(&secret), &data, Boundary::Byte)
                .iter()
                .map(Vec::len)
                .collect()
        };
        assert_ne!(lens([1; 32]), lens([2; 32]));
    }

    #[test]
    fn rows_stay_whole() {
        let mut data = Vec::new();
        for i in 0..200_000u32 {
            data.extend_from_slice(format!("{i}\t{}\n", i.wrapping_mul(2_654_435_761)).as_bytes());
        }
        for piece in pieces(&Cutter::new(&[7; 32]), &data, Boundary::Row) {
            assert_eq!(piece.last(), Some(&b'\n'));
        }
    }

    #[test]
    fn a_row_larger_than_a_piece_is_cut() {
        let data = vec![b'x'; 3 << 20];
        assert_eq!(
            pieces(&Cutter::new(&[7; 32]), &data, Boundary::Row).concat(),
            data
        );
        let mut data = b"short\n".to_vec();
        data.extend(vec![b'x'; 3 << 20]);
        assert_eq!(
            pieces(&Cutter::new(&[7; 32]), &data, Boundary::Row).concat(),
            data
        );
    }
}
