//! Sets of recipients.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    path::Path,
    sync::Arc,
};

use age_core::format::{FileKey, Stanza};
use protocol::{
    block::BLOCK_SIZE_MAX,
    keys::{KeyKind, capsule::Capsule, hybrid},
    log::detail::Details,
    seal::{SealError, Sealed},
};
use secrecy::SecretString;

use super::{
    Callbacks, Prompt, RecipientError, Silent, plugin_name, read_key_file, recipient::Recipient,
};

/// Most recipients of one set.
pub const RECIPIENTS_MAX: usize = 256;

/// Whom a capsule is sealed to: some recipients, or one passphrase.
#[derive(Clone)]
pub struct RecipientSet {
    set: Set,
    prompt: Callbacks,
}

#[derive(Clone)]
enum Set {
    /// By their canonical strings.
    Recipients(BTreeMap<String, Recipient>),
    Passphrase(SecretString),
}

impl RecipientSet {
    /// Reads recipients: each string is a recipient, or the path of a file that holds some, one a
    /// line, with empty lines and `#` comments, as `age -R` takes it.
    ///
    /// # Errors
    /// A string is neither; there are none or too many; or they do not go together.
    pub fn parse<S: AsRef<str>>(strings: &[S]) -> Result<Self, RecipientError> {
        let mut recipients = BTreeMap::new();
        for given in strings {
            gather(given.as_ref(), &mut recipients)?;
        }
        Self::of(recipients)
    }

    /// Reads a file of recipients.
    ///
    /// # Errors
    /// As [`RecipientSet::parse`].
    pub fn parse_file(path: &Path) -> Result<Self, RecipientError> {
        let mut recipients = BTreeMap::new();
        gather_file(path, &mut recipients)?;
        Self::of(recipients)
    }

    fn of(recipients: BTreeMap<String, Recipient>) -> Result<Self, RecipientError> {
        if recipients.is_empty() {
            return Err(RecipientError::None);
        }
        check_mix(&recipients)?;
        Ok(Self::new(Set::Recipients(recipients)))
    }

    /// The set of who knows a passphrase; it cannot be mixed with recipients.
    #[must_use]
    pub fn passphrase(passphrase: SecretString) -> Self {
        Self::new(Set::Passphrase(passphrase))
    }

    fn new(set: Set) -> Self {
        Self {
            set,
            prompt: Callbacks(Arc::new(Silent)),
        }
    }

    /// Lets plugins ask through `prompt` when they seal.
    #[must_use]
    pub fn with_prompt(mut self, prompt: Arc<dyn Prompt>) -> Self {
        self.prompt = Callbacks(prompt);
        self
    }

    /// A hash of the set, equal only if the set is. That of a passphrase is constant: nothing
    /// derived from a passphrase is stored.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = blake3::Hasher::new_derive_key("souverain 1 recipient set");
        match &self.set {
            Set::Recipients(recipients) => {
                for line in recipients.keys() {
                    hash.update(line.as_bytes()).update(b"\n");
                }
            }
            Set::Passphrase(_) => {
                hash.update(PASSPHRASE_LINE.as_bytes());
            }
        }
        hash.finalize().into()
    }

    /// The canonical string of each recipient, in order; none for a passphrase.
    pub fn strings(&self) -> impl Iterator<Item = &str> {
        let recipients = match &self.set {
            Set::Recipients(recipients) => Some(recipients),
            Set::Passphrase(_) => None,
        };
        recipients.into_iter().flatten().map(|(line, _)| &**line)
    }

    /// The passphrase, if that is all there is.
    #[must_use]
    pub fn as_passphrase(&self) -> Option<&SecretString> {
        match &self.set {
            Set::Recipients(_) => None,
            Set::Passphrase(passphrase) => Some(passphrase),
        }
    }

    /// The kind of class keys that goes with the set: hybrid if every recipient is known to be
    /// post-quantum. Nothing for a passphrase or plugins alone, which go with both.
    #[must_use]
    pub fn kind(&self) -> Option<KeyKind> {
        let Set::Recipients(recipients) = &self.set else {
            return None;
        };
        recipients.values().find_map(Recipient::kind)
    }

    /// Adds the recipients of another set.
    ///
    /// # Errors
    /// There are too many, or they do not go together.
    pub fn union(&self, other: &Self) -> Result<Self, RecipientError> {
        let (Set::Recipients(mine), Set::Recipients(more)) = (&self.set, &other.set) else {
            let weak = PASSPHRASE_LINE.to_owned();
            return Err(RecipientError::Mixed { weak });
        };
        let mut all = mine.clone();
        all.extend(more.iter().map(|(line, r)| (line.clone(), r.clone())));
        if all.len() > RECIPIENTS_MAX {
            return Err(RecipientError::TooMany);
        }
        check_mix(&all)?;
        Ok(Self {
            set: Set::Recipients(all),
            prompt: self.prompt.clone(),
        })
    }

    /// Seals a capsule to the set. `kind` is that of its class identities.
    ///
    /// # Errors
    /// The set does not go with `kind`, or a recipient refused.
    pub fn seal(&self, capsule: &Capsule, kind: KeyKind) -> Result<Sealed, RecipientSealError> {
        let recipients = self.recipients(kind)?;
        let sealed = capsule.seal(recipients.iter().map(|r| &**r as &dyn age::Recipient))?;
        let size = sealed.bytes().len();
        if size > BLOCK_SIZE_MAX {
            return Err(RecipientSealError::TooLarge { size });
        }
        Ok(sealed)
    }

    /// Seals details of a log's entry to the set.
    ///
    /// # Errors
    /// A recipient refused.
    pub(crate) fn seal_details(&self, details: &Details) -> Result<Sealed, RecipientSealError> {
        let recipients = self.recipients(self.kind().unwrap_or(KeyKind::X25519))?;
        Ok(details.seal(recipients.iter().map(|r| &**r as &dyn age::Recipient))?)
    }

    /// The recipients as age wants them, and for hybrid class keys with a guard against any that
    /// are not post-quantum.
    fn recipients(
        &self,
        kind: KeyKind,
    ) -> Result<Vec<Box<dyn age::Recipient + Send + Sync>>, RecipientError> {
        let recipients = match &self.set {
            Set::Passphrase(passphrase) => {
                let recipient = age::scrypt::Recipient::new(passphrase.clone());
                return Ok(vec![Box::new(recipient)]);
            }
            Set::Recipients(recipients) => recipients,
        };
        self.check_kind(kind)?;
        let mut boxed: Vec<Box<dyn age::Recipient + Send + Sync>> = Vec::new();
        let mut plugins = Vec::new();
        for recipient in recipients.values() {
            match recipient.clone() {
                Recipient::X25519(recipient) => boxed.push(Box::new(recipient)),
                Recipient::Hybrid(recipient) => boxed.push(Box::new(recipient)),
                Recipient::Tag(recipient) => boxed.push(Box::new(recipient)),
                Recipient::TagHybrid(recipient) => boxed.push(recipient),
                Recipient::Ssh(recipient) => boxed.push(Box::new(recipient)),
                Recipient::Plugin(recipient) => plugins.push(recipient),
            }
        }
        let names: std::collections::BTreeSet<&str> = plugins.iter().map(|p| p.plugin()).collect();
        for name in names {
            let plugin =
                age::plugin::RecipientPluginV1::new(name, &plugins, &[], self.prompt.clone());
            let missing = |err| RecipientError::PluginMissing {
                name: plugin_name(&err),
            };
            boxed.push(Box::new(plugin.map_err(missing)?));
        }
        if kind == KeyKind::Hybrid {
            boxed.push(Box::new(PostQuantumOnly));
        }
        Ok(boxed)
    }

    /// Checks that the set goes with class keys of `kind`.
    pub(crate) fn check_kind(&self, kind: KeyKind) -> Result<(), RecipientError> {
        match (kind, self.kind()) {
            (KeyKind::Hybrid, Some(KeyKind::X25519)) => Err(RecipientError::NotPostQuantum {
                weak: self.strings().next().unwrap_or_default().to_owned(),
            }),
            (KeyKind::X25519, Some(KeyKind::Hybrid)) => Err(RecipientError::ClassNotPostQuantum),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for RecipientSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecipientSet({self})")
    }
}

impl fmt::Display for RecipientSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.set {
            Set::Recipients(recipients) => {
                let lines: Vec<&str> = recipients.keys().map(String::as_str).collect();
                f.write_str(&lines.join(", "))
            }
            Set::Passphrase(_) => f.write_str(PASSPHRASE_LINE),
        }
    }
}

/// Why a capsule cannot be sealed to a set.
#[derive(Debug, thiserror::Error)]
pub enum RecipientSealError {
    /// The set cannot be used.
    #[error(transparent)]
    Recipients(#[from] RecipientError),
    /// A recipient or plugin refused.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Recipients, of plugins perhaps, need more room than a block has.
    #[error("the capsule of {size} bytes is larger than a block ({BLOCK_SIZE_MAX} bytes)")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
}

const PASSPHRASE_LINE: &str = "a passphrase";

/// Adds what one argument names.
fn gather(given: &str, into: &mut BTreeMap<String, Recipient>) -> Result<(), RecipientError> {
    let unknown = match Recipient::parse(given.trim()) {
        Ok(recipient) => return add(recipient, into),
        Err(unknown @ RecipientError::Unknown { .. }) => unknown,
        Err(err) => return Err(err),
    };
    let path = Path::new(given);
    if !path.is_file() {
        return Err(unknown);
    }
    gather_file(path, into)
}

/// Adds what a file names, one a line.
fn gather_file(path: &Path, into: &mut BTreeMap<String, Recipient>) -> Result<(), RecipientError> {
    let unreadable = |cause| RecipientError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    let too_large = || RecipientError::TooLarge {
        path: path.to_owned(),
    };
    let bytes = read_key_file(path)
        .map_err(unreadable)?
        .ok_or_else(too_large)?;
    for (index, line) in bytes.split(|&b| b == b'\n').enumerate() {
        let malformed = |cause| RecipientError::Line {
            path: path.to_owned(),
            line: index + 1,
            cause: Box::new(cause),
        };
        let text = std::str::from_utf8(line).map_err(|_| {
            malformed(RecipientError::Unknown {
                given: String::new(),
            })
        })?;
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        add(Recipient::parse(text).map_err(malformed)?, into)?;
    }
    Ok(())
}

fn add(recipient: Recipient, into: &mut BTreeMap<String, Recipient>) -> Result<(), RecipientError> {
    into.insert(recipient.to_string(), recipient);
    if into.len() > RECIPIENTS_MAX {
        return Err(RecipientError::TooMany);
    }
    Ok(())
}

fn check_mix(recipients: &BTreeMap<String, Recipient>) -> Result<(), RecipientError> {
    let of = |kind| recipients.iter().find(|(_, r)| r.kind() == Some(kind));
    match (of(KeyKind::Hybrid), of(KeyKind::X25519)) {
        (Some(_), Some((weak, _))) => Err(RecipientError::Mixed { weak: weak.clone() }),
        _ => Ok(()),
    }
}

/// Adds nothing to a file but its label, so that age refuses any recipient that is not
/// post-quantum: how it is known of plugins, who tell only when they seal.
struct PostQuantumOnly;

impl age::Recipient for PostQuantumOnly {
    fn wrap_file_key(
        &self,
        _file_key: &FileKey,
    ) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
        Ok((vec![], HashSet::from([hybrid::LABEL.to_owned()])))
    }
}

#[cfg(test)]
mod tests;
