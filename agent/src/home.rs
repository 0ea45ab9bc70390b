//! The home of a node: its keys and settings in one directory, readable by its owner alone.
//!
//! Files, all of them written once, whole and durably, and never overwritten:
//! `node.key` (Ed25519, protobuf as libp2p writes it), `secret.key` (32 bytes that cut points
//! and deduplication keys are derived from), `log-1.key` (the first key of the log, 32 bytes; later ones have
//! other numbers), `log-recovery-1.key` (what takes the log back if that is stolen, to be taken offline), `witness.key` (what cosigns
//! the logs of others, 32 bytes; made when it is needed first, if the home lacks it), `identity.txt` (absent on a write-only node),
//! `recipients.txt` (who can open what is exported unless told otherwise), and last `version`,
//! which says that the others are complete.

mod files;
mod log_keys;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use libp2p_identity::{Keypair, PeerId};
use protocol::keys::{ClassIdentity, KeyKind, capsule::Mode};
use secrecy::ExposeSecret;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use self::files::{
    TEMPORARY, check_private, io_error, random, read_bounded, read_secret, sync_directory,
    write_once,
};
pub(crate) use self::files::{read_seed, write_private};
use crate::keys::{RecipientError, RecipientSet};

const NODE_KEY: &str = "node.key";
const SECRET_KEY: &str = "secret.key";
const LOG_KEY_1: &str = "log-1.key";
const LOG_RECOVERY_1: &str = "log-recovery-1.key";
const WITNESS_KEY: &str = "witness.key";
const IDENTITY: &str = "identity.txt";
const RECIPIENTS: &str = "recipients.txt";
const VERSION: &str = "version";
const VERSION_1: &str = "souverain home 1\n";

/// An initialised home.
pub struct Home {
    path: PathBuf,
    node: Keypair,
    secret: Zeroizing<[u8; 32]>,
}

/// How a home is made.
#[derive(Clone, Debug, Default)]
pub struct InitOptions {
    /// Recipients, or files of them, to seal to. If there are any, no identity is made: the node
    /// is write-only.
    pub recipients_only: Vec<String>,
    /// Make, or insist on, post-quantum keys.
    pub post_quantum: bool,
}

/// The secrets that one erasure class is cut and deduplicated with.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ClassSecrets {
    /// Keys the cut points.
    pub cut: [u8; 32],
    /// Keys the hashes by which unchanged pieces are found.
    pub dedup: [u8; 32],
}

impl ClassSecrets {
    /// Secrets that nothing remembers, for an export without a home.
    ///
    /// # Errors
    /// The operating system gave no random bytes.
    pub fn generate() -> Result<Self, HomeError> {
        let mut secrets = Self {
            cut: [0; 32],
            dedup: [0; 32],
        };
        getrandom::fill(&mut secrets.cut).map_err(|_| HomeError::Random)?;
        getrandom::fill(&mut secrets.dedup).map_err(|_| HomeError::Random)?;
        Ok(secrets)
    }
}

impl fmt::Debug for ClassSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClassSecrets")
    }
}

/// Why a home cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// There is a home already.
    #[error("{} is initialised already", path.display())]
    Initialised {
        /// The directory.
        path: PathBuf,
    },
    /// There is no home.
    #[error("{} is not the home of a node", path.display())]
    NotInitialised {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds other things.
    #[error("{} holds other files, such as {found:?}", path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// One of them.
        found: String,
    },
    /// The home is of a version that is not known.
    #[error("the home is of version {found:?}, which is not known here")]
    UnknownVersion {
        /// What the version file says.
        found: String,
    },
    /// Others than the owner can read or write secrets.
    #[error("{} can be read or changed by others (mode {mode:04o})", path.display())]
    Permissions {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What its mode should be.
        wanted: u32,
    },
    /// A file of the home does not hold what it should.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The recipients cannot be used.
    #[error("cannot use the recipients of the home")]
    Recipients(#[source] RecipientError),
    /// A file or directory cannot be read or written.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was being done to it.
        verb: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random,
}

impl HomeError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Initialised { .. } => "use it as it is, or choose another `--home DIR`".into(),
            Self::NotInitialised { .. } => "run `souverain init` first".into(),
            Self::Occupied { .. } => "choose an empty or a new directory".into(),
            Self::UnknownVersion { .. } => "use a later version of souverain".into(),
            Self::Permissions { path, wanted, .. } => {
                format!("run `chmod {wanted:o} {}`", path.display())
            }
            Self::Damaged { .. } => "restore the file from a backup of the home".into(),
            Self::Recipients(cause) => return cause.hint(),
            Self::Io { .. } | Self::Random => return None,
        })
    }
}

impl Home {
    /// Makes a home. One that was left half-made by a crash is completed: what it has is kept.
    ///
    /// # Errors
    /// There is one already; the directory holds other things; or it cannot be written.
    pub fn init(path: &Path, options: &InitOptions) -> Result<Self, HomeError> {
        let given = given_recipients(options)?;
        make_directory(path)?;
        write_once(&path.join(NODE_KEY), || {
            let key = Keypair::ed25519_from_bytes(random()?).expect("any 32 bytes are a key");
            let encoded = key.to_protobuf_encoding();
            Ok(Zeroizing::new(encoded.expect("Ed25519 keys encode")))
        })?;
        for file in [SECRET_KEY, LOG_KEY_1, LOG_RECOVERY_1, WITNESS_KEY] {
            write_once(&path.join(file), random)?;
        }
        let recipients = match &given {
            Some(set) => set.strings().map(|line| format!("{line}\n")).collect(),
            None => make_identity(&path.join(IDENTITY), options.post_quantum)?,
        };
        write_once(&path.join(RECIPIENTS), || {
            Ok(Zeroizing::new(recipients.into_bytes()))
        })?;
        write_once(&path.join(VERSION), || {
            Ok(Zeroizing::new(VERSION_1.as_bytes().to_vec()))
        })?;
        tracing::info!(path = %path.display(), write_only = given.is_some(), "home made");
        Self::open(path)
    }

    /// Opens a home.
    ///
    /// # Errors
    /// There is none; it is of an unknown version; others can read its secrets; or it is damaged.
    pub fn open(path: &Path) -> Result<Self, HomeError> {
        check_version(path)?;
        check_private(path, 0o700)?;
        if path.join(IDENTITY).exists() {
            check_private(&path.join(IDENTITY), 0o600)?;
        }
        let node = read_secret(&path.join(NODE_KEY))?;
        let node = Keypair::from_protobuf_encoding(&node).map_err(|_| HomeError::Damaged {
            path: path.join(NODE_KEY),
        })?;
        let secret = read_seed(&path.join(SECRET_KEY))?;
        Ok(Self {
            path: path.to_owned(),
            node,
            secret,
        })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The node's name among its peers.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.node.public().to_peer_id()
    }

    /// The node's signing key.
    #[must_use]
    pub fn node_key(&self) -> &Keypair {
        &self.node
    }

    /// Who can open what is exported, unless told otherwise.
    ///
    /// # Errors
    /// `recipients.txt` is gone or malformed.
    pub fn default_recipients(&self) -> Result<RecipientSet, HomeError> {
        RecipientSet::parse_file(&self.path.join(RECIPIENTS)).map_err(HomeError::Recipients)
    }

    /// The node's identity file; none if the node is write-only, or its owner took it away.
    #[must_use]
    pub fn identity_path(&self) -> Option<PathBuf> {
        let path = self.path.join(IDENTITY);
        path.exists().then_some(path)
    }

    /// The secrets of an erasure class, unlike those of any other: so that deduplication never
    /// spans two.
    #[must_use]
    pub fn class_secrets(&self, mode: Mode) -> ClassSecrets {
        let derive = |purpose| {
            let context = match (mode, purpose) {
                (Mode::Portable, Purpose::Cut) => "souverain 1 class portable cut",
                (Mode::Portable, Purpose::Dedup) => "souverain 1 class portable dedup",
                (Mode::Erasable, Purpose::Cut) => "souverain 1 class erasable cut",
                (Mode::Erasable, Purpose::Dedup) => "souverain 1 class erasable dedup",
            };
            blake3::derive_key(context, &*self.secret)
        };
        ClassSecrets {
            cut: derive(Purpose::Cut),
            dedup: derive(Purpose::Dedup),
        }
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Home")
            .field("path", &self.path)
            .field("peer_id", &self.peer_id())
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
enum Purpose {
    Cut,
    Dedup,
}

/// The recipients that `init` was given, checked.
fn given_recipients(options: &InitOptions) -> Result<Option<RecipientSet>, HomeError> {
    if options.recipients_only.is_empty() {
        return Ok(None);
    }
    let set = RecipientSet::parse(&options.recipients_only).map_err(HomeError::Recipients)?;
    if options.post_quantum {
        set.check_kind(KeyKind::Hybrid)
            .map_err(HomeError::Recipients)?;
    }
    Ok(Some(set))
}

/// Makes the directory, or takes one that is empty or a home half made.
fn make_directory(path: &Path) -> Result<(), HomeError> {
    let failed = |verb| move |cause| io_error(verb, path, cause);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("make"))?;
    if path.join(VERSION).exists() {
        return Err(HomeError::Initialised {
            path: path.to_owned(),
        });
    }
    let ours = [
        NODE_KEY,
        SECRET_KEY,
        LOG_KEY_1,
        LOG_RECOVERY_1,
        WITNESS_KEY,
        IDENTITY,
        RECIPIENTS,
    ];
    for entry in std::fs::read_dir(path).map_err(failed("read"))? {
        let name = entry.map_err(failed("read"))?.file_name();
        let name = name.to_string_lossy();
        if !ours.contains(&&*name) && !name.starts_with(TEMPORARY) {
            return Err(HomeError::Occupied {
                path: path.to_owned(),
                found: name.into_owned(),
            });
        }
    }
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o700)).map_err(failed("protect"))?;
    sync_directory(path.parent().unwrap_or(path))
}

/// Makes the identity file, and returns what goes into the recipients file.
fn make_identity(path: &Path, post_quantum: bool) -> Result<String, HomeError> {
    write_once(path, || {
        let kind = if post_quantum {
            KeyKind::Hybrid
        } else {
            KeyKind::X25519
        };
        let identity = ClassIdentity::generate(kind);
        let line = identity.to_secret_string();
        let header = format!(
            "# created: {}\n# public key: {}\n",
            jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            identity.to_public()
        );
        let mut text = Zeroizing::new(Vec::with_capacity(
            header.len() + line.expose_secret().len() + 1,
        ));
        text.extend_from_slice(header.as_bytes());
        text.extend_from_slice(line.expose_secret().as_bytes());
        text.push(b'\n');
        Ok(text)
    })?;
    let damaged = || HomeError::Damaged {
        path: path.to_owned(),
    };
    let text = read_secret(path)?;
    let text = std::str::from_utf8(&text).map_err(|_| damaged())?;
    let line = text.lines().find(|line| !line.starts_with('#'));
    let identity: ClassIdentity = line.ok_or_else(damaged)?.parse().map_err(|_| damaged())?;
    Ok(format!("{}\n", identity.to_public()))
}

fn check_version(path: &Path) -> Result<(), HomeError> {
    let file = path.join(VERSION);
    let found = match read_bounded(&file) {
        Ok(found) => found,
        Err(cause)
            if matches!(
                cause.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Err(HomeError::NotInitialised {
                path: path.to_owned(),
            });
        }
        Err(cause) => return Err(io_error("read", &file, cause)),
    };
    if found.as_slice() == VERSION_1.as_bytes() {
        return Ok(());
    }
    let found: String = String::from_utf8_lossy(&found)
        .trim()
        .chars()
        .take(80)
        .collect();
    Err(HomeError::UnknownVersion { found })
}
