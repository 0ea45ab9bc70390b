//! `verify` of the statement that `migrate` signed.

use std::{fs::File, io::Read, path::Path};

use agent::migrate;
use protocol::{
    migration::{HEADER, Migrated},
    note::NOTE_SIZE_MAX,
};
use serde::Serialize;

use crate::{context::Context, error::CliError, ui::Printable};

#[derive(Serialize)]
struct Stated {
    cid: String,
    source: String,
    signer: String,
    began: String,
    ended: String,
    streams: usize,
    differing: Vec<String>,
}

/// Reads a file, if it is a statement; it may be forged.
pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?.take(NOTE_SIZE_MAX as u64 + 1);
    let mut note = vec![0; HEADER.len() + 1];
    file.read_exact(&mut note).ok()?;
    if note.strip_prefix(HEADER.as_bytes()) != Some(b"\n") {
        return None;
    }
    file.read_to_end(&mut note).ok()?;
    Some(note)
}

/// Checks a statement, and tells what it says.
pub(super) fn verify(context: &Context, path: &Path, note: &[u8]) -> Result<(), CliError> {
    let migration = migrate::verify(note).map_err(|cause| {
        CliError::unverified(format!("{} is not what a node signed", path.display()))
            .cause(&cause)
            .hint("ask who migrated for the statement as `souverain migrate` printed it")
    })?;
    let differing = migration
        .streams
        .iter()
        .filter(|s| s.is_data() && !s.is_same());
    let differing: Vec<String> = differing.map(|s: &Migrated| s.name.clone()).collect();
    let text = format!(
        "signed by {}: {} streams of {} were migrated from {}, read back at {}{}",
        migration.target,
        migration.streams.len(),
        Printable(&migration.root),
        Printable(&migration.source),
        Printable(&migration.ended),
        match differing.len() {
            0 => ", and are the same on both sides".to_owned(),
            count => format!("; {count} differ: {}", Printable(&differing.join(", "))),
        }
    );
    let stated = Stated {
        cid: migration.root,
        source: migration.source,
        signer: migration.target,
        began: migration.began,
        ended: migration.ended,
        streams: migration.streams.len(),
        differing,
    };
    context.ui.answer("statement", &stated, text)?;
    if stated.differing.is_empty() {
        return Ok(());
    }
    Err(CliError::unverified(
        "by this statement the target does not hold what the snapshot holds",
    ))
}
