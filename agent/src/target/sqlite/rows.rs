//! Rows: read line by line as literals, bound to a statement of our own.

use std::io::{self, BufRead, Read};

use protocol::manifest::StreamMeta;
use rusqlite::{
    ErrorCode, Statement,
    types::{ToSqlOutput, ValueRef},
};

use super::{Load, hostile};
use crate::{
    sqlite::{
        Encoding, SQL_LEN_MAX,
        literal::{self, Malformed, Value},
        table::Table,
    },
    target::{Content, StreamReport, TargetError},
};

const SEQUENCE: &str = "sqlite_sequence";
const STATISTICS: &str = "sqlite_stat";

impl Load {
    /// Takes the rows of a table.
    pub(super) fn rows(
        &mut self,
        meta: &StreamMeta,
        content: &mut dyn Content,
    ) -> Result<StreamReport, TargetError> {
        self.begin_transaction()?;
        let mut left_out: Vec<String> = self.make_pending(&meta.name)?.into_iter().collect();
        if self.absent.contains(&meta.name.to_ascii_lowercase()) {
            io::copy(content, &mut io::sink()).map_err(|cause| unreadable(meta, cause))?;
            self.lost_rows = true;
            left_out.push(format!(
                "{} rows of table {}, which could not be made here",
                meta.rows.unwrap_or_default(),
                meta.name
            ));
            return Ok(StreamReport {
                skipped: left_out,
                ..StreamReport::default()
            });
        }
        let table = Table::read(&self.connection, &meta.name).map_err(self.failed())?;
        if table.columns.is_empty() || table.columns != meta.columns {
            return Err(hostile(
                &meta.name,
                "its columns are not those of the table",
            ));
        }
        if self.is_merge() && meta.name.starts_with(STATISTICS) {
            let unread = io::copy(content, &mut io::sink());
            unread.map_err(|cause| unreadable(meta, cause))?;
            let skipped = vec!["the statistics of the query planner were kept".to_owned()];
            return Ok(StreamReport {
                skipped,
                ..StreamReport::default()
            });
        }
        if meta.name == SEQUENCE && !self.is_merge() {
            let emptied = self.connection.execute_batch("DELETE FROM sqlite_sequence");
            emptied.map_err(self.failed())?;
        }
        let report = self.insert_all(meta, &table, content)?;
        if meta.name == SEQUENCE && self.is_merge() {
            let newest = "DELETE FROM sqlite_sequence WHERE rowid NOT IN \
                          (SELECT max(rowid) FROM sqlite_sequence GROUP BY name)";
            let merged = self.connection.execute_batch(newest);
            merged.map_err(self.failed())?;
        }
        self.lost_rows |= !report.skipped.is_empty();
        Ok(report)
    }

    fn insert_all(
        &self,
        meta: &StreamMeta,
        table: &Table,
        content: &mut dyn Content,
    ) -> Result<StreamReport, TargetError> {
        let mut target = table.clone();
        if meta.name == SEQUENCE && self.is_merge() {
            target.columns.retain(|column| column.name != "rowid");
        }
        let unused = table.columns.len() - target.columns.len();
        let mut insert = self
            .connection
            .prepare(&target.insert(self.encoding))
            .map_err(self.failed())?;
        let mut lines = Lines::new(content);
        let mut reader = RowReader::new(table, self.encoding);
        let mut report = StreamReport::default();
        let mut lost = 0u64;
        let mut refused = 0u64;
        let mut at_end = table.tail().is_empty();
        lines
            .skip_head(table.head().as_bytes())
            .map_err(|cause| unreadable(meta, cause))?
            .map_err(|Malformed| hostile(&meta.name, "what comes before its rows is unknown"))?;
        while lines.next().map_err(|cause| unreadable(meta, cause))? {
            if lines.line == table.tail().as_bytes() && !at_end {
                at_end = true;
            } else if lines.is_whole() && reader.read(&mut lines.line).is_ok() {
                let values = &reader.values[unused..];
                let done = bind(&mut insert, &lines.line, values, self.encoding)
                    .and_then(|()| insert.raw_execute());
                match done {
                    Ok(_) => report.rows += 1,
                    Err(cause) if self.options.skip_damaged && is_constraint(&cause) => {
                        refused += 1;
                        if refused == 1 {
                            report.skipped.push(cause.to_string());
                        }
                    }
                    Err(cause) => return Err(self.failed()(cause)),
                }
            } else if self.options.skip_damaged && lines.has_gaps() {
                lost += 1;
            } else {
                let row = report.rows + 1;
                return Err(hostile(&meta.name, format!("row {row} is not one")));
            }
        }
        if refused > 0 {
            report.skipped.push(format!(
                "{refused} rows that table {} does not take",
                meta.name
            ));
        }
        if lines.has_gaps() {
            report.skipped.push(match meta.rows {
                Some(rows) => format!("{} rows", rows.saturating_sub(report.rows)),
                None => format!("at least {lost} rows"),
            });
        } else if !at_end || meta.rows.is_some_and(|rows| rows != report.rows + refused) {
            let what = format!("it has {} rows, and should have more or fewer", report.rows);
            return Err(hostile(&meta.name, what));
        }
        Ok(report)
    }
}

fn is_constraint(cause: &rusqlite::Error) -> bool {
    cause.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

fn unreadable(meta: &StreamMeta, cause: io::Error) -> TargetError {
    TargetError::Content {
        stream: meta.name.clone(),
        cause,
    }
}

/// The lines of a stream, and which of them are whole.
struct Lines<'a> {
    content: &'a mut dyn Content,
    line: Vec<u8>,
    start: u64,
}

impl<'a> Lines<'a> {
    fn new(content: &'a mut dyn Content) -> Self {
        Self {
            content,
            line: Vec::new(),
            start: 0,
        }
    }

    /// Reads the next line; false at the end.
    fn next(&mut self) -> io::Result<bool> {
        self.start += self.line.len() as u64;
        self.line.clear();
        let mut limited = Read::take(&mut *self.content, SQL_LEN_MAX as u64);
        Ok(limited.read_until(b'\n', &mut self.line)? > 0)
    }

    fn skip_head(&mut self, head: &[u8]) -> io::Result<Result<(), Malformed>> {
        if head.is_empty() {
            return Ok(Ok(()));
        }
        self.content.fill_buf()?;
        if self
            .content
            .gaps()
            .first()
            .is_some_and(|gap| gap.start == 0)
        {
            return Ok(Ok(()));
        }
        let mut read = Vec::with_capacity(head.len());
        Read::take(&mut *self.content, head.len() as u64).read_to_end(&mut read)?;
        self.start += read.len() as u64;
        Ok(if read == head { Ok(()) } else { Err(Malformed) })
    }

    fn has_gaps(&self) -> bool {
        !self.content.gaps().is_empty()
    }

    /// Whether nothing is missing inside of the line: a long row spans several pieces, and
    /// without one in the middle it could still look like a row.
    fn is_whole(&self) -> bool {
        let end = self.start + self.line.len() as u64;
        let mut missing = 0;
        self.content.gaps().iter().all(|gap| {
            let at = gap.start.saturating_sub(missing);
            missing += gap.end - gap.start;
            at <= self.start || end <= at
        })
    }
}

/// Reads lines as rows of one table.
struct RowReader {
    prefix: Vec<u8>,
    width: usize,
    encoding: Encoding,
    values: Vec<Value>,
}

impl RowReader {
    fn new(table: &Table, encoding: Encoding) -> Self {
        Self {
            prefix: table.prefix().into_bytes(),
            width: table.columns.len(),
            encoding,
            values: Vec::with_capacity(table.columns.len()),
        }
    }

    fn read(&mut self, line: &mut [u8]) -> Result<(), Malformed> {
        if !line.starts_with(&self.prefix) {
            return Err(Malformed);
        }
        let start = self.prefix.len();
        let end = literal::parse(line, start, self.encoding, self.width, &mut self.values)?;
        if self.values.len() == self.width && &line[end..] == Table::SUFFIX.as_bytes() {
            Ok(())
        } else {
            Err(Malformed)
        }
    }
}

fn bind(
    insert: &mut Statement<'_>,
    line: &[u8],
    values: &[Value],
    encoding: Encoding,
) -> rusqlite::Result<()> {
    for (index, value) in values.iter().enumerate() {
        let is_stored_text = matches!(value, Value::StoredText(_));
        let value = match value {
            Value::Null => ValueRef::Null,
            Value::Integer(integer) => ValueRef::Integer(*integer),
            Value::Real(real) => ValueRef::Real(*real),
            Value::Text(range) => ValueRef::Text(&line[range.clone()]),
            Value::StoredText(range) if encoding == Encoding::Utf8 => {
                ValueRef::Text(&line[range.clone()])
            }
            Value::StoredText(range) | Value::Blob(range) => ValueRef::Blob(&line[range.clone()]),
        };
        let value = ToSqlOutput::Borrowed(value);
        if encoding == Encoding::Utf8 {
            insert.raw_bind_parameter(index + 1, value)?;
        } else {
            insert.raw_bind_parameter(2 * index + 1, value)?;
            insert.raw_bind_parameter(2 * index + 2, is_stored_text)?;
        }
    }
    Ok(())
}
