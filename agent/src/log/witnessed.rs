//! What this node cosigned last, as it is told to who asks for a log by the hash of its origin.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use cid::Cid;
use data_encoding::HEXLOWER;
use protocol::log::{
    checkpoint::{CHECKPOINT_SIZE_MAX, UnverifiedCheckpoint},
    cosignature::{self, CosignerKey},
    keys::origin_of,
};
use sha2::{Digest, Sha256};

use super::places::{cosigned_dir, cosigned_file};

/// Largest file, in bytes: a key, and a checkpoint.
const FILE_SIZE_MAX: u64 = (CHECKPOINT_SIZE_MAX + 1024) as u64;

/// The last checkpoint that was cosigned with a key, of the log whose origin has a hash, with the cosignature. Nothing, if there is
/// none.
///
/// # Errors
/// It cannot be read.
pub(crate) fn find(
    home: &Path,
    key: &CosignerKey,
    hash: &str,
) -> io::Result<Option<UnverifiedCheckpoint>> {
    let listed = match fs::read_dir(cosigned_dir(home)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        listed => listed?,
    };
    for file in listed {
        let name = file?.file_name();
        let genesis = name.to_str().and_then(|name| name.strip_suffix(".txt"));
        let Some(genesis) = genesis.filter(|genesis| has_hash(genesis, hash)) else {
            continue;
        };
        let mut text = String::new();
        let file = File::open(cosigned_file(home, genesis))?;
        file.take(FILE_SIZE_MAX).read_to_string(&mut text)?;
        let (_, note) = text.split_once('\n').unwrap_or_default();
        let checkpoint = UnverifiedCheckpoint::parse(note.as_bytes()).ok();
        // An earlier version of the program remembered it without.
        let cosigned =
            |checkpoint: &UnverifiedCheckpoint| cosignature::verify(checkpoint.note(), key).is_ok();
        return Ok(checkpoint.filter(cosigned));
    }
    Ok(None)
}

/// Whether the origin of the log that begins with an entry has a hash.
fn has_hash(genesis: &str, hash: &str) -> bool {
    let origin = genesis.parse::<Cid>().map(|cid| origin_of(&cid));
    origin.is_ok_and(|origin| HEXLOWER.encode(&Sha256::digest(origin.as_str())) == hash)
}
