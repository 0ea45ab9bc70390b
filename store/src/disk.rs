//! The steps that write, so that a test can make each of them fail.
//!
//! Nothing else in the crate writes to a file system. Without the feature
//! `fault`, a step is just done.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::Path,
};

use crate::pack::PACK_SIZE_MAX;

/// How much of a step is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Whole,
    #[cfg_attr(
        not(feature = "fault"),
        allow(
            dead_code,
            reason = "only a fault tears a write; a test build of the crate has some"
        )
    )]
    Half,
}

/// Does the steps that write: for the files of this crate, and for those that others keep beside them.
#[derive(Debug)]
pub struct Disk {
    /// Size at which a pack is full, in bytes.
    pub(crate) pack_size_max: u64,
    #[cfg(feature = "fault")]
    faults: Option<std::sync::Arc<crate::Faults>>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            pack_size_max: PACK_SIZE_MAX,
            #[cfg(feature = "fault")]
            faults: None,
        }
    }
}

impl Disk {
    /// One whose writes fail as a test wants.
    #[cfg(feature = "fault")]
    #[must_use]
    pub fn faulty(faults: std::sync::Arc<crate::Faults>) -> Self {
        Self {
            pack_size_max: faults.pack_size_max().unwrap_or(PACK_SIZE_MAX),
            faults: Some(faults),
        }
    }

    /// Does one step, in whole unless a test wants otherwise.
    #[cfg(not(feature = "fault"))]
    #[expect(clippy::unused_self, reason = "it does have faults with the feature")]
    pub(crate) fn step(&self, does: impl FnOnce(Extent) -> io::Result<()>) -> io::Result<()> {
        does(Extent::Whole)
    }

    #[cfg(feature = "fault")]
    pub(crate) fn step(&self, does: impl FnOnce(Extent) -> io::Result<()>) -> io::Result<()> {
        match &self.faults {
            Some(faults) => faults.step(does),
            None => does(Extent::Whole),
        }
    }

    /// Creates a directory that only its owner enters, and its parents.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.step(|extent| match extent {
            Extent::Whole => DirBuilder::new().recursive(true).mode(0o700).create(path),
            Extent::Half => Ok(()),
        })
    }

    /// Creates a file that only its owner reads. It must not exist.
    pub(crate) fn create_file(&self, path: &Path) -> io::Result<File> {
        let mut made = None;
        self.step(|extent| {
            if extent == Extent::Half {
                return Ok(());
            }
            made = Some(
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(path)?,
            );
            #[cfg(feature = "fault")]
            self.note(|faults| faults.created(path));
            Ok(())
        })?;
        made.ok_or_else(|| io::Error::other("the file was not created"))
    }

    /// Writes `parts` one after the other at `offset`.
    pub(crate) fn write(
        &self,
        file: &File,
        path: &Path,
        offset: u64,
        parts: [&[u8]; 2],
    ) -> io::Result<()> {
        let _ = path;
        self.step(|extent| {
            #[cfg(feature = "fault")]
            self.note(|faults| faults.wrote(path, offset));
            let [head, body] = parts;
            let body = match extent {
                Extent::Whole => body,
                Extent::Half => &body[..body.len() / 2],
            };
            file.write_all_at(head, offset)?;
            file.write_all_at(body, offset + head.len() as u64)
        })
    }

    /// Makes the content of a file durable.
    pub(crate) fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        let _ = path;
        self.step(|extent| {
            if extent == Extent::Whole {
                file.sync_all()?;
                #[cfg(feature = "fault")]
                self.note(|faults| faults.synced(path));
            }
            Ok(())
        })
    }

    /// Makes the entries of a directory durable.
    ///
    /// # Errors
    /// It is not known whether they are.
    pub fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step(|extent| {
            if extent == Extent::Whole {
                File::open(path)?.sync_all()?;
                #[cfg(feature = "fault")]
                self.note(|faults| faults.dir_synced(path));
            }
            Ok(())
        })
    }

    /// Cuts a file to `len` bytes.
    pub(crate) fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        self.step(|extent| match extent {
            Extent::Whole => file.set_len(len),
            Extent::Half => Ok(()),
        })
    }

    /// Gives a part of a file back to the file system: it reads as zeros afterwards.
    pub(crate) fn punch(&self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        self.step(|extent| match extent {
            Extent::Whole => punch(file, offset, len),
            Extent::Half => Ok(()),
        })
    }

    /// Puts a file of these bytes, which only its owner reads, in the place of another, durably. After a crash
    /// there is one of the two, whole. It is written beside it first, under a name that ends with `.new`.
    ///
    /// # Errors
    /// It cannot be written; it is not known which of the two is durable.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut made = None;
        self.step(|extent| {
            if extent == Extent::Whole {
                made = Some(options.open(&new)?);
            }
            Ok(())
        })?;
        let file = made.ok_or_else(|| io::Error::other("the file was not created"))?;
        self.write(&file, &new, 0, [bytes, &[]])?;
        self.sync(&file, &new)?;
        self.step(|extent| {
            if extent == Extent::Whole {
                #[cfg(feature = "fault")]
                self.note(|faults| faults.replaced(path));
                std::fs::rename(&new, path)?;
            }
            Ok(())
        })?;
        self.sync_dir(path.parent().unwrap_or(path))
    }

    /// Removes a file.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(|extent| match extent {
            Extent::Whole => std::fs::remove_file(path),
            Extent::Half => Ok(()),
        })
    }

    #[cfg(feature = "fault")]
    fn note(&self, noted: impl FnOnce(&crate::Faults)) {
        if let Some(faults) = &self.faults {
            noted(faults);
        }
    }
}

#[cfg(target_os = "linux")]
fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(file, flags, offset, len)?)
}

#[cfg(not(target_os = "linux"))]
fn punch(_file: &File, _offset: u64, _len: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
