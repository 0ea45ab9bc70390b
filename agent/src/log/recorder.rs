//! What the agent's threads do, on its way into the log: one thread appends it, in batches.

use std::thread::{self, JoinHandle};

use cid::Cid;
use crossbeam_channel::{Receiver, Sender, bounded};
use protocol::log::entry::Action;

use super::{Event, LogError, OwnLog, now_ms};
use crate::home::{Home, HomeError};

/// Events that wait for the log.
const WAITING_MAX: usize = 1024;
/// Entries that one checkpoint is signed for, at most.
const BATCH_MAX: usize = 256;

/// Tells the log of an agent what happens. What was told is in the log when this is dropped.
#[derive(Debug)]
pub(crate) struct Recorder {
    events: Option<Sender<Event>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts with an entry that the agent did, which is durable when this returns.
    ///
    /// # Errors
    /// The log cannot be written.
    pub(crate) fn start(home: &Home, session: [u8; 16]) -> Result<Self, LogError> {
        let home = Home::open(home.path()).map_err(LogError::Key)?;
        OwnLog::new(&home, session).record(now_ms(), &[Event::of(Action::AGENT_START)])?;
        let (events, waiting) = bounded(WAITING_MAX);
        let thread = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || append(&home, session, &waiting))
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
        self.tell(Event::of(Action::AGENT_STOP));
        drop(self.events.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log of the agent ended before its end");
        }
    }
}

fn append(home: &Home, session: [u8; 16], waiting: &Receiver<Event>) {
    let log = OwnLog::new(home, session);
    while let Ok(first) = waiting.recv() {
        let mut batch = vec![first];
        batch.extend(waiting.try_iter().take(BATCH_MAX - 1));
        if let Err(error) = log.record(now_ms(), &batch) {
            tracing::error!(%error, entries = batch.len(), "what happened is not in the log");
        }
    }
}
