//! The directories that a target is in, where they are not there yet.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::Access;

/// Directories that were made for a target to be in; removed again if they stay empty.
#[derive(Debug, Default)]
pub(super) struct MadeParents(Vec<PathBuf>);

impl MadeParents {
    /// Says why a directory could not be made, or nothing be made in it. Makes nothing.
    pub(super) fn check(directory: &Path) -> io::Result<()> {
        let absent = |path: &&Path| matches!(path.try_exists(), Ok(false));
        let there = directory.ancestors().find(|path| !absent(path));
        let there = fs::canonicalize(there.unwrap_or(directory))?;
        Ok(rustix::fs::access(
            &there,
            Access::WRITE_OK | Access::EXEC_OK,
        )?)
    }

    /// Makes a directory and those above it that are not there, and gives its real path.
    pub(super) fn make(&mut self, directory: &Path) -> io::Result<PathBuf> {
        let absent = |path: &&Path| matches!(path.try_exists(), Ok(false));
        let absent: Vec<_> = directory.ancestors().take_while(absent).collect();
        for path in absent.into_iter().rev() {
            fs::create_dir(path)?;
            self.0.push(path.to_owned());
        }
        fs::canonicalize(directory)
    }
}

impl Drop for MadeParents {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // Fails, as it should, if the target is in there now.
            let _in_use = fs::remove_dir(path);
        }
    }
}
