//! One recipient, in every form that age knows.

use std::{fmt, io, path::PathBuf};

use age::ssh::ParseRecipientKeyError;
use protocol::keys::{KeyKind, hybrid};

use super::RECIPIENTS_MAX;

/// Somebody that age can encrypt to.
#[derive(Clone)]
pub(super) enum Recipient {
    X25519(age::x25519::Recipient),
    Hybrid(hybrid::Recipient),
    Tag(age::tag::Recipient),
    TagHybrid(Box<age::tagpq::Recipient>),
    Ssh(age::ssh::Recipient),
    Plugin(age::plugin::Recipient),
}

impl Recipient {
    pub(super) fn parse(text: &str) -> Result<Self, RecipientError> {
        let upper = text.to_ascii_uppercase();
        if upper.starts_with("AGE-SECRET-KEY-") || upper.starts_with("AGE-PLUGIN-") {
            return Err(RecipientError::Secret);
        }
        let unknown = || RecipientError::Unknown {
            given: abridged(text),
        };
        if text.starts_with(hybrid::RECIPIENT_PREFIX) {
            return text.parse().map(Self::Hybrid).map_err(|_| unknown());
        }
        if let Ok(recipient) = text.parse() {
            return Ok(Self::X25519(recipient));
        }
        if let Ok(recipient) = text.parse() {
            return Ok(Self::Tag(recipient));
        }
        if let Ok(recipient) = text.parse() {
            return Ok(Self::TagHybrid(Box::new(recipient)));
        }
        match text.parse() {
            Ok(recipient) => return Ok(Self::Ssh(recipient)),
            Err(ParseRecipientKeyError::Invalid(_)) => {}
            Err(refused) => return Err(ssh_error(refused)),
        }
        text.parse().map(Self::Plugin).map_err(|_| unknown())
    }

    /// Which protection it is known to have; a plugin says so only when it seals.
    pub(super) fn kind(&self) -> Option<KeyKind> {
        match self {
            Self::Hybrid(_) | Self::TagHybrid(_) => Some(KeyKind::Hybrid),
            Self::X25519(_) | Self::Tag(_) | Self::Ssh(_) => Some(KeyKind::X25519),
            Self::Plugin(_) => None,
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::X25519(recipient) => recipient.fmt(f),
            Self::Hybrid(recipient) => recipient.fmt(f),
            Self::Tag(recipient) => recipient.fmt(f),
            Self::TagHybrid(recipient) => recipient.fmt(f),
            Self::Ssh(recipient) => recipient.fmt(f),
            Self::Plugin(recipient) => recipient.fmt(f),
        }
    }
}

fn ssh_error(refused: ParseRecipientKeyError) -> RecipientError {
    let what = match refused {
        ParseRecipientKeyError::RsaModulusTooLarge => "the RSA modulus is too large".to_owned(),
        ParseRecipientKeyError::RsaModulusTooSmall => {
            "the RSA modulus has fewer than 2048 bits".to_owned()
        }
        ParseRecipientKeyError::Unsupported(kind) => {
            format!("{kind} is neither ssh-ed25519 nor ssh-rsa")
        }
        _ => "it is malformed".to_owned(),
    };
    RecipientError::Ssh { what }
}

/// The beginning of something given, for an error message.
fn abridged(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Why recipients cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipientError {
    /// There are none.
    #[error("no recipient was given")]
    None,
    /// There are more than [`RECIPIENTS_MAX`].
    #[error("more than {RECIPIENTS_MAX} recipients were given")]
    TooMany,
    /// It is neither a recipient nor a file.
    #[error("{given:?} is neither a recipient nor a file of recipients")]
    Unknown {
        /// What was given.
        given: String,
    },
    /// It is the secret half of a key. What was given is not repeated.
    #[error("a secret key was given where a recipient is needed")]
    Secret,
    /// An SSH key of a kind that age cannot encrypt to.
    #[error("cannot encrypt to this SSH key: {what}")]
    Ssh {
        /// Why not.
        what: String,
    },
    /// A line of a file is not a recipient.
    #[error("line {line} of {} is not a recipient", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// Why not.
        #[source]
        cause: Box<RecipientError>,
    },
    /// A file of recipients cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A file of recipients is too large to be one.
    #[error("{} is too large for a file of recipients", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Post-quantum recipients stand beside others, which would undo their protection.
    #[error("{weak} is not post-quantum and cannot stand beside recipients that are")]
    Mixed {
        /// One of those that are not.
        weak: String,
    },
    /// Post-quantum protection was asked for, and a recipient does not have it.
    #[error("{weak} is not a post-quantum recipient")]
    NotPostQuantum {
        /// One of those that are not.
        weak: String,
    },
    /// All recipients are post-quantum, and the class keys between them and the data would not be.
    #[error("the recipients are post-quantum, the class key is not")]
    ClassNotPostQuantum,
    /// A plugin is not installed.
    #[error("plugin {name} is not installed")]
    PluginMissing {
        /// Name of its program.
        name: String,
    },
}

impl RecipientError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::None => "pass `--to RECIPIENT`, or run `souverain init` to have a default one",
            Self::Unknown { .. } => {
                "a recipient is `age1…`, `age1pq1…`, `ssh-ed25519 …` or `ssh-rsa …`; \
                 a file holds one a line"
            }
            Self::Secret => {
                "recipients are public keys; `age-keygen -y FILE` prints those of an identity file"
            }
            Self::Line { cause, .. } => return cause.hint(),
            Self::Mixed { .. } | Self::NotPostQuantum { .. } => {
                "use `age1pq1…` recipients only: `age-keygen -pq` of age 1.3 makes them"
            }
            Self::ClassNotPostQuantum => "ask for post-quantum protection of the snapshot too",
            Self::PluginMissing { name } => {
                return Some(format!("install `{name}` somewhere in PATH"));
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
