//! Builds files from leaves that are already blocks.

use cid::Cid;

use super::{BuildError, FILE_WIDTH, File, Link, Part, directory::emit_node, node};
use crate::block::Block;

/// Builds a balanced file over raw leaves, given as CID and length, and emits its nodes.
///
/// A single leaf stands for itself.
///
/// # Errors
/// There are no leaves; or `emit` failed.
pub fn file<E: From<BuildError>>(
    leaves: &[(Cid, u64)],
    emit: &mut dyn FnMut(Block) -> Result<(), E>,
) -> Result<Link, E> {
    let mut level: Vec<Part> = leaves
        .iter()
        .map(|&(cid, len)| Part {
            link: Link { cid, tsize: len },
            len,
        })
        .collect();
    while level.len() > 1 {
        level = level
            .chunks(FILE_WIDTH)
            .map(|parts| parent(parts, emit))
            .collect::<Result<_, E>>()?;
    }
    match level.first() {
        Some(root) => Ok(root.link),
        None => Err(BuildError::NoLeaves.into()),
    }
}

fn parent<E: From<BuildError>>(
    parts: &[Part],
    emit: &mut dyn FnMut(Block) -> Result<(), E>,
) -> Result<Part, E> {
    let len = super::total_size(0, parts.iter().map(|p| p.len)).ok_or(BuildError::Overflow)?;
    let file = File {
        raw: false,
        data: Vec::new(),
        parts: parts.to_vec(),
    };
    let tsizes = parts.iter().map(|p| p.link.tsize);
    let link = emit_node(node::encode_file(&file), tsizes, emit)?;
    Ok(Part { link, len })
}
