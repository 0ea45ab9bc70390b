//! Folders in folders, out of the paths of what is in them.

use std::collections::BTreeMap;

use super::{BuildError, Entry, Link, directory};
use crate::block::Block;

/// What a folder has under a name.
enum Node {
    Folder(BTreeMap<String, Node>),
    File(Link),
}

/// Builds the folder that files are in, by their paths in it, and emits its blocks, those of folders below first and the
/// root last.
///
/// # Errors
/// A name cannot be, or a path is there twice or leads through a file; or `emit` failed.
pub fn folder<E: From<BuildError>>(
    files: impl IntoIterator<Item = (String, Link)>,
    emit: &mut dyn FnMut(Block) -> Result<(), E>,
) -> Result<Link, E> {
    let mut root = BTreeMap::new();
    for (path, file) in files {
        insert(&mut root, &path, file)?;
    }
    build(root, emit)
}

fn insert(folder: &mut BTreeMap<String, Node>, path: &str, file: Link) -> Result<(), BuildError> {
    let taken = |name: &str| BuildError::Duplicate {
        name: name.to_owned(),
    };
    match path.split_once('/') {
        None => match folder.insert(path.to_owned(), Node::File(file)) {
            None => Ok(()),
            Some(_) => Err(taken(path)),
        },
        Some((name, rest)) => {
            let below = folder.entry(name.to_owned());
            match below.or_insert_with(|| Node::Folder(BTreeMap::new())) {
                Node::Folder(below) => insert(below, rest, file),
                Node::File(_) => Err(taken(name)),
            }
        }
    }
}

fn build<E: From<BuildError>>(
    folder: BTreeMap<String, Node>,
    emit: &mut dyn FnMut(Block) -> Result<(), E>,
) -> Result<Link, E> {
    let mut entries = Vec::with_capacity(folder.len());
    for (name, node) in folder {
        let Link { cid, tsize } = match node {
            Node::File(link) => link,
            Node::Folder(below) => build(below, emit)?,
        };
        entries.push(Entry { name, cid, tsize });
    }
    directory(entries, emit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::raw_cid;

    fn file(n: u8) -> Link {
        Link {
            cid: raw_cid(&[n; 32]),
            tsize: n.into(),
        }
    }

    fn built(paths: &[&str]) -> Result<(Link, usize), BuildError> {
        let files = paths.iter().zip(1..);
        let files = files.map(|(path, n)| ((*path).to_owned(), file(n)));
        let mut blocks = 0;
        let root = folder(files, &mut |_| {
            blocks += 1;
            Ok::<_, BuildError>(())
        })?;
        Ok((root, blocks))
    }

    #[test]
    fn builds_folders_in_folders_whatever_the_order_of_their_files() {
        let (root, blocks) = built(&["a", "b/c", "b/d/e"]).expect("builds");
        assert_eq!(blocks, 3);
        let files = [("b/d/e", 3), ("b/c", 2), ("a", 1)];
        let files = files.map(|(path, n)| (path.to_owned(), file(n)));
        let again = folder(files, &mut |_| Ok::<_, BuildError>(()));
        assert_eq!(again.expect("builds"), root);
    }

    #[test]
    fn refuses_a_path_that_is_there_twice_or_leads_through_a_file() {
        for paths in [["a/b", "a/b"], ["a", "a/b"], ["a/b", "a"]] {
            let refused = built(&paths).expect_err("refused");
            assert!(matches!(refused, BuildError::Duplicate { .. }), "{paths:?}");
        }
    }
}
