//! The rollback guard: what makes a node stop signing, for as long as it holds.
//!
//! `HOME/log/own/behind` is a checkpoint of the own log that others have and this home has not; an agent fetches what is missing, and
//! takes it away then.
//! `HOME/log/own/forked` is a proof that the log has two histories.
//! `HOME/log/own/doubts` has what witnesses of the policy said that they do not show: that they cosigned more than is here, or
//! other entries. It counts until they say otherwise, or the policy does not name them any more.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use protocol::log::{
    checkpoint::{SignedCheckpoint, UnverifiedCheckpoint},
    cosignature::CosignerKey,
    fork::Fork,
};
use store::StoreError;

use super::{Answers, CosignError, LogError, OwnPolicy, Witness, following, places::own_dir};
use crate::durable_file;

/// Largest checkpoint that is read, in bytes.
const NOTE_SIZE_MAX: u64 = 1 << 20;
/// Largest list of what witnesses said, in bytes: a line for each that a policy may name.
const DOUBTS_SIZE_MAX: u64 = 1 << 20;

/// Remembers what others saw of the own log.
///
/// # Errors
/// It cannot be written.
pub(super) fn remember(home: &Path, seen: &SignedCheckpoint) -> Result<(), LogError> {
    write(&own_dir(home).join("behind"), &seen.to_string())
}

/// Forgets it: all of it is here.
///
/// # Errors
/// It cannot be taken away.
pub(super) fn forget(home: &Path) -> Result<(), LogError> {
    let path = own_dir(home).join("behind");
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path, e)),
        _ => Ok(()),
    }
}

/// Remembers what witnesses of the policy saw of the own log that is not here, and forgets what they said before
/// if they cosign what is here.
///
/// # Errors
/// It cannot be read or written.
pub fn heed(home: &Path, witnesses: &[Witness], answers: &Answers) -> Result<(), LogError> {
    let mut doubts = doubts(home)?;
    let before = doubts.clone();
    for (Witness { key, .. }, answer) in witnesses.iter().zip(answers) {
        let doubt = match answer {
            Ok(_) => None,
            Err(CosignError::Behind {
                shown: Some(shown), ..
            }) => {
                let known = seen(home)?;
                let known = known.map_or(0, |known| known.checkpoint_unverified().size());
                if shown.checkpoint().size() > known {
                    remember(home, shown)?;
                }
                None
            }
            Err(CosignError::Forked {
                proof: Some(proof), ..
            }) => {
                let (_, fork) = &**proof;
                remember_fork(home, fork)?;
                following::keep_own_fork(home, fork)?;
                None
            }
            Err(CosignError::Behind { seen, .. }) => Some((More::Entries, *seen)),
            Err(CosignError::Forked { seen, .. }) => Some((More::OtherEntries, *seen)),
            Err(_) => continue,
        };
        doubts.retain(|doubt| doubt.witness != *key);
        doubts.extend(doubt.map(|(of, seen)| Doubt {
            of,
            seen,
            witness: key.clone(),
        }));
    }
    if doubts == before {
        return Ok(());
    }
    let lines = doubts.iter().map(Doubt::to_string);
    write(&doubts_file(home), &lines.collect::<String>())
}

/// What a witness says that it cosigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum More {
    /// More entries than there are.
    Entries,
    /// Others than there are.
    OtherEntries,
}

/// What a witness says, and does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Doubt {
    of: More,
    seen: u64,
    witness: CosignerKey,
}

/// A line of the file.
impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = match self.of {
            More::Entries => "more",
            More::OtherEntries => "other",
        };
        writeln!(f, "{of} {} {}", self.seen, self.witness)
    }
}

impl Doubt {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let of = match words.next()? {
            "more" => More::Entries,
            "other" => More::OtherEntries,
            _ => return None,
        };
        let doubt = Self {
            of,
            seen: words.next()?.parse().ok()?,
            witness: words.next()?.parse().ok()?,
        };
        // As it would be written.
        (doubt.to_string().trim_end() == line).then_some(doubt)
    }
}

fn doubts(home: &Path) -> Result<Vec<Doubt>, LogError> {
    let path = doubts_file(home);
    let mut text = String::new();
    match File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened
            .and_then(|file| file.take(DOUBTS_SIZE_MAX).read_to_string(&mut text))
            .map_err(|cause| failed("read", &path, cause))?,
    };
    let doubts: Option<Vec<_>> = text.lines().map(Doubt::parse).collect();
    doubts.ok_or_else(|| {
        let what = "it is not what witnesses said".to_owned();
        LogError::Store(StoreError::Damaged { path, what })
    })
}

fn doubts_file(home: &Path) -> PathBuf {
    own_dir(home).join("doubts")
}

/// What a witness of the policy says, and does not show, that does not go with a log of this size.
fn doubted(home: &Path, size: u64) -> Result<Option<Doubt>, LogError> {
    let mut doubts = doubts(home)?;
    doubts.retain(|doubt| doubt.of == More::OtherEntries || doubt.seen > size);
    if doubts.is_empty() {
        return Ok(None);
    }
    let policy = OwnPolicy::of_home(home).map_err(LogError::Policy)?;
    let named = |doubt: &Doubt| {
        let witnesses = policy.iter().flat_map(|policy| policy.policy().witnesses());
        witnesses
            .into_iter()
            .any(|witness| witness.key == doubt.witness)
    };
    Ok(doubts.into_iter().find(named))
}

/// How many entries of the own log others say that they have, if it is more than there are.
///
/// # Errors
/// It cannot be read.
pub(super) fn owed(home: &Path, size: u64) -> Result<Option<u64>, LogError> {
    let shown = seen(home)?.map(|seen| seen.checkpoint_unverified().size());
    let said = doubted(home, size)?.filter(|doubt| doubt.of == More::Entries);
    let owed = shown.into_iter().chain(said.map(|doubt| doubt.seen)).max();
    Ok(owed.filter(|owed| *owed > size))
}

/// Whether the key of the log may sign more: not if it was seen to have signed what is not here, or to have forked it.
///
/// # Errors
/// It may not.
pub(super) fn may_sign(home: &Path, size: u64) -> Result<(), LogError> {
    if let Some(proof) = forked(home) {
        return Err(LogError::Forked { proof });
    }
    if let Some(seen) = seen(home)? {
        let seen = seen.checkpoint_unverified().size();
        if seen > size {
            return Err(LogError::Behind { seen, size });
        }
    }
    match doubted(home, size)? {
        None => Ok(()),
        Some(Doubt { of, seen, witness }) => Err(match of {
            More::Entries => LogError::Doubted {
                witness: witness.name().to_owned(),
                seen,
                size,
            },
            More::OtherEntries => LogError::Denied {
                witness: witness.name().to_owned(),
                seen,
            },
        }),
    }
}

/// Remembers that the own log was forked.
///
/// # Errors
/// It cannot be written.
pub(super) fn remember_fork(home: &Path, proof: &Fork) -> Result<(), LogError> {
    write(&forked_file(home), &proof.to_string())
}

/// What others saw of the own log, if it was more than was here.
///
/// # Errors
/// It cannot be read.
fn seen(home: &Path) -> Result<Option<UnverifiedCheckpoint>, LogError> {
    let path = own_dir(home).join("behind");
    let mut note = Vec::new();
    match File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened
            .and_then(|file| file.take(NOTE_SIZE_MAX).read_to_end(&mut note))
            .map_err(|cause| failed("read", &path, cause))?,
    };
    Ok(Some(UnverifiedCheckpoint::parse(&note)?))
}

/// The proof that the own log was forked, if there is one.
fn forked(home: &Path) -> Option<PathBuf> {
    Some(forked_file(home)).filter(|path| path.exists())
}

/// Where the proof is that the own log was forked, if it was.
pub(super) fn forked_file(home: &Path) -> PathBuf {
    own_dir(home).join("forked")
}

fn write(path: &Path, text: &str) -> Result<(), LogError> {
    durable_file::replace(path, text.as_bytes()).map_err(|cause| failed("write", path, cause))
}

fn failed(what: &'static str, path: &Path, cause: io::Error) -> LogError {
    LogError::Store(StoreError::Io {
        what,
        path: path.to_owned(),
        cause,
    })
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::log::key::WitnessKey;

    #[test]
    fn what_a_witness_only_says_is_read_as_it_is_written_and_not_otherwise() {
        let key = WitnessKey::new("witness.example", &Zeroizing::new([2; 32])).expect("a key");
        for of in [More::Entries, More::OtherEntries] {
            let doubt = Doubt {
                of,
                seen: 7,
                witness: key.key().clone(),
            };
            let line = doubt.to_string();
            let line = line.trim_end();
            assert_eq!(Doubt::parse(line), Some(doubt));
            for bad in [
                line.replace(" 7 ", " 07 "),
                line.replace(" 7 ", " +7 "),
                line.replace(" 7 ", "  7 "),
                line.replace("witness", "another"),
                format!("{line} "),
                format!(" {line}"),
                line[1..].to_owned(),
            ] {
                assert_eq!(Doubt::parse(&bad), None, "{bad}");
            }
        }
    }
}
