//! Secrets that other programs gave out: tokens and passwords in the first line of a file of the owner's alone.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use zeroize::Zeroizing;

/// Longest secret, in bytes.
pub const SECRET_LEN_MAX: usize = 4096;

/// Why a file gives no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// Others than the owner can read or change it.
    #[error("{} can be read or changed by others (mode {mode:04o})", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Its first line is empty, too long, or not text without spaces and controls.
    #[error("the first line of {} is not a secret of 1 to {SECRET_LEN_MAX} visible characters", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl SecretFileError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Permissions { path, .. } => format!("run `chmod 600 {}`", path.display()),
            Self::Io { .. } | Self::Malformed { .. } => {
                "name a file whose first line is the secret".to_owned()
            }
        }
    }
}

/// Reads the secret in the first line of a file that nobody but its owner may read.
///
/// # Errors
/// It cannot be read, is open to others, or holds none.
pub fn read(path: &Path) -> Result<SecretString, SecretFileError> {
    let failed = |cause| SecretFileError::Io {
        path: path.to_owned(),
        cause,
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(SecretFileError::Permissions { path, mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_LEN_MAX + 2));
    file.take(SECRET_LEN_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    std::str::from_utf8(line)
        .ok()
        .filter(|text| is_secret(text))
        .map(SecretString::from)
        .ok_or_else(|| SecretFileError::Malformed {
            path: path.to_owned(),
        })
}

/// Whether a text can stand in an HTTP header as a secret: visible ASCII, and not too long.
#[must_use]
pub fn is_secret(text: &str) -> bool {
    (1..=SECRET_LEN_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn reads_the_first_line_of_a_file_of_the_owners_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        let with = |content: &[u8], mode| {
            fs::write(&path, content).expect("writes");
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("restricts");
            read(&path)
        };
        for content in ["s3cret", "s3cret\n", "s3cret\r\nmore"] {
            let secret = with(content.as_bytes(), 0o600).expect("reads");
            assert_eq!(secret.expose_secret(), "s3cret");
            assert!(!format!("{secret:?}").contains("s3cret"));
        }
        let long = "x".repeat(SECRET_LEN_MAX);
        assert!(with(long.as_bytes(), 0o400).is_ok());
        let longer = format!("{long}x");
        for content in ["", "\nsecret", "two words", "gr\u{fc}n", "\u{7}", &longer] {
            let error = with(content.as_bytes(), 0o600).expect_err("no secret");
            assert!(
                matches!(error, SecretFileError::Malformed { .. }),
                "{error}"
            );
        }
        for mode in [0o640, 0o604, 0o660] {
            let error = with(b"s3cret", mode).expect_err("open to others");
            assert!(error.hint().contains("chmod"), "{error}");
            assert!(!error.to_string().contains("s3cret"));
        }
    }
}
