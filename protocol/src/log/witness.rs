//! What is asked of a witness, and what it answers: the bytes of <https://c2sp.org/tlog-witness>, whatever carries them.
//!
//! What it decides is `replica`'s; the cosignature that it answers with is checked by [`super::cosignature::put`].

use std::fmt;

use data_encoding::BASE64;

use super::{
    checkpoint::{CHECKPOINT_SIZE_MAX, CheckpointError, UnverifiedCheckpoint},
    replica::{AddCheckpoint, Refusal},
    tree::{Hash, TREE_SIZE_MAX},
};
use crate::note::{NoteError, SIGNATURES_MAX, SignatureLine, decode_base64};

/// Most hashes of the proof in a request.
pub const REQUEST_HASHES_MAX: usize = 63;
/// Largest request in bytes: the old size, the hashes and the checkpoint, with a blank line between.
pub const REQUEST_SIZE_MAX: usize =
    "old 9223372036854775807\n".len() + REQUEST_HASHES_MAX * 45 + 1 + CHECKPOINT_SIZE_MAX;
/// Largest answer in bytes that is read: room for some of the largest cosignatures.
pub const ANSWER_SIZE_MAX: usize = 32 << 10;
/// The media type of a size.
pub const MEDIA_SIZE: &str = "text/x.tlog.size";
/// The media type of all other answers.
pub const MEDIA_TEXT: &str = "text/plain; charset=utf-8";

/// Why bytes are no request to a witness, or no answer of one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WitnessError {
    /// It is longer than any that is read.
    #[error("longer than {limit} bytes")]
    TooLong {
        /// The most that it may have.
        limit: usize,
    },
    /// It is not what would be written.
    #[error("not of the form that witnesses speak: {0}")]
    Malformed(&'static str),
    /// What is to be cosigned is no checkpoint.
    #[error("not with a checkpoint")]
    Checkpoint(#[from] CheckpointError),
    /// A line of the answer is no signature.
    #[error("not with signatures")]
    Signature(#[from] NoteError),
}

impl AddCheckpoint {
    /// Reads the body of a request, and refuses one that would not be written so.
    ///
    /// # Errors
    /// It is too long, or not of that form.
    pub fn parse(body: &[u8]) -> Result<Self, WitnessError> {
        let malformed = WitnessError::Malformed;
        if body.len() > REQUEST_SIZE_MAX {
            let limit = REQUEST_SIZE_MAX;
            return Err(WitnessError::TooLong { limit });
        }
        let blank = body.windows(2).position(|two| two == b"\n\n");
        let (head, checkpoint) = body.split_at(blank.ok_or(malformed("no blank line"))?);
        let head = std::str::from_utf8(head).map_err(|_| malformed("not UTF-8"))?;
        let mut lines = head.split('\n');
        let old_size = lines.next().and_then(|line| line.strip_prefix("old "));
        let old_size = old_size.and_then(parse_size);
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() >= REQUEST_HASHES_MAX {
                return Err(malformed("more hashes than any proof needs"));
            }
            let hash = decode_base64(line).and_then(|hash| Hash::try_from(hash).ok());
            proof.push(hash.ok_or(malformed("a hash that is not 32 bytes in Base64"))?);
        }
        Ok(Self {
            old_size: old_size.ok_or(malformed("an old size that is no number"))?,
            proof,
            checkpoint: UnverifiedCheckpoint::parse(&checkpoint[2..])?,
        })
    }
}

/// The body of a request.
impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        for hash in &self.proof {
            writeln!(f, "{}", BASE64.encode(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

/// What a witness answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code, as HTTP has it.
    pub status: u16,
    /// The media type of the body.
    pub media: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Says that a request is none, or that its checkpoint cannot be of any tree.
    #[must_use]
    pub fn malformed(because: &WitnessError) -> Self {
        let status = match because {
            WitnessError::Checkpoint(CheckpointError::RootWithoutLeaves) => 422,
            _ => 400,
        };
        Self {
            status,
            media: MEDIA_TEXT,
            body: format!("{because}\n").into_bytes(),
        }
    }
}

impl From<Result<SignatureLine, Refusal>> for Answer {
    fn from(decided: Result<SignatureLine, Refusal>) -> Self {
        let (status, media, text) = match decided {
            Ok(line) => (200, MEDIA_TEXT, line.to_string()),
            Err(refusal @ Refusal::Conflict { size }) => {
                (refusal.status(), MEDIA_SIZE, size.to_string())
            }
            Err(refusal) => (refusal.status(), MEDIA_TEXT, refusal.to_string()),
        };
        Self {
            status,
            media,
            body: format!("{text}\n").into_bytes(),
        }
    }
}

impl Refusal {
    /// The status code that says so.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Shrinks => 400,
            Self::Forbidden => 403,
            Self::UnknownLog => 404,
            Self::Conflict { .. } => 409,
            Self::WrongProof => 422,
            Self::Busy => 503,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shrinks => "the old size is larger than that of the checkpoint",
            Self::Forbidden => "the log did not sign this, or is forked",
            Self::UnknownLog => "no log that is witnessed here",
            Self::Conflict { .. } => "another size was cosigned last",
            Self::WrongProof => "the tree does not begin with the one that was cosigned last",
            Self::Busy => "another checkpoint of the log is being cosigned",
        })
    }
}

/// What a witness said, as who asked it reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// That it cosigned. The lines may be of anybody.
    Cosigned(Vec<SignatureLine>),
    /// That it cosigned another size last.
    Conflict {
        /// That size.
        size: u64,
    },
    /// That it does not cosign this.
    Refused {
        /// The status code.
        status: u16,
    },
}

impl Said {
    /// Reads an answer. Of one with another status than 200 and 409 only that is read.
    ///
    /// # Errors
    /// It is too long, or no witness would write it.
    pub fn parse(status: u16, body: &[u8]) -> Result<Self, WitnessError> {
        let malformed = WitnessError::Malformed;
        if body.len() > ANSWER_SIZE_MAX {
            let limit = ANSWER_SIZE_MAX;
            return Err(WitnessError::TooLong { limit });
        }
        if !matches!(status, 200 | 409) {
            return Ok(Self::Refused { status });
        }
        let text = std::str::from_utf8(body).map_err(|_| malformed("not UTF-8"))?;
        let text = text.strip_suffix('\n');
        let text = text.ok_or(malformed("no newline at its end"))?;
        if status == 409 {
            let size = parse_size(text).ok_or(malformed("a size that is no number"))?;
            return Ok(Self::Conflict { size });
        }
        let lines = text.split('\n').take(SIGNATURES_MAX + 1);
        let lines: Vec<_> = lines.map(SignatureLine::parse).collect::<Result<_, _>>()?;
        if lines.len() > SIGNATURES_MAX {
            return Err(malformed("more signatures than any note has"));
        }
        Ok(Self::Cosigned(lines))
    }
}

/// The size of a tree, as it would be written.
fn parse_size(text: &str) -> Option<u64> {
    let size: u64 = text.parse().ok()?;
    (size <= TREE_SIZE_MAX && size.to_string() == text).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        log::{
            checkpoint::{Checkpoint, Origin},
            cosignature::{CosignerKey, cosign},
            testing::{public, sign},
        },
        note::VerifierKey,
    };

    /// The example of the specification.
    const EXAMPLE: &str = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
        \n\
        example.com/behind-the-sofa\n\
        20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
        \n\
        \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        \u{2014} example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";
    const HASH: &str = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n";

    fn checkpoint() -> Checkpoint {
        let origin = Origin::new("example.com/log").expect("a name");
        Checkpoint::new(origin, 7, [9; 32]).expect("a checkpoint")
    }

    fn line() -> SignatureLine {
        let key = CosignerKey::new("witness.example", public(2).as_bytes()).expect("a key");
        cosign(&checkpoint(), &key, 5, sign(2)).expect("cosigned")
    }

    #[test]
    fn reads_the_example_of_the_specification() {
        let request = AddCheckpoint::parse(EXAMPLE.as_bytes()).expect("a request");
        assert_eq!((request.old_size, request.proof.len()), (20_852_014, 4));
        let checkpoint = request.checkpoint.checkpoint_unverified();
        assert_eq!(checkpoint.size(), 20_852_163);
        assert_eq!(request.to_string(), EXAMPLE);
        let answer = "\u{2014} witness.example/w1 CMp+6LWBU0anHGH5aNDTJkH/gj79sG+T6+iP2ThYN5krrDJbR1HDnucjL39QsZTSvVjyQLrdk3DXDqI5G2HgLatVs0pWh6Up69HVOw==\n\
            \u{2014} witness.example/w2 AWui8Sk55XjYLOijihBjhqEH6nS1ndDymE0a+6idX7pLcnoB+dhnz0854aLZgrrKbYKA7nC3HNJhm/kWl7oJlqU3rXXvpysAdyP3wQ==\n";
        let Ok(Said::Cosigned(lines)) = Said::parse(200, answer.as_bytes()) else {
            panic!("signatures");
        };
        assert_eq!(lines[1].name(), "witness.example/w2");
    }

    #[test]
    fn what_is_written_is_read_at_every_limit() {
        let key = VerifierKey::new("example.com/log", public(1).as_bytes()).expect("a key");
        for (old_size, hashes) in [(0, 0), (1, 1), (TREE_SIZE_MAX, REQUEST_HASHES_MAX)] {
            let request = AddCheckpoint {
                old_size,
                proof: vec![[7; 32]; hashes],
                checkpoint: checkpoint().sign(&key, sign(1)).expect("signed").into(),
            };
            let written = request.to_string();
            assert_eq!(AddCheckpoint::parse(written.as_bytes()), Ok(request));
        }
    }

    #[test]
    fn rejects_what_is_no_request() {
        let with = |from: &str, to: &str| EXAMPLE.replacen(from, to, 1);
        let hashes = |count: usize| with(HASH, &HASH.repeat(count));
        assert!(AddCheckpoint::parse(hashes(REQUEST_HASHES_MAX - 3).as_bytes()).is_ok());
        for bad in [
            String::new(),
            "\n\n".to_owned(),
            with("old 20852014\n", ""),
            with("old 20852014", "old"),
            with("old 20852014", "old "),
            with("old 20852014", "old  20852014"),
            with("old 20852014", "old 020852014"),
            with("old 20852014", "old +20852014"),
            with("old 20852014", "old -1"),
            with("old 20852014", "old 20852014 "),
            with("old 20852014", "old 20852014\r"),
            with("old 20852014", "old 9223372036854775808"),
            with("old 20852014", "Old 20852014"),
            with("old ", "\nold "),
            with(HASH, "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpka==\n"),
            with("kaw=\n", "kax=\n"),
            with("kaw=\n", "kaw=\r\n"),
            with("kaw=\n", "kaw\n"),
            with(HASH, " \n"),
            with(HASH, "\n"),
            with("\n\n", "\n"),
            with("\n\n", "\n\n\n"),
            with("CsUY", "csU"),
            hashes(REQUEST_HASHES_MAX - 2),
            EXAMPLE.trim_end().to_owned(),
        ] {
            let parsed = AddCheckpoint::parse(bad.as_bytes());
            assert!(parsed.is_err(), "{bad}");
        }
        let not_text = [b"old 1\n\xff\n".as_slice(), EXAMPLE.as_bytes()].concat();
        assert!(AddCheckpoint::parse(&not_text).is_err());
        let limit = REQUEST_SIZE_MAX;
        let long = AddCheckpoint::parse(&vec![b'\n'; limit + 1]);
        assert_eq!(long, Err(WitnessError::TooLong { limit }));
    }

    #[test]
    fn every_answer_is_read_as_it_was_meant() {
        let read = |answer: &Answer| Said::parse(answer.status, &answer.body);
        let cosigned = Answer::from(Ok(line()));
        assert_eq!((cosigned.status, cosigned.media), (200, MEDIA_TEXT));
        assert_eq!(read(&cosigned), Ok(Said::Cosigned(vec![line()])));
        let conflict = Answer::from(Err(Refusal::Conflict { size: 7 }));
        assert_eq!((conflict.status, conflict.media), (409, MEDIA_SIZE));
        assert_eq!(conflict.body, b"7\n");
        assert_eq!(read(&conflict), Ok(Said::Conflict { size: 7 }));
        for (refusal, status) in [
            (Refusal::Shrinks, 400),
            (Refusal::Forbidden, 403),
            (Refusal::UnknownLog, 404),
            (Refusal::WrongProof, 422),
            (Refusal::Busy, 503),
        ] {
            let answer = Answer::from(Err(refusal));
            assert_eq!(read(&answer), Ok(Said::Refused { status }));
        }
        let malformed = AddCheckpoint::parse(b"").expect_err("no request");
        let answer = Answer::malformed(&malformed);
        assert_eq!(read(&answer), Ok(Said::Refused { status: 400 }));
    }

    #[test]
    fn no_entries_under_the_root_of_some_have_a_status_of_their_own() {
        let empty = EXAMPLE.replacen("\n20852163\n", "\n0\n", 1);
        let because = AddCheckpoint::parse(empty.as_bytes()).expect_err("no tree");
        assert_eq!(Answer::malformed(&because).status, 422);
    }

    #[test]
    fn rejects_what_no_witness_answers() {
        let line = line().to_string() + "\n";
        let read = |status, body: &str| Said::parse(status, body.as_bytes());
        assert!(read(200, &line.repeat(2)).is_ok());
        assert!(read(409, "9223372036854775807\n").is_ok());
        assert!(read(500, "\u{7}").is_ok());
        for bad in [
            "",
            "\n",
            line.trim_end(),
            &format!("{line}\n"),
            &format!("\n{line}"),
            &line.replace('\u{2014}', "-"),
            &line.repeat(SIGNATURES_MAX + 1),
        ] {
            assert!(read(200, bad).is_err(), "{bad}");
        }
        for bad in [
            "",
            "\n",
            "7",
            "07\n",
            "+7\n",
            "7 \n",
            "7\r\n",
            "7\n\n",
            "-1\n",
            "9223372036854775808\n",
        ] {
            assert!(read(409, bad).is_err(), "{bad}");
        }
        assert!(Said::parse(409, b"\xff\n").is_err());
        let limit = ANSWER_SIZE_MAX;
        let long = read(500, &"x".repeat(limit + 1));
        assert_eq!(long, Err(WitnessError::TooLong { limit }));
    }
}
