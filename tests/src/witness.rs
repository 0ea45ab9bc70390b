//! What asks our witness as others do, built from its Go module: see `tests/go/witness`.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::{go, program::Ran};

/// The program that asks a witness, built once.
fn asker() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| go::build("witness", ".", "witness/witness"))
}

/// Runs it to the end.
///
/// # Panics
/// It cannot be built or run.
#[must_use]
pub fn ask(args: &[&str]) -> Ran {
    let mut command = Command::new(asker());
    // Servers on loopback are not behind a proxy.
    command.env("NO_PROXY", "*").args(args);
    Ran::of(command.output().expect("runs"))
}
