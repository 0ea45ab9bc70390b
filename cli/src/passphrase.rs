//! Passphrases: from the environment, a file or the terminal; never from arguments.

use std::{fs::File, io::Read, path::Path};

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::error::CliError;

/// Longest passphrase, in bytes.
const PASSPHRASE_LEN_MAX: u64 = 4096;

/// Environment variable that holds a passphrase.
pub(crate) const VARIABLE: &str = "SOUVERAIN_PASSPHRASE";

/// A new passphrase: from the file, the environment, or typed twice.
pub(crate) fn choose(file: Option<&Path>) -> Result<SecretString, CliError> {
    if let Some(found) = unattended(file)? {
        return Ok(found);
    }
    let first = ask("New passphrase: ")?;
    let second = ask("The same again: ")?;
    if *first != *second {
        return Err(CliError::failed("the two passphrases are not the same"));
    }
    not_empty(first)
}

/// The passphrase that a file or the environment holds, if any.
pub(crate) fn unattended(file: Option<&Path>) -> Result<Option<SecretString>, CliError> {
    if let Some(path) = file {
        return not_empty(first_line(path)?).map(Some);
    }
    match std::env::var(VARIABLE) {
        Ok(text) => not_empty(Zeroizing::new(text)).map(Some),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(CliError::failed(format!("{VARIABLE} is not UTF-8")))
        }
    }
}

fn first_line(path: &Path) -> Result<Zeroizing<String>, CliError> {
    let failed = || CliError::failed(format!("cannot read a passphrase from {}", path.display()));
    let mut text = Zeroizing::new(String::with_capacity(PASSPHRASE_LEN_MAX as usize + 1));
    File::open(path)
        .and_then(|file| file.take(PASSPHRASE_LEN_MAX + 1).read_to_string(&mut text))
        .map_err(|cause| failed().cause(&cause))?;
    let line = text.split('\n').next().unwrap_or_default();
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.len() as u64 > PASSPHRASE_LEN_MAX {
        return Err(failed().hint(format!(
            "its first line is longer than {PASSPHRASE_LEN_MAX} bytes"
        )));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// Asks on the terminal, unseen.
pub(crate) fn ask(prompt: &str) -> Result<Zeroizing<String>, CliError> {
    rpassword::prompt_password(prompt)
        .map(Zeroizing::new)
        .map_err(|cause| {
            CliError::failed("cannot ask for a passphrase: there is no terminal")
                .cause(&cause)
                .hint(format!("set {VARIABLE} or pass `--passphrase-file FILE`"))
        })
}

fn not_empty(text: Zeroizing<String>) -> Result<SecretString, CliError> {
    if text.is_empty() {
        return Err(CliError::failed("the passphrase is empty"));
    }
    Ok(SecretString::from(text.as_str()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use secrecy::ExposeSecret;

    use super::*;

    fn from_file(content: &[u8]) -> Result<String, CliError> {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(content).expect("writes");
        choose(Some(file.path())).map(|secret| secret.expose_secret().to_owned())
    }

    #[test]
    fn a_file_gives_its_first_line() {
        assert_eq!(from_file(b"a b \r\nrest\n").expect("one"), "a b ");
        assert_eq!(from_file(b"no newline").expect("one"), "no newline");
        assert!(from_file(b"").is_err());
        assert!(from_file(b"\nsecond").is_err());
        assert!(from_file(&[0xff]).is_err());
        assert!(from_file(&vec![b'a'; PASSPHRASE_LEN_MAX as usize + 1]).is_err());
    }
}
