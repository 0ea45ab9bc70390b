//! Changes of the log's keys: to a new one, and back from a thief.
//!
//! A new key is durable in the home before the entry that names it is signed. If a crash comes between, the same
//! key is taken the next time.

use std::path::Path;

use protocol::log::{
    chain::Chain,
    entry::{Action, Draft},
    keys::{Control, key_statement, recovery_commitment},
};

use super::{Event, LogError, OwnLog, Recorded, key::LogKey};

impl OwnLog<'_> {
    /// Gives the log a new key. What the old one signs from here on is not the log's.
    ///
    /// # Errors
    /// The log or the home cannot be written, or the key is not in the home.
    pub fn rotate(&self, now_ms: u64) -> Result<Recorded, LogError> {
        let (mut writer, mut chain) = self.open(now_ms)?;
        let old = self.key(&chain)?;
        let (key, proof) = self.next_key(&chain)?;
        let draft = Draft {
            control: Some(Control::Rotate {
                key: *key.public().as_bytes(),
                proof,
            }),
            epoch: chain.keys().epoch(),
            ..self.control(Action::KEY_ROTATE, &chain, now_ms)?
        };
        let first = chain.next();
        let failed = |reason| LogError::Entry {
            index: first,
            reason,
        };
        let entry = draft.sign(&old.public(), |message| old.sign(message));
        let entry = entry.map_err(failed)?;
        writer.stage(&[entry.bytes()])?;
        chain.push(entry.into())?;
        self.publish(&mut writer, &chain, first)
    }

    /// Takes the log back with its recovery key, in a file or where `init` put it. What was signed since entry `from`
    /// stays on record, and counts for nothing. A new recovery key is made, beside the new key.
    ///
    /// # Errors
    /// As [`OwnLog::rotate`]; it is not the recovery key; or `from` is no entry that can be revoked.
    pub fn take_back(
        &self,
        now_ms: u64,
        from: u64,
        recovery: Option<&Path>,
    ) -> Result<Recorded, LogError> {
        let (mut writer, mut chain) = self.open(now_ms)?;
        let recovery = match recovery {
            Some(path) => LogKey::read(path),
            None => self.home.log_recovery_key(),
        };
        let recovery = recovery.map_err(LogError::Key)?;
        if recovery_commitment(recovery.public().as_bytes()) != *chain.keys().commitment() {
            return Err(LogError::OtherRecovery);
        }
        let epoch = chain.keys().epoch() + 1;
        let next = self.home.new_log_recovery_key(epoch);
        let next = next.map_err(LogError::Key)?;
        let (key, proof) = self.next_key(&chain)?;
        let draft = Draft {
            control: Some(Control::Recover {
                from,
                key: *key.public().as_bytes(),
                proof,
                reveal: *recovery.public().as_bytes(),
                recovery: recovery_commitment(next.public().as_bytes()),
            }),
            epoch,
            ..self.control(Action::KEY_RECOVER, &chain, now_ms)?
        };
        let first = chain.next();
        let entry = draft.sign(&recovery.public(), |message| recovery.sign(message));
        let entry = entry.map_err(|reason| LogError::Entry {
            index: first,
            reason,
        })?;
        // Before it is durable: an entry that its log refuses would stay in the way.
        chain.push(entry.clone().into())?;
        writer.stage(&[entry.bytes()])?;
        self.publish(&mut writer, &chain, first)
    }

    /// The key of the next number, and its word that it is the log's.
    fn next_key(&self, chain: &Chain) -> Result<(LogKey, [u8; 64]), LogError> {
        let keys = chain.keys();
        let key = self.home.new_log_key(keys.epoch() + 1);
        let key = key.map_err(LogError::Key)?;
        let (tenant, public) = (keys.tenant(), key.public());
        let statement = key_statement(
            tenant,
            keys.origin(),
            chain.next(),
            keys.head(),
            public.as_bytes(),
        );
        let proof = key.sign(&statement);
        Ok((key, proof))
    }

    fn control(&self, action: Action, chain: &Chain, now_ms: u64) -> Result<Draft, LogError> {
        let event = Event::of(action);
        Ok(Draft {
            tenant: chain.keys().tenant(),
            seq: chain.next(),
            prev: Some(*chain.keys().head()),
            time_ms: now_ms,
            ..self.prepare(&event)?
        })
    }
}
