//! Signed notes: a text, and signatures under it that others can check.
//!
//! The format is C2SP's, <https://c2sp.org/signed-note>, with Ed25519 signatures; Go's `sumdb/note`
//! reads what is written here.

mod key;

use std::fmt;

use data_encoding::BASE64;

pub use key::{PublicKey, SignerKey, TYPE_ED25519, VerifierKey};

/// Largest note, in bytes, as Go's `sumdb/note` has it.
pub const NOTE_SIZE_MAX: usize = 1_000_000;
/// Most signatures of a note.
pub const SIGNATURES_MAX: usize = 100;
/// What a signature line begins with: an em dash and a space.
const LINE_PREFIX: &str = "\u{2014} ";

/// Why a note, or the key of one, is not what it should be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is longer than any that is read.
    #[error("the note is longer than {NOTE_SIZE_MAX} bytes")]
    TooLong,
    /// It does not have the form of a note.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// A verifier key does not have the form of one.
    #[error("not a verifier key: {0}")]
    Key(&'static str),
    /// The key did not sign it.
    #[error("the note is not signed by {0}")]
    Unsigned(String),
    /// A signature in the key's name is not its.
    #[error("the signature of {0} is wrong")]
    Wrong(String),
}

/// Signs a text: `sign` is given its bytes and returns the Ed25519 signature of `key`'s secret half.
///
/// # Errors
/// The text is too long, does not end in a newline, or has control characters in it; or what was
/// signed is not the key's.
pub fn sign(
    text: &str,
    key: &VerifierKey,
    sign: impl FnOnce(&[u8]) -> [u8; 64],
) -> Result<String, NoteError> {
    check_text(text)?;
    let signature = sign(text.as_bytes());
    let note = UnverifiedNote {
        text: text.to_owned(),
        signatures: vec![SignatureLine::new(key, &signature)],
    };
    let note = note.to_string();
    UnverifiedNote::parse(note.as_bytes())?.verify(key)?;
    Ok(note)
}

/// A note whose signatures were not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedNote {
    text: String,
    signatures: Vec<SignatureLine>,
}

/// A line under a note: who is said to have signed it, and the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureLine {
    name: String,
    id: [u8; 4],
    signature: Vec<u8>,
}

impl UnverifiedNote {
    /// Takes a note apart.
    ///
    /// # Errors
    /// It is too long, or not of the form of a note.
    pub fn parse(note: &[u8]) -> Result<Self, NoteError> {
        if note.len() > NOTE_SIZE_MAX {
            return Err(NoteError::TooLong);
        }
        let note = std::str::from_utf8(note).map_err(|_| NoteError::Malformed("not UTF-8"))?;
        let split = note.rfind("\n\n");
        let (text, lines) = note.split_at(split.ok_or(NoteError::Malformed("no blank line"))? + 1);
        check_text(text)?;
        let lines = lines[1..].strip_suffix('\n');
        let lines = lines.ok_or(NoteError::Malformed("no newline at its end"))?;
        let signatures: Vec<SignatureLine> = lines
            .split('\n')
            .take(SIGNATURES_MAX + 1)
            .map(SignatureLine::parse)
            .collect::<Result<_, _>>()?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(NoteError::Malformed("more signatures than any note has"));
        }
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }

    /// The text, if the key signed it. Signatures of others are not looked at.
    ///
    /// # Errors
    /// It did not, or a signature in its name is wrong.
    pub fn verify(&self, key: &VerifierKey) -> Result<&str, NoteError> {
        if key
            .public()
            .has_signed(self.text.as_bytes(), self.signature_of(key)?)
        {
            Ok(&self.text)
        } else {
            Err(NoteError::Wrong(key.name().to_owned()))
        }
    }

    /// The first signature in the name and with the hash of a key: the one that counts.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn signature_of<const TYPE: u8>(
        &self,
        key: &SignerKey<TYPE>,
    ) -> Result<&[u8], NoteError> {
        let line = self.signatures.iter().find(|line| line.is_of(key));
        let line = line.ok_or_else(|| NoteError::Unsigned(key.name().to_owned()))?;
        Ok(&line.signature)
    }

    /// The note with no other line under it than the one of a key that counts.
    pub(crate) fn only<const TYPE: u8>(&self, key: &SignerKey<TYPE>) -> Result<Self, NoteError> {
        let signature = self.signature_of(key)?;
        Ok(Self {
            text: self.text.clone(),
            signatures: vec![SignatureLine::new(key, signature)],
        })
    }

    /// The note without the lines of a key.
    pub(crate) fn without<const TYPE: u8>(&self, key: &SignerKey<TYPE>) -> Self {
        let others = self.signatures.iter().filter(|line| !line.is_of(key));
        Self {
            text: self.text.clone(),
            signatures: others.cloned().collect(),
        }
    }

    /// Puts a line under the note, unless it is there already.
    ///
    /// # Errors
    /// The note has as many signatures as any may have.
    pub fn push(&mut self, line: SignatureLine) -> Result<(), NoteError> {
        if self.signatures.contains(&line) {
            return Ok(());
        }
        if self.signatures.len() >= SIGNATURES_MAX {
            return Err(NoteError::Malformed("more signatures than any note has"));
        }
        self.signatures.push(line);
        Ok(())
    }

    /// The lines under the text.
    #[must_use]
    pub fn signatures(&self) -> &[SignatureLine] {
        &self.signatures
    }

    /// The text, which nobody may have signed.
    #[must_use]
    pub fn text_unverified(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for UnverifiedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures
            .iter()
            .try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl SignatureLine {
    /// The line of a signature that the key's secret half made.
    pub(crate) fn new<const TYPE: u8>(key: &SignerKey<TYPE>, signature: &[u8]) -> Self {
        Self {
            name: key.name().to_owned(),
            id: key.id(),
            signature: signature.to_vec(),
        }
    }

    /// Whether it has the name and the hash of a key.
    fn is_of<const TYPE: u8>(&self, key: &SignerKey<TYPE>) -> bool {
        self.name == key.name() && self.id == key.id()
    }

    /// Who is said to have signed.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads a line, without its newline.
    ///
    /// # Errors
    /// It does not have the form of one.
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        let malformed = NoteError::Malformed("a malformed signature line");
        let parse = || {
            let (name, signature) = line.strip_prefix(LINE_PREFIX)?.split_once(' ')?;
            let bytes = decode_base64(signature)?;
            let (id, signature) = bytes.split_first_chunk()?;
            let bad = |c: char| c == '+' || c.is_whitespace();
            (!name.is_empty() && !name.contains(bad) && !signature.is_empty()).then(|| Self {
                name: name.to_owned(),
                id: *id,
                signature: signature.to_vec(),
            })
        };
        parse().ok_or(malformed)
    }
}

impl fmt::Display for SignatureLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id[..], &self.signature].concat();
        write!(f, "{LINE_PREFIX}{} {}", self.name, BASE64.encode(&bytes))
    }
}

/// Decodes Base64 that is written as it would be encoded. The codec alone takes several encodings, each
/// with its padding, one after the other.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let bytes = BASE64.decode(text.as_bytes()).ok()?;
    (BASE64.encode(&bytes) == text).then_some(bytes)
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if text.len() > NOTE_SIZE_MAX {
        return Err(NoteError::TooLong);
    }
    if !text.ends_with('\n') {
        return Err(NoteError::Malformed("a text without a newline at its end"));
    }
    if text
        .chars()
        .any(|c| c.is_control() && c.is_ascii() && c != '\n')
    {
        return Err(NoteError::Malformed("a control character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    fn signer(seed: u8) -> (SigningKey, VerifierKey) {
        let secret = SigningKey::from_bytes(&[seed; 32]);
        let key = VerifierKey::new("example.com/log", secret.verifying_key().as_bytes());
        (secret, key.expect("a key"))
    }

    fn signed(text: &str) -> String {
        let (secret, key) = signer(1);
        sign(text, &key, |text| secret.sign(text).to_bytes()).expect("signs")
    }

    #[test]
    fn reads_the_example_of_go() {
        // From the documentation of golang.org/x/mod/sumdb/note.
        let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let note = "If you think cryptography is the answer to your problem,\n\
            then you don't know what your problem is.\n\n\
            \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let key: VerifierKey = key.parse().expect("a key");
        let parsed = UnverifiedNote::parse(note.as_bytes()).expect("a note");
        let text = parsed.verify(&key).expect("signed");
        assert!(text.ends_with("what your problem is.\n"), "{text}");
        let changed = note.replace("think", "thunk");
        let parsed = UnverifiedNote::parse(changed.as_bytes()).expect("a note");
        let wrong = NoteError::Wrong("PeterNeumann".to_owned());
        assert_eq!(parsed.verify(&key), Err(wrong));
    }

    #[test]
    fn signs_what_it_verifies_and_nothing_else_verifies() {
        let (_, key) = signer(1);
        let text = "a text\n\nof two paragraphs\n";
        let note = signed(text);
        let parsed = UnverifiedNote::parse(note.as_bytes()).expect("a note");
        assert_eq!(parsed.verify(&key), Ok(text));
        assert_eq!(parsed.to_string(), note);
        let again: VerifierKey = key.to_string().parse().expect("a key");
        assert_eq!(again, key);
        let (_, other) = signer(2);
        let unsigned = NoteError::Unsigned("example.com/log".to_owned());
        assert_eq!(parsed.verify(&other), Err(unsigned));
    }

    #[test]
    fn signs_nothing_that_it_would_not_read() {
        let (secret, key) = signer(1);
        let sign = |text: &str| sign(text, &key, |text| secret.sign(text).to_bytes());
        let room = NOTE_SIZE_MAX - signed("\n").len();
        let long = |size: usize| "x".repeat(size) + "\n";
        assert!(sign(&long(room)).is_ok());
        assert_eq!(sign(&long(room + 1)), Err(NoteError::TooLong));
        assert!(sign("text").is_err() && sign("te\tt\n").is_err());
    }

    #[test]
    fn takes_signatures_of_others_once_each_and_not_without_end() {
        let (secret, key) = signer(1);
        let note = signed("text\n");
        let mut note = UnverifiedNote::parse(note.as_bytes()).expect("a note");
        note.push(note.signatures()[0].clone()).expect("room");
        assert_eq!(note.signatures().len(), 1);
        let (_, other) = signer(2);
        for i in 1..SIGNATURES_MAX {
            note.push(SignatureLine::new(&other, &[i as u8]))
                .expect("room");
        }
        assert!(note.push(SignatureLine::new(&other, &[0])).is_err());
        let parsed = UnverifiedNote::parse(note.to_string().as_bytes());
        assert_eq!(parsed.as_ref(), Ok(&note));
        assert_eq!(note.verify(&key), Ok("text\n"));
        // The first line of a key is the one that counts.
        note.signatures.clear();
        let good = secret.sign(b"text\n").to_bytes();
        for signature in [&[7; 64], &good] {
            note.push(SignatureLine::new(&key, signature))
                .expect("room");
        }
        let wrong = NoteError::Wrong("example.com/log".to_owned());
        assert_eq!(note.verify(&key), Err(wrong));
    }

    #[test]
    fn rejects_what_is_no_note() {
        let good = signed("text\n");
        let more = |count: usize| {
            let line = good.lines().last().expect("a signature").to_owned() + "\n";
            format!("{good}{}", line.repeat(count))
        };
        assert!(UnverifiedNote::parse(more(SIGNATURES_MAX - 1).as_bytes()).is_ok());
        let bad = [
            String::new(),
            "text\n".to_owned(),
            "text\n\n".to_owned(),
            good.trim_end().to_owned(),
            format!("{good}\n"),
            good.replace('\u{2014}', "-"),
            good.replace("example.com/log ", "example.com/log  "),
            good.replace("example.com/log ", "example.com+log "),
            good.replace("example.com/log ", " "),
            good.replace("text", "te\txt"),
            good.replace("text", "te\rxt"),
            good.replace('=', ""),
            good.trim_end().to_owned() + "AAAA\n",
            more(SIGNATURES_MAX),
            "x".repeat(NOTE_SIZE_MAX + 1),
        ];
        for note in bad {
            let parsed = UnverifiedNote::parse(note.as_bytes());
            assert!(parsed.is_err(), "{note:.200}");
        }
        assert!(UnverifiedNote::parse(b"\xff\n\n\n").is_err());
    }

    #[test]
    fn rejects_base64_that_is_padded_in_its_midst() {
        assert_eq!(decode_base64("AAA="), Some(vec![0, 0]));
        for bad in [
            "AA==AAA=", "AAA=AAAA", "AAAA====", "AAA", "AAB=", "AA A", "AAA=\n", "=",
        ] {
            assert_eq!(decode_base64(bad), None, "{bad}");
        }
        // As long as the key of 32 bytes and its type, in two pieces.
        let good = signer(1).1.to_string();
        let (before, key) = good.rsplit_once('+').expect("a key");
        let bytes = BASE64.decode(key.as_bytes()).expect("Base64");
        let pieces = BASE64.encode(&bytes[..1]) + &BASE64.encode(&bytes[1..]);
        assert!(format!("{before}+{pieces}").parse::<VerifierKey>().is_err());
    }

    #[test]
    fn rejects_what_is_no_key() {
        let good = signer(1).1.to_string();
        let (name, rest) = good.split_once('+').expect("a name");
        for bad in [
            "",
            name,
            &format!("other+{rest}"),
            &format!("+{rest}"),
            &good[..good.len() - 4],
            &good.replace('+', " "),
            &format!("{good}AAAA"),
        ] {
            assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
        }
        assert!(VerifierKey::new("a b", &[1; 32]).is_err());
        assert!(VerifierKey::new("weak", &[0; 32]).is_err());
    }
}
