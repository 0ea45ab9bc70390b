//! Which directory holds the state.

use std::{env, path::PathBuf};

use crate::error::CliError;

/// The directory that was asked for, or the user's own: `$XDG_DATA_HOME/souverain`.
pub(crate) fn directory(asked: Option<PathBuf>) -> Result<PathBuf, CliError> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    asked
        .or_else(|| absolute("XDG_DATA_HOME").map(|data| data.join("souverain")))
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share/souverain")))
        .ok_or_else(|| {
            CliError::usage("there is no place for the state: HOME is not set")
                .hint("pass `--home DIR` or set SOUVERAIN_HOME")
        })
}
