//! Offline proofs that an entry is in a log: its index, its way to the root, and a checkpoint.
//!
//! See <https://c2sp.org/tlog-proof>.

use std::fmt;

use data_encoding::BASE64;

use super::{
    checkpoint::{CHECKPOINT_SIZE_MAX, CheckpointError, SignedCheckpoint, UnverifiedCheckpoint},
    policy::{Policy, PolicyError, Witnessed},
    tree::{self, Hash, PROOF_HASHES_MAX, TreeError},
};
use crate::note::{VerifierKey, decode_base64};

/// First line of every proof of this version.
pub const PROOF_HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Largest extra data of a proof, in bytes.
pub const EXTRA_SIZE_MAX: usize = 48 << 10;
/// Largest proof in bytes.
pub const PROOF_SIZE_MAX: usize = CHECKPOINT_SIZE_MAX + (64 << 10) + PROOF_HASHES_MAX * 45 + 256;

/// Why a proof is none, or proves nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It is longer than any that is read.
    #[error("the proof is longer than {PROOF_SIZE_MAX} bytes")]
    TooLong,
    /// A line of it is not as it would be written.
    #[error("line {line} of the proof is malformed")]
    Malformed {
        /// Line number, from 1.
        line: usize,
    },
    /// The checkpoint is none, or not signed by the log.
    #[error("the proof has no checkpoint of the log")]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint is not as the policy wants it.
    #[error("the checkpoint of the proof does not satisfy the policy")]
    Policy(#[from] PolicyError),
    /// The entry is not in the checkpoint's tree.
    #[error("the entry is not in the log")]
    Tree(#[from] TreeError),
}

/// A proof that was not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedProof {
    extra: Option<Vec<u8>>,
    index: u64,
    hashes: Vec<Hash>,
    checkpoint: UnverifiedCheckpoint,
}

impl UnverifiedProof {
    /// Puts a proof together: the hashes are those of [`tree::prove_inclusion`], in the tree of the
    /// checkpoint.
    ///
    /// # Errors
    /// The extra data are too long, or there are more hashes than any proof has.
    pub fn new(
        index: u64,
        hashes: Vec<Hash>,
        checkpoint: SignedCheckpoint,
        extra: Option<Vec<u8>>,
    ) -> Result<Self, ProofError> {
        let found = hashes.len();
        if found > PROOF_HASHES_MAX {
            let expected = PROOF_HASHES_MAX;
            return Err(TreeError::ProofLength { expected, found }.into());
        }
        // Nothing is written as no line at all.
        let extra = extra.filter(|extra| !extra.is_empty());
        if extra
            .as_ref()
            .is_some_and(|extra| extra.len() > EXTRA_SIZE_MAX)
        {
            return Err(ProofError::TooLong);
        }
        Ok(Self {
            extra,
            index,
            hashes,
            checkpoint: checkpoint.into(),
        })
    }

    /// Reads a proof, and refuses one that would be written in another way.
    ///
    /// # Errors
    /// It is too long, or names the first line that is malformed.
    pub fn parse(proof: &[u8]) -> Result<Self, ProofError> {
        if proof.len() > PROOF_SIZE_MAX {
            return Err(ProofError::TooLong);
        }
        let malformed = |line| ProofError::Malformed { line };
        let text = std::str::from_utf8(proof).map_err(|_| malformed(1))?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(malformed(1))?;
        let mut lines = head.split('\n').zip(1..).peekable();
        if lines.next() != Some((PROOF_HEADER, 1)) {
            return Err(malformed(1));
        }
        let extra = lines.next_if(|(line, _)| line.starts_with("extra "));
        let extra = extra.map(|(line, number)| {
            let extra = decode_base64(&line["extra ".len()..]);
            let fits = |extra: &Vec<u8>| (1..=EXTRA_SIZE_MAX).contains(&extra.len());
            extra.filter(fits).ok_or(malformed(number))
        });
        let extra = extra.transpose()?;
        let (line, number) = lines.next().ok_or(malformed(2))?;
        let digits = line.strip_prefix("index ").ok_or(malformed(number))?;
        let index: u64 = digits.parse().map_err(|_| malformed(number))?;
        if index.to_string() != digits {
            return Err(malformed(number));
        }
        let hashes = lines.enumerate().map(|(i, (line, number))| {
            let hash = decode_base64(line).and_then(|hash| hash.try_into().ok());
            hash.filter(|_| i < PROOF_HASHES_MAX)
                .ok_or(malformed(number))
        });
        Ok(Self {
            extra,
            index,
            hashes: hashes.collect::<Result<_, _>>()?,
            checkpoint: UnverifiedCheckpoint::parse(checkpoint.as_bytes())?,
        })
    }

    /// Index of the entry.
    #[must_use]
    pub fn index_unverified(&self) -> u64 {
        self.index
    }

    /// What came with the proof. Nobody signed it.
    #[must_use]
    pub fn extra_unverified(&self) -> Option<&[u8]> {
        self.extra.as_deref()
    }

    /// The checkpoint, to find the key of its log by.
    #[must_use]
    pub fn checkpoint_unverified(&self) -> &UnverifiedCheckpoint {
        &self.checkpoint
    }

    /// Checks that a leaf is at the index of the proof in a tree that a log signed. Cosignatures are not
    /// looked at.
    ///
    /// # Errors
    /// It is not, or the log did not sign the checkpoint.
    pub fn verify(self, leaf: &Hash, key: &VerifierKey) -> Result<SignedCheckpoint, ProofError> {
        let checkpoint = self.checkpoint.verify(key)?;
        verify_in(&checkpoint, leaf, self.index, &self.hashes)?;
        Ok(checkpoint)
    }

    /// Checks that a leaf is at the index of the proof in a tree that a log and witnesses signed as a
    /// policy wants it.
    ///
    /// # Errors
    /// It is not, or they did not.
    pub fn verify_by(self, leaf: &Hash, policy: &Policy) -> Result<Witnessed, ProofError> {
        let witnessed = policy.verify(self.checkpoint)?;
        verify_in(&witnessed.checkpoint, leaf, self.index, &self.hashes)?;
        Ok(witnessed)
    }
}

fn verify_in(
    checkpoint: &SignedCheckpoint,
    leaf: &Hash,
    index: u64,
    hashes: &[Hash],
) -> Result<(), TreeError> {
    let checkpoint = checkpoint.checkpoint();
    tree::verify_inclusion(leaf, index, checkpoint.size(), hashes, checkpoint.root())
}

impl fmt::Display for UnverifiedProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{PROOF_HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", BASE64.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{}", BASE64.encode(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{
        checkpoint::{Checkpoint, Origin},
        cosignature::{CosignerKey, cosign},
        entry::Action,
        testing::{Log, public, sign},
        tree::{Edge, leaf_hash},
    };

    fn key() -> VerifierKey {
        VerifierKey::new("example.com/log", public(1).as_bytes()).expect("a key")
    }

    fn witness() -> CosignerKey {
        CosignerKey::new("witness.example", public(2).as_bytes()).expect("a key")
    }

    /// A proof of leaf 2 of three, cosigned.
    fn proof(extra: Option<Vec<u8>>) -> UnverifiedProof {
        let leaves = [b"a", b"b", b"c"].map(|leaf| leaf_hash(leaf));
        let mut edge = Edge::new();
        for leaf in leaves {
            edge.push(leaf).expect("room");
        }
        let origin = Origin::new("example.com/log").expect("a name");
        let checkpoint = Checkpoint::new(origin, 3, edge.root()).expect("a checkpoint");
        let mut signed = checkpoint.sign(&key(), sign(1)).expect("signed");
        let line = cosign(signed.checkpoint(), &witness(), 5, sign(2));
        signed.push(line.expect("cosigned")).expect("room");
        let hashes = vec![tree::node_hash(&leaves[0], &leaves[1])];
        UnverifiedProof::new(2, hashes, signed, extra).expect("short")
    }

    #[test]
    fn proves_its_leaf_and_no_other() {
        let text = format!("log {}\nwitness w {}\nquorum w\n", key(), witness());
        let policy = Policy::parse(text.as_bytes()).expect("a policy");
        for extra in [None, Some(b"extra".to_vec())] {
            let text = proof(extra.clone()).to_string();
            let parsed = UnverifiedProof::parse(text.as_bytes()).expect("a proof");
            assert_eq!(parsed, proof(extra.clone()));
            assert_eq!(parsed.extra_unverified(), extra.as_deref());
            let leaf = leaf_hash(b"c");
            let checkpoint = parsed.clone().verify(&leaf, &key()).expect("in the log");
            assert_eq!(checkpoint.checkpoint().size(), 3);
            let witnessed = parsed
                .clone()
                .verify_by(&leaf, &policy)
                .expect("in the log");
            assert_eq!(witnessed.cosigned, [(0, 5)]);
            let other = parsed.verify_by(&leaf_hash(b"b"), &policy);
            let root = TreeError::OtherRoot { size: 3 };
            assert_eq!(other, Err(root.into()));
        }
        let other = VerifierKey::new("example.com/log", public(3).as_bytes()).expect("a key");
        let unsigned = proof(None).verify(&leaf_hash(b"c"), &other);
        assert!(matches!(unsigned, Err(ProofError::Checkpoint(_))));
        let text = text.replace("quorum w", "group g 1 w\nquorum g");
        let policy = Policy::parse(text.as_bytes()).expect("a policy");
        assert!(proof(None).verify_by(&leaf_hash(b"c"), &policy).is_ok());
    }

    #[test]
    fn a_proof_of_one_in_a_million_with_five_cosignatures_fits_into_two_kilobytes() {
        // All entries are the same, so that a node is as every other of its level.
        let mut log = Log::new();
        log.push(Action::SERVE);
        let entry = log.entries[1].bytes().to_vec();
        let node = |level: u8, _| {
            let node = (0..level).fold(leaf_hash(&entry), |node, _| tree::node_hash(&node, &node));
            Ok::<_, TreeError>(node)
        };
        let size = 1_000_000;
        let vkey = log.chain.keys().key();
        let origin = log.chain.keys().origin().clone();
        let root = tree::root(size, node).expect("a tree");
        let checkpoint = Checkpoint::new(origin, size, root).expect("a checkpoint");
        let mut signed = checkpoint.sign(vkey, sign(1)).expect("signed");
        for number in 1..=5 {
            // As long as those of our own witnesses.
            let name = format!("souverain-witness/{number:016}");
            let key = CosignerKey::new(&name, public(number).as_bytes()).expect("a key");
            let line = cosign(signed.checkpoint(), &key, 1_767_323_045, sign(number));
            signed.push(line.expect("cosigned")).expect("room");
        }
        let length = |index, extra: Option<Vec<u8>>| {
            let hashes = tree::prove_inclusion(index, size, node).expect("a proof");
            let proof = UnverifiedProof::new(index, hashes, signed.clone(), extra).expect("short");
            let text = proof.to_string();
            assert!(proof.verify(&leaf_hash(&entry), vkey).is_ok());
            text.len()
        };
        // An index of six digits, and as many hashes as any.
        let alone = length(100_000, None);
        assert_eq!(alone, 1948);
        let extra = "extra \n".len() + BASE64.encode_len(entry.len());
        assert_eq!(length(100_000, Some(entry.clone())), alone + extra);
    }

    #[test]
    fn rejects_what_it_would_not_write() {
        let good = proof(Some(vec![7; 3])).to_string();
        assert!(UnverifiedProof::parse(good.as_bytes()).is_ok());
        let hash = good.lines().nth(3).expect("a hash").to_owned();
        let with = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            good.replacen(from, to, 1)
        };
        let many = format!("{hash}\n").repeat(PROOF_HASHES_MAX + 1);
        for (line, bad) in [
            (1, String::new()),
            (1, with("@v1", "@v2")),
            (1, with("@v1", "@v1 ")),
            (1, with("@v1\n", "@v1\r\n")),
            (2, with("extra BwcH", "extra ")),
            (2, with("extra BwcH", "extra BwcI=")),
            (2, with("extra BwcH", "extra  BwcH")),
            (2, with("extra BwcH", "extra Bw==BwcH")),
            (3, with("extra BwcH\n", "extra BwcH\nextra BwcH\n")),
            (2, with("extra BwcH\n", "\n")),
            (3, with("index 2", "index 02")),
            (3, with("index 2", "index +2")),
            (3, with("index 2", "index 18446744073709551616")),
            (3, with("index 2", "Index 2")),
            (4, with(&hash, &hash[..hash.len() - 1])),
            (4, with(&hash, "AAAA")),
            (4, with(&hash, &format!(" {hash}"))),
            (4 + PROOF_HASHES_MAX, with(&format!("{hash}\n"), &many)),
        ] {
            let parsed = UnverifiedProof::parse(bad.as_bytes());
            let malformed = Err(ProofError::Malformed { line });
            assert_eq!(parsed, malformed, "{bad}");
        }
        for bad in [
            with("example.com/log\n", "example.com/log\n\n"),
            with("\n3\n", "\n03\n"),
            good.trim_end().to_owned(),
            format!("{good}\n"),
        ] {
            let parsed = UnverifiedProof::parse(bad.as_bytes());
            assert!(matches!(parsed, Err(ProofError::Checkpoint(_))), "{bad}");
        }
        let long = UnverifiedProof::parse(&vec![b'\n'; PROOF_SIZE_MAX + 1]);
        assert_eq!(long, Err(ProofError::TooLong));
        let extra = vec![0; EXTRA_SIZE_MAX + 1];
        let checkpoint = proof(None).checkpoint.verify(&key()).expect("signed");
        let long = UnverifiedProof::new(0, Vec::new(), checkpoint, Some(extra));
        assert_eq!(long, Err(ProofError::TooLong));
    }
}
