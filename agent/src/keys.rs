//! The keys of people: recipients that capsules are sealed to, identities that open them.
//!
//! This module reads them from strings and files, in every form that age knows. It holds no
//! class keys (those are `keyring`'s) and asks people only through [`Prompt`].

use std::{
    fmt,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use secrecy::SecretString;
use zeroize::Zeroizing;

mod identities;
mod recipient;
mod recipients;

pub use identities::{Identities, IdentityError};
pub use recipient::RecipientError;
pub use recipients::{RECIPIENTS_MAX, RecipientSealError, RecipientSet};

/// Largest file of recipients or identities that is read, in bytes.
pub const KEY_FILE_SIZE_MAX: u64 = 1 << 20;
/// Largest scrypt work factor that is accepted, as age does: N = 2^22.
const SCRYPT_WORK_FACTOR_MAX: u8 = 22;

/// How a person is asked, by whoever owns the terminal. `None` says that nobody can answer.
pub trait Prompt: Send + Sync {
    /// Shows a message, such as "touch your security key".
    fn message(&self, text: &str);

    /// Asks for a choice; true is `yes`.
    fn confirm(&self, text: &str, yes: &str, no: Option<&str>) -> Option<bool>;

    /// Asks for a text that is not secret.
    fn text(&self, description: &str) -> Option<String>;

    /// Asks for a passphrase or PIN, unseen.
    fn passphrase(&self, description: &str) -> Option<SecretString>;
}

/// Asks nobody: everything that would need an answer fails.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Prompt for Silent {
    fn message(&self, _text: &str) {}

    fn confirm(&self, _text: &str, _yes: &str, _no: Option<&str>) -> Option<bool> {
        None
    }

    fn text(&self, _description: &str) -> Option<String> {
        None
    }

    fn passphrase(&self, _description: &str) -> Option<SecretString> {
        None
    }
}

/// A shared [`Prompt`], as age's plugins want it.
#[derive(Clone)]
struct Callbacks(Arc<dyn Prompt>);

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callbacks")
    }
}

impl age::Callbacks for Callbacks {
    fn display_message(&self, message: &str) {
        self.0.message(message);
    }

    fn confirm(&self, message: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        self.0.confirm(message, yes, no)
    }

    fn request_public_string(&self, description: &str) -> Option<String> {
        self.0.text(description)
    }

    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        self.0.passphrase(description)
    }
}

/// Reads a whole key file; nothing if it is larger than [`KEY_FILE_SIZE_MAX`].
fn read_key_file(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let file = std::fs::File::open(path)?;
    // One allocation, so that growing leaves no copy of a secret behind.
    let size = file.metadata()?.len().min(KEY_FILE_SIZE_MAX) + 1;
    let capacity = usize::try_from(size).expect("at most 1 MiB and a byte");
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(KEY_FILE_SIZE_MAX + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= KEY_FILE_SIZE_MAX).then_some(bytes))
}

/// The plugin that `age` could not find, without its advice, which is for rage's users.
fn plugin_name(error: &age::plugin::ResolveError) -> String {
    match error {
        age::plugin::ResolveError::MissingPlugin { binary_name } => binary_name.clone(),
        other => other.to_string(),
    }
}
