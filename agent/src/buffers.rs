//! Memory of blocks and messages that are done with, for the next ones.
//!
//! Memory of a MiB that is given back to the system comes back as pages that it has to clear, one fault for
//! each 4 KiB. Whoever reads blocks or messages in turn takes buffers from here instead.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use bytes::Bytes;

/// Most buffers that are kept.
const SPARE_MAX: usize = 16;
/// Smallest and largest buffer that is kept, in bytes: smaller ones cost little anyway.
const SIZE_MIN: usize = 64 << 10;
const SIZE_MAX: usize = 2 << 20;

/// Buffers that nobody uses; those that were used last are at the front.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers(Arc<Mutex<VecDeque<Vec<u8>>>>);

/// Bytes whose buffer is given back at the end.
struct Lent {
    bytes: Vec<u8>,
    to: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.to.give(std::mem::take(&mut self.bytes));
    }
}

impl Buffers {
    /// A buffer with room for `size` bytes, and at most half as much again; there may be something in
    /// it. One of those that are kept, or a new one.
    pub(crate) fn take(&self, size: usize) -> Vec<u8> {
        let mut spare = self.0.lock().expect("no panic while it is held");
        let fits = |buffer: &Vec<u8>| (size..=size + size / 2).contains(&buffer.capacity());
        let best = spare
            .iter()
            .enumerate()
            .filter(|(_, buffer)| fits(buffer))
            .min_by_key(|(_, buffer)| buffer.capacity())
            .map(|(place, _)| place);
        let kept = best.and_then(|place| spare.remove(place));
        drop(spare);
        kept.unwrap_or_else(|| Vec::with_capacity(size))
    }

    /// What is in a buffer, which is kept when nobody has the bytes any more.
    pub(crate) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        if bytes.capacity() < SIZE_MIN {
            return bytes.into();
        }
        let to = self.clone();
        Bytes::from_owner(Lent { bytes, to })
    }

    fn give(&self, buffer: Vec<u8>) {
        if !(SIZE_MIN..=SIZE_MAX).contains(&buffer.capacity()) {
            return;
        }
        let mut spare = self.0.lock().expect("no panic while it is held");
        spare.push_front(buffer);
        let oldest = if spare.len() > SPARE_MAX {
            spare.pop_back()
        } else {
            None
        };
        drop((spare, oldest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(buffers: &Buffers) -> Vec<usize> {
        let spare = buffers.0.lock().expect("no panic");
        spare.iter().map(Vec::capacity).collect()
    }

    #[test]
    fn a_buffer_is_kept_when_the_last_part_of_its_bytes_is_gone() {
        let buffers = Buffers::default();
        let bytes = buffers.lend(vec![7; SIZE_MIN]);
        let part = bytes.slice(3..5);
        drop(bytes);
        assert!(kept(&buffers).is_empty());
        assert_eq!(part, [7, 7].as_slice());
        drop(part);
        assert_eq!(kept(&buffers), [SIZE_MIN]);
    }

    #[test]
    fn the_smallest_that_fits_is_taken_and_none_that_is_far_too_large() {
        let buffers = Buffers::default();
        for size in [300_000, 200_000, 100_000] {
            buffers.give(Vec::with_capacity(size));
        }
        assert_eq!(buffers.take(190_000).capacity(), 200_000);
        assert_eq!(buffers.take(190_000).capacity(), 190_000, "a new one");
        assert_eq!(buffers.take(200_000).capacity(), 300_000);
        assert_eq!(kept(&buffers), [100_000]);
    }

    #[test]
    fn no_more_are_kept_than_the_limit() {
        let buffers = Buffers::default();
        for more in 0..2 * SPARE_MAX {
            drop(buffers.lend(Vec::with_capacity(SIZE_MIN + more)));
        }
        let last: Vec<usize> = (SPARE_MAX..2 * SPARE_MAX).map(|n| SIZE_MIN + n).collect();
        assert_eq!(kept(&buffers), last.into_iter().rev().collect::<Vec<_>>());
        buffers.give(Vec::with_capacity(SIZE_MIN - 1));
        buffers.give(Vec::with_capacity(SIZE_MAX + 1));
        assert_eq!(kept(&buffers).len(), SPARE_MAX);
        assert!(!kept(&buffers).contains(&(SIZE_MAX + 1)));
    }
}
