//! Compares two trees: names, types, modes, times, link targets, contents.

use std::{
    collections::BTreeSet,
    fs::{self, File, FileType, Metadata},
    io::{self, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

const BUFFER_SIZE: usize = 256 << 10;

/// How something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// It is only in the first tree.
    Missing,
    /// It is only in the second tree.
    Added,
    /// Its type.
    Type,
    /// Its permissions.
    Mode,
    /// When it was modified.
    Modified,
    /// What the symlink says.
    LinkTarget,
    /// What is in the file.
    Content,
}

/// Something that is not the same in both trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Below the roots; empty for the roots themselves.
    pub path: PathBuf,
    /// How it differs.
    pub aspect: Aspect,
}

/// Lists what differs between two trees, in the order of the names.
///
/// # Errors
/// Something in them cannot be read.
pub fn compare(a: &Path, b: &Path) -> io::Result<Vec<Difference>> {
    let mut comparison = Comparison {
        a,
        b,
        buffers: [vec![0; BUFFER_SIZE], vec![0; BUFFER_SIZE]],
        differences: Vec::new(),
    };
    comparison.entry(Path::new(""))?;
    Ok(comparison.differences)
}

struct Comparison<'a> {
    a: &'a Path,
    b: &'a Path,
    buffers: [Vec<u8>; 2],
    differences: Vec<Difference>,
}

impl Comparison<'_> {
    fn entry(&mut self, path: &Path) -> io::Result<()> {
        let (a, b) = (at(self.a, path), at(self.b, path));
        let (of_a, of_b) = (fs::symlink_metadata(&a)?, fs::symlink_metadata(&b)?);
        let file_type = of_a.file_type();
        if file_type != of_b.file_type() {
            self.differs(path, Aspect::Type);
            return Ok(());
        }
        if !file_type.is_symlink() && of_a.permissions().mode() != of_b.permissions().mode() {
            self.differs(path, Aspect::Mode);
        }
        if (of_a.mtime(), of_a.mtime_nsec()) != (of_b.mtime(), of_b.mtime_nsec()) {
            self.differs(path, Aspect::Modified);
        }
        self.content(path, file_type, (&a, &of_a), (&b, &of_b))
    }

    fn content(
        &mut self,
        path: &Path,
        file_type: FileType,
        (a, of_a): (&Path, &Metadata),
        (b, of_b): (&Path, &Metadata),
    ) -> io::Result<()> {
        if file_type.is_dir() {
            return self.directory(path, a, b);
        }
        if file_type.is_symlink() && fs::read_link(a)? != fs::read_link(b)? {
            self.differs(path, Aspect::LinkTarget);
        }
        if file_type.is_file() && (of_a.len() != of_b.len() || !self.same_bytes(a, b)?) {
            self.differs(path, Aspect::Content);
        }
        Ok(())
    }

    fn directory(&mut self, path: &Path, a: &Path, b: &Path) -> io::Result<()> {
        let (in_a, in_b) = (names(a)?, names(b)?);
        for name in in_a.union(&in_b) {
            let path = path.join(name);
            match (in_a.contains(name), in_b.contains(name)) {
                (true, true) => self.entry(&path)?,
                (true, false) => self.differs(&path, Aspect::Missing),
                _ => self.differs(&path, Aspect::Added),
            }
        }
        Ok(())
    }

    fn same_bytes(&mut self, a: &Path, b: &Path) -> io::Result<bool> {
        let (mut a, mut b) = (File::open(a)?, File::open(b)?);
        let [from_a, from_b] = &mut self.buffers;
        loop {
            let len = a.read(from_a)?;
            if len == 0 {
                return Ok(b.read(from_b)? == 0);
            }
            match b.read_exact(&mut from_b[..len]) {
                Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                result => result?,
            }
            if from_a[..len] != from_b[..len] {
                return Ok(false);
            }
        }
    }

    fn differs(&mut self, path: &Path, aspect: Aspect) {
        self.differences.push(Difference {
            path: path.to_owned(),
            aspect,
        });
    }
}

fn at(root: &Path, path: &Path) -> PathBuf {
    // Joining an empty path would add a slash, and follow a symlink.
    if path.as_os_str().is_empty() {
        return root.to_owned();
    }
    root.join(path)
}

fn names(directory: &Path) -> io::Result<BTreeSet<std::ffi::OsString>> {
    fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name()))
        .collect()
}
