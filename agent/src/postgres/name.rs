//! Names of tables, as SQL, as the manifest and as COPY say them.

/// Quotes an identifier, always.
pub(crate) fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// Quotes a string for SQL under `standard_conforming_strings`.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A table's name with its schema's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TableName {
    pub(crate) schema: String,
    pub(crate) table: String,
}

impl TableName {
    /// Both names quoted, for SQL.
    pub(crate) fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.table))
    }

    /// Reads a name as [`std::fmt::Display`] writes it, or as SQL does.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let name = Self::take(&mut rest)?;
        rest.is_empty().then_some(name)
    }

    fn take(rest: &mut &str) -> Option<Self> {
        let schema = identifier(rest)?;
        *rest = rest.strip_prefix('.')?;
        let table = identifier(rest)?;
        Some(Self { schema, table })
    }
}

/// Quoted only where it must be: `public.orders`, `public."Order"`.
impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (separator, part) in [("", &self.schema), (".", &self.table)] {
            let plain = part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
                && part.bytes().all(is_plain);
            f.write_str(separator)?;
            if plain {
                f.write_str(part)?;
            } else {
                f.write_str(&quote(part))?;
            }
        }
        Ok(())
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
}

fn identifier(rest: &mut &str) -> Option<String> {
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.bytes().take_while(|&b| is_plain(b)).count();
        let (name, after) = rest.split_at(end);
        *rest = after;
        return (!name.is_empty()).then(|| name.to_owned());
    };
    let mut name = String::new();
    let mut from = quoted;
    loop {
        let (part, after) = from.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                from = after;
            }
            None => {
                *rest = after;
                return Some(name);
            }
        }
    }
}

/// The line before a table's rows: `COPY "s"."t" ("a", "b") FROM stdin;`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopyHead {
    pub(crate) table: TableName,
    pub(crate) columns: Vec<String>,
}

/// The line after a table's rows.
pub(crate) const COPY_TAIL: &[u8] = b"\\.\n";

impl CopyHead {
    /// The table and its columns, as COPY wants them in either direction.
    pub(crate) fn relation(&self) -> String {
        if self.columns.is_empty() {
            return self.table.quoted();
        }
        let columns: Vec<String> = self.columns.iter().map(|c| quote(c)).collect();
        format!("{} ({})", self.table.quoted(), columns.join(", "))
    }

    /// The head of the table's stream.
    pub(crate) fn encode(&self) -> String {
        format!("COPY {} FROM stdin;\n", self.relation())
    }

    /// Reads what [`CopyHead::encode`] writes, and nothing else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut rest = text.strip_prefix("COPY ")?;
        let table = TableName::take(&mut rest)?;
        let mut columns = Vec::new();
        if let Some(list) = rest.strip_prefix(" (") {
            rest = list;
            loop {
                columns.push(identifier(&mut rest)?);
                if let Some(after) = rest.strip_prefix(')') {
                    rest = after;
                    break;
                }
                rest = rest.strip_prefix(", ")?;
            }
        }
        let head = Self { table, columns };
        (rest == " FROM stdin;\n" && head.encode() == text).then_some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn copy_heads_round_trip(
            schema in ".{1,8}",
            table in "[\"a.) ,\n]{1,8}",
            columns in proptest::collection::vec("[\"a(),. \\\\]{1,6}", 0..4),
        ) {
            let head = CopyHead { table: TableName { schema, table }, columns };
            prop_assert_eq!(CopyHead::parse(&head.encode()), Some(head.clone()));
            prop_assert_eq!(TableName::parse(&head.table.to_string()), Some(head.table));
        }
    }

    #[test]
    fn rejects_other_copy_statements() {
        let bad = [
            "COPY \"a\".\"b\" FROM PROGRAM 'id';\n",
            "COPY \"a\".\"b\" FROM stdin",
            "COPY \"a\".\"b\" FROM stdin;\nDROP TABLE x;\n",
            "COPY a.b FROM stdin;\n",
            "COPY \"a\" FROM stdin;\n",
            "COPY \"a\".\"b\" () FROM stdin;\n",
            "COPY \"a\".\"b\" (\"c\") TO stdout;\n",
            "COPY (SELECT 1) TO stdout;\n",
        ];
        for head in bad {
            assert_eq!(CopyHead::parse(head), None, "{head}");
        }
    }
}
