//! Programs in Go that tests run, built from the modules in `tests/go`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Builds a package in the context of a module, as the program of this path below `target/tools`.
///
/// # Panics
/// It does not build.
pub(crate) fn build(module: &str, package: &str, program: &str) -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let test = std::env::current_exe().expect("a running test has a path");
    let target = test.ancestors().nth(3).expect("target/PROFILE/deps/TEST");
    let program = target.join("tools").join(program);
    let status = Command::new("go")
        .current_dir(manifest.join("go").join(module))
        .env("GOFLAGS", "-mod=readonly -buildvcs=false")
        .args(["build", "-o"])
        .arg(&program)
        .arg(package)
        .status()
        .expect("Go, 1.26.5 or later, is installed");
    assert!(status.success(), "{package} of {module} does not build");
    program
}
