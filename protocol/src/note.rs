//! Signed notes: a text, and signatures under it that others can check.
//!
//! The format is C2SP's, <https://c2sp.org/signed-note>, with Ed25519 signatures; Go's `sumdb/note`
//! reads what is written here.

use std::{fmt, str::FromStr};

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

/// Largest note, in bytes, as Go's `sumdb/note` has it.
pub const NOTE_SIZE_MAX: usize = 1_000_000;
/// Most signatures of a note.
pub const SIGNATURES_MAX: usize = 100;
/// What a signature line begins with: an em dash and a space.
const LINE_PREFIX: &str = "\u{2014} ";
/// The signature type of Ed25519.
const TYPE_ED25519: u8 = 1;

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

/// What checks the signatures of one signer: its name and its Ed25519 public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: VerifyingKey,
}

impl VerifierKey {
    /// A key under a name.
    ///
    /// # Errors
    /// The name is empty, or has a space or a plus sign in it; or the key is no point of the curve.
    pub fn new(name: &str, key: &[u8; 32]) -> Result<Self, NoteError> {
        let bad = |c: char| c == '+' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.contains(bad) {
            return Err(NoteError::Key("a name that no signer has"));
        }
        let key = VerifyingKey::from_bytes(key).map_err(|_| NoteError::Key("no Ed25519 key"))?;
        if key.is_weak() {
            return Err(NoteError::Key("a weak Ed25519 key"));
        }
        Ok(Self {
            name: name.to_owned(),
            key,
        })
    }

    /// The signer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of a hash over name and key, which tell keys of one name apart.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let hash = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', TYPE_ED25519])
            .chain_update(self.key.as_bytes())
            .finalize();
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = u32::from_be_bytes(self.id());
        let key = [&[TYPE_ED25519], self.key.as_bytes().as_slice()].concat();
        write!(f, "{}+{id:08x}+{}", self.name, BASE64.encode(&key))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("not NAME+HASH+KEY"));
        };
        let key = BASE64.decode(key.as_bytes());
        let key = key.map_err(|_| NoteError::Key("not in Base64"))?;
        let key = match key.as_slice() {
            [TYPE_ED25519, key @ ..] => key.try_into(),
            _ => return Err(NoteError::Key("not of the type Ed25519")),
        };
        let key = Self::new(name, key.map_err(|_| NoteError::Key("not of 32 bytes"))?)?;
        let said = HEXLOWER_PERMISSIVE.decode(id.as_bytes());
        if said.as_deref() != Ok(&key.id()[..]) {
            return Err(NoteError::Key("a hash that is not its"));
        }
        Ok(key)
    }
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
    let note = format!(
        "{text}\n{LINE_PREFIX}{} {}\n",
        key.name,
        BASE64.encode(&[&key.id()[..], &signature].concat())
    );
    UnverifiedNote::parse(note.as_bytes())?.verify(key)?;
    Ok(note)
}

/// A note whose signatures were not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedNote {
    text: String,
    signatures: Vec<SignatureLine>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SignatureLine {
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
        let of_key = |line: &&SignatureLine| line.name == key.name && line.id == key.id();
        let line = self.signatures.iter().find(of_key);
        let line = line.ok_or_else(|| NoteError::Unsigned(key.name.clone()))?;
        let wrong = || NoteError::Wrong(key.name.clone());
        let signature = Signature::from_slice(&line.signature).map_err(|_| wrong())?;
        let checked = key.key.verify_strict(self.text.as_bytes(), &signature);
        checked.map(|()| self.text.as_str()).map_err(|_| wrong())
    }

    /// The text, which nobody may have signed.
    #[must_use]
    pub fn text_unverified(&self) -> &str {
        &self.text
    }
}

impl SignatureLine {
    fn parse(line: &str) -> Result<Self, NoteError> {
        let malformed = NoteError::Malformed("a malformed signature line");
        let parse = || {
            let (name, signature) = line.strip_prefix(LINE_PREFIX)?.split_once(' ')?;
            let bytes = BASE64.decode(signature.as_bytes()).ok()?;
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
        let again: VerifierKey = key.to_string().parse().expect("a key");
        assert_eq!(again, key);
        let (_, other) = signer(2);
        let unsigned = NoteError::Unsigned("example.com/log".to_owned());
        assert_eq!(parsed.verify(&other), Err(unsigned));
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
