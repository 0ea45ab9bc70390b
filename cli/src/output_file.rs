//! A file that appears whole and durable, or not at all.

use std::{
    fs::File,
    io::{BufWriter, Seek, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::error::CliError;

/// A file that is being written beside its place.
#[derive(Debug)]
pub(crate) struct OutputFile {
    place: PathBuf,
    file: BufWriter<NamedTempFile>,
}

impl OutputFile {
    /// Begins a file. One that is there already is not touched.
    pub(crate) fn create(place: &Path) -> Result<Self, CliError> {
        if place.symlink_metadata().is_ok() {
            return Err(exists(place));
        }
        let file = tempfile::Builder::new()
            .prefix(".souverain-")
            .tempfile_in(directory_of(place))
            .map_err(|cause| cannot_write(place, &cause))?;
        Ok(Self {
            place: place.to_owned(),
            file: BufWriter::new(file),
        })
    }

    /// Where to write.
    pub(crate) fn writer(&mut self) -> &mut (impl Write + Seek) {
        &mut self.file
    }

    /// Makes the file durable and gives it its name.
    pub(crate) fn publish(self) -> Result<(), CliError> {
        let place = self.place;
        let file = self
            .file
            .into_inner()
            .map_err(|cause| cannot_write(&place, cause.error()))?;
        file.as_file()
            .sync_all()
            .map_err(|cause| cannot_write(&place, &cause))?;
        file.persist_noclobber(&place)
            .map_err(|failed| match failed.error.kind() {
                std::io::ErrorKind::AlreadyExists => exists(&place),
                _ => cannot_write(&place, &failed.error),
            })?;
        File::open(directory_of(&place))
            .and_then(|directory| directory.sync_all())
            .map_err(|cause| cannot_write(&place, &cause))
    }
}

fn directory_of(place: &Path) -> &Path {
    match place.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn exists(place: &Path) -> CliError {
    CliError::failed(format!("{} exists already", place.display()))
        .hint("name another file, or remove it first")
}

fn cannot_write(place: &Path, cause: &std::io::Error) -> CliError {
    CliError::failed(format!("cannot write {}", place.display())).cause(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appears_whole_or_not_at_all() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let place = directory.path().join("out");
        let count = || directory.path().read_dir().expect("reads").count();
        let mut dropped = OutputFile::create(&place).expect("begins");
        dropped.writer().write_all(b"half").expect("writes");
        drop(dropped);
        assert_eq!(count(), 0);
        let mut late = OutputFile::create(&place).expect("begins");
        let mut first = OutputFile::create(&place).expect("begins");
        first.writer().write_all(b"first").expect("writes");
        late.writer().write_all(b"late").expect("writes");
        first.publish().expect("publishes");
        assert!(late.publish().is_err());
        assert!(OutputFile::create(&place).is_err());
        assert_eq!(std::fs::read(&place).expect("reads"), b"first");
        assert_eq!(count(), 1);
    }
}
