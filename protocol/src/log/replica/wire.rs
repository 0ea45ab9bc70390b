//! What replicas say to each other, in canonical DAG-CBOR: one map, whose one key says which kind it is.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, SeqAccess, Visitor},
};
use serde_bytes::{ByteArray, ByteBuf};

use super::limits::{
    CHANGES_MAX, FORK_TOLD_SIZE_MAX, HEAD_SIZE_MAX, HEADS_PER_MESSAGE_MAX, MESSAGE_SIZE_MAX,
    RANGE_ENTRIES_MAX, RANGE_SIZE_MAX,
};
use crate::log::{
    checkpoint::{CheckpointError, Origin, UnverifiedCheckpoint},
    entry::ENTRY_SIZE_MAX,
    fork::{ForkError, UnverifiedFork},
    tree::{Hash, PROOF_HASHES_MAX},
};

/// Why bytes are not a message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It is longer than any that is read.
    #[error("a message of {size} bytes is longer than {MESSAGE_SIZE_MAX}")]
    TooLong {
        /// Its size in bytes.
        size: usize,
    },
    /// A part of it is longer than any.
    #[error("{what} of {size} bytes is longer than {limit}")]
    PartTooLong {
        /// The part.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The most that it may have.
        limit: usize,
    },
    /// It is no message of this version.
    #[error("not a message: {0}")]
    Malformed(String),
    /// It would be written in another way.
    #[error("the message is not in its canonical form")]
    NotCanonical,
    /// A checkpoint in it is none.
    #[error("a checkpoint of the message is none")]
    Checkpoint(#[from] CheckpointError),
    /// The fork proof in it is none.
    #[error("the fork proof of the message is none")]
    Fork(#[from] ForkError),
}

/// What a replica says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A log has a checkpoint, and who says so has what it covers. Gossiped.
    Announce(UnverifiedCheckpoint),
    /// Somebody forked a log. Gossiped, and sent to who seems not to know.
    Fork(Box<UnverifiedFork>),
    /// What the sender has.
    Frontiers(Frontiers),
    /// A question for entries.
    Request(Request),
    /// The answer.
    Range(Box<Range>),
}

/// The checkpoints up to which a replica has logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontiers {
    /// One of each log.
    pub heads: Vec<UnverifiedCheckpoint>,
    /// Whether they are of all logs that the sender follows, and not only of those that it has more of.
    pub all: bool,
    /// Whether the receiver is to say of which logs it has more.
    pub reply: bool,
}

/// Asks for entries of a log from an index on, and for the proof that the log has grown since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What the answer is to be known by.
    pub id: u64,
    /// The log.
    pub origin: Origin,
    /// How many of its entries the asker has, or the size that it wants the proof from.
    pub from: u64,
    /// How many entries it wants at most.
    pub entries_max: u64,
}

/// Entries of a log from the index on that was asked for, and what proves that they are its.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// That of the request.
    pub id: u64,
    /// The checkpoint up to which the sender has the log; nothing follows if it has no more than the asker.
    pub checkpoint: UnverifiedCheckpoint,
    /// The entries.
    pub entries: Vec<Vec<u8>>,
    /// That the tree begins with the one of the size asked from: [`crate::log::tree::prove_prefix`]. Empty from 0.
    pub grown: Vec<Hash>,
    /// That it begins with the one that ends with these entries. Empty if nothing comes after them.
    pub rest: Vec<Hash>,
    /// Entries after these that change the log's keys, if any come after them: what signed the checkpoint.
    pub changes: Vec<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Wire {
    Announce {
        checkpoint: String,
    },
    Fork {
        proof: String,
    },
    Frontiers {
        all: bool,
        heads: List<String, HEADS_PER_MESSAGE_MAX>,
        reply: bool,
    },
    Request {
        id: u64,
        from: u64,
        max: u64,
        origin: String,
    },
    Range {
        id: u64,
        rest: List<ByteArray<32>, PROOF_HASHES_MAX>,
        grown: List<ByteArray<32>, PROOF_HASHES_MAX>,
        changes: List<ByteBuf, CHANGES_MAX>,
        entries: List<ByteBuf, RANGE_ENTRIES_MAX>,
        checkpoint: String,
    },
}

impl Message {
    /// Writes the message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let buffers = |all: &[Vec<u8>]| all.iter().cloned().map(ByteBuf::from).collect();
        let hashes = |all: &[Hash]| all.iter().copied().map(ByteArray::new).collect();
        let wire = match self {
            Self::Announce(checkpoint) => Wire::Announce {
                checkpoint: checkpoint.to_string(),
            },
            Self::Fork(fork) => Wire::Fork {
                proof: fork.to_string(),
            },
            Self::Frontiers(frontiers) => Wire::Frontiers {
                all: frontiers.all,
                heads: List(frontiers.heads.iter().map(ToString::to_string).collect()),
                reply: frontiers.reply,
            },
            Self::Request(request) => Wire::Request {
                id: request.id,
                from: request.from,
                max: request.entries_max,
                origin: request.origin.to_string(),
            },
            Self::Range(range) => Wire::Range {
                id: range.id,
                rest: List(hashes(&range.rest)),
                grown: List(hashes(&range.grown)),
                changes: List(buffers(&range.changes)),
                entries: List(buffers(&range.entries)),
                checkpoint: range.checkpoint.to_string(),
            },
        };
        serde_ipld_dagcbor::to_vec(&wire).expect("plain structures serialize")
    }

    /// Reads a message, and refuses one that would be written in another way. Nothing in it is verified.
    ///
    /// # Errors
    /// It is too long, no message, or a part of it is not one.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() > MESSAGE_SIZE_MAX {
            return Err(MessageError::TooLong { size: bytes.len() });
        }
        let wire: Wire = serde_ipld_dagcbor::from_slice(bytes)
            .map_err(|error| MessageError::Malformed(error.to_string()))?;
        let message = Self::read(wire)?;
        if message.encode() != bytes {
            return Err(MessageError::NotCanonical);
        }
        Ok(message)
    }

    fn read(wire: Wire) -> Result<Self, MessageError> {
        Ok(match wire {
            Wire::Announce { checkpoint } => Self::Announce(head(&checkpoint)?),
            Wire::Fork { proof } => {
                fits("a fork proof", proof.len(), FORK_TOLD_SIZE_MAX)?;
                Self::Fork(Box::new(UnverifiedFork::parse(proof.as_bytes())?))
            }
            Wire::Frontiers { all, heads, reply } => Self::Frontiers(Frontiers {
                heads: heads
                    .0
                    .iter()
                    .map(|note| head(note))
                    .collect::<Result<_, _>>()?,
                all,
                reply,
            }),
            Wire::Request {
                id,
                from,
                max,
                origin,
            } => Self::Request(Request {
                id,
                origin: Origin::new(&origin)?,
                from,
                entries_max: max,
            }),
            Wire::Range {
                id,
                rest,
                grown,
                changes,
                entries,
                checkpoint,
            } => {
                let size = entries.0.iter().map(|entry| entry.len()).sum();
                fits("a range", size, RANGE_SIZE_MAX)?;
                for entry in entries.0.iter().chain(&changes.0) {
                    fits("an entry", entry.len(), ENTRY_SIZE_MAX)?;
                }
                let buffers = |all: Vec<ByteBuf>| all.into_iter().map(ByteBuf::into_vec).collect();
                let hashes =
                    |all: Vec<ByteArray<32>>| all.into_iter().map(ByteArray::into_array).collect();
                Self::Range(Box::new(Range {
                    id,
                    checkpoint: head(&checkpoint)?,
                    entries: buffers(entries.0),
                    grown: hashes(grown.0),
                    rest: hashes(rest.0),
                    changes: buffers(changes.0),
                }))
            }
        })
    }
}

fn head(note: &str) -> Result<UnverifiedCheckpoint, MessageError> {
    fits("a checkpoint", note.len(), HEAD_SIZE_MAX)?;
    Ok(UnverifiedCheckpoint::parse(note.as_bytes())?)
}

fn fits(what: &'static str, size: usize, limit: usize) -> Result<(), MessageError> {
    if size > limit {
        return Err(MessageError::PartTooLong { what, size, limit });
    }
    Ok(())
}

/// A list that is refused, before it is read, beyond some length.
#[derive(Serialize)]
#[serde(transparent)]
struct List<T, const MAX: usize>(Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

struct ListVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ListVisitor<T, MAX> {
    type Value = List<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = seq.next_element()? {
            if all.len() == MAX {
                return Err(A::Error::custom("a list is too long"));
            }
            all.push(one);
        }
        Ok(List(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{
        checkpoint::{Checkpoint, SignedCheckpoint},
        entry::Action,
        fork::{Evidence, Fork, Signer},
        testing::{Log, sign},
    };

    fn signed(log: &Log, size: u64, root: Hash) -> SignedCheckpoint {
        let origin = log.chain.keys().origin().clone();
        let checkpoint = Checkpoint::new(origin, size, root).expect("a checkpoint");
        checkpoint
            .sign(log.chain.keys().key(), sign(log.key))
            .expect("signs")
    }

    fn messages() -> Vec<Message> {
        let mut log = Log::new();
        log.push(Action::EXPORT);
        let checkpoint = UnverifiedCheckpoint::from(signed(&log, 2, [3; 32]));
        let other = UnverifiedCheckpoint::from(signed(&log, 2, [4; 32]));
        let signer = Signer::Log(log.chain.keys().key().clone());
        let evidence = Evidence::Roots([checkpoint.clone(), other]);
        let fork = Fork::new(evidence, [signer.clone(), signer]).expect("a fork");
        let entries: Vec<_> = log.entries.iter().map(|e| e.bytes().to_vec()).collect();
        vec![
            Message::Announce(checkpoint.clone()),
            Message::Fork(Box::new(fork.into())),
            Message::Frontiers(Frontiers {
                heads: vec![checkpoint.clone(); 2],
                all: true,
                reply: false,
            }),
            Message::Request(Request {
                id: 7,
                origin: log.chain.keys().origin().clone(),
                from: 2,
                entries_max: 9,
            }),
            Message::Range(Box::new(Range {
                id: u64::MAX,
                checkpoint,
                entries,
                grown: vec![[5; 32]; 3],
                rest: Vec::new(),
                changes: vec![log.entries[0].bytes().to_vec()],
            })),
        ]
    }

    #[test]
    fn reads_what_it_writes_and_no_byte_less_or_more() {
        for message in messages() {
            let bytes = message.encode();
            assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message));
            assert!(Message::decode(&bytes[..bytes.len() - 1]).is_err());
            assert!(Message::decode(&[&bytes[..], &[0]].concat()).is_err());
        }
    }

    #[test]
    fn rejects_what_it_would_not_write() {
        let good = messages()[3].encode();
        // {"request": {"id": 7, …}} with the number in two bytes, and with an unknown field.
        let at = good.windows(4).position(|w| w == b"\x62id\x07");
        let at = at.expect("the id") + 3;
        let mut long = good.clone();
        long.splice(at..=at, [0x18, 7]);
        assert!(Message::decode(&long).is_err());
        let mut unknown = good.clone();
        unknown[at - 1] = b'e';
        assert!(Message::decode(&unknown).is_err());
        assert!(Message::decode(b"\xa0").is_err());
        let long = Message::decode(&vec![0; MESSAGE_SIZE_MAX + 1]);
        let size = MESSAGE_SIZE_MAX + 1;
        assert_eq!(long, Err(MessageError::TooLong { size }));
    }

    #[test]
    fn rejects_more_than_any_message_has() {
        let Some(Message::Range(good)) = messages().pop() else {
            panic!("a range");
        };
        let refused = |change: &dyn Fn(&mut Range)| {
            let mut range = good.clone();
            change(&mut range);
            Message::decode(&Message::Range(range).encode()).is_err()
        };
        assert!(!refused(&|_| {}));
        assert!(!refused(&|r| r.entries = vec![vec![1]; RANGE_ENTRIES_MAX]));
        assert!(refused(
            &|r| r.entries = vec![vec![1]; RANGE_ENTRIES_MAX + 1]
        ));
        assert!(refused(&|r| r.entries = vec![vec![1; 4094]; 257]));
        assert!(refused(&|r| r.entries = vec![vec![1; ENTRY_SIZE_MAX + 1]]));
        assert!(refused(&|r| r.changes = vec![vec![1]; CHANGES_MAX + 1]));
        assert!(refused(&|r| r.grown = vec![[1; 32]; PROOF_HASHES_MAX + 1]));
        let heads = Frontiers {
            heads: vec![good.checkpoint.clone(); HEADS_PER_MESSAGE_MAX + 1],
            all: true,
            reply: true,
        };
        assert!(Message::decode(&Message::Frontiers(heads).encode()).is_err());
    }
}
