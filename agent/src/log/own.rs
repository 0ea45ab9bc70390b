//! Appending to the node's own log.
//!
//! Loading and recovering are one: what a crash left without a checkpoint is checked as any
//! other entry, and kept. Then entries are signed and staged, a checkpoint over all of them is signed, and it
//! takes the place of the one before. When that is durable, it is told.

use std::{cell::Cell, io};

use cid::Cid;
use protocol::{
    log::{
        chain::{Chain, ChainError},
        checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint, UnverifiedCheckpoint},
        cosignature::CosignatureError,
        entry::{Action, Draft, Entry, EntryError, Outcome, Session, Tenant, UnverifiedEntry},
        keys::{Control, KeyError, KeyHistory, recovery_commitment},
    },
    note::VerifierKey,
};
use store::{
    StoreError,
    log::{LogReader, LogWriter},
};

use super::{
    PolicyFileError, asked, behind,
    details::{self, DetailsError},
    key::LogKey,
    places::own_dir,
};
use crate::{
    federation::FederationError,
    home::{Home, HomeError},
    web,
};

/// Why nothing can be appended to the log, or read of it.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Its files cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key of it is not in the home.
    #[error("the key of the log cannot be used")]
    Key(#[source] HomeError),
    /// The key in the home is not the one that the log goes by.
    #[error("the home's key number {epoch} is not that of the log")]
    OtherKey {
        /// Number of the key.
        epoch: u64,
    },
    /// An entry is not the next of the log.
    #[error("the log is damaged")]
    Chain(#[from] ChainError),
    /// The log goes by a key that is not in the home.
    #[error("the home does not have key number {epoch} of its log")]
    NoKey {
        /// Number of the key.
        epoch: u64,
    },
    /// An entry of the log does not go with its keys.
    #[error("the log is damaged at entry {index}")]
    Keys {
        /// Index of the entry.
        index: u64,
        /// What is wrong with it.
        #[source]
        reason: KeyError,
    },
    /// An entry is not one.
    #[error("entry {index} of the log is not one")]
    Entry {
        /// Index of the entry.
        index: u64,
        /// What is wrong with it.
        #[source]
        reason: EntryError,
    },
    /// The checkpoint is not the log's.
    #[error("the checkpoint of the log is not its own")]
    Checkpoint(#[from] CheckpointError),
    /// A cosignature cannot be put under the checkpoint.
    #[error("a cosignature cannot be put under the checkpoint")]
    Cosignature(#[from] CosignatureError),
    /// The system gives no sockets or threads to ask witnesses.
    #[error("witnesses cannot be asked")]
    Client(#[source] web::Cause),
    /// The details of an entry cannot be made.
    #[error(transparent)]
    Details(#[from] DetailsError),
    /// The recovery key is not the one that the log committed to.
    #[error("that is not the recovery key of the log")]
    OtherRecovery,
    /// There is no log yet.
    #[error("the home has no log yet")]
    Empty,
    /// Others saw a later state of the log: the home was restored from a backup, or its key is used elsewhere.
    #[error("others saw {seen} entries of the log, and the home has {size}")]
    Behind {
        /// How many others saw.
        seen: u64,
        /// How many there are.
        size: u64,
    },
    /// A witness says that it saw a later state of the log, and does not show it.
    #[error("{witness} says that it cosigned {seen} entries of the log, and the home has {size}")]
    Doubted {
        /// Its name.
        witness: String,
        /// How many it says.
        seen: u64,
        /// How many there are.
        size: u64,
    },
    /// A witness says that it saw another history of the log, and does not show it.
    #[error(
        "{witness} says that it cosigned {seen} entries of the log, which are not those of the home"
    )]
    Denied {
        /// Its name.
        witness: String,
        /// How many it says.
        seen: u64,
    },
    /// It is proven that the log has two histories.
    #[error("the log was forked: {} proves it", proof.display())]
    Forked {
        /// The proof.
        proof: std::path::PathBuf,
    },
    /// The policy of the home cannot be gone by.
    #[error(transparent)]
    Policy(PolicyFileError),
    /// Whose logs are followed cannot be read.
    #[error(transparent)]
    Federation(#[from] FederationError),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random,
}

/// What an entry is to tell.
#[derive(Clone, Debug)]
pub struct Event {
    /// What was done.
    pub action: Action,
    /// How it went.
    pub outcome: Outcome,
    /// The peer that caused it; none if the owner did.
    pub peer: Option<String>,
    /// What it was done with.
    pub subject: Vec<Cid>,
    /// What may be personal or sensitive, by name: it is committed to, and sealed.
    pub details: Vec<(&'static str, String)>,
}

impl Event {
    /// An action of the owner that was done, with nothing more to tell of it yet.
    #[must_use]
    pub fn of(action: Action) -> Self {
        Self {
            action,
            outcome: Outcome::Ok,
            peer: None,
            subject: Vec::new(),
            details: Vec::new(),
        }
    }
}

/// Where entries are in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Index of the first.
    pub first: u64,
    /// Size of the log with all of them.
    pub size: u64,
    /// Verifies the log.
    pub vkey: VerifierKey,
    /// Number of that key.
    pub epoch: u64,
}

/// The log of a node, for this run of the program.
#[derive(Debug)]
pub struct OwnLog<'a> {
    pub(super) home: &'a Home,
    session: Session,
    /// Whether others were asked how far the log is, before what is being appended.
    asked: Cell<bool>,
}

/// Whether an entry changes the log's keys, and so is needed to check all that come after.
pub(super) fn is_control(entry: &[u8]) -> bool {
    may_be_control(entry)
        && UnverifiedEntry::parse(entry)
            .is_ok_and(|entry| entry.draft_unverified().control.is_some())
}

/// The same, told fast: of some entries that do not change them, and of all that do.
pub(super) fn may_be_control(entry: &[u8]) -> bool {
    memchr::memmem::find(entry, b"\x67control").is_some()
}

impl<'a> OwnLog<'a> {
    /// The log of a home. `session` is the UUIDv7 of this run.
    #[must_use]
    pub fn new(home: &'a Home, session: [u8; 16]) -> Self {
        Self {
            home,
            session: Session(session),
            asked: Cell::new(false),
        }
    }

    /// Appends entries, and makes the log if there is none. All are durable, and covered by a checkpoint, when
    /// this returns.
    ///
    /// # Errors
    /// The log cannot be written, or is not this home's; nothing was appended, or a later call appends it.
    pub fn record(&self, now_ms: u64, events: &[Event]) -> Result<Recorded, LogError> {
        let mut prepared = Vec::with_capacity(events.len());
        for event in events {
            prepared.push(self.prepare(event)?);
        }
        let (mut writer, mut chain) = self.open(now_ms)?;
        let key = self.key(&chain)?;
        let first = chain.next();
        let mut entries = Vec::with_capacity(prepared.len());
        for prepared in prepared {
            let entry = sign(prepared, &chain, now_ms, &key)?;
            entries.push(chain.push(entry)?);
        }
        if !entries.is_empty() {
            let leaves: Vec<_> = entries.iter().map(Entry::bytes).collect();
            writer.stage(&leaves)?;
        }
        self.publish(&mut writer, &chain, first)
    }

    /// Opens the log to append to it, with all that a crash left.
    pub(super) fn open(&self, now_ms: u64) -> Result<(LogWriter, Chain), LogError> {
        let (mut writer, recovered) = LogWriter::open(&own_dir(self.home.path()), is_control)?;
        let chain = match writer.reader()? {
            Some(reader) => Some(Chain::resume(keys_of(&reader)?)),
            None => None,
        };
        behind::may_sign(self.home.path(), writer.size())?;
        self.asked
            .set(writer.size() == 0 || asked::holds(self.home.path()));
        let chain = self.recover(chain, &mut writer, recovered, now_ms)?;
        Ok((writer, chain))
    }

    /// The key that signs what comes next.
    pub(super) fn key(&self, chain: &Chain) -> Result<LogKey, LogError> {
        key_of(self.home, chain.keys())
    }

    /// Signs a checkpoint over all that is staged, unless there is one.
    pub(super) fn publish(
        &self,
        writer: &mut LogWriter,
        chain: &Chain,
        first: u64,
    ) -> Result<Recorded, LogError> {
        let size = writer.size();
        if writer.head().is_none_or(|head| head.size < size) {
            let key = self.key(chain)?;
            let origin = chain.keys().origin().clone();
            let checkpoint = Checkpoint::new(origin, size, writer.root())?;
            let signed = checkpoint.sign(chain.keys().key(), |text| key.sign(text))?;
            writer.publish(signed.to_string().as_bytes())?;
        }
        if self.asked.get() {
            asked::keep(self.home.path());
        }
        Ok(Recorded {
            first,
            size,
            vkey: chain.keys().key().clone(),
            epoch: chain.keys().epoch(),
        })
    }

    /// Seals the details of an event, and names all but its place in the log.
    pub(super) fn prepare(&self, event: &Event) -> Result<Draft, LogError> {
        let details = details::salted(&event.details)?;
        let sealed = match details.by_name().is_empty() {
            true => None,
            false => match details::keep(self.home, &details) {
                Ok(cid) => Some(cid),
                // The operation was done, and is told of all the same.
                Err(error) => {
                    tracing::warn!(%error, "the details of an entry are not kept");
                    None
                }
            },
        };
        Ok(Draft {
            tenant: Tenant([0; 16]),
            epoch: 0,
            seq: 0,
            prev: None,
            time_ms: 0,
            session: self.session,
            actor: match &event.peer {
                Some(peer) => peer.clone(),
                None => self.home.peer_id().to_string(),
            },
            action: event.action.clone(),
            outcome: event.outcome,
            subject: event.subject.clone(),
            commit: details.commitments(),
            sealed,
            control: None,
        })
    }

    /// Stages what a crash left, or the first entry of all.
    fn recover(
        &self,
        mut chain: Option<Chain>,
        writer: &mut LogWriter,
        recovered: Vec<Vec<u8>>,
        now_ms: u64,
    ) -> Result<Chain, LogError> {
        let whole = go_on(&mut chain, recovered, u64::MAX)?;
        if !whole.is_empty() {
            tracing::info!(entries = whole.len(), "entries that a crash left are kept");
            writer.stage(&whole)?;
        }
        if let Some(chain) = chain {
            return Ok(chain);
        }
        let genesis = self.genesis(now_ms)?;
        writer.stage(&[genesis.bytes()])?;
        Ok(Chain::begin(genesis)?.0)
    }

    /// The first entry.
    fn genesis(&self, now_ms: u64) -> Result<UnverifiedEntry, LogError> {
        // A home that an earlier version made has none yet.
        let key = self.home.new_log_key(1).map_err(LogError::Key)?;
        let recovery = self.home.new_log_recovery_key(1).map_err(LogError::Key)?;
        let mut tenant = [0; 16];
        getrandom::fill(&mut tenant).map_err(|_| LogError::Random)?;
        let genesis = Draft {
            tenant: Tenant(tenant),
            epoch: 1,
            seq: 0,
            prev: None,
            time_ms: now_ms,
            session: self.session,
            actor: self.home.peer_id().to_string(),
            action: Action::GENESIS,
            outcome: Outcome::Ok,
            subject: Vec::new(),
            commit: std::collections::BTreeMap::new(),
            sealed: None,
            control: Some(Control::Genesis {
                key: *key.public().as_bytes(),
                recovery: recovery_commitment(recovery.public().as_bytes()),
            }),
        };
        let signed = genesis.sign(&key.public(), |message| key.sign(message));
        signed
            .map(Into::into)
            .map_err(|reason| LogError::Entry { index: 0, reason })
    }
}

/// The entries that a crash left which are the next of a log, up to so many, and puts them on its chain.
///
/// # Errors
/// A later version of the program staged one, and only that one may go on.
pub(super) fn go_on(
    chain: &mut Option<Chain>,
    recovered: Vec<Vec<u8>>,
    most: u64,
) -> Result<Vec<Vec<u8>>, LogError> {
    let mut whole = Vec::new();
    for entry in recovered {
        if whole.len() as u64 == most {
            break;
        }
        let index = chain.as_ref().map_or(0, Chain::next);
        let parsed = match UnverifiedEntry::parse(&entry) {
            Ok(parsed) => parsed,
            Err(reason @ EntryError::LaterVersion { .. }) => {
                return Err(LogError::Entry { index, reason });
            }
            Err(_) => break,
        };
        let is_next = match chain {
            Some(chain) => chain.push(parsed).is_ok(),
            None => match Chain::begin(parsed) {
                Ok((begun, _)) => {
                    *chain = Some(begun);
                    true
                }
                Err(_) => false,
            },
        };
        if !is_next {
            break;
        }
        whole.push(entry);
    }
    Ok(whole)
}

/// The key in a home that signs what comes next in its log.
///
/// # Errors
/// It is not there, or another one is.
pub(super) fn key_of(home: &Home, keys: &KeyHistory) -> Result<LogKey, LogError> {
    let epoch = keys.epoch();
    let key = match home.log_key(epoch) {
        Err(HomeError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
            return Err(LogError::NoKey { epoch });
        }
        key => key.map_err(LogError::Key)?,
    };
    if key.public() == *keys.key().public() {
        Ok(key)
    } else {
        Err(LogError::OtherKey { epoch })
    }
}

/// Signs what comes next.
fn sign(
    draft: Draft,
    chain: &Chain,
    now_ms: u64,
    key: &LogKey,
) -> Result<UnverifiedEntry, LogError> {
    let index = chain.next();
    let draft = Draft {
        tenant: chain.keys().tenant(),
        epoch: chain.keys().epoch(),
        seq: index,
        prev: Some(*chain.keys().head()),
        time_ms: now_ms,
        ..draft
    };
    let signed = key.sign_entry(draft);
    signed
        .map(Into::into)
        .map_err(|reason| LogError::Entry { index, reason })
}

/// The keys of a log up to its head, out of the entries that change them and the last one; and checks that they
/// signed its checkpoint.
///
/// # Errors
/// An entry is none, or not the log's; or the checkpoint is not.
pub fn keys_of(reader: &LogReader) -> Result<KeyHistory, LogError> {
    let size = reader.head().size;
    let last = size.checked_sub(1).ok_or(LogError::Empty)?;
    let read = |index| -> Result<UnverifiedEntry, LogError> {
        let entry = reader.entry(index)?;
        UnverifiedEntry::parse(&entry).map_err(|reason| LogError::Entry { index, reason })
    };
    let failed = |index| move |reason| LogError::Keys { index, reason };
    let (mut keys, _) = KeyHistory::begin(read(0)?).map_err(failed(0))?;
    let marks = reader.marks()?.into_iter().filter(|mark| *mark > 0);
    for index in marks.chain([last]) {
        if index > keys.last() {
            keys.admit(read(index)?).map_err(failed(index))?;
        }
    }
    signed_head(reader, &keys).map(|_| keys)
}

/// The checkpoint of a log, which its keys signed.
///
/// # Errors
/// They did not.
pub(super) fn signed_head(
    reader: &LogReader,
    keys: &KeyHistory,
) -> Result<SignedCheckpoint, LogError> {
    let checkpoint = UnverifiedCheckpoint::parse(&reader.head().note)?;
    let (_, signed) = keys.verify(&checkpoint)?;
    Ok(signed)
}
