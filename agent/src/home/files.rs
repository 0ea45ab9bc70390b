//! The files of a home: written whole, durably and once, and readable by their owner alone.

use std::{
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

use zeroize::Zeroizing;

use super::HomeError;

/// Largest file with a secret in it, in bytes.
const SECRET_FILE_SIZE_MAX: u64 = 4096;
/// How the names of files begin that are not complete yet.
pub(super) const TEMPORARY: &str = ".new-";

/// 32 bytes that nobody knows.
pub(super) fn random() -> Result<Zeroizing<Vec<u8>>, HomeError> {
    let mut bytes = Zeroizing::new(vec![0; 32]);
    getrandom::fill(&mut bytes).map_err(|_| HomeError::Random)?;
    Ok(bytes)
}

/// Writes a file durably, whole or not at all, readable by the owner alone; keeps one that exists.
pub(super) fn write_once(
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

/// Makes durable which files a directory has.
pub(super) fn sync_directory(path: &Path) -> Result<(), HomeError> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    std::fs::File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|cause| io_error("sync", path, cause))
}

/// Reads a small file that nobody but the owner may read.
pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, HomeError> {
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

/// Reads a small file.
pub(super) fn read_bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = std::fs::File::open(path)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_FILE_SIZE_MAX as usize));
    io::Read::read_to_end(&mut io::Read::take(file, SECRET_FILE_SIZE_MAX), &mut bytes)?;
    Ok(bytes)
}

/// Checks that nobody but the owner may use a file or directory.
pub(super) fn check_private(path: &Path, wanted: u32) -> Result<(), HomeError> {
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

/// What it is that cannot be done to a file.
pub(super) fn io_error(verb: &'static str, path: &Path, cause: io::Error) -> HomeError {
    HomeError::Io {
        verb,
        path: path.to_owned(),
        cause,
    }
}
