//! Rows of a table, from COPY to the intake, byte for byte.

use std::{
    io::BufRead,
    sync::atomic::{AtomicBool, Ordering},
};

use ::postgres::{Client, error::SqlState};
use protocol::manifest::Column;

use super::failed;
use crate::{
    intake::{Intake, Stopped, StreamDecl},
    postgres::{
        failure::Failure,
        name::{COPY_TAIL, CopyHead, TableName, quote},
        session,
    },
    source::SourceError,
};

/// Bytes gathered before they are written on: COPY hands over single rows.
const CHUNK_SIZE: usize = 64 << 10;

/// A table with rows of its own.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) position: u32,
    pub(super) size_bytes: u64,
    pub(super) name: TableName,
    /// Columns with values of their own: not generated.
    pub(super) columns: Vec<Column>,
    /// `WHERE …` over the rows that an extension gives away.
    pub(super) condition: Option<String>,
    /// What loads the rows: the table itself, or the root of its partition tree.
    pub(super) head: CopyHead,
}

impl Table {
    /// Locks the table as the leader did long ago; false if that would wait for a session that itself
    /// waits for the leader.
    pub(super) fn lock_at_once(&self, client: &mut Client) -> Result<bool, SourceError> {
        let sql = format!(
            "SAVEPOINT before_lock; LOCK TABLE ONLY {} IN ACCESS SHARE MODE NOWAIT; RELEASE SAVEPOINT before_lock",
            self.name.quoted()
        );
        let Err(error) = client.batch_execute(&sql) else {
            return Ok(true);
        };
        if error.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) {
            return Err(failed(format!("cannot read table {}", self.name))(
                error.into(),
            ));
        }
        client
            .batch_execute("ROLLBACK TO SAVEPOINT before_lock; RELEASE SAVEPOINT before_lock")
            .map_err(|e| failed(format!("cannot read table {}", self.name))(e.into()))?;
        Ok(false)
    }

    fn copy_out(&self) -> String {
        let own = CopyHead {
            table: self.name.clone(),
            columns: self.head.columns.clone(),
        };
        match &self.condition {
            None => format!("COPY {} TO STDOUT", own.relation()),
            Some(condition) => {
                let columns: Vec<String> = own.columns.iter().map(|c| quote(c)).collect();
                let table = self.name.quoted();
                format!(
                    "COPY (SELECT {} FROM ONLY {table} {condition}) TO STDOUT",
                    columns.join(", ")
                )
            }
        }
    }

    /// Writes the table's stream. Stops early, as if stopped by the user, once `stop` is set.
    pub(super) fn read(
        &self,
        client: &mut Client,
        decl: StreamDecl,
        intake: &Intake,
        stop: &AtomicBool,
    ) -> Result<(), SourceError> {
        let mut writer = intake.stream(decl);
        writer.head(self.head.encode().as_bytes())?;
        let cancel = client.cancel_token();
        let failed = |failure: Failure| failed(format!("cannot read table {}", self.name))(failure);
        let mut reader = client
            .copy_out(&self.copy_out())
            .map_err(|e| failed(e.into()))?;
        let mut chunk = Vec::with_capacity(CHUNK_SIZE);
        loop {
            let row = reader.fill_buf().map_err(|e| failed(e.into()))?;
            let len = row.len();
            let ended = len == 0;
            if ended || chunk.len() + len > CHUNK_SIZE {
                let stopped = stop.load(Ordering::Relaxed);
                let written = if stopped {
                    Err(Stopped)
                } else {
                    writer.write(&chunk)
                };
                if let Err(stopped) = written {
                    // Or the server would send the rest of the table before it listens.
                    session::cancel(&cancel);
                    return Err(stopped.into());
                }
                chunk.clear();
            }
            if ended {
                break;
            }
            chunk.extend_from_slice(row);
            reader.consume(len);
        }
        drop(reader);
        Ok(writer.finish(COPY_TAIL)?)
    }
}
