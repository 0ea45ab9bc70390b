//! The thread of an agent that archives what became old in its log.

use std::{
    sync::atomic::Ordering,
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use jiff::Span;
use protocol::log::entry::Action;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    ArchiveLogError, Event, LogError, OwnLog, ToArchive, archivable, archive, following::Told,
    long_ago_ms, now_ms,
};
use crate::{
    home::{Home, HomeError},
    progress::Progress,
};

/// How often it is looked whether something is old enough.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);
/// Entries that are archived at a time, at least: archives are no smaller than a few hundred KiB.
const ENTRIES_MIN: u64 = 4096;

/// Archives the log of an agent while it runs. It is stopped when this is dropped.
#[derive(Debug)]
pub(crate) struct Archives {
    stop: Option<Sender<()>>,
    progress: Progress,
    thread: Option<JoinHandle<()>>,
}

impl Archives {
    /// Starts with what is old enough already. `told` hears when the log grew.
    ///
    /// # Errors
    /// The home cannot be opened again, or the system gives no thread.
    pub(crate) fn start(
        home: &Home,
        session: [u8; 16],
        age: Span,
        told: UnboundedSender<Told>,
    ) -> Result<Self, LogError> {
        let home = Home::open(home.path()).map_err(LogError::Key)?;
        let progress = Progress::default();
        let (stop, stopped) = bounded(0);
        let watched = progress.clone();
        let run = move || {
            loop {
                match once(&home, session, age, &watched) {
                    Ok(true) => drop(told.send(Told::Grew)),
                    Ok(false) | Err(ArchiveLogError::Interrupted) => {}
                    Err(error) => tracing::warn!(%error, "old entries are not archived"),
                }
                let waited = stopped.recv_timeout(LOOK_EVERY);
                if waited != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("archive".to_owned()).spawn(run);
        let thread = thread.map_err(|cause| {
            LogError::Key(HomeError::Io {
                verb: "archive the log of",
                path: "the home".into(),
                cause,
            })
        })?;
        Ok(Self {
            stop: Some(stop),
            progress,
            thread: Some(thread),
        })
    }
}

impl Drop for Archives {
    fn drop(&mut self) {
        self.progress.stop.store(true, Ordering::Relaxed);
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("what archives the log ended before its end");
        }
    }
}

/// Archives all that is old enough, if it is enough. Says whether it was.
fn once(
    home: &Home,
    session: [u8; 16],
    age: Span,
    progress: &Progress,
) -> Result<bool, ArchiveLogError> {
    let which = ToArchive {
        followed: None,
        before_ms: long_ago_ms(age)?,
    };
    let mut any = false;
    while archivable(home.path(), which)? >= ENTRIES_MIN {
        let done = archive(home.path(), which, progress)?;
        let event = Event {
            subject: done.archives.iter().map(|one| one.root).collect(),
            ..Event::of(Action::ARCHIVE)
        };
        OwnLog::new(home, session).record(now_ms(), &[event])?;
        any = true;
    }
    Ok(any)
}
