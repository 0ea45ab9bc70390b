//! What the agent's threads do, on its way into the log: one thread appends it, in batches.

use std::{
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use cid::Cid;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use protocol::log::entry::Action;
use store::log::LogWriter;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Event, LogError, OwnLog, asked,
    following::{Standing, Told},
    now_ms,
};
use crate::home::{Home, HomeError};

/// Events that wait for the log.
const WAITING_MAX: usize = 1024;
/// Entries that one checkpoint is signed for, at most.
const BATCH_MAX: usize = 256;
/// How long it is waited for a member that knows the log.
const AGREEMENT_WAIT: Duration = Duration::from_secs(5);
/// How long it is waited for other members then.
const OTHERS_WAIT: Duration = Duration::from_millis(500);

/// Tells the log of an agent what happens. What was told is in the log when this is dropped.
#[derive(Debug)]
pub(crate) struct Recorder {
    events: Option<Sender<Event>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts with an entry that the agent did, which is durable when this returns; unless it is known to `standing`
    /// first whether the log may be appended to: until then nobody appends to it. `told` hears when it grew.
    ///
    /// # Errors
    /// The log cannot be written.
    pub(crate) fn start(
        home: &Home,
        session: [u8; 16],
        standing: Option<Receiver<Standing>>,
        told: UnboundedSender<Told>,
    ) -> Result<Self, LogError> {
        let home = Home::open(home.path()).map_err(LogError::Key)?;
        let log = OwnLog::new(&home, session);
        let started = [Event::of(Action::AGENT_START)];
        let guard = match standing {
            Some(standing) => Some((held(&log)?, standing)),
            None => {
                log.record(now_ms(), &started)?;
                None
            }
        };
        let (events, waiting) = bounded(WAITING_MAX);
        let thread = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                let log = OwnLog::new(&home, session);
                if let Some((held, standing)) = guard {
                    if !may_append(&home, &standing, held) {
                        return;
                    }
                    append(&log, &started, &told);
                }
                while let Ok(first) = waiting.recv() {
                    let mut batch = vec![first];
                    batch.extend(waiting.try_iter().take(BATCH_MAX - 1));
                    append(&log, &batch, &told);
                }
            })
            .map_err(|cause| {
                LogError::Key(HomeError::Io {
                    verb: "append to the log of",
                    path: "the home".into(),
                    cause,
                })
            })?;
        Ok(Self {
            events: Some(events),
            thread: Some(thread),
        })
    }

    /// Tells that a peer was served a block that it, or anybody, had none of before. Waits if more waits than
    /// may.
    pub(crate) fn served(&self, peer: String, cid: Cid) {
        self.tell(Event {
            peer: Some(peer),
            subject: vec![cid],
            ..Event::of(Action::SERVE)
        });
    }

    fn tell(&self, event: Event) {
        if let Some(events) = &self.events
            && events.send(event).is_err()
        {
            tracing::error!("the log of the agent has stopped");
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(events) = self.events.take() {
            // A thread that may not append takes nothing.
            let _ = events.send(Event::of(Action::AGENT_STOP));
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log of the agent ended before its end");
        }
    }
}

fn append(log: &OwnLog<'_>, batch: &[Event], told: &UnboundedSender<Told>) {
    match log.record(now_ms(), batch) {
        // Nobody listens any more when the agent ends.
        Ok(_) => drop(told.send(Told::Grew)),
        Err(error) => {
            tracing::error!(%error, entries = batch.len(), "what happened is not in the log");
        }
    }
}

/// The log, so that nobody else appends to it. Nothing, if it is known to be behind: then nobody may.
fn held(log: &OwnLog<'_>) -> Result<Option<LogWriter>, LogError> {
    match log.open(now_ms()) {
        Ok((writer, _)) => Ok(Some(writer)),
        Err(LogError::Behind { .. } | LogError::Doubted { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits until a member agrees that the log is not longer than here, and then for what other members say; or, if none
/// is there, not for long. If one has more, waits until that is here, however long that takes.
fn may_append(home: &Home, standing: &Receiver<Standing>, mut held: Option<LogWriter>) -> bool {
    let mut deadline = Instant::now() + AGREEMENT_WAIT;
    let mut agreed = false;
    let mut healing = held.is_none();
    loop {
        let told = match healing {
            true => standing.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => standing.recv_deadline(deadline),
        };
        match told {
            Ok(Standing::Agreed) if !agreed && !healing => {
                agreed = true;
                deadline = Instant::now() + OTHERS_WAIT;
            }
            Ok(Standing::Agreed | Standing::Healed) if !healing => {}
            Ok(Standing::Agreed) => {}
            Ok(Standing::Behind) => {
                // Who fetches what is missing appends it. That it is missing is remembered, so that nobody else does.
                held = None;
                healing = true;
            }
            Ok(Standing::Healed) => {
                healing = false;
                agreed = true;
                deadline = Instant::now() + OTHERS_WAIT;
            }
            Ok(Standing::Stopped) => return false,
            Err(RecvTimeoutError::Disconnected) if healing => return false,
            Err(_) => break,
        }
    }
    if agreed {
        asked::keep(home.path());
    }
    drop(held);
    if !agreed {
        tracing::warn!(
            "no member of the federation could say whether it knows a later state of the log"
        );
    }
    true
}
