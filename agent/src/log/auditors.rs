//! Who, besides the owner, can open the details of entries.
//!
//! `HOME/log/auditors.txt`, recipients one a line. What was sealed before stays sealed to whom it was.

use std::io;

use super::{details::DetailsError, places::auditors_file};
use crate::{durable_file, home::Home, keys::RecipientSet};

/// The auditors, if there are any.
///
/// # Errors
/// Their file cannot be read, or holds something else.
pub fn auditors(home: &Home) -> Result<Option<RecipientSet>, DetailsError> {
    let path = auditors_file(home.path());
    match path.exists() {
        true => Ok(Some(RecipientSet::parse_file(&path)?)),
        false => Ok(None),
    }
}

/// Puts others in their place; none if there are to be none.
///
/// # Errors
/// The file cannot be written.
pub fn set_auditors(home: &Home, auditors: Option<&RecipientSet>) -> Result<(), DetailsError> {
    let path = auditors_file(home.path());
    let done = match auditors {
        Some(auditors) => {
            let lines = auditors.strings().map(|line| format!("{line}\n"));
            durable_file::replace(&path, lines.collect::<String>().as_bytes())
        }
        None => match std::fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        },
    };
    done.map_err(|cause| DetailsError::Write { path, cause })
}
