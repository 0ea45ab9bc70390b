//! What asks our witness as others do, built from its Go module: see `tests/go/witness`.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::program::Ran;

/// The program that asks a witness, built once.
fn asker() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let test = std::env::current_exe().expect("a running test has a path");
        let target = test.ancestors().nth(3).expect("target/PROFILE/deps/TEST");
        let program = target.join("tools/witness/witness");
        let status = Command::new("go")
            .current_dir(manifest.join("go/witness"))
            .env("GOFLAGS", "-mod=readonly -buildvcs=false")
            .args(["build", "-o"])
            .arg(&program)
            .arg(".")
            .status()
            .expect("Go, 1.26 or later, is installed");
        assert!(status.success(), "the client of witnesses does not build");
        program
    })
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
