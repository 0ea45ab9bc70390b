//! The rows of one table, each as one line.

use std::path::Path;

use rusqlite::{Connection, Row, types::ValueRef};

use crate::{
    intake::{Stopped, StreamWriter},
    source::SourceError,
    sqlite::{
        Encoding, SQL_LEN_MAX,
        literal::{self, Sink},
        table::Table,
    },
};

/// Lines are handed over when so many bytes of them are there.
const FLUSH_LEN: usize = 64 << 10;

/// Why rows could not be written.
#[derive(Debug)]
pub(super) enum RowsError {
    Stopped(Stopped),
    Read(rusqlite::Error),
    TooLong,
}

impl From<Stopped> for RowsError {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped(stopped)
    }
}

impl From<rusqlite::Error> for RowsError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Read(error)
    }
}

impl RowsError {
    pub(super) fn of(self, path: &Path, table: &str) -> SourceError {
        match self {
            Self::Stopped(stopped) => stopped.into(),
            Self::Read(cause) => SourceError::Database {
                what: format!("cannot read table {table} of {}", path.display()),
                cause: Box::new(cause),
            },
            Self::TooLong => SourceError::TooLarge {
                what: format!(
                    "table {table} of {} has a row that is longer than {SQL_LEN_MAX} bytes as SQL",
                    path.display()
                ),
            },
        }
    }
}

/// Lines on their way to a stream.
struct Lines<'a> {
    buffer: Vec<u8>,
    stream: StreamWriter<'a>,
    row_len: usize,
}

impl Sink for Lines<'_> {
    type Error = RowsError;

    fn put(&mut self, bytes: &[u8]) -> Result<(), RowsError> {
        if self.buffer.len() + bytes.len() > FLUSH_LEN {
            self.flush()?;
            if bytes.len() > FLUSH_LEN {
                self.row_len += bytes.len();
                return Ok(self.stream.write(bytes)?);
            }
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }
}

impl Lines<'_> {
    fn flush(&mut self) -> Result<(), RowsError> {
        self.row_len += self.buffer.len();
        if self.row_len > SQL_LEN_MAX {
            return Err(RowsError::TooLong);
        }
        self.stream.write(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn end_row(&mut self) -> Result<(), RowsError> {
        self.put(Table::SUFFIX.as_bytes())?;
        if self.buffer.len() > FLUSH_LEN / 2 || self.row_len > 0 {
            self.flush()?;
            self.row_len = 0;
        }
        Ok(())
    }
}

/// Writes all rows of `table` to `stream`.
pub(super) fn write(
    connection: &Connection,
    table: &Table,
    encoding: Encoding,
    mut stream: StreamWriter<'_>,
) -> Result<(), RowsError> {
    let head = table.head();
    if !head.is_empty() {
        stream.head(head.as_bytes())?;
    }
    let prefix = table.prefix();
    let mut lines = Lines {
        buffer: Vec::with_capacity(FLUSH_LEN),
        stream,
        row_len: 0,
    };
    let mut select = connection.prepare(&table.select(encoding))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        lines.put(prefix.as_bytes())?;
        for index in 0..table.columns.len() {
            if index > 0 {
                lines.put(b",")?;
            }
            match encoding {
                Encoding::Utf8 => put_value(&mut lines, row.get_ref(index)?)?,
                _ => put_wide_value(&mut lines, row, index, encoding)?,
            }
        }
        lines.end_row()?;
    }
    lines.flush()?;
    Ok(lines.stream.finish(table.tail().as_bytes())?)
}

fn put_value(lines: &mut Lines<'_>, value: ValueRef<'_>) -> Result<(), RowsError> {
    match value {
        ValueRef::Null => lines.put(b"NULL"),
        ValueRef::Integer(integer) => literal::put_integer(lines, integer),
        ValueRef::Real(real) => literal::put_real(lines, real),
        ValueRef::Text(text) => literal::put_text(lines, text, Encoding::Utf8),
        ValueRef::Blob(blob) => literal::put_blob(lines, blob),
    }
}

fn put_wide_value(
    lines: &mut Lines<'_>,
    row: &Row<'_>,
    index: usize,
    encoding: Encoding,
) -> Result<(), RowsError> {
    match (row.get_ref(2 * index)?, row.get_ref(2 * index + 1)?) {
        (ValueRef::Blob(text), ValueRef::Integer(1)) => literal::put_text(lines, text, encoding),
        (value, _) => put_value(lines, value),
    }
}
