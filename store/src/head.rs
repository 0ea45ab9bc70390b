//! How many commits there were, written beside the index after each of them.
//!
//! sled drops what follows a damaged place in its file, and a person may put back an old copy of
//! the index. Either would make durable blocks look like leftovers of a crash, which are removed.
//! An index that is behind the head is therefore refused.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{StoreError, disk::Disk, pack::failed};

/// Size of the file: a decimal number and a newline.
const SIZE: usize = 21;

/// The file with the number of commits. It is not synced: after a crash of the machine it may be
/// behind, but never ahead of the index.
#[derive(Debug)]
pub(crate) struct Head {
    path: PathBuf,
    file: File,
}

impl Head {
    /// Opens the file, and refuses an index that is behind it.
    pub(crate) fn check(home: &Path, commits: u64, disk: &Disk) -> Result<Self, StoreError> {
        let path = home.join("head");
        let mut file = match File::options().read(true).write(true).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => disk
                .create_file(&path)
                .map_err(|e| failed("create", &path, e))?,
            opened => opened.map_err(|e| failed("open", &path, e))?,
        };
        let mut text = String::new();
        Read::by_ref(&mut file)
            .take(SIZE as u64)
            .read_to_string(&mut text)
            .map_err(|e| failed("read", &path, e))?;
        // Anything but a number was lost in a crash of the machine.
        let known: u64 = text.trim_end().parse().unwrap_or(0);
        if known > commits {
            return Err(StoreError::Damaged {
                path: home.join("index"),
                what: format!("it knows {commits} commits, there were {known}"),
            });
        }
        Ok(Self { path, file })
    }

    /// Writes the number of commits.
    pub(crate) fn write(&self, commits: u64, disk: &Disk) -> io::Result<()> {
        let text = format!("{commits:020}\n");
        disk.write(&self.file, &self.path, 0, [text.as_bytes(), &[]])
    }
}
