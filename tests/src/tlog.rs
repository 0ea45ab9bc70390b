//! Verifiers of logs that are not ours, built from their Go modules: see `tests/go/tlog`.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::program::Ran;

/// The program, built once.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let test = std::env::current_exe().expect("a running test has a path");
        let target = test.ancestors().nth(3).expect("target/PROFILE/deps/TEST");
        let program = target.join("tools/tlog/tlog");
        let status = Command::new("go")
            .current_dir(manifest.join("go/tlog"))
            .env("GOFLAGS", "-mod=readonly -buildvcs=false")
            .args(["build", "-o"])
            .arg(&program)
            .arg(".")
            .status()
            .expect("Go, 1.26 or later, is installed");
        assert!(status.success(), "the verifiers do not build");
        program
    })
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
