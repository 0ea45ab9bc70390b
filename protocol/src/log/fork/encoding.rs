//! Fork proofs as text, one way each.

use std::fmt;

use data_encoding::BASE64;

use super::{Evidence, Fork, ForkError, Signer, UnverifiedFork};
use crate::{
    log::{
        checkpoint::{CHECKPOINT_SIZE_MAX, UnverifiedCheckpoint},
        entry::UnverifiedEntry,
        tree::PROOF_HASHES_MAX,
    },
    note::decode_base64,
};

/// First line of every fork proof of this version.
pub const FORK_HEADER: &str = "souverain log fork 1";
/// Largest fork proof in bytes.
pub const FORK_SIZE_MAX: usize = 3 * CHECKPOINT_SIZE_MAX;

impl fmt::Display for UnverifiedFork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = &self.signers;
        writeln!(f, "{FORK_HEADER}\nsigner {first}")?;
        if second != first {
            writeln!(f, "signer {second}")?;
        }
        let (kind, statements, hashes) = match &self.evidence {
            Evidence::Entries(entries) => {
                let bytes = [&entries[0], &entries[1]].map(|entry| entry.bytes().to_vec());
                ("entries", bytes, &[][..])
            }
            Evidence::Roots(checkpoints) => ("roots", notes(checkpoints), &[][..]),
            Evidence::Growth {
                checkpoints,
                hashes,
            } => ("growth", notes(checkpoints), &hashes[..]),
        };
        writeln!(f, "kind {kind}")?;
        for (keyword, statement) in ["first", "second"].iter().zip(statements) {
            writeln!(f, "{keyword} {}", BASE64.encode(&statement))?;
        }
        let mut hashes = hashes.iter();
        hashes.try_for_each(|hash| writeln!(f, "hash {}", BASE64.encode(hash)))
    }
}

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn notes(checkpoints: &[UnverifiedCheckpoint; 2]) -> [Vec<u8>; 2] {
    let notes = checkpoints.each_ref();
    notes.map(|checkpoint| checkpoint.to_string().into_bytes())
}

impl UnverifiedFork {
    /// Reads a fork proof, and refuses one that would be written in another way.
    ///
    /// # Errors
    /// It is too long, or names the first line that is malformed; or it would be written in another way.
    pub fn parse(proof: &[u8]) -> Result<Self, ForkError> {
        if proof.len() > FORK_SIZE_MAX {
            return Err(ForkError::TooLong);
        }
        let malformed = |line| ForkError::Malformed { line };
        let text = std::str::from_utf8(proof).map_err(|_| malformed(1))?;
        let mut lines = text.split_terminator('\n').zip(1..).peekable();
        if lines.next() != Some((FORK_HEADER, 1)) {
            return Err(malformed(1));
        }
        let signer = |(line, number): (&str, usize)| -> Result<Signer, ForkError> {
            let key = line.strip_prefix("signer ").ok_or(malformed(number))?;
            key.parse().map_err(|_| malformed(number))
        };
        let first = signer(lines.next().ok_or(malformed(2))?)?;
        let second = lines.next_if(|(line, _)| line.starts_with("signer "));
        let second = second.map_or(Ok(first.clone()), signer)?;
        let mut value = |keyword: &str| {
            let (line, number) = lines.next().ok_or(malformed(3))?;
            let value = line.strip_prefix(keyword).ok_or(malformed(number))?;
            Ok::<_, ForkError>((value, number))
        };
        let kind = value("kind ")?;
        let statements = [value("first ")?, value("second ")?]
            .map(|(value, number)| decode_base64(value).ok_or(malformed(number)));
        let [one, two] = statements;
        let (one, two) = (one?, two?);
        let hashes: Vec<_> = lines
            .take(PROOF_HASHES_MAX + 1)
            .map(|(line, number)| {
                let hash = line.strip_prefix("hash ").ok_or(malformed(number))?;
                let hash = decode_base64(hash).and_then(|hash| hash.try_into().ok());
                hash.ok_or(malformed(number))
            })
            .collect::<Result<_, _>>()?;
        let checkpoints = || -> Result<_, ForkError> {
            let parse = |note: &[u8]| UnverifiedCheckpoint::parse(note);
            Ok([parse(&one)?, parse(&two)?])
        };
        let evidence = match kind {
            ("entries", _) => {
                let parse = |bytes: &[u8]| UnverifiedEntry::parse(bytes);
                Evidence::Entries(Box::new([parse(&one)?, parse(&two)?]))
            }
            ("roots", _) => Evidence::Roots(checkpoints()?),
            ("growth", _) => Evidence::Growth {
                checkpoints: checkpoints()?,
                hashes,
            },
            (_, number) => return Err(malformed(number)),
        };
        let fork = Self {
            signers: [first, second],
            evidence,
        };
        let again = fork.clone().canonical()?;
        if again.to_string() != text {
            return Err(ForkError::NotCanonical);
        }
        Ok(fork)
    }
}
