//! Checkpoints: the size and root of a log at one time, in a note that the log signs.
//!
//! See <https://c2sp.org/tlog-checkpoint>. Cosignatures under them are in [`super::cosignature`].

use std::fmt;

use data_encoding::BASE64;

use super::tree::{Hash, TREE_SIZE_MAX, empty_root};
use crate::block::{Block, CODEC_RAW};
use crate::note::{self, NoteError, SignatureLine, SignerKey, UnverifiedNote, VerifierKey};

/// Largest checkpoint with its signatures, in bytes: room for 16 of the largest signatures.
pub const CHECKPOINT_SIZE_MAX: usize = 128 << 10;
/// Longest origin in bytes.
pub const ORIGIN_SIZE_MAX: usize = 255;

/// Why bytes are not a checkpoint, or not one of a log.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It is longer than any that is read.
    #[error("the checkpoint is longer than {CHECKPOINT_SIZE_MAX} bytes")]
    TooLong,
    /// Its text is not one that would be written.
    #[error("not a checkpoint: {0}")]
    Malformed(&'static str),
    /// It says that there are no entries, under the root of some.
    #[error("not a checkpoint: a root without leaves")]
    RootWithoutLeaves,
    /// It is of another log than the key.
    #[error("the checkpoint is of the log {found}, not of {expected}")]
    OtherOrigin {
        /// The log whose key was given.
        expected: String,
        /// The log that the checkpoint names.
        found: String,
    },
    /// It is no note, or not one that the log signed.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// The name of a log, as the first line of its checkpoints has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(String);

impl Origin {
    /// Takes a name.
    ///
    /// # Errors
    /// It is empty or too long, or has a control character in it.
    pub fn new(name: &str) -> Result<Self, CheckpointError> {
        if name.is_empty() || name.len() > ORIGIN_SIZE_MAX || name.contains(char::is_control) {
            return Err(CheckpointError::Malformed("an origin that no log has"));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a log says of itself: that it has so many entries, under this root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: Origin,
    size: u64,
    root: Hash,
    /// Of others' logs; nothing is read out of them.
    extensions: Vec<String>,
}

impl Checkpoint {
    /// A checkpoint of a log, without extension lines.
    ///
    /// # Errors
    /// No tree is that large, or a tree without leaves does not have this root.
    pub fn new(origin: Origin, size: u64, root: Hash) -> Result<Self, CheckpointError> {
        if size > TREE_SIZE_MAX {
            return Err(CheckpointError::Malformed("a size that no tree has"));
        }
        if size == 0 && root != empty_root() {
            return Err(CheckpointError::RootWithoutLeaves);
        }
        Ok(Self {
            origin,
            size,
            root,
            extensions: Vec::new(),
        })
    }

    /// The log.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Its number of entries.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of its tree.
    #[must_use]
    pub fn root(&self) -> &Hash {
        &self.root
    }

    /// The lines after the root, which only their log knows the meaning of.
    #[must_use]
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }

    /// Signs the checkpoint: `sign` is given its text and returns the signature of the log's key.
    ///
    /// # Errors
    /// The key is another log's, or the signature is not the key's.
    pub fn sign(
        self,
        key: &VerifierKey,
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Result<SignedCheckpoint, CheckpointError> {
        let note = note::sign(&self.to_string(), key, sign)?;
        UnverifiedCheckpoint::parse(note.as_bytes())?.verify(key)
    }

    fn parse(text: &str) -> Result<Self, CheckpointError> {
        let malformed = CheckpointError::Malformed;
        let text = text.strip_suffix('\n');
        let mut lines = text.ok_or(malformed("no newline at its end"))?.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err(malformed("fewer than three lines"));
        };
        let number = size.parse().ok();
        let number = number.filter(|number: &u64| number.to_string() == size);
        let root = note::decode_base64(root).and_then(|root| root.try_into().ok());
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(malformed("an empty line"));
        }
        let checkpoint = Self::new(
            Origin::new(origin)?,
            number.ok_or(malformed("a size that is no number"))?,
            root.ok_or(malformed("a root that is not 32 bytes in Base64"))?,
        )?;
        Ok(Self {
            extensions,
            ..checkpoint
        })
    }
}

/// The text that is signed.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = BASE64.encode(&self.root);
        writeln!(f, "{}\n{}\n{root}", self.origin, self.size)?;
        self.extensions
            .iter()
            .try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// A checkpoint whose signatures were not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedCheckpoint {
    checkpoint: Checkpoint,
    note: UnverifiedNote,
}

impl UnverifiedCheckpoint {
    /// Reads a note with a checkpoint in it, and refuses a text that would not be written so.
    ///
    /// # Errors
    /// It is too long, no note, or no checkpoint.
    pub fn parse(note: &[u8]) -> Result<Self, CheckpointError> {
        if note.len() > CHECKPOINT_SIZE_MAX {
            return Err(CheckpointError::TooLong);
        }
        let note = UnverifiedNote::parse(note)?;
        Ok(Self {
            checkpoint: Checkpoint::parse(note.text_unverified())?,
            note,
        })
    }

    /// The checkpoint, which nobody may have signed: to find the key of its log by.
    #[must_use]
    pub fn checkpoint_unverified(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note.
    #[must_use]
    pub fn note(&self) -> &UnverifiedNote {
        &self.note
    }

    /// The same with no other line under it than the one of a key that counts.
    pub(super) fn only<const TYPE: u8>(&self, key: &SignerKey<TYPE>) -> Result<Self, NoteError> {
        Ok(Self {
            checkpoint: self.checkpoint.clone(),
            note: self.note.only(key)?,
        })
    }

    /// Checks that the log signed it.
    ///
    /// # Errors
    /// It is of another log than the key, or the key did not sign it.
    pub fn verify(self, key: &VerifierKey) -> Result<SignedCheckpoint, CheckpointError> {
        if self.checkpoint.origin.as_str() != key.name() {
            return Err(CheckpointError::OtherOrigin {
                expected: key.name().to_owned(),
                found: self.checkpoint.origin.0,
            });
        }
        self.note.verify(key)?;
        Ok(SignedCheckpoint(self))
    }
}

/// The note as it was read.
impl fmt::Display for UnverifiedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note.fmt(f)
    }
}

/// A checkpoint that its log signed. Whoever else signed it was not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint(UnverifiedCheckpoint);

impl SignedCheckpoint {
    /// What the log says.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.0.checkpoint
    }

    /// The note that says it.
    #[must_use]
    pub fn note(&self) -> &UnverifiedNote {
        &self.0.note
    }

    /// The raw block that it is.
    #[must_use]
    pub fn block(&self) -> Block {
        Block::log(CODEC_RAW, self.to_string().into_bytes())
    }

    /// The same with no other line under it than the one of a key that counts.
    ///
    /// # Errors
    /// There is none of that key.
    pub fn only<const TYPE: u8>(&self, key: &SignerKey<TYPE>) -> Result<Self, NoteError> {
        self.0.only(key).map(Self)
    }

    /// Puts the signature line of another signer under it, unchecked.
    ///
    /// # Errors
    /// It has as many as any may have, or would be too long.
    pub fn push(&mut self, line: SignatureLine) -> Result<(), CheckpointError> {
        let mut note = self.0.note.clone();
        note.push(line)?;
        self.keep(note)
    }

    /// Puts a signature line under it in the place of those of a key, unchecked.
    pub(super) fn replace<const TYPE: u8>(
        &mut self,
        key: &SignerKey<TYPE>,
        line: SignatureLine,
    ) -> Result<(), CheckpointError> {
        let mut note = self.0.note.without(key);
        note.push(line)?;
        self.keep(note)
    }

    /// Takes the same text with other signatures.
    fn keep(&mut self, note: UnverifiedNote) -> Result<(), CheckpointError> {
        if note.to_string().len() > CHECKPOINT_SIZE_MAX {
            return Err(CheckpointError::TooLong);
        }
        self.0.note = note;
        Ok(())
    }
}

/// The note, as it is served and kept.
impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<SignedCheckpoint> for UnverifiedCheckpoint {
    fn from(signed: SignedCheckpoint) -> Self {
        signed.0
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    fn signer(name: &str) -> (SigningKey, VerifierKey) {
        let secret = SigningKey::from_bytes(&[1; 32]);
        let key = VerifierKey::new(name, secret.verifying_key().as_bytes());
        (secret, key.expect("a key"))
    }

    fn signed(text: &str) -> String {
        let (secret, key) = signer("example.com/log");
        note::sign(text, &key, |text| secret.sign(text).to_bytes()).expect("signs")
    }

    fn text(size: u64) -> String {
        format!("example.com/log\n{size}\n{}\n", BASE64.encode(&[9; 32]))
    }

    #[test]
    fn reads_the_example_of_the_specification() {
        let note = "example.com/behind-the-sofa\n20852163\n\
            CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
            \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";
        let parsed = UnverifiedCheckpoint::parse(note.as_bytes()).expect("a checkpoint");
        let checkpoint = parsed.checkpoint_unverified();
        assert_eq!(checkpoint.origin().as_str(), "example.com/behind-the-sofa");
        assert_eq!((checkpoint.size(), checkpoint.root()[0]), (20_852_163, 10));
        assert_eq!(parsed.to_string(), note);
    }

    #[test]
    fn signs_what_it_verifies_and_keeps_the_extensions_of_others() {
        let (secret, key) = signer("example.com/log");
        let origin = Origin::new("example.com/log").expect("a name");
        let checkpoint = Checkpoint::new(origin, 7, [9; 32]).expect("a checkpoint");
        let sign = |text: &[u8]| secret.sign(text).to_bytes();
        let good = checkpoint.clone().sign(&key, sign).expect("signed");
        assert_eq!(good.to_string(), signed(&text(7)));
        assert_eq!(good.checkpoint(), &checkpoint);
        assert!(checkpoint.clone().sign(&key, |_| [0; 64]).is_err());
        let extended = signed(&format!("{}one\ntwo\n", text(7)));
        let extended = UnverifiedCheckpoint::parse(extended.as_bytes()).expect("a checkpoint");
        let extended = extended.verify(&key).expect("signed");
        assert_eq!(extended.checkpoint().extensions(), ["one", "two"]);
        assert_ne!(extended.checkpoint(), &checkpoint);
    }

    #[test]
    fn rejects_a_checkpoint_of_another_log_or_key() {
        let parsed =
            UnverifiedCheckpoint::parse(signed(&text(7)).as_bytes()).expect("a checkpoint");
        let other = parsed.clone().verify(&signer("example.com/other").1);
        assert!(matches!(other, Err(CheckpointError::OtherOrigin { .. })));
        let secret = SigningKey::from_bytes(&[2; 32]);
        let key = VerifierKey::new("example.com/log", secret.verifying_key().as_bytes());
        let other = parsed.verify(&key.expect("a key"));
        let unsigned = NoteError::Unsigned("example.com/log".into());
        assert_eq!(other, Err(unsigned.into()));
    }

    #[test]
    fn rejects_what_it_would_not_write() {
        let empty = BASE64.encode(&empty_root());
        let good = text(7);
        let root = BASE64.encode(&[9; 32]);
        let with = |from: &str, to: &str| good.replacen(from, to, 1);
        assert!(UnverifiedCheckpoint::parse(signed(&good).as_bytes()).is_ok());
        let nothing = format!("example.com/log\n0\n{empty}\n");
        assert!(UnverifiedCheckpoint::parse(signed(&nothing).as_bytes()).is_ok());
        for bad in [
            with("example.com/log", ""),
            with("example.com/log", &"x".repeat(ORIGIN_SIZE_MAX + 1)),
            with("\n7\n", "\n07\n"),
            with("\n7\n", "\n+7\n"),
            with("\n7\n", "\n-7\n"),
            with("\n7\n", "\n\n"),
            with("\n7\n", "\n7 \n"),
            with("\n7\n", "\n0x7\n"),
            with("\n7\n", "\n0\n"),
            with("\n7\n", "\n9223372036854775808\n"),
            with("\n7\n", "\n18446744073709551616\n"),
            with(&root, &root[..root.len() - 1]),
            with(&root, &BASE64.encode(&[9; 31])),
            with(&root, &BASE64.encode(&[9; 33])),
            with(&root, &root.replace("k=", "l=")),
            with(&root, &format!("{root} ")),
            with(&root, &(BASE64.encode(&[9]) + &BASE64.encode(&[9; 31]))),
            with(&format!("{root}\n"), ""),
            format!("{good}\n"),
            format!("{good}\nextension\n"),
            "\n".to_owned(),
        ] {
            let parsed = UnverifiedCheckpoint::parse(signed(&bad).as_bytes());
            assert!(parsed.is_err(), "{bad}");
        }
        let long = signed(&format!("{good}{}\n", "x".repeat(CHECKPOINT_SIZE_MAX)));
        let long = UnverifiedCheckpoint::parse(long.as_bytes());
        assert_eq!(long, Err(CheckpointError::TooLong));
    }
}
