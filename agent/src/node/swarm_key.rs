//! The key of a private network, as Kubo has it in `swarm.key`.

use std::{fmt, fs::File, io::Read, path::Path};

use libp2p::pnet::PreSharedKey;
use zeroize::Zeroizing;

/// Most bytes of the file that are read.
const FILE_SIZE_MAX: u64 = 4096;
const KIND: &str = "/key/swarm/psk/1.0.0/";
const ENCODING: &str = "/base16/";
const KEY_SIZE: usize = 32;

/// What all nodes of a private network share, and nobody else has.
#[derive(Clone)]
pub struct SwarmKey(PreSharedKey);

/// Why a file is no key of a private network.
#[derive(Debug, thiserror::Error)]
pub enum SwarmKeyError {
    /// The file cannot be read.
    #[error("it cannot be read")]
    Io(#[from] std::io::Error),
    /// The first line says that it is something else.
    #[error("its first line is not `{KIND}`")]
    Kind,
    /// The second line names another encoding.
    #[error("its second line is not `{ENCODING}`, the encoding that is known")]
    Encoding,
    /// The third line is no key.
    #[error("its third line is not {} hexadecimal digits", 2 * KEY_SIZE)]
    Key,
}

impl SwarmKey {
    /// Reads a key file.
    ///
    /// # Errors
    /// It cannot be read, or holds something else.
    pub fn read(path: &Path) -> Result<Self, SwarmKeyError> {
        let mut text = Zeroizing::new(String::with_capacity(FILE_SIZE_MAX as usize));
        File::open(path)?
            .take(FILE_SIZE_MAX)
            .read_to_string(&mut text)?;
        Self::parse(&text)
    }

    /// Takes the text of a key file.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(text: &str) -> Result<Self, SwarmKeyError> {
        let mut lines = text.lines().map(str::trim_end);
        if lines.next() != Some(KIND) {
            return Err(SwarmKeyError::Kind);
        }
        if lines.next() != Some(ENCODING) {
            return Err(SwarmKeyError::Encoding);
        }
        let digits = lines.next().ok_or(SwarmKeyError::Key)?.as_bytes();
        let (pairs, rest) = digits.as_chunks::<2>();
        if pairs.len() != KEY_SIZE || !rest.is_empty() {
            return Err(SwarmKeyError::Key);
        }
        let mut key = Zeroizing::new([0; KEY_SIZE]);
        for (byte, [high, low]) in key.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Ok(Self(PreSharedKey::new(*key)))
    }

    pub(super) fn pre_shared(&self) -> PreSharedKey {
        self.0
    }
}

impl fmt::Debug for SwarmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SwarmKey({})", self.0.fingerprint())
    }
}

fn digit(character: u8) -> Result<u8, SwarmKeyError> {
    let value = char::from(character).to_digit(16);
    value
        .and_then(|value| u8::try_from(value).ok())
        .ok_or(SwarmKeyError::Key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0011223344556677889900aabbccddeeff0123456789abcdef0123456789ABCD";

    #[test]
    fn takes_what_kubo_writes() {
        for end in ["", "\n", "\r\n"] {
            let text = format!("{KIND}\n{ENCODING}\n{KEY}{end}");
            let key = SwarmKey::parse(&text).expect("a key");
            let expected = format!("{KIND}\n{ENCODING}\n{}\n", KEY.to_lowercase());
            assert_eq!(key.pre_shared().to_key_file(), expected);
            assert!(!format!("{key:?}").contains("0011"), "{key:?}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for (text, why) in [
            (String::new(), "empty"),
            (format!("{ENCODING}\n{KEY}"), "no kind"),
            (format!("{KIND}\n/base64/\n{KEY}"), "another encoding"),
            (format!("{KIND}\n{ENCODING}\n"), "no key"),
            (format!("{KIND}\n{ENCODING}\n{}", &KEY[1..]), "a digit less"),
            (format!("{KIND}\n{ENCODING}\n{KEY}00"), "a byte more"),
            (
                format!("{KIND}\n{ENCODING}\n{}", "é".repeat(KEY_SIZE)),
                "as many bytes, but no digits",
            ),
        ] {
            assert!(SwarmKey::parse(&text).is_err(), "{why}");
        }
    }
}
