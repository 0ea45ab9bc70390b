//! Seeded data for the benchmarks: the same bytes for the same seed and size, everywhere.

use std::io::{self, Write};

/// A stream of pseudo-random numbers: BLAKE3 in counter mode.
pub struct Rng {
    reader: blake3::OutputReader,
}

impl std::fmt::Debug for Rng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rng")
    }
}

impl Rng {
    /// Starts the stream of a seed and a label.
    #[must_use]
    pub fn new(seed: u64, label: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(label.as_bytes());
        Self {
            reader: hasher.finalize_xof(),
        }
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.reader.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A number below `bound`, skewed to small ones if `skewed`.
    pub fn below(&mut self, bound: u64, skewed: bool) -> u64 {
        let draw = self.next_u64() % bound;
        if skewed {
            draw * (self.next_u64() % bound) / bound
        } else {
            draw
        }
    }

    /// Fills a buffer.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.reader.fill(out);
    }
}

const SYLLABLES: [&str; 32] = [
    "ka", "lo", "mi", "ren", "tu", "ves", "on", "dar", "pel", "is", "qua", "ne", "bor", "ti", "sa",
    "gul", "em", "fi", "ro", "han", "ce", "wy", "lun", "ad", "jo", "mar", "ke", "ul", "pra", "zi",
    "et", "no",
];
const STATES: [&str; 5] = ["open", "paid", "shipped", "returned", "cancelled"];

/// A word of a vocabulary of some thousands, common ones more often.
fn word(rng: &mut Rng, out: &mut Vec<u8>) {
    let mut n = rng.below(8192, true);
    for _ in 0..3 {
        out.extend_from_slice(SYLLABLES[usize::try_from(n % 32).expect("below 32")].as_bytes());
        n /= 32;
        if n == 0 {
            break;
        }
    }
}

/// Writes about `size` bytes of rows, one JSON object a line; `width` from 0 (narrow) to 7 (wide).
///
/// # Errors
/// Writing failed.
pub fn table(rng: &mut Rng, width: u64, size: u64, out: &mut dyn Write) -> io::Result<()> {
    let mut row = Vec::with_capacity(4096);
    let (mut id, mut written, mut time) = (1u64, 0u64, 1_700_000_000_000u64);
    while written < size {
        row.clear();
        time += rng.below(5000, true);
        let (a, b) = (rng.next_u64(), rng.next_u64());
        let state = STATES[usize::try_from(rng.below(5, true)).expect("below 5")];
        write!(
            row,
            "{{\"id\":{id},\"at\":{time},\"state\":\"{state}\",\"total\":{}.{:02}",
            a % 100_000,
            b % 100
        )?;
        if width > 0 {
            write!(
                row,
                ",\"ref\":\"{a:016x}\",\"customer\":{}",
                rng.below(50_000, true)
            )?;
        }
        for field in 0..width {
            write!(row, ",\"f{field}\":\"")?;
            for w in 0..=rng.below(2 + 2 * width, false) {
                if w > 0 {
                    row.push(b' ');
                }
                word(rng, &mut row);
            }
            row.push(b'"');
        }
        row.extend_from_slice(b"}\n");
        out.write_all(&row)?;
        written += row.len() as u64;
        id += 1;
    }
    Ok(())
}
