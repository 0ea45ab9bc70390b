//! How the rows of one table are written: which columns, and around them what.

use protocol::manifest::Column;
use rusqlite::Connection;

use super::{Encoding, quoted};

const VIEW: &str = "souverain_rows";
/// Names that SQLite has for the rowid, unless a column takes them.
const ROWID_NAMES: [&str; 3] = ["rowid", "_rowid_", "oid"];

/// The columns of a table that are stored, and where its rows are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Name of the table.
    pub name: String,
    /// The columns that are written. The rowid comes first, where no column stands for it.
    pub columns: Vec<Column>,
}

impl Table {
    /// Reads what the schema says of a table.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn read(connection: &Connection, name: &str) -> rusqlite::Result<Self> {
        let mut columns = Vec::new();
        let mut names = Vec::new();
        let mut keys = Vec::new();
        let mut info = connection.prepare(&format!("PRAGMA main.table_xinfo({})", quoted(name)))?;
        let mut rows = info.query([])?;
        while let Some(row) = rows.next()? {
            let column = Column {
                name: row.get("name")?,
                native_type: row.get("type")?,
            };
            names.push(column.name.clone());
            if row.get::<_, i64>("pk")? > 0 {
                keys.push(column.native_type.clone());
            }
            // 2 and 3 are generated columns.
            if row.get::<_, i64>("hidden")? == 0 {
                columns.push(column);
            }
        }
        let is_key = matches!(keys.as_slice(), [only] if only.eq_ignore_ascii_case("INTEGER"));
        let free = ROWID_NAMES
            .into_iter()
            .find(|alias| !names.iter().any(|name| name.eq_ignore_ascii_case(alias)));
        if let Some(alias) = free
            && (!is_key || has_key_index(connection, name)?)
            && has_rowid(connection, name, alias)
        {
            let rowid = Column {
                name: alias.to_owned(),
                native_type: "INTEGER".to_owned(),
            };
            columns.insert(0, rowid);
        }
        Ok(Self {
            name: name.to_owned(),
            columns,
        })
    }

    /// The schema itself, as far as virtual tables are entered there by hand.
    #[must_use]
    pub fn schema() -> Self {
        let columns = ["type", "name", "tbl_name", "rootpage", "sql"].map(|name| Column {
            name: name.to_owned(),
            native_type: String::new(),
        });
        Self {
            name: "sqlite_master".to_owned(),
            columns: columns.into(),
        }
    }

    /// A query for the rows, in the order in which the table keeps them. For text in UTF-16,
    /// there are two columns for each: the value, with text as the blob of its bytes, and
    /// whether it is text.
    #[must_use]
    pub fn select(&self, encoding: Encoding) -> String {
        let column = |column: &Column| {
            let name = quoted(&column.name);
            match encoding {
                Encoding::Utf8 => name,
                _ => format!(
                    "CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END,\
                     typeof({name})='text'"
                ),
            }
        };
        let columns: Vec<String> = self.columns.iter().map(column).collect();
        let table = quoted(&self.name);
        format!("SELECT {} FROM main.{table} NOT INDEXED", columns.join(","))
    }

    /// The statement that takes the values of a row. In UTF-16, there are two parameters for
    /// each: the value, and whether it is the blob of a text's bytes.
    #[must_use]
    pub fn insert(&self, encoding: Encoding) -> String {
        let parameter = |number: usize| match encoding {
            Encoding::Utf8 => format!("?{number}"),
            _ => {
                let (value, is_text) = (2 * number - 1, 2 * number);
                // A cast would take the bound bytes for UTF-8; joining takes them as they are.
                format!("CASE ?{is_text} WHEN 1 THEN ?{value}||X'' ELSE ?{value} END")
            }
        };
        let parameters: Vec<String> = (1..=self.columns.len()).map(parameter).collect();
        let target = format!("main.{}", quoted(&self.name));
        format!(
            "INSERT INTO {target}({}) VALUES({})",
            self.names(),
            parameters.join(",")
        )
    }

    /// What a script says before the rows.
    #[must_use]
    pub fn head(&self) -> String {
        if self.name == "sqlite_sequence" {
            return "DELETE FROM sqlite_sequence;\n".to_owned();
        }
        if !self.needs_view() {
            return String::new();
        }
        let numbered = |prefix: &str| {
            let all: Vec<String> = (0..self.columns.len())
                .map(|i| format!("{prefix}{i}"))
                .collect();
            all.join(",")
        };
        let nulls = vec!["NULL"; self.columns.len()].join(",");
        let head = format!(
            "CREATE TEMP VIEW {VIEW}({}) AS SELECT {nulls};\n\
             CREATE TEMP TRIGGER souverain_row INSTEAD OF INSERT ON {VIEW} BEGIN \
             INSERT INTO {}({}) VALUES({}); END;\n",
            numbered("c"),
            quoted(&self.name),
            self.names(),
            numbered("NEW.c"),
        );
        head.replace("\r\n", "\r\r\n")
    }

    /// What comes before the values of each row.
    #[must_use]
    pub fn prefix(&self) -> String {
        if self.needs_view() {
            return format!("INSERT INTO {VIEW} VALUES(");
        }
        format!(
            "INSERT INTO {}({}) VALUES(",
            quoted(&self.name),
            self.names()
        )
    }

    /// What comes after the values of each row.
    pub const SUFFIX: &'static str = ");\n";

    /// What a script says after the rows.
    #[must_use]
    pub fn tail(&self) -> String {
        if self.needs_view() {
            return format!("DROP VIEW temp.{VIEW};\n");
        }
        String::new()
    }

    /// Names that do not fit on one line cannot stand in every row.
    fn needs_view(&self) -> bool {
        let mut names = std::iter::once(&self.name).chain(self.columns.iter().map(|c| &c.name));
        names.any(|name| name.contains('\n'))
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|c| quoted(&c.name)).collect();
        names.join(",")
    }
}

/// An `INTEGER PRIMARY KEY` is the rowid itself, and has no index; in its rare other forms it has one.
fn has_key_index(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let mut list = connection.prepare(&format!("PRAGMA main.index_list({})", quoted(name)))?;
    let mut rows = list.query([])?;
    while let Some(row) = rows.next()? {
        if row.get_ref("origin")?.as_bytes() == Ok(b"pk") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_rowid(connection: &Connection, name: &str, alias: &str) -> bool {
    connection
        .prepare(&format!("SELECT {alias} FROM main.{}", quoted(name)))
        .is_ok()
}
