//! Segment lists: which segments, in order, make a stream.
//!
//! A list is text, one line a segment: `CID LEN ROWS BLAKE3`. A stream has as
//! many lists as it needs; they are cut by content, so that a change in the
//! stream rewrites the list around it and no other.

use std::fmt::Write as _;

use cid::Cid;

use crate::{
    block::{digest_of, raw_cid},
    cut::PIECE_SIZE_MAX,
};

/// A piece of a stream and the sealed block that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// SHA-256 of the sealed bytes: with the raw codec, the block's CID.
    pub block: [u8; 32],
    /// BLAKE3 of the piece.
    pub piece: [u8; 32],
    /// Length of the piece in bytes.
    pub len: u32,
    /// Rows of a table that end in the piece.
    pub rows: u32,
}

impl Segment {
    /// The CID of the sealed block.
    #[must_use]
    pub fn cid(&self) -> Cid {
        raw_cid(&self.block)
    }
}

/// Fewest segments of a list that another one follows.
pub const LIST_SEGMENTS_MIN: usize = 64;
/// Most segments of a list.
pub const LIST_SEGMENTS_MAX: usize = 1024;

const LIST_CUT_MASK: u8 = 0x7f;

/// Gathers segments into lists.
#[derive(Debug, Default)]
pub struct ListBuilder {
    text: String,
    segments: u32,
    bytes: u64,
}

/// A finished list, still in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Its lines.
    pub text: String,
    /// How many lines that is.
    pub segments: u32,
    /// Bytes of the stream that its segments hold.
    pub bytes: u64,
}

impl ListBuilder {
    /// Adds a segment; returns the list that it completes.
    pub fn push(&mut self, segment: &Segment) -> Option<List> {
        writeln!(
            self.text,
            "{} {} {} {}",
            segment.cid(),
            segment.len,
            segment.rows,
            blake3::Hash::from(segment.piece)
        )
        .expect("a string takes all writes");
        self.segments += 1;
        self.bytes += u64::from(segment.len);
        let count = self.segments as usize;
        let cut = segment.piece[0] & LIST_CUT_MASK == 0 && count >= LIST_SEGMENTS_MIN;
        if cut || count == LIST_SEGMENTS_MAX {
            self.finish()
        } else {
            None
        }
    }

    /// Returns the list of what is left, if anything is.
    pub fn finish(&mut self) -> Option<List> {
        let done = std::mem::take(self);
        (done.segments > 0).then_some(List {
            text: done.text,
            segments: done.segments,
            bytes: done.bytes,
        })
    }
}

/// Why a list is not one that a [`ListBuilder`] writes.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of a segment list is malformed")]
pub struct ListError {
    /// Line number, from 1.
    pub line: usize,
}

/// Reads a list back, and refuses what [`ListBuilder`] would not write.
///
/// # Errors
/// Names the first malformed line.
pub fn parse(text: &[u8]) -> Result<Vec<Segment>, ListError> {
    let lines = text.split_inclusive(|&b| b == b'\n');
    let segments: Vec<Segment> = lines
        .enumerate()
        .map(|(i, line)| {
            parse_line(line)
                .filter(|_| i < LIST_SEGMENTS_MAX)
                .ok_or(ListError { line: i + 1 })
        })
        .collect::<Result<_, _>>()?;
    if segments.is_empty() {
        Err(ListError { line: 1 })
    } else {
        Ok(segments)
    }
}

fn parse_line(line: &[u8]) -> Option<Segment> {
    let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let mut words = line.split(' ');
    let cid: Cid = words.next()?.parse().ok()?;
    let segment = Segment {
        block: digest_of(&cid)?,
        len: words.next()?.parse().ok()?,
        rows: words.next()?.parse().ok()?,
        piece: *blake3::Hash::from_hex(words.next()?).ok()?.as_bytes(),
    };
    let sane =
        segment.len > 0 && segment.len as usize <= PIECE_SIZE_MAX && segment.rows <= segment.len;
    let again = format!(
        "{} {} {} {}",
        segment.cid(),
        segment.len,
        segment.rows,
        blake3::Hash::from(segment.piece)
    );
    (sane && again == line).then_some(segment)
}

/// Content hash of a stream: BLAKE3 (derive-key mode) over the length and BLAKE3 of its pieces.
///
/// Equal content cut under one tenant's secret has equal hashes.
#[derive(Clone, Debug)]
pub struct ContentHasher(blake3::Hasher);

impl Default for ContentHasher {
    fn default() -> Self {
        Self(blake3::Hasher::new_derive_key("souverain 1 stream content"))
    }
}

impl ContentHasher {
    /// Takes the next segment.
    pub fn push(&mut self, segment: &Segment) {
        self.0.update(&segment.len.to_le_bytes());
        self.0.update(&segment.piece);
    }

    /// The hash of all segments so far.
    #[must_use]
    pub fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(n: u32) -> Segment {
        let piece = *blake3::hash(&n.to_le_bytes()).as_bytes();
        Segment {
            block: piece,
            piece,
            len: n + 1,
            rows: n / 2,
        }
    }

    #[test]
    fn lists_round_trip_and_are_cut_by_content() {
        let segments: Vec<Segment> = (0..5000).map(segment).collect();
        let mut builder = ListBuilder::default();
        let mut lists: Vec<List> = segments.iter().filter_map(|s| builder.push(s)).collect();
        lists.extend(builder.finish());
        assert!(builder.finish().is_none());
        let read: Vec<Segment> = lists
            .iter()
            .flat_map(|l| parse(l.text.as_bytes()).expect("own list"))
            .collect();
        assert_eq!(read, segments);
        assert!(
            lists.len() > 5000 / LIST_SEGMENTS_MAX + 1,
            "cut by content too"
        );
        assert!(
            lists
                .iter()
                .all(|l| l.segments as usize <= LIST_SEGMENTS_MAX)
        );
    }

    #[test]
    fn rejects_what_it_would_not_write() {
        let mut builder = ListBuilder::default();
        builder.push(&segment(5));
        let good = builder.finish().expect("one").text;
        assert!(parse(good.as_bytes()).is_ok());
        let upper = good.to_uppercase();
        let padded = good.replace(" 6 ", " 06 ");
        let zero = good.replace(" 6 ", " 0 ");
        let large = good.replace(" 6 ", " 983041 ");
        let rows = good.replace(" 2 ", " 7 ");
        let cut = good.trim_end();
        let more = good.replace('\n', " x\n");
        for bad in [
            "",
            "\n",
            &upper,
            &padded,
            &zero,
            &large,
            &rows,
            cut,
            &more,
            "a b c d\n",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let many = good.repeat(LIST_SEGMENTS_MAX + 1);
        assert_eq!(
            parse(many.as_bytes()).expect_err("too many").line,
            LIST_SEGMENTS_MAX + 1
        );
    }
}
