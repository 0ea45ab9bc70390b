//! Nodes that follow each other's logs, as their owners see it.

use std::{
    path::Path,
    process::{Child, Command},
    time::{Duration, Instant},
};

use crate::program::{Ran, Sandbox};

/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the answer is there; the time is a limit, and not waited for.
///
/// # Panics
/// It is not there in time.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

/// The origin of a home's own log.
///
/// # Panics
/// It has none.
#[must_use]
pub fn origin(of: &Sandbox) -> String {
    let vkey = of.ok(&["log", "vkey"]);
    vkey.split('+').next().expect("a name").to_owned()
}

/// How many entries of a log a home has.
///
/// # Panics
/// It does not say.
#[must_use]
pub fn kept(home: &Sandbox, origin: &str) -> u64 {
    let ran = home.run(&["log", "checkpoint", "--origin", origin, "--json"]);
    match ran.code {
        Some(0) => ran.objects()[0]["size"].as_u64().expect("a size"),
        _ => 0,
    }
}

/// How many entries a home's own log has.
///
/// # Panics
/// It has none.
#[must_use]
pub fn own(home: &Sandbox) -> u64 {
    let ran = home.run(&["log", "checkpoint", "--json"]).succeeded();
    ran.objects()[0]["size"].as_u64().expect("a size")
}

/// Waits until a home has all of the log of another.
///
/// # Panics
/// That does not come to be.
pub fn wait_for_all(home: &Sandbox, of: &Sandbox) {
    let origin = origin(of);
    until("the log arrives", || {
        (kept(home, &origin) == own(of)).then_some(())
    });
}

/// Both run, and follow each other.
pub fn befriend(one: &Sandbox, two: &Sandbox) {
    for (home, other) in [(one, two), (two, one)] {
        home.ok(&["peer", "add", &other.ok(&["peer", "invite"])]);
    }
}

/// Exports something that was not there before: an entry of the log.
///
/// # Panics
/// It does not work.
pub fn export(home: &Sandbox, name: &str) -> String {
    std::fs::create_dir_all(home.path("data")).expect("creates");
    std::fs::write(home.path("data").join(name), name).expect("writes");
    home.ok(&["export", "data"])
}

/// The peer id of a home whose agent runs.
///
/// # Panics
/// It does not say.
#[must_use]
pub fn peer(home: &Sandbox) -> libp2p::PeerId {
    let ran = home.run(&["agent", "status", "--json"]).succeeded();
    let peer = ran.objects()[0]["peer"].as_str().expect("text").to_owned();
    peer.parse().expect("a peer id")
}

/// What became of a process that ends by itself.
///
/// # Panics
/// It cannot be waited for.
#[must_use]
pub fn ends(child: Child) -> Ran {
    Ran::of(child.wait_with_output().expect("it ends"))
}

/// Copies a file, or a directory with all that is in it, as it is.
///
/// # Panics
/// That does not work.
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("runs").success());
}
