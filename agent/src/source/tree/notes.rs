//! What could not be kept as it was: warnings, or the failure of the export.

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::source::SourceError;

/// Most warnings that are kept; the others are counted.
const WARNINGS_MAX: usize = 1000;

/// Gathers warnings.
pub(super) struct Notes {
    root: PathBuf,
    skip_unreadable: bool,
    warnings: Vec<String>,
    more: u64,
}

impl Notes {
    pub(super) fn new(root: &Path, skip_unreadable: bool) -> Self {
        Self {
            root: root.to_owned(),
            skip_unreadable,
            warnings: Vec::new(),
            more: 0,
        }
    }

    /// Says something of the entry at `path`.
    pub(super) fn warn(&mut self, path: &[u8], what: &str) {
        if self.warnings.len() < WARNINGS_MAX {
            let path = String::from_utf8_lossy(path);
            self.warnings.push(format!("./{path} {what}"));
        } else {
            self.more += 1;
        }
    }

    /// Takes note that an entry is left out because it cannot be read, if that is allowed.
    pub(super) fn unreadable(&mut self, path: &[u8], cause: io::Error) -> Result<(), SourceError> {
        let what = format!("cannot be read, and is left out: {cause}");
        self.unreadable_but(path, cause, &what)
    }

    /// Takes note that a file cannot be read from `at` on, if that is allowed.
    pub(super) fn unreadable_from(
        &mut self,
        path: &[u8],
        at: u64,
        cause: io::Error,
    ) -> Result<(), SourceError> {
        let what = format!("cannot be read from byte {at} on, and has zeros there: {cause}");
        self.unreadable_but(path, cause, &what)
    }

    fn unreadable_but(
        &mut self,
        path: &[u8],
        cause: io::Error,
        what: &str,
    ) -> Result<(), SourceError> {
        if self.skip_unreadable {
            self.warn(path, what);
            return Ok(());
        }
        let path = match path {
            b"" => self.root.clone(),
            path => self.root.join(OsStr::from_bytes(path)),
        };
        Err(SourceError::Io { path, cause })
    }

    /// All warnings.
    pub(super) fn finish(mut self) -> Vec<String> {
        if self.more > 0 {
            self.warnings.push(format!("and {} more", self.more));
        }
        self.warnings
    }
}
