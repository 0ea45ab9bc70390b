//! Rows of a table, from a stream into COPY, byte for byte.

use std::io::{Read, Write};

use ::postgres::{Client, CopyInWriter};
use protocol::manifest::StreamMeta;

use super::{Import, Plan, existing, failed, hostile};
use crate::{
    postgres::{
        failure::Failure,
        name::{COPY_TAIL, CopyHead, TableName},
    },
    target::{Content, StreamReport, TargetError},
};

/// Longest head that is read: the most columns with the longest names fit twice.
const HEAD_SIZE_MAX: u32 = 512 << 10;
/// Bytes given to the connection at once.
const CHUNK_SIZE: usize = 64 << 10;

/// Copies a table's rows in.
pub(super) fn load(
    client: &mut Client,
    import: &mut Import,
    meta: &StreamMeta,
    content: &mut dyn Content,
) -> Result<StreamReport, TargetError> {
    let head = head(meta, content)?;
    let freeze = prepare(client, import, meta, &head.table)?;
    let options = if freeze { " WITH (FREEZE)" } else { "" };
    let cannot = || format!("cannot load table {}", meta.name);
    let sql = format!("COPY {} FROM STDIN{options}", head.relation());
    let mut writer = client
        .copy_in(&sql)
        .map_err(|e| failed::<Failure>(cannot())(e.into()))?;
    let fed = feed(&mut writer, meta, content);
    if let Err(FeedError::Content(error)) = fed {
        return Err(error);
    }
    // If the server refused in the middle, it says why only here.
    let rows = writer.finish().map_err(failed(cannot()))?;
    if let Err(FeedError::Server(failure)) = fed {
        return Err(failed(cannot())(failure));
    }
    let gaps = content.gaps();
    let mut report = StreamReport {
        rows,
        ..StreamReport::default()
    };
    if gaps.is_empty() {
        if meta.rows != Some(rows) {
            let said = meta.rows.unwrap_or_default();
            return Err(hostile(
                meta,
                format!("it says {said} rows, and {rows} were inserted"),
            ));
        }
    } else {
        import.is_damaged = true;
        let lost = meta.rows.unwrap_or_default().saturating_sub(rows);
        let bytes: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
        report.skipped.push(format!(
            "{}: {lost} rows in {bytes} damaged bytes",
            meta.name
        ));
    }
    Ok(report)
}

/// Reads the stream's head; where that is damaged, makes it anew from what the manifest says.
fn head(meta: &StreamMeta, content: &mut dyn Content) -> Result<CopyHead, TargetError> {
    if meta.head > HEAD_SIZE_MAX || meta.tail as usize != COPY_TAIL.len() {
        return Err(hostile(
            meta,
            "its head or tail is not of a table of PostgreSQL",
        ));
    }
    let unreadable = |cause| TargetError::Content {
        stream: meta.name.clone(),
        cause,
    };
    // Damage shows only once something was read.
    content.fill_buf().map_err(unreadable)?;
    if content
        .gaps()
        .first()
        .is_some_and(|gap| gap.start < u64::from(meta.head))
    {
        let table = TableName::parse(&meta.name)
            .ok_or_else(|| hostile(meta, "its name is not a table's"))?;
        let columns = meta.columns.iter().map(|c| c.name.clone()).collect();
        return Ok(CopyHead { table, columns });
    }
    let mut text = vec![0; meta.head as usize];
    content.read_exact(&mut text).map_err(unreadable)?;
    std::str::from_utf8(&text)
        .ok()
        .and_then(CopyHead::parse)
        .ok_or_else(|| hostile(meta, "its head is not the COPY statement of its table"))
}

/// Makes the table ready for the rows, and tells whether they can be frozen.
fn prepare(
    client: &mut Client,
    import: &Import,
    meta: &StreamMeta,
    table: &TableName,
) -> Result<bool, TargetError> {
    let cannot = || failed::<::postgres::Error>(format!("cannot look at table {table}"));
    if import.plan == Plan::Restore {
        // FREEZE needs a table that nobody else can see yet.
        let is_new = !import.existing.contains(table);
        return Ok(is_new && !existing::is_partitioned(client, table).map_err(cannot())?);
    }
    if !import.existing.contains(table) {
        return Err(TargetError::Unsuitable(format!(
            "the target has tables, but not {table}; import into an empty database, or replace all"
        )));
    }
    existing::check_columns(client, table, meta)?;
    if import.plan == Plan::Refill {
        existing::truncate(client, table).map_err(failed(format!("cannot empty table {table}")))?;
    } else if existing::has_rows(client, table).map_err(cannot())? {
        return Err(TargetError::NotEmpty(format!("table {table}")));
    }
    Ok(false)
}

enum FeedError {
    Content(TargetError),
    Server(Failure),
}

/// Passes on all but the tail.
fn feed(
    writer: &mut CopyInWriter<'_>,
    meta: &StreamMeta,
    content: &mut dyn Content,
) -> Result<(), FeedError> {
    let tail_len = meta.tail as usize;
    let mut chunk: Vec<u8> = Vec::with_capacity(CHUNK_SIZE);
    loop {
        let read = content
            .take((CHUNK_SIZE - chunk.len()) as u64)
            .read_to_end(&mut chunk)
            .map_err(|cause| {
                FeedError::Content(TargetError::Content {
                    stream: meta.name.clone(),
                    cause,
                })
            })?;
        if read == 0 {
            break;
        }
        let rows = chunk.len().saturating_sub(tail_len);
        writer
            .write_all(&chunk[..rows])
            .map_err(|e| FeedError::Server(e.into()))?;
        chunk.drain(..rows);
    }
    let is_tail_damaged = content
        .gaps()
        .last()
        .is_some_and(|gap| gap.end > meta.bytes.saturating_sub(u64::from(meta.tail)));
    if is_tail_damaged {
        return writer
            .write_all(&chunk)
            .map_err(|e| FeedError::Server(e.into()));
    }
    if chunk != COPY_TAIL {
        return Err(FeedError::Content(hostile(
            meta,
            "its tail does not end a COPY",
        )));
    }
    Ok(())
}
