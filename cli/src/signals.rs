//! Signals: the first asks to stop cleanly, the second kills.

use std::{
    io,
    os::unix::net::UnixStream,
    sync::{Arc, atomic::AtomicBool},
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag, low_level,
};

/// Makes the first SIGINT, SIGTERM or SIGHUP set `stop`, and the returned flag: work also sets
/// `stop` for reasons of its own.
pub(crate) fn install(stop: &Arc<AtomicBool>) -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the flag is still unset when the first signal asks whether to die.
        flag::register_conditional_default(signal, interrupted.clone())?;
        flag::register(signal, interrupted.clone())?;
        flag::register(signal, stop.clone())?;
    }
    Ok(interrupted)
}

/// Something to wait for: there is a byte to read once a signal asked to stop.
pub(crate) fn pipe() -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}
