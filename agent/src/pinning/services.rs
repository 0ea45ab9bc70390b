//! The pinning services that a home knows: a file each, `pin-services/NAME.json`, of the owner's alone.
//!
//! It says where the service is and which file holds its token. The token itself stays in that file.

use std::{
    fmt,
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::{
    secret_file::{self, SecretFileError},
    url::{is_here, redact},
};

const DIRECTORY: &str = "pin-services";
const SUFFIX: &str = ".json";
/// Longest name, in bytes.
const NAME_LEN_MAX: usize = 64;
/// Largest file of a service.
const FILE_SIZE_MAX: u64 = 16 << 10;
/// Most services of a home.
const SERVICES_MAX: usize = 1024;

/// What a home calls a pinning service: letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceName(String);

/// Why a text is no name of a service.
#[derive(Debug, thiserror::Error)]
#[error("a name has 1 to {NAME_LEN_MAX} lower-case letters, digits, - and _")]
pub struct ServiceNameError;

impl FromStr for ServiceName {
    type Err = ServiceNameError;

    fn from_str(text: &str) -> Result<Self, ServiceNameError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
        let fits = (1..=NAME_LEN_MAX).contains(&text.len()) && text.bytes().all(plain);
        fits.then(|| Self(text.to_owned())).ok_or(ServiceNameError)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pinning service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name in this home.
    pub name: ServiceName,
    /// Where its API is.
    pub endpoint: Url,
    /// The file with the token that it gave out.
    pub token_file: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Record {
    v: u8,
    endpoint: String,
    token_file: PathBuf,
}

/// Why services cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// There is one of this name.
    #[error("there is a pinning service {name} already")]
    Known {
        /// The name.
        name: ServiceName,
    },
    /// There is none of this name.
    #[error("this home knows no pinning service {name}")]
    Unknown {
        /// The name.
        name: ServiceName,
    },
    /// There is a user or password in the URL.
    #[error("a user and password in a URL can be read by every user of this machine")]
    Secret,
    /// It is no URL that tokens can be sent to.
    #[error("{0:?} is not the https:// URL of a pinning service")]
    Endpoint(String),
    /// The token cannot be read.
    #[error(transparent)]
    Token(#[from] SecretFileError),
    /// There are too many.
    #[error("more than {SERVICES_MAX} pinning services")]
    TooMany,
    /// A file does not hold what it should.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was being done to it.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
}

/// Makes a service known to a home. Its token is read, to see that it can be. Durable on return.
///
/// # Errors
/// There is one of this name; the URL or the token is unfit; or the home cannot be written.
pub fn add(
    home: &Path,
    name: ServiceName,
    endpoint: &str,
    token_file: &Path,
) -> Result<Service, ServiceError> {
    let endpoint = parse(endpoint)?;
    let io = |verb, path: &Path| {
        let path = path.to_owned();
        move |cause| ServiceError::Io { verb, path, cause }
    };
    let token_file = std::path::absolute(token_file).map_err(io("find", token_file))?;
    secret_file::read(&token_file)?;
    if list(home)?.len() >= SERVICES_MAX {
        return Err(ServiceError::TooMany);
    }
    let directory = home.join(DIRECTORY);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(io("make", &directory))?;
    let record = Record {
        v: 1,
        endpoint: endpoint.to_string(),
        token_file: token_file.clone(),
    };
    let path = file_of(home, &name);
    let failed = io("write", &path);
    let written = serde_json::to_vec(&record)
        .map_err(io::Error::from)
        .and_then(|json| {
            let mut file = tempfile::Builder::new()
                .permissions(PermissionsExt::from_mode(0o600))
                .tempfile_in(&directory)?;
            file.write_all(&json)?;
            file.as_file().sync_all()?;
            file.persist_noclobber(&path).map_err(|error| error.error)?;
            File::open(&directory)?.sync_all()
        });
    match written {
        Ok(()) => Ok(Service {
            name,
            endpoint,
            token_file,
        }),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
            Err(ServiceError::Known { name })
        }
        Err(cause) => Err(failed(cause)),
    }
}

/// The services that a home knows, by name.
///
/// # Errors
/// The home cannot be read, or is damaged.
pub fn list(home: &Path) -> Result<Vec<Service>, ServiceError> {
    let path = home.join(DIRECTORY);
    let failed = |cause| ServiceError::Io {
        verb: "read",
        path: path.clone(),
        cause,
    };
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(failed(cause)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let file = entry.map_err(failed)?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(SUFFIX));
        // Others are what a crash left.
        if let Some(Ok(name)) = name.map(str::parse) {
            found.push(find(home, &name)?);
        }
        if found.len() > SERVICES_MAX {
            return Err(ServiceError::TooMany);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// A service by its name.
///
/// # Errors
/// There is none, or the home is damaged.
pub fn find(home: &Path, name: &ServiceName) -> Result<Service, ServiceError> {
    let path = file_of(home, name);
    let mut json = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(FILE_SIZE_MAX).read_to_end(&mut json));
    match read {
        Ok(_) => {}
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            return Err(ServiceError::Unknown { name: name.clone() });
        }
        Err(cause) => {
            let verb = "read";
            return Err(ServiceError::Io { verb, path, cause });
        }
    }
    let record: Option<Record> = serde_json::from_slice(&json).ok();
    record
        .filter(|record| record.v == 1)
        .and_then(|record| {
            Some(Service {
                name: name.clone(),
                endpoint: parse(&record.endpoint).ok()?,
                token_file: record.token_file,
            })
        })
        .ok_or(ServiceError::Damaged { path })
}

/// Makes a home forget a service. What is pinned there stays.
///
/// # Errors
/// There is none, or the home cannot be written.
pub fn remove(home: &Path, name: &ServiceName) -> Result<(), ServiceError> {
    let path = file_of(home, name);
    match fs::remove_file(&path) {
        Ok(()) => Ok(()),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            Err(ServiceError::Unknown { name: name.clone() })
        }
        Err(cause) => {
            let verb = "remove";
            Err(ServiceError::Io { verb, path, cause })
        }
    }
}

fn file_of(home: &Path, name: &ServiceName) -> PathBuf {
    home.join(DIRECTORY).join(format!("{name}{SUFFIX}"))
}

/// A URL that a token can be sent to: over TLS, or within this machine.
fn parse(text: &str) -> Result<Url, ServiceError> {
    let unfit = || ServiceError::Endpoint(redact(text));
    let url = Url::parse(text).map_err(|_| unfit())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ServiceError::Secret);
    }
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_here(&url));
    if !is_safe || !url.has_host() || url.query().is_some() || url.fragment().is_some() {
        return Err(unfit());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_remembers_services_and_not_their_tokens() {
        let home = tempfile::tempdir().expect("a directory");
        let token = home.path().join("token");
        fs::write(&token, "s3cret\n").expect("writes");
        fs::set_permissions(&token, PermissionsExt::from_mode(0o600)).expect("restricts");
        let name = |text: &str| text.parse::<ServiceName>().expect("a name");
        let url = "https://pin.example/psa";
        assert!(list(home.path()).expect("lists").is_empty());
        let one = add(home.path(), name("one"), url, &token).expect("adds");
        let two = add(home.path(), name("a-2_b"), "http://127.0.0.1:1/", &token).expect("adds");
        let again = add(home.path(), name("one"), url, &token).expect_err("there is one");
        assert!(matches!(again, ServiceError::Known { .. }), "{again}");
        assert_eq!(list(home.path()).expect("lists"), [two, one.clone()]);
        assert_eq!(find(home.path(), &one.name).expect("finds"), one);
        let file = file_of(home.path(), &one.name);
        let mode = fs::metadata(&file).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!fs::read_to_string(&file).expect("reads").contains("s3cret"));

        fs::write(&file, "{}").expect("writes");
        let damaged = find(home.path(), &one.name).expect_err("damaged");
        assert!(matches!(damaged, ServiceError::Damaged { .. }), "{damaged}");
        remove(home.path(), &one.name).expect("removes");
        let gone = remove(home.path(), &one.name).expect_err("gone");
        assert!(matches!(gone, ServiceError::Unknown { .. }), "{gone}");
    }

    #[test]
    fn tokens_are_sent_over_tls_or_within_the_machine() {
        for text in [
            "https://pin.example",
            "http://localhost:1/x",
            "http://[::1]:1",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
        for text in [
            "http://pin.example",
            "http://10.0.0.1",
            "ftp://x",
            "pin",
            "https://x/?a=b",
        ] {
            assert!(
                matches!(parse(text), Err(ServiceError::Endpoint(_))),
                "{text}"
            );
        }
        let secret = parse("https://me:pw@pin.example");
        assert!(matches!(secret, Err(ServiceError::Secret)));
        for text in ["", "A", "../x", "a.b", "a/b", &"x".repeat(65)] {
            assert!(text.parse::<ServiceName>().is_err(), "{text}");
        }
    }
}
