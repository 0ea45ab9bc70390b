//! SQL of a snapshot, in portions of whole statements.

use std::io::Read;

use ::postgres::Client;
use protocol::manifest::StreamMeta;

use super::{failed, hostile};
use crate::{
    postgres::{failure::Failure, script},
    target::{Content, StreamReport, TargetError},
};

/// Bytes that are read before statements are run.
const PORTION_SIZE: usize = 1 << 20;
/// Largest statement.
const STATEMENT_SIZE_MAX: usize = 64 << 20;

/// Runs the SQL of a stream. If the data `is_damaged`, statements that fail are left out and reported:
/// constraints cannot hold where rows are missing.
pub(super) fn run(
    client: &mut Client,
    is_damaged: bool,
    meta: &StreamMeta,
    content: &mut dyn Content,
) -> Result<StreamReport, TargetError> {
    let mut report = StreamReport::default();
    let mut text = Vec::new();
    loop {
        // Twice what is there: a long statement is looked at a few times only.
        let wanted = text.len().max(PORTION_SIZE) as u64;
        let unreadable = |cause| TargetError::Content {
            stream: meta.name.clone(),
            cause,
        };
        let read = content
            .take(wanted)
            .read_to_end(&mut text)
            .map_err(unreadable)?;
        if !content.gaps().is_empty() {
            return Err(unreadable(std::io::Error::other(
                "SQL that is damaged cannot be run in part",
            )));
        }
        let statements =
            script::statements(&text).map_err(|what| hostile(meta, format!("it holds {what}")))?;
        let end = statements.last().map_or(0, |last| last.end);
        if is_damaged {
            for statement in statements {
                run_or_report(client, utf8(meta, &text[statement])?, &mut report)?;
            }
        } else if end > 0 {
            let sql = utf8(meta, &text[..end])?;
            client
                .batch_execute(sql)
                .map_err(|error| failure(meta, sql, error))?;
        }
        text.drain(..end);
        if read == 0 {
            break;
        }
        if text.len() > STATEMENT_SIZE_MAX {
            return Err(hostile(meta, "a statement is too large"));
        }
    }
    match script::is_blank(&text) {
        Ok(true) => Ok(report),
        _ => Err(hostile(meta, "its last statement has no end")),
    }
}

fn utf8<'a>(meta: &StreamMeta, sql: &'a [u8]) -> Result<&'a str, TargetError> {
    std::str::from_utf8(sql).map_err(|_| hostile(meta, "its SQL is not UTF-8"))
}

fn failure(meta: &StreamMeta, sql: &str, error: ::postgres::Error) -> TargetError {
    use ::postgres::error::ErrorPosition;
    let position = error.as_db_error().and_then(|db| db.position()).cloned();
    let what = match position {
        Some(ErrorPosition::Original(position)) => {
            let at: String = sql.chars().skip(position as usize - 1).take(40).collect();
            format!(
                "cannot run the SQL of stream {}, at `{}`",
                meta.name,
                first_line(&at)
            )
        }
        _ => format!("cannot run the SQL of stream {}", meta.name),
    };
    failed(what)(error)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn run_or_report(
    client: &mut Client,
    sql: &str,
    report: &mut StreamReport,
) -> Result<(), TargetError> {
    let cannot = || failed::<::postgres::Error>("cannot go on with the import");
    client
        .batch_execute("SAVEPOINT statement")
        .map_err(cannot())?;
    let undo = match client.batch_execute(sql) {
        Ok(()) => "",
        Err(error) if error.as_db_error().is_none() => return Err(cannot()(error)),
        Err(error) => {
            let line = sql.lines().map(str::trim).collect::<Vec<_>>().join(" ");
            let short: String = line.chars().take(160).collect();
            report
                .skipped
                .push(format!("{short}: {}", Failure::from(error)));
            "ROLLBACK TO SAVEPOINT statement;"
        }
    };
    client
        .batch_execute(&format!("{undo} RELEASE SAVEPOINT statement"))
        .map_err(cannot())
}
