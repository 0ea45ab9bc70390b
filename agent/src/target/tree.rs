//! A directory as a target.
//!
//! A tar is unpacked into a directory of its own beside the target, symlinks last, so that
//! nothing in it can lead out; [`Target::commit`] then puts it in place. A tar of a single file
//! becomes a directory with that file in it, as `tar -x` has it.

mod commit;
mod header;
mod leftovers;
mod reader;
mod skipped;
mod staging;
mod writeback;

#[cfg(test)]
mod tests;

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use protocol::manifest::{Engine, SourceMeta, StreamKind, StreamMeta};

use self::{
    commit::Place,
    reader::{Kind, Reader},
    staging::Staging,
};
use super::{Content, ImportOptions, StreamReport, Target, TargetError};

/// A directory that a tree is restored to.
#[derive(Debug)]
pub struct TreeTarget {
    path: PathBuf,
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    // Dropped first: the place removes the directories that were made for it.
    staging: Staging,
    place: Place,
    skip_damaged: bool,
    unpacked: bool,
}

impl TreeTarget {
    /// Names a directory, which may be absent.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            begun: None,
        }
    }

    fn suits(&self, source: &SourceMeta) -> Result<(), TargetError> {
        if source.engine == Engine::Tree {
            return Ok(());
        }
        let path = self.path.display();
        Err(TargetError::Unsuitable(format!(
            "{path} is a directory, and {} is a database",
            source.name
        )))
    }
}

impl Target for TreeTarget {
    fn check(&mut self, source: &SourceMeta, options: ImportOptions) -> Result<(), TargetError> {
        self.suits(source)?;
        Place::check(&self.path, options.existing)
    }

    fn begin(&mut self, source: &SourceMeta, options: ImportOptions) -> Result<(), TargetError> {
        self.suits(source)?;
        let place = Place::find(&self.path, options.existing)?;
        let staging = place.stage()?;
        self.begun = Some(Begun {
            place,
            staging,
            skip_damaged: options.skip_damaged,
            unpacked: false,
        });
        Ok(())
    }

    fn stream(
        &mut self,
        meta: &StreamMeta,
        content: &mut dyn Content,
    ) -> Result<StreamReport, TargetError> {
        let unsuitable = |what: &str| TargetError::Unsuitable(format!("{} {what}", meta.name));
        let begun = self.begun.as_mut();
        let begun = begun.ok_or_else(|| unsuitable("comes before the target is ready"))?;
        if meta.kind != StreamKind::Tree {
            return Err(unsuitable("is not a tree"));
        }
        if std::mem::replace(&mut begun.unpacked, true) {
            return Err(unsuitable("is a second tree for one directory"));
        }
        let mut reader = Reader::new(content, &meta.name, meta.bytes, begun.skip_damaged);
        begun.staging.unpack(&mut reader)
    }

    fn commit(self: Box<Self>) -> Result<(), TargetError> {
        match self.begun {
            Some(begun) if begun.unpacked => begun.place.commit(begun.staging),
            _ => Err(TargetError::Unsuitable(format!(
                "there is nothing to put into {}",
                self.path.display()
            ))),
        }
    }
}

/// Reads bytes as a tar, as an import does, and writes nothing: for fuzzing.
///
/// # Errors
/// Those that an import would have.
pub fn scan(bytes: &[u8], gaps: &[Range<u64>]) -> Result<StreamReport, TargetError> {
    let mut content = Slice { bytes, gaps };
    let mut reader = Reader::new(&mut content, "scan", bytes.len() as u64, !gaps.is_empty());
    let mut report = StreamReport::default();
    while let Some(entry) = reader.next()? {
        report.entries += 1;
        if entry.kind == Kind::File {
            reader.body(&entry, &mut |_, _| Ok(()))?;
        }
    }
    report.skipped = reader.skipped.take();
    Ok(report)
}

/// Content that is all in memory.
struct Slice<'a> {
    bytes: &'a [u8],
    gaps: &'a [Range<u64>],
}

impl std::io::Read for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.bytes.read(buffer)
    }
}

impl std::io::BufRead for Slice<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        Ok(self.bytes)
    }

    fn consume(&mut self, len: usize) {
        self.bytes.consume(len);
    }
}

impl Content for Slice<'_> {
    fn gaps(&self) -> &[Range<u64>] {
        self.gaps
    }
}
