//! Identities, from every kind of file that age takes with `-i`.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use age::secrecy::ExposeSecret;
use age_core::format::{FileKey, Stanza};
use protocol::keys::ClassIdentity;
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::{
    Callbacks, KEY_FILE_SIZE_MAX, Prompt, SCRYPT_WORK_FACTOR_MAX, plugin_name, read_key_file,
};

/// Most identities of one file.
const IDENTITIES_MAX: usize = 1024;

type Boxed = Box<dyn age::Identity + Send + Sync>;

/// What opens capsules.
pub struct Identities(Vec<Boxed>);

/// Why identities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file is not there.
    #[error("identity file {} does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read identity file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The file is too large to hold identities.
    #[error("{} is larger than {KEY_FILE_SIZE_MAX} bytes, too large for identities", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A line is not an identity. What it says is not repeated, since it may be secret.
    #[error("line {line} of {} is not an identity", path.display())]
    NotAnIdentity {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
    },
    /// The file has no identity in it.
    #[error("{} holds no identity", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is encrypted, to something else than a passphrase, or damaged.
    #[error("cannot decrypt identity file {}", path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: age::DecryptError,
    },
    /// The passphrase is not that of the file.
    #[error("wrong passphrase for {}", path.display())]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// A passphrase is needed, and nobody can be asked.
    #[error("{} needs a passphrase", path.display())]
    NoPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// An SSH key of a kind that age cannot use.
    #[error("cannot use SSH key {}: {what}", path.display())]
    Ssh {
        /// The file.
        path: PathBuf,
        /// Why not.
        what: String,
    },
    /// A plugin is not installed.
    #[error("plugin {name}, which {} needs, is not installed", path.display())]
    PluginMissing {
        /// The file.
        path: PathBuf,
        /// Name of the plugin's program.
        name: String,
    },
}

impl IdentityError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Missing { .. } => "pass the file of your identity with `--identity FILE`",
            Self::NotAnIdentity { .. } | Self::Empty { .. } => {
                "an identity is a line `AGE-SECRET-KEY-1…`, `AGE-SECRET-KEY-PQ-1…` or \
                 `AGE-PLUGIN-…`, or an SSH private key"
            }
            Self::NoPassphrase { .. } => "run it on a terminal, or give the passphrase by a file",
            Self::PluginMissing { name, .. } => {
                return Some(format!("install `{name}` somewhere in PATH"));
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

impl Identities {
    /// Loads identities: files of age identities, in clear or encrypted with a passphrase (binary
    /// or armored), and SSH private keys. `passphrase`, if given, stands in for asking.
    ///
    /// What was sealed to a passphrase alone can be opened too: with `passphrase`, or by asking
    /// when such a file is met.
    ///
    /// # Errors
    /// See [`IdentityError`]; the first file that cannot be used.
    pub fn load<P: AsRef<Path>>(
        paths: &[P],
        passphrase: Option<SecretString>,
        prompt: Arc<dyn Prompt>,
    ) -> Result<Self, IdentityError> {
        let mut identities = Vec::new();
        for path in paths {
            let mut file = File {
                path: path.as_ref(),
                passphrase: passphrase.as_ref(),
                prompt: &prompt,
                identities: &mut identities,
            };
            file.load()?;
        }
        identities.push(Box::new(Passphrase::new(passphrase, prompt)));
        Ok(Self(identities))
    }

    /// What opens capsules that are sealed to this passphrase.
    #[must_use]
    pub fn passphrase(passphrase: SecretString) -> Self {
        let silent = Arc::new(super::Silent);
        Self(vec![Box::new(Passphrase::new(Some(passphrase), silent))])
    }

    /// The identities, as age takes them.
    pub fn iter(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0
            .iter()
            .map(|identity| &**identity as &dyn age::Identity)
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.0.len())
    }
}

/// One file that is being loaded.
struct File<'a> {
    path: &'a Path,
    passphrase: Option<&'a SecretString>,
    prompt: &'a Arc<dyn Prompt>,
    identities: &'a mut Vec<Boxed>,
}

const ARMOR_BEGIN: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
const AGE_BEGIN: &[u8] = b"age-encryption.org/";
const PEM_BEGIN: &[u8] = b"-----BEGIN ";

impl File<'_> {
    fn load(&mut self) -> Result<(), IdentityError> {
        let path = || self.path.to_owned();
        let bytes = read_key_file(self.path)
            .map_err(|cause| match cause.kind() {
                io::ErrorKind::NotFound => IdentityError::Missing { path: path() },
                _ => IdentityError::Unreadable {
                    path: path(),
                    cause,
                },
            })?
            .ok_or_else(|| IdentityError::TooLarge { path: path() })?;
        let start = bytes.trim_ascii_start();
        if start.starts_with(ARMOR_BEGIN) || start.starts_with(AGE_BEGIN) {
            let plain = self.decrypt(start)?;
            self.lines(&plain)
        } else if start.starts_with(PEM_BEGIN) {
            self.ssh(start)
        } else {
            self.lines(&bytes)
        }
    }

    fn ask(&self) -> Result<SecretString, IdentityError> {
        if let Some(passphrase) = self.passphrase {
            return Ok(passphrase.clone());
        }
        let description = format!("Passphrase for {}", self.path.display());
        self.prompt
            .passphrase(&description)
            .ok_or_else(|| IdentityError::NoPassphrase {
                path: self.path.to_owned(),
            })
    }

    fn wrong_passphrase(&self) -> IdentityError {
        IdentityError::WrongPassphrase {
            path: self.path.to_owned(),
        }
    }

    /// Decrypts an age file that is sealed to a passphrase.
    fn decrypt(&self, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
        let encrypted = |cause| IdentityError::Encrypted {
            path: self.path.to_owned(),
            cause,
        };
        let reader = age::armor::ArmoredReader::new(bytes);
        let decryptor = age::Decryptor::new_buffered(reader).map_err(encrypted)?;
        if !decryptor.is_scrypt() {
            return Err(encrypted(age::DecryptError::NoMatchingKeys));
        }
        let mut identity = age::scrypt::Identity::new(self.ask()?);
        identity.set_max_work_factor(SCRYPT_WORK_FACTOR_MAX);
        let mut plain = Zeroizing::new(Vec::with_capacity(bytes.len()));
        let mut reader = decryptor
            .decrypt(std::iter::once(&identity as &dyn age::Identity))
            .map_err(|cause| match cause {
                age::DecryptError::DecryptionFailed => self.wrong_passphrase(),
                cause => encrypted(cause),
            })?;
        io::Read::read_to_end(&mut reader, &mut plain).map_err(|cause| encrypted(cause.into()))?;
        Ok(plain)
    }

    fn ssh(&mut self, bytes: &[u8]) -> Result<(), IdentityError> {
        let unsupported = |what: &str| IdentityError::Ssh {
            path: self.path.to_owned(),
            what: what.to_owned(),
        };
        let identity = age::ssh::Identity::from_buffer(bytes, None)
            .map_err(|_| unsupported("it is damaged, or not an OpenSSH key"))?;
        let identity = match identity {
            age::ssh::Identity::Encrypted(key) => match key.decrypt(self.ask()?) {
                Ok(key) => age::ssh::Identity::from(key),
                Err(age::DecryptError::KeyDecryptionFailed) => return Err(self.wrong_passphrase()),
                Err(err) => return Err(unsupported(&err.to_string())),
            },
            age::ssh::Identity::Unsupported(key) => return Err(unsupported(&ssh_reason(&key))),
            clear => clear,
        };
        self.identities.push(Box::new(identity));
        Ok(())
    }

    fn lines(&mut self, bytes: &[u8]) -> Result<(), IdentityError> {
        let before = self.identities.len();
        for (index, line) in bytes.split(|&b| b == b'\n').enumerate() {
            let malformed = || IdentityError::NotAnIdentity {
                path: self.path.to_owned(),
                line: index + 1,
            };
            let line = std::str::from_utf8(line).map_err(|_| malformed())?.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if self.identities.len() - before == IDENTITIES_MAX {
                return Err(malformed());
            }
            let identity: Boxed = if line.starts_with("AGE-PLUGIN-") {
                self.plugin(&line.parse().map_err(|_| malformed())?)?
            } else {
                let identity: ClassIdentity = line.parse().map_err(|_| malformed())?;
                Box::new(identity)
            };
            self.identities.push(identity);
        }
        if self.identities.len() == before {
            return Err(IdentityError::Empty {
                path: self.path.to_owned(),
            });
        }
        Ok(())
    }

    fn plugin(&self, identity: &age::plugin::Identity) -> Result<Boxed, IdentityError> {
        let identities = std::slice::from_ref(identity);
        let callbacks = Callbacks(self.prompt.clone());
        age::plugin::IdentityPluginV1::new(identity.plugin(), identities, callbacks)
            .map(|plugin| Box::new(plugin) as Boxed)
            .map_err(|err| IdentityError::PluginMissing {
                path: self.path.to_owned(),
                name: plugin_name(&err),
            })
    }
}

fn ssh_reason(key: &age::ssh::UnsupportedKey) -> String {
    use age::ssh::UnsupportedKey as Key;
    match key {
        Key::EncryptedPem => "its encryption is outdated: `ssh-keygen -o -p` renews it".to_owned(),
        Key::EncryptedSsh(cipher) => format!("it is encrypted with {cipher}"),
        Key::Hardware(kind) => format!("{kind} keys only sign"),
        Key::Type(kind) => format!("{kind} is neither ssh-ed25519 nor ssh-rsa"),
    }
}

/// Opens what is sealed to a passphrase, which it asks for when it meets such a file, once.
struct Passphrase {
    passphrase: OnceLock<Option<SecretString>>,
    prompt: Arc<dyn Prompt>,
}

impl Passphrase {
    fn new(passphrase: Option<SecretString>, prompt: Arc<dyn Prompt>) -> Self {
        let cell = OnceLock::new();
        if passphrase.is_some() {
            cell.get_or_init(|| passphrase);
        }
        Self {
            passphrase: cell,
            prompt,
        }
    }
}

impl age::Identity for Passphrase {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, age::DecryptError>> {
        if stanza.tag != "scrypt" {
            return None;
        }
        let asked = || self.prompt.passphrase("Passphrase of the snapshot");
        let passphrase = self.passphrase.get_or_init(asked).as_ref()?;
        let passphrase = SecretString::from(passphrase.expose_secret());
        let mut identity = age::scrypt::Identity::new(passphrase);
        identity.set_max_work_factor(SCRYPT_WORK_FACTOR_MAX);
        let unwrapped = identity.unwrap_stanza(stanza)?;
        Some(unwrapped.map_err(|err| match err {
            age::DecryptError::DecryptionFailed => age::DecryptError::KeyDecryptionFailed,
            err => err,
        }))
    }
}

#[cfg(test)]
mod tests;
