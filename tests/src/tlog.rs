//! Verifiers of logs that are not ours, built from their Go modules: see `tests/go/tlog`.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::{go, program::Ran};

/// The program, built once.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| go::build("tlog", ".", "tlog/tlog"))
}

/// Runs it to the end.
///
/// # Panics
/// It cannot be built or run.
#[must_use]
pub fn tlog<S: AsRef<OsStr>>(args: &[S]) -> Ran {
    let mut command = Command::new(program());
    // Servers on loopback are not behind a proxy.
    command.env("NO_PROXY", "*").args(args);
    Ran::of(command.output().expect("runs"))
}
