//! The fields of an entry that have a type of their own.

use std::{borrow::Cow, fmt};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::{EntryError, WORD_SIZE_MAX};

/// Whose log it is: random bytes that were drawn with its first entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tenant(#[serde(with = "serde_bytes")] pub [u8; 16]);

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// A run of the program: a UUID of version 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Session(#[serde(with = "serde_bytes")] pub [u8; 16]);

impl Session {
    /// Whether it says itself that it is such a UUID.
    #[must_use]
    pub fn is_uuid_v7(&self) -> bool {
        self.0[6] >> 4 == 7 && self.0[8] >> 6 == 0b10
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let dash = if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

/// How what an entry tells of went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Ok,
    /// It was tried, and could not be done.
    Failed,
    /// It was not tried: it is not allowed.
    Refused,
}

impl Outcome {
    /// Its name in an entry.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was done. Actions that this program does not know are kept and shown as they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Action(Cow<'static, str>);

/// The known actions: a constant for each, and a list of all.
macro_rules! actions {
    ($($constant:ident = $name:literal: $what:literal;)*) => {
        impl Action {
            $(#[doc = $what] pub const $constant: Self = Self(Cow::Borrowed($name));)*

            /// The actions that this program knows.
            pub const KNOWN: &[Self] = &[$(Self::$constant),*];
        }
    };
}

actions! {
    GENESIS = "genesis": "The log began.";
    EXPORT = "export": "A snapshot was made.";
    SHARE = "share": "A peer, or everyone, was allowed to fetch a snapshot.";
    UNSHARE = "unshare": "A peer, or everyone, no longer may.";
    GROUP = "group": "A group of peers changed.";
    SERVE = "serve": "A peer fetched a block of a snapshot for the first time.";
    PULL = "pull": "A snapshot was fetched from peers.";
    CAR_IMPORT = "car.import": "Snapshots were taken in from files.";
    PIN = "pin": "Another system was asked to hold a snapshot.";
    UNPIN = "unpin": "It was asked to hold it no more.";
    IMPORT = "import": "A snapshot was restored.";
    MIGRATE = "migrate": "A snapshot was fetched, restored and compared.";
    RECIPIENTS_ADD = "recipients.add": "A recipient was added to a snapshot.";
    RECIPIENTS_REMOVE = "recipients.remove": "A recipient was removed from a snapshot.";
    KEY_ROTATE = "key.rotate": "The log's key gave way to a new one.";
    KEY_RECOVER = "key.recover": "The recovery key revoked the log's key, and named a new one.";
    POLICY = "policy": "The policy of witnesses changed.";
    ERASE = "erase": "Keys were destroyed, so that what they opened cannot be read again.";
    CONFIG = "config": "The node's settings changed.";
    FEDERATION = "federation": "The nodes that know each other changed.";
    AUDITOR = "auditor": "The auditors that details are sealed to changed.";
    AGENT_START = "agent.start": "The agent started.";
    AGENT_STOP = "agent.stop": "The agent stopped.";
    ARCHIVE = "archive": "Old entries were archived.";
}

impl Action {
    /// An action of its name: `[a-z][a-z0-9.-]*`, at most [`WORD_SIZE_MAX`] bytes.
    ///
    /// # Errors
    /// No action has such a name.
    pub fn new(name: &str) -> Result<Self, EntryError> {
        if !is_word(name) {
            return Err(EntryError::Field("action"));
        }
        Ok(Self(Cow::Owned(name.to_owned())))
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this program knows what it means.
    #[must_use]
    pub fn is_known(&self) -> bool {
        Self::KNOWN.contains(self)
    }

    /// The action itself, if its entries change the log's keys.
    pub(super) fn changes_keys(&self) -> Option<Self> {
        let changing = [Self::GENESIS, Self::KEY_ROTATE, Self::KEY_RECOVER];
        changing.into_iter().find(|action| action == self)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text is the name of an action or of a field.
pub(crate) fn is_word(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
    text.len() <= WORD_SIZE_MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(inner)
}
