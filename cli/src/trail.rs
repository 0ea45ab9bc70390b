//! What this run leaves in the log of the home: one entry, of what was done or failed.
//!
//! A verb says early what it is about to do, and when it is done, before it prints its answer. Whatever ends
//! it otherwise is recorded as its failure.

use std::cell::RefCell;

use agent::{
    control::Client,
    home::Home,
    log::{self, Event, OwnLog, now_ms},
};
use cid::Cid;
use protocol::log::entry::{Action, Outcome};
use uuid::Uuid;

use crate::error::CliError;

/// Longest text of a detail, in bytes. What is longer is cut.
const TEXT_SIZE_MAX: usize = 4096;
/// Most CIDs, and most details, of an entry that a verb leaves.
const PARTS_MAX: usize = 15;

/// What is to be told of this run.
pub(crate) struct Trail {
    session: Uuid,
    begun: RefCell<Option<Begun>>,
}

struct Begun {
    home: Home,
    event: Event,
    /// Whether others were asked whether they know more of the log.
    asked: bool,
}

impl Trail {
    pub(crate) fn new(session: Uuid) -> Self {
        Self {
            session,
            begun: RefCell::new(None),
        }
    }

    /// Says what is about to be done in a home, unless others know more of its log: then nothing is to be done.
    pub(crate) fn begin(&self, home: &Home, action: Action) -> Result<(), CliError> {
        log::ask_others(home)?;
        self.say(home, action, true)
    }

    /// The same, of what is done all the same: then others are asked when it is.
    pub(crate) fn begin_unasked(&self, home: &Home, action: Action) -> Result<(), CliError> {
        self.say(home, action, false)
    }

    fn say(&self, home: &Home, action: Action, asked: bool) -> Result<(), CliError> {
        let home = Home::open(home.path())?;
        let event = Event::of(action);
        *self.begun.borrow_mut() = Some(Begun { home, event, asked });
        Ok(())
    }

    /// Says what it is done with.
    pub(crate) fn about(&self, cid: &Cid) {
        if let Some(begun) = &mut *self.begun.borrow_mut() {
            let subject = &mut begun.event.subject;
            if subject.len() <= PARTS_MAX && !subject.contains(cid) {
                subject.push(*cid);
            }
        }
    }

    /// Says something that may be personal or sensitive: the log holds a salted hash of it.
    pub(crate) fn detail(&self, name: &'static str, value: &str) {
        if let Some(begun) = &mut *self.begun.borrow_mut() {
            let details = &mut begun.event.details;
            if details.len() >= PARTS_MAX {
                return;
            }
            match details.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = cut(&format!("{known}\n{value}")),
                None => details.push((name, cut(value))),
            }
        }
    }

    /// Records that it was done. Whatever comes after is another story.
    pub(crate) fn done(&self) -> Result<(), CliError> {
        match self.begun.take() {
            Some(begun) => self.record(&begun).map_err(|error| {
                error.hint_more("what was done is kept; the log does not tell of it")
            }),
            None => Ok(()),
        }
    }

    /// Records that it was not, unless it was recorded already.
    pub(crate) fn failed(&self, error: &CliError) -> Result<(), CliError> {
        self.detail("error", &error.to_string());
        match self.begun.take() {
            Some(mut begun) => {
                begun.event.outcome = if error.is_usage() {
                    Outcome::Refused
                } else {
                    Outcome::Failed
                };
                self.record(&begun)
            }
            None => Ok(()),
        }
    }

    fn record(&self, begun: &Begun) -> Result<(), CliError> {
        if !begun.asked {
            log::ask_others(&begun.home)?;
        }
        let log = OwnLog::new(&begun.home, self.session.into_bytes());
        log.record(now_ms(), std::slice::from_ref(&begun.event))?;
        if let Some(agent) = Client::connect(begun.home.path())
            && let Err(error) = agent.log_grew()
        {
            // It looks for itself every few seconds.
            tracing::debug!(%error, "the agent is not told that the log grew");
        }
        Ok(())
    }
}

fn cut(text: &str) -> String {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = ends.take_while(|end| *end <= TEXT_SIZE_MAX).last();
    text[..end.unwrap_or(0)].to_owned()
}
