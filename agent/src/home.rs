//! The home of a node: its keys and settings in one directory, readable by its owner alone.
//!
//! Files, all of them written once, whole and durably, and never overwritten:
//! `node.key` (Ed25519, protobuf as libp2p writes it), `secret.key` (32 bytes that cut points
//! and deduplication keys are derived from), `log-1.key` (the first key of the log, 32 bytes; later ones have
//! other numbers), `log-recovery-1.key` (what takes the log back if that is stolen, to be taken offline), `witness.key` (what cosigns
//! the logs of others, 32 bytes; made when it is needed first, if the home lacks it), `identity.txt` (absent on a write-only node),
//! `recipients.txt` (who can open what is exported unless told otherwise), and last `version`,
//! which says that the others are complete.

use std::{
    fmt,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use libp2p_identity::{Keypair, PeerId};
use protocol::keys::{ClassIdentity, KeyKind, capsule::Mode};
use secrecy::ExposeSecret;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    federation::witness_name,
    keys::{RecipientError, RecipientSet},
    log::key::{LogKey, WitnessKey},
};

const NODE_KEY: &str = "node.key";
const SECRET_KEY: &str = "secret.key";
const LOG_KEY_1: &str = "log-1.key";
const LOG_RECOVERY_1: &str = "log-recovery-1.key";
const WITNESS_KEY: &str = "witness.key";
const IDENTITY: &str = "identity.txt";
const RECIPIENTS: &str = "recipients.txt";
const VERSION: &str = "version";
const VERSION_1: &str = "souverain home 1\n";
const SECRET_FILE_SIZE_MAX: u64 = 4096;

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

    /// The key of the log of this number.
    ///
    /// # Errors
    /// It is not in the home, or cannot be read.
    pub fn log_key(&self, epoch: u64) -> Result<LogKey, HomeError> {
        LogKey::read(&self.log_key_path(epoch))
    }

    fn log_key_path(&self, epoch: u64) -> PathBuf {
        self.path.join(format!("log-{epoch}.key"))
    }

    /// The key of the log of this number, which is made if there is none.
    pub(crate) fn new_log_key(&self, epoch: u64) -> Result<LogKey, HomeError> {
        write_once(&self.log_key_path(epoch), random)?;
        self.log_key(epoch)
    }

    /// The recovery key that is committed to with the key of this number, which is made if there is none.
    pub(crate) fn new_log_recovery_key(&self, epoch: u64) -> Result<LogKey, HomeError> {
        let path = self.log_recovery_path(epoch);
        write_once(&path, random)?;
        LogKey::read(&path)
    }

    /// The recovery key of the log that was made with the home.
    ///
    /// # Errors
    /// It was taken away, or cannot be read.
    pub fn log_recovery_key(&self) -> Result<LogKey, HomeError> {
        LogKey::read(&self.log_recovery_path(1))
    }

    /// Where the recovery key is that was committed to with the key of this number, until its owner takes it away.
    #[must_use]
    pub fn log_recovery_path(&self, epoch: u64) -> PathBuf {
        self.path.join(format!("log-recovery-{epoch}.key"))
    }

    /// The key that cosigns the logs of others, which is made if there is none.
    ///
    /// # Errors
    /// It cannot be made or read.
    pub fn witness_key(&self) -> Result<WitnessKey, HomeError> {
        let path = self.path.join(WITNESS_KEY);
        write_once(&path, random)?;
        let name = witness_name(&self.peer_id());
        // A peer id is letters and digits.
        WitnessKey::new(&name, &read_seed(&path)?).map_err(|_| HomeError::Damaged { path })
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

fn random() -> Result<Zeroizing<Vec<u8>>, HomeError> {
    let mut bytes = Zeroizing::new(vec![0; 32]);
    getrandom::fill(&mut bytes).map_err(|_| HomeError::Random)?;
    Ok(bytes)
}

const TEMPORARY: &str = ".new-";

/// Writes a file durably, whole or not at all, readable by the owner alone; keeps one that exists.
fn write_once(
    path: &Path,
    content: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, HomeError>,
) -> Result<(), HomeError> {
    if path.exists() {
        return Ok(());
    }
    let content = content()?;
    let directory = path.parent().expect("files are in the home");
    let failed = |cause| io_error("write", path, cause);
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(PermissionsExt::from_mode(0o600))
        .tempfile_in(directory)
        .map_err(failed)?;
    file.write_all(&content).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => sync_directory(directory),
        Err(err) if err.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(err) => Err(failed(err.error)),
    }
}

/// Writes a file below the home durably, whole or not at all, readable by the owner alone, and makes the
/// directories that it is in. Keeps a file that is there.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), HomeError> {
    let directory = path.parent().unwrap_or(path);
    if !directory.exists() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|cause| io_error("make", directory, cause))?;
        // A parent that was just made has to be durable in its own.
        for made in directory.ancestors().skip(1).take(2) {
            sync_directory(made)?;
        }
    }
    write_once(path, || Ok(Zeroizing::new(content.to_vec())))
}

fn sync_directory(path: &Path) -> Result<(), HomeError> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    std::fs::File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|cause| io_error("sync", path, cause))
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

/// Reads a small file that nobody but the owner may read.
fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, HomeError> {
    check_private(path, 0o600)?;
    read_bounded(path).map_err(|cause| io_error("read", path, cause))
}

/// Reads a secret of 32 bytes.
pub(crate) fn read_seed(path: &Path) -> Result<Zeroizing<[u8; 32]>, HomeError> {
    let bytes = read_secret(path)?;
    let mut seed = Zeroizing::new([0; 32]);
    if bytes.len() != seed.len() {
        return Err(HomeError::Damaged {
            path: path.to_owned(),
        });
    }
    seed.copy_from_slice(&bytes);
    Ok(seed)
}

fn read_bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = std::fs::File::open(path)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_FILE_SIZE_MAX as usize));
    io::Read::read_to_end(&mut io::Read::take(file, SECRET_FILE_SIZE_MAX), &mut bytes)?;
    Ok(bytes)
}

fn check_private(path: &Path, wanted: u32) -> Result<(), HomeError> {
    let metadata = std::fs::metadata(path).map_err(|cause| io_error("read", path, cause))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(HomeError::Permissions {
        path: path.to_owned(),
        mode,
        wanted,
    })
}

fn io_error(verb: &'static str, path: &Path, cause: io::Error) -> HomeError {
    HomeError::Io {
        verb,
        path: path.to_owned(),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path)
            .expect("exists")
            .permissions()
            .mode()
            & 0o7777
    }

    fn home(options: &InitOptions) -> (tempfile::TempDir, Home) {
        let directory = tempfile::tempdir().expect("tempdir");
        let home = Home::init(&directory.path().join("home"), options).expect("init");
        (directory, home)
    }

    #[test]
    fn init_makes_private_files_that_open_again() {
        let (_directory, home) = home(&InitOptions::default());
        assert_eq!(mode(home.path()), 0o700);
        let files = [NODE_KEY, SECRET_KEY, LOG_KEY_1, LOG_RECOVERY_1, WITNESS_KEY];
        for file in files.into_iter().chain([IDENTITY, RECIPIENTS, VERSION]) {
            assert_eq!(mode(&home.path().join(file)), 0o600, "{file}");
        }
        let names = std::fs::read_dir(home.path()).expect("read").count();
        assert_eq!(names, 8);
        let again = Home::open(home.path()).expect("opens");
        assert_eq!(again.peer_id(), home.peer_id());
        assert_eq!(
            again.class_secrets(Mode::Portable).cut,
            home.class_secrets(Mode::Portable).cut
        );
        let recipients = home.default_recipients().expect("recipients");
        let text = std::fs::read_to_string(home.path().join(IDENTITY)).expect("identity");
        let public = format!("# public key: {recipients}\n");
        assert!(
            text.starts_with("# created: 2") && text.contains(&public),
            "{public}"
        );
        assert!(!format!("{home:?}").contains("secret"));
    }

    #[test]
    fn a_home_without_the_key_of_a_witness_makes_one_and_keeps_it() {
        let (_directory, home) = home(&InitOptions::default());
        let path = home.path().join(WITNESS_KEY);
        let first = home.witness_key().expect("a key").key().clone();
        let peer = home.peer_id().to_string();
        let name = format!("souverain-witness/{}", &peer[peer.len() - 16..]);
        assert_eq!(first.name(), name);
        std::fs::remove_file(&path).expect("removes");
        let made = home.witness_key().expect("is made");
        assert_ne!(made.key(), &first);
        assert_eq!(mode(&path), 0o600);
        let again = home.witness_key().expect("is kept");
        assert_eq!(made.key(), again.key());
        assert_eq!(format!("{made:?}"), "WitnessKey");
        std::fs::write(&path, [1; 31]).expect("writes");
        let damaged = home.witness_key();
        assert!(matches!(damaged, Err(HomeError::Damaged { .. })));
    }

    #[test]
    fn secrets_of_classes_and_purposes_differ() {
        let (_directory, home) = home(&InitOptions::default());
        let portable = home.class_secrets(Mode::Portable);
        let erasable = home.class_secrets(Mode::Erasable);
        let all = [portable.cut, portable.dedup, erasable.cut, erasable.dedup];
        let distinct: std::collections::BTreeSet<_> = all.into_iter().collect();
        assert_eq!(distinct.len(), 4);
    }

    #[test]
    fn post_quantum_home_has_a_hybrid_recipient() {
        let (_directory, home) = home(&InitOptions {
            post_quantum: true,
            ..InitOptions::default()
        });
        let recipients = home.default_recipients().expect("recipients");
        assert_eq!(recipients.kind(), Some(KeyKind::Hybrid));
    }

    #[test]
    fn write_only_home_has_no_identity() {
        let recipient = age::x25519::Identity::generate().to_public().to_string();
        let (_directory, home) = home(&InitOptions {
            recipients_only: vec![recipient.clone()],
            post_quantum: false,
        });
        assert_eq!(home.identity_path(), None);
        let recipients = home.default_recipients().expect("recipients");
        assert_eq!(recipients.to_string(), recipient);
    }

    #[test]
    fn refuses_weak_recipients_where_post_quantum_is_asked_for() {
        let directory = tempfile::tempdir().expect("tempdir");
        let options = InitOptions {
            recipients_only: vec![age::x25519::Identity::generate().to_public().to_string()],
            post_quantum: true,
        };
        let refused = Home::init(directory.path(), &options);
        assert!(matches!(
            refused,
            Err(HomeError::Recipients(RecipientError::NotPostQuantum { .. }))
        ));
        assert_eq!(
            std::fs::read_dir(directory.path()).expect("read").count(),
            0
        );
    }

    #[test]
    fn refuses_a_second_init_and_keeps_the_keys() {
        let (_directory, home) = home(&InitOptions::default());
        let again = Home::init(home.path(), &InitOptions::default());
        assert!(matches!(again, Err(HomeError::Initialised { .. })));
        let same = Home::open(home.path()).expect("opens");
        assert_eq!(same.peer_id(), home.peer_id());
    }

    #[test]
    fn completes_an_init_that_was_interrupted() {
        let (_directory, home) = home(&InitOptions::default());
        let recipients = home.default_recipients().expect("recipients").to_string();
        for file in [RECIPIENTS, VERSION] {
            std::fs::remove_file(home.path().join(file)).expect("removes");
        }
        std::fs::write(home.path().join(".new-x"), "").expect("writes");
        assert!(matches!(
            Home::open(home.path()),
            Err(HomeError::NotInitialised { .. })
        ));
        let completed = Home::init(home.path(), &InitOptions::default()).expect("completes");
        assert_eq!(completed.peer_id(), home.peer_id());
        let kept = completed.default_recipients().expect("recipients");
        assert_eq!(kept.to_string(), recipients);
    }

    #[test]
    fn refuses_a_directory_with_other_things_in_it() {
        let directory = tempfile::tempdir().expect("tempdir");
        std::fs::write(directory.path().join("thesis.txt"), "mine").expect("writes");
        assert!(matches!(
            Home::init(directory.path(), &InitOptions::default()),
            Err(HomeError::Occupied { found, .. }) if found == "thesis.txt"
        ));
    }

    #[test]
    fn refuses_secrets_that_others_can_read() {
        let (_directory, home) = home(&InitOptions::default());
        let private = [
            ("", 0o700),
            (NODE_KEY, 0o600),
            (SECRET_KEY, 0o600),
            (IDENTITY, 0o600),
        ];
        for (file, good) in private {
            let path = home.path().join(file);
            for bad in [0o040, 0o004, 0o020] {
                std::fs::set_permissions(&path, PermissionsExt::from_mode(good | bad))
                    .expect("chmod");
                let refused = Home::open(home.path()).expect_err("refused");
                let hint = refused.hint().expect("hint");
                assert!(hint.starts_with(&format!("run `chmod {good:o} ")), "{hint}");
            }
            std::fs::set_permissions(&path, PermissionsExt::from_mode(good)).expect("chmod");
        }
        Home::open(home.path()).expect("opens again");
    }

    #[test]
    fn refuses_unknown_versions_and_damage() {
        let (_directory, home) = home(&InitOptions::default());
        for version in [
            "souverain home 2\n",
            "",
            "souverain home 1",
            "souverain home 1\nx",
        ] {
            std::fs::write(home.path().join(VERSION), version).expect("writes");
            assert!(
                matches!(
                    Home::open(home.path()),
                    Err(HomeError::UnknownVersion { .. })
                ),
                "{version:?}"
            );
        }
        std::fs::write(home.path().join(VERSION), VERSION_1).expect("writes");
        for file in [NODE_KEY, SECRET_KEY] {
            let good = std::fs::read(home.path().join(file)).expect("reads");
            for bad in [&good[1..], &[], &[good.as_slice(), b"x"].concat()] {
                std::fs::write(home.path().join(file), bad).expect("writes");
                assert!(
                    matches!(Home::open(home.path()), Err(HomeError::Damaged { .. })),
                    "{file}"
                );
            }
            std::fs::write(home.path().join(file), good).expect("writes");
        }
        assert!(matches!(
            Home::open(Path::new("/nonexistent")),
            Err(HomeError::NotInitialised { .. })
        ));
    }
}
