//! The own log, when others know more of it than there is here: it is fetched, and nothing is signed before, or the agent ends.

use std::time::Instant;

use protocol::log::{checkpoint::SignedCheckpoint, replica::Input};

use super::{Follower, Standing};
use crate::{
    home::Home,
    log::{LogError, behind, own::key_of},
};

impl Follower {
    /// A member has more of the own log than there is here, and it can be fetched if that heals.
    pub(super) fn behind(&mut self, seen: &SignedCheckpoint, heals: bool) {
        self.owed = seen.checkpoint().size();
        if let Err(error) = behind::remember(&self.home, seen) {
            return self.end(error);
        }
        if !heals {
            return self.end_behind();
        }
        self.fetches();
    }

    /// Nothing is signed until all is here that others have of the own log.
    fn fetches(&mut self) {
        if self.missing.is_none() {
            tracing::warn!(
                seen = self.owed,
                size = self.own_size(),
                "others have more of the log: it is fetched, and nothing is signed before it is here"
            );
        }
        self.missing = Some(Instant::now());
        let _ = self.standing.try_send(Standing::Behind);
    }

    /// A witness says, and does not show, that the own log is not what it cosigned.
    pub(super) fn doubted(&mut self, error: LogError) {
        match error {
            // What is fetched may be what it saw. When all is here, it is asked again.
            LogError::Doubted { .. } if self.missing.is_some() => {}
            LogError::Doubted { seen, .. }
                if !self.followed.is_empty() && !self.replica.has_grown() =>
            {
                self.owed = seen;
                self.fetches();
                self.handle(Input::Owed { size: seen });
            }
            error => self.end(error),
        }
    }

    /// All that others have of the own log is here.
    pub(super) fn healed(&mut self) {
        self.missing = None;
        match self.own_is_whole() {
            Ok(size) => {
                tracing::info!(size, "the log is whole again");
                let _ = self.standing.try_send(Standing::Healed);
            }
            Err(error) => self.end(error),
        }
    }

    /// Whether the own log can go on. Nothing is behind any more then.
    fn own_is_whole(&mut self) -> Result<u64, LogError> {
        let home = Home::open(&self.home).map_err(LogError::Key)?;
        let kept = self.files.load(&self.own)?.ok_or(LogError::Empty)?;
        let size = kept.edge.size();
        behind::may_sign(&self.home, size)?;
        behind::forget(&self.home)?;
        key_of(&home, &kept.keys)?;
        Ok(size)
    }

    fn own_size(&self) -> u64 {
        let own = self.replica.checkpoint(&self.own);
        own.map_or(0, |own| own.checkpoint().size())
    }

    /// The agent ends, as others have more of the own log.
    pub(super) fn end_behind(&mut self) {
        self.missing = None;
        let (seen, size) = (self.owed, self.own_size());
        let because = behind::may_sign(&self.home, size);
        self.end(because.err().unwrap_or(LogError::Behind { seen, size }));
    }

    /// The agent ends.
    pub(super) fn end(&mut self, because: LogError) {
        // If that is lost among the others, what was remembered stops it.
        let _ = self.standing.try_send(Standing::Stopped);
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(because);
        }
    }
}
