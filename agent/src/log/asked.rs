//! Whether others were asked how far the own log is, before it is appended to while no agent runs.
//!
//! `HOME/log/own/asked` says of which file of entries that is so, as the system knows it: its device, its inode and when it was
//! changed last, which nobody can set, and the boot. Appending changes the file, and what is said of it with it. A file that was put
//! back from a backup is another one, and a disk that was rolled back comes with a boot, so that others are asked again. That is all
//! that it is good for: it can be wrong only where a disk is rolled back under a system that goes on.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    thread,
    time::Duration,
};

use super::{
    LogError, OwnPolicy, Witness, behind, cosigning::cosign_within, keys_of, members, open_own,
    places::own_dir,
};
use crate::{control::Client, federation::Federation, home::Home};

/// Where the system says which boot this is.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// How long all may take that are asked.
const ASK_WAIT: Duration = Duration::from_secs(5);
/// Most witnesses that are asked.
const ASKED_MAX: usize = 32;

/// Asks the witnesses of a home's policy and the members of its federation whether they know a later state of its log, before that
/// is appended to: unless an agent runs, which asks by itself, or they were asked, and nobody but this home has touched its log
/// since. What members have more is fetched, if there is time. Who cannot be reached is no reason to stop. Blocks the thread,
/// for 5 seconds or so at most.
///
/// # Errors
/// One of them knows of more than is here then, or of another history: nothing may be signed.
pub fn ask_others(home: &Home) -> Result<(), LogError> {
    let path = home.path();
    let Some(reader) = open_own(path)? else {
        return Ok(());
    };
    if Client::connect(path).is_some() {
        return Ok(());
    }
    let size = reader.head().size;
    let policy = OwnPolicy::of_home(path).map_err(LogError::Policy)?;
    let witnesses = policy.iter().flat_map(OwnPolicy::asked);
    let witnesses: Vec<Witness> = witnesses.map(|(_, one)| one).take(ASKED_MAX).collect();
    let alone = Federation::load(path)?.members().next().is_none();
    let nobody = witnesses.is_empty() && alone;
    let known = behind::may_sign(path, size);
    if nobody || (known.is_ok() && holds(path)) {
        return known;
    }
    let own = keys_of(&reader)?.origin().clone();
    let members = || match alone {
        true => false,
        false => members::agree(home, &own, ASK_WAIT).unwrap_or_else(|error| {
            tracing::debug!(%error, "the members of the federation are not asked");
            false
        }),
    };
    let (agreed, answers) = thread::scope(|scope| {
        let members = scope.spawn(members);
        let answers = cosign_within(&reader, &witnesses, ASK_WAIT);
        (members.join().unwrap_or(false), answers)
    });
    let (_, answers) = answers?;
    behind::heed(path, &witnesses, &answers)?;
    let size = open_own(path)?.map_or(size, |reader| reader.head().size);
    behind::may_sign(path, size)?;
    if agreed || answers.iter().any(Result::is_ok) {
        keep(path);
    } else {
        tracing::warn!("nobody could say whether others know a later state of the log");
    }
    Ok(())
}

/// Whether others were asked about the entries that are here.
pub(super) fn holds(home: &Path) -> bool {
    let said = fs::read_to_string(own_dir(home).join("asked"));
    matches!((said, here(home)), (Ok(said), Ok(here)) if said == here)
}

/// Remembers that they were. If that fails they are asked again.
pub(super) fn keep(home: &Path) {
    let kept = here(home).and_then(|here| {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(own_dir(home).join("asked"));
        file?.write_all(here.as_bytes())
    });
    if let Err(error) = kept {
        tracing::debug!(%error, "it is not remembered that others were asked about the log");
    }
}

/// The file of entries, as the system knows it.
fn here(home: &Path) -> io::Result<String> {
    let boot = fs::read_to_string(BOOT)?;
    let file = fs::metadata(own_dir(home).join("entries"))?;
    let (device, inode) = (file.dev(), file.ino());
    let (seconds, nanos) = (file.ctime(), file.ctime_nsec());
    Ok(format!(
        "{} {device} {inode} {seconds}.{nanos:09}\n",
        boot.trim_end()
    ))
}

#[cfg(test)]
mod tests {
    use protocol::log::entry::Action;

    use super::*;
    use crate::{
        home::InitOptions,
        log::{Event, OwnLog},
    };

    #[test]
    fn it_goes_on_to_hold_while_the_home_appends_and_not_for_a_copy() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("home");
        let home = Home::init(&path, &InitOptions::default()).expect("a home");
        let record = || {
            let log = OwnLog::new(
                &home,
                *b"\x01\x9b\x7c\x5e\x9d\x08\x7c\xc3\x98\xc4\xdc\x0c\x0c\x07\x39\x8f",
            );
            log.record(5, &[Event::of(Action::EXPORT)])
                .expect("records");
        };
        record();
        assert!(holds(&path), "who begins a log knows all of it");
        record();
        assert!(holds(&path));
        let entries = own_dir(&path).join("entries");
        let copy = own_dir(&path).join("copy");
        fs::copy(&entries, &copy).expect("copies");
        fs::rename(&copy, &entries).expect("renames");
        assert!(!holds(&path), "it is another file");
        record();
        assert!(!holds(&path), "nobody was asked");
        keep(&path);
        record();
        assert!(holds(&path));
    }
}
