//! What comes before and after the rows: only statements that make a schema are run.

use protocol::manifest::{StreamKind, StreamMeta};
use rusqlite::{
    Connection, ErrorCode, OptionalExtension,
    hooks::{AuthAction, AuthContext, Authorization},
};

use super::{Load, hostile};
use crate::{
    sqlite::{
        Encoding,
        literal::{self, Value},
        message, quoted,
        script::{StatementError, created, creates_virtual, means_the_same, read_statement},
        table::Table,
    },
    target::{Content, StreamReport, TargetError},
};

/// Numbers that a new database takes over.
const NUMBERS: [&str; 4] = ["page_size", "auto_vacuum", "application_id", "user_version"];
/// Functions that reach outside of the database.
const FUNCTIONS_REFUSED: [&str; 5] = [
    "load_extension",
    "readfile",
    "writefile",
    "edit",
    "fts3_tokenizer",
];
/// Failures of statements that only lack what the source's program brought along.
const LACKING: [&str; 2] = ["no such collation sequence", "no such function"];

impl Load {
    /// Takes the statements before or after the rows.
    pub(super) fn schema(
        &mut self,
        meta: &StreamMeta,
        mut content: &mut dyn Content,
    ) -> Result<StreamReport, TargetError> {
        let mut report = StreamReport::default();
        loop {
            let statement = read_statement(&mut content).map_err(|error| match error {
                StatementError::Io(cause) => TargetError::Content {
                    stream: meta.name.clone(),
                    cause,
                },
                StatementError::Malformed(what) => hostile(&meta.name, what),
            })?;
            let Some(statement) = statement else { break };
            report.skipped.extend(self.statement(meta, &statement)?);
        }
        if meta.kind == StreamKind::After && self.lost_rows {
            report.skipped.extend(self.dangling()?);
        }
        Ok(report)
    }

    /// Runs a statement, if it is one that an export writes; says what was left out.
    fn statement(
        &mut self,
        meta: &StreamMeta,
        statement: &str,
    ) -> Result<Option<String>, TargetError> {
        if let Some(setting) = statement.strip_prefix("PRAGMA ") {
            self.setting(meta, setting)?;
        } else if statement == "BEGIN;" {
            self.begin_transaction()?;
        } else if created(statement).is_some() {
            return self.create(meta, statement);
        } else if let Some(literals) = statement.strip_prefix(&Table::schema().prefix()) {
            let object = Declared::parse(literals, self.encoding)
                .ok_or_else(|| hostile(&meta.name, shortened(statement)))?;
            self.declare(&object)?;
        } else if let Some(rest) = statement.strip_prefix(TextFix::PREFIX) {
            let fix = TextFix::parse(rest, self.encoding)
                .ok_or_else(|| hostile(&meta.name, shortened(statement)))?;
            self.fix_text(meta, &fix)?;
        } else if statement != "COMMIT;" {
            return Err(hostile(&meta.name, shortened(statement)));
        }
        Ok(None)
    }

    fn setting(&mut self, meta: &StreamMeta, setting: &str) -> Result<(), TargetError> {
        let refused = || hostile(&meta.name, shortened(&format!("PRAGMA {setting}")));
        let setting = setting.strip_suffix(';').ok_or_else(refused)?;
        let (name, value) = setting.split_once('=').ok_or_else(refused)?;
        let before = meta.kind == StreamKind::Before;
        match (name, value) {
            ("foreign_keys", "OFF") | ("ignore_check_constraints", "ON") => Ok(()),
            ("writable_schema", "ON" | "OFF") => self.set(&format!("writable_schema={value}")),
            ("journal_mode", "WAL") if !before => {
                self.writes_wal = !self.is_merge();
                Ok(())
            }
            ("encoding", _) if before => {
                let name = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\''));
                let encoding = name.and_then(Encoding::from_name).ok_or_else(refused)?;
                self.set_encoding(encoding)
            }
            _ if before && NUMBERS.contains(&name) => {
                let number: i64 = value.parse().map_err(|_| refused())?;
                if self.is_merge() {
                    return Ok(());
                }
                self.set(&format!("{name}={number}"))
            }
            _ => Err(refused()),
        }
    }

    fn set(&self, setting: &str) -> Result<(), TargetError> {
        let set = self.connection.execute_batch(&format!("PRAGMA {setting}"));
        set.map_err(self.failed())
    }

    fn set_encoding(&mut self, encoding: Encoding) -> Result<(), TargetError> {
        self.encoding = encoding;
        if !self.is_merge() {
            return self.set(&format!("encoding='{}'", encoding.name()));
        }
        let own = Encoding::of(&self.connection).map_err(self.failed())?;
        if own == encoding {
            return Ok(());
        }
        Err(TargetError::Unsuitable(format!(
            "{} stores text as {}, the snapshot as {}",
            self.place.path().display(),
            own.name(),
            encoding.name()
        )))
    }

    fn create(
        &mut self,
        meta: &StreamMeta,
        statement: &str,
    ) -> Result<Option<String>, TargetError> {
        let refused = || hostile(&meta.name, shortened(statement));
        let (what, name) = created(statement).ok_or_else(refused)?;
        match (meta.kind, what) {
            (StreamKind::Before, "TABLE") => {}
            (StreamKind::After, "INDEX" | "VIEW" | "TRIGGER") => {}
            _ => return Err(refused()),
        }
        let partial = self.options.partial;
        if partial && what == "TABLE" && !name.starts_with("sqlite_") {
            self.pending
                .insert(name.to_ascii_lowercase(), statement.to_owned());
            return Ok(None);
        }
        if partial && matches!(what, "VIEW" | "TRIGGER") {
            self.lacks_objects = true;
            return Ok(None);
        }
        self.make(&meta.name, what, &name, statement)
    }

    /// Makes the table of a stream, if that was put off.
    pub(super) fn make_pending(&mut self, name: &str) -> Result<Option<String>, TargetError> {
        match self.pending.remove(&name.to_ascii_lowercase()) {
            Some(statement) => self.make(name, "TABLE", name, &statement),
            None => Ok(None),
        }
    }

    /// Makes an object of the schema; says so if it was left out.
    fn make(
        &mut self,
        stream: &str,
        what: &str,
        name: &str,
        statement: &str,
    ) -> Result<Option<String>, TargetError> {
        self.begin_transaction()?;
        if self.is_merge() && self.is_there(what, name, statement)? {
            return Ok(None);
        }
        let Err(cause) = run(&self.connection, statement) else {
            return Ok(None);
        };
        if is_refusal(&cause) {
            return Err(hostile(stream, shortened(statement)));
        }
        let lacks_table = what != "TABLE" && cause.to_string().starts_with("no such table");
        if lacks_table && self.options.partial {
            self.lacks_objects = true;
            return Ok(None);
        }
        let of_absent = lacks_table && !self.absent.is_empty();
        if !of_absent && !lacks(&cause) {
            return Err(self.failed()(cause));
        }
        self.lacks_objects = true;
        if what == "TABLE" {
            self.absent.insert(name.to_ascii_lowercase());
        }
        let what = what.to_lowercase();
        Ok(Some(format!("{what} {name}: {}", message(&cause))))
    }

    /// Whether the database that is merged into has the object already, the same and without rows.
    fn is_there(&mut self, what: &str, name: &str, sql: &str) -> Result<bool, TargetError> {
        let Some(own) = self.stored_sql(what, name)? else {
            return Ok(false);
        };
        let unsuitable = |why: &str| {
            let what = what.to_lowercase();
            let path = self.place.path().display();
            TargetError::Unsuitable(format!("{what} {name} of {path} {why}"))
        };
        if what != "TABLE" {
            let sql = sql.strip_suffix(';').unwrap_or(sql);
            return match means_the_same(&own, sql) {
                true => Ok(true),
                false => Err(unsuitable("is there already, and is another")),
            };
        }
        if name.starts_with("sqlite_") {
            return Ok(true);
        }
        let scratch = match self.scratch.take() {
            Some(scratch) => Ok(scratch),
            None => Connection::open_in_memory(),
        };
        let scratch = scratch.map_err(self.failed())?;
        let same = run(&scratch, sql).and_then(|()| {
            Ok(columns(&scratch, name)? == columns(&self.connection, name)?
                && Table::read(&scratch, name)?.columns
                    == Table::read(&self.connection, name)?.columns)
        });
        let same = same.map_err(self.failed())?;
        let has_rows = self
            .connection
            .prepare(&format!("SELECT 1 FROM main.{}", quoted(name)))
            .and_then(|mut rows| rows.exists([]))
            .map_err(self.failed())?;
        if !same {
            return Err(unsuitable("is there already, with other columns"));
        }
        if has_rows {
            return Err(TargetError::NotEmpty(format!(
                "table {name} of {}",
                self.place.path().display()
            )));
        }
        self.scratch = Some(scratch);
        Ok(true)
    }

    fn stored_sql(&self, what: &str, name: &str) -> Result<Option<String>, TargetError> {
        let query = "SELECT sql FROM main.sqlite_master \
                     WHERE type = ?1 AND name = ?2 COLLATE NOCASE";
        self.connection
            .query_row(query, [&what.to_lowercase(), name], |row| row.get(0))
            .optional()
            .map_err(self.failed())
    }

    /// Enters a virtual table into the schema. It is not opened: its tables are there already.
    fn declare(&mut self, object: &Declared) -> Result<(), TargetError> {
        if self.options.partial {
            return Ok(());
        }
        self.begin_transaction()?;
        if let Some(own) = self.stored_sql("table", &object.name)? {
            if means_the_same(&own, &object.sql) {
                return Ok(());
            }
            return Err(TargetError::Unsuitable(format!(
                "table {} of {} is there already, and is another",
                object.name,
                self.place.path().display()
            )));
        }
        let insert = "INSERT INTO main.sqlite_master(type, name, tbl_name, rootpage, sql) \
                      VALUES('table', ?1, ?1, 0, ?2)";
        let done = self.connection.execute(insert, [&object.name, &object.sql]);
        done.map(|_| ()).map_err(self.failed())
    }

    /// Restores the wording of a statement; what it means must stay.
    fn fix_text(&mut self, meta: &StreamMeta, fix: &TextFix) -> Result<(), TargetError> {
        if self.is_merge() {
            return Ok(());
        }
        let own = self.stored_sql(&fix.kind, &fix.name)?;
        if own.is_none() && (self.lacks_objects || !self.pending.is_empty()) {
            return Ok(());
        }
        if !means_the_same(&own.unwrap_or_default(), &fix.sql) {
            let what = format!("another meaning for {} {}", fix.kind, fix.name);
            return Err(hostile(&meta.name, what));
        }
        let update = "UPDATE main.sqlite_master SET sql = ?1 WHERE type = ?2 AND name = ?3";
        let done = self
            .connection
            .execute(update, [&fix.sql, &fix.kind, &fix.name]);
        done.map(|_| ()).map_err(self.failed())
    }

    fn dangling(&self) -> Result<Option<String>, TargetError> {
        let mut check = self
            .connection
            .prepare("PRAGMA foreign_key_check")
            .map_err(self.failed())?;
        let mut rows = check.query([]).map_err(self.failed())?;
        let mut count = 0u64;
        while rows.next().map_err(self.failed())?.is_some() {
            count += 1;
        }
        Ok((count > 0).then(|| format!("{count} references to rows that are missing")))
    }
}

/// A virtual table, as the line says that declares it.
struct Declared {
    name: String,
    sql: String,
}

impl Declared {
    fn parse(literals: &str, encoding: Encoding) -> Option<Self> {
        let mut line = literals.as_bytes().to_vec();
        let mut values = Vec::new();
        let end = literal::parse(&mut line, 0, encoding, 5, &mut values).ok()?;
        let [kind, name, table, Value::Integer(0), sql] = values.as_slice() else {
            return None;
        };
        let (name, sql) = (text(&line, name, encoding)?, text(&line, sql, encoding)?);
        let is_virtual = creates_virtual(&sql);
        let names_itself = created(&sql).is_some_and(|(_, own)| own == name);
        let as_written = &line[end..] == b");"
            && text(&line, kind, encoding)? == "table"
            && text(&line, table, encoding)? == name;
        (is_virtual && names_itself && as_written).then_some(Self { name, sql })
    }
}

/// The wording of a statement, as the line says that restores it.
struct TextFix {
    sql: String,
    kind: String,
    name: String,
}

impl TextFix {
    const PREFIX: &str = "UPDATE sqlite_master SET sql=";

    fn parse(rest: &str, encoding: Encoding) -> Option<Self> {
        let mut line = rest.as_bytes().to_vec();
        let mut at = 0;
        let mut next = |before: &str| {
            if !line.get(at..)?.starts_with(before.as_bytes()) {
                return None;
            }
            let start = at + before.len();
            let (value, end) = literal::parse_one(&mut line, start, encoding).ok()?;
            at = end;
            text(&line, &value, encoding)
        };
        let fix = Self {
            sql: next("")?,
            kind: next(" WHERE type=")?,
            name: next(" AND name=")?,
        };
        (line.get(at..)? == b";").then_some(fix)
    }
}

fn text(line: &[u8], value: &Value, encoding: Encoding) -> Option<String> {
    match value {
        Value::Text(range) => Encoding::Utf8.decode(&line[range.clone()]),
        Value::StoredText(range) => encoding.decode(&line[range.clone()]),
        _ => None,
    }
}

/// Runs one statement, and lets it do nothing but make a schema.
fn run(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.authorizer(Some(authorize));
    let done = connection
        .prepare(statement)
        .and_then(|mut statement| statement.raw_execute());
    connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>);
    done.map(|_| ())
}

fn authorize(context: AuthContext<'_>) -> Authorization {
    let allowed = match context.action {
        AuthAction::CreateTable { .. }
        | AuthAction::CreateIndex { .. }
        | AuthAction::CreateView { .. }
        | AuthAction::CreateTrigger { .. }
        | AuthAction::Reindex { .. } => context.database_name == Some("main"),
        AuthAction::Insert { table_name } | AuthAction::Update { table_name, .. } => {
            table_name == "sqlite_master"
        }
        AuthAction::Read { .. } => true,
        AuthAction::Function { function_name } => !FUNCTIONS_REFUSED.contains(&function_name),
        _ => false,
    };
    if allowed {
        Authorization::Allow
    } else {
        Authorization::Deny
    }
}

fn is_refusal(cause: &rusqlite::Error) -> bool {
    cause.sqlite_error_code() == Some(ErrorCode::AuthorizationForStatementDenied)
}

fn lacks(cause: &rusqlite::Error) -> bool {
    let message = cause.to_string();
    LACKING.iter().any(|lacking| message.contains(lacking))
}

type ColumnInfo = (String, String, bool, Option<String>, i64, i64);

fn columns(connection: &Connection, name: &str) -> rusqlite::Result<Vec<ColumnInfo>> {
    let pragma = format!("PRAGMA main.table_xinfo({})", quoted(name));
    let mut info = connection.prepare(&pragma)?;
    info.query_map([], |row| {
        Ok((
            row.get("name")?,
            row.get("type")?,
            row.get("notnull")?,
            row.get("dflt_value")?,
            row.get("pk")?,
            row.get("hidden")?,
        ))
    })?
    .collect()
}

fn shortened(statement: &str) -> String {
    let line = statement.lines().next().unwrap_or_default();
    let start: String = line.chars().take(80).collect();
    format!("it says {start:?}")
}
