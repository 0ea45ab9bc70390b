//! SQL text: its tokens, how it passes through the `sqlite3` shell unchanged, and where
//! statements end.
//!
//! The shell is not a pipe. It drops a carriage return before a newline, and it takes a
//! line that is `go` or `/` for the end of a statement.

use std::{borrow::Cow, io::BufRead};

/// Longest statement of a schema that is read, in bytes.
pub const STATEMENT_LEN_MAX: usize = 16 << 20;

/// What a schema holds.
const CREATED: [&str; 4] = ["TABLE", "INDEX", "VIEW", "TRIGGER"];

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// White space.
    Space,
    /// `-- …`, without the newline.
    LineComment,
    /// `/* … */`; if false, the end is missing.
    BlockComment(bool),
    /// A quoted string or name.
    Quoted,
    /// A word or number.
    Word,
    /// One other character.
    Symbol,
}

/// Splits SQL into tokens; together they are all of it.
pub fn tokens(sql: &str) -> impl Iterator<Item = (Kind, &str)> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        let (kind, len) = first_token(rest)?;
        let (token, later) = rest.split_at(len);
        rest = later;
        Some((kind, token))
    })
}

fn first_token(sql: &str) -> Option<(Kind, usize)> {
    let run = |test: fn(u8) -> bool| sql.bytes().position(|b| !test(b)).unwrap_or(sql.len());
    let first = *sql.as_bytes().first()?;
    Some(match first {
        _ if is_space(first) => (Kind::Space, run(is_space)),
        b'-' if sql.starts_with("--") => (Kind::LineComment, run(|b| b != b'\n')),
        b'/' if sql.starts_with("/*") => match sql[2..].find("*/") {
            Some(end) => (Kind::BlockComment(true), end + 4),
            None => (Kind::BlockComment(false), sql.len()),
        },
        b'\'' | b'"' | b'`' => (Kind::Quoted, quoted_len(sql.as_bytes(), first)),
        b'[' => {
            let len = sql.find(']').map_or(sql.len(), |end| end + 1);
            (Kind::Quoted, len)
        }
        _ if is_word(first) => (Kind::Word, run(is_word)),
        _ => (Kind::Symbol, 1),
    })
}

fn quoted_len(sql: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(found) = memchr::memchr(quote, &sql[at..]) {
        at += found + 1;
        if sql.get(at) != Some(&quote) {
            return at;
        }
        at += 1;
    }
    sql.len()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\x0c' | b'\r')
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

/// The tokens that mean something: no space, no comments.
pub fn significant(sql: &str) -> impl Iterator<Item = &str> {
    tokens(sql)
        .filter(|(kind, _)| matches!(kind, Kind::Quoted | Kind::Word | Kind::Symbol))
        .map(|(_, token)| token)
}

/// Whether two statements of a schema mean the same. SQLite keeps the words they begin with in
/// capitals; who edits a schema by hand need not.
#[must_use]
pub fn means_the_same(one: &str, other: &str) -> bool {
    let mut others = significant(other);
    let mut in_keywords = true;
    for token in significant(one) {
        let Some(other) = others.next() else {
            return false;
        };
        in_keywords &= is_keyword(token);
        if token != other && !(in_keywords && token.eq_ignore_ascii_case(other)) {
            return false;
        }
        // What follows is a name, whatever it is.
        in_keywords &= !CREATED.iter().any(|what| token.eq_ignore_ascii_case(what));
    }
    others.next().is_none()
}

fn is_keyword(token: &str) -> bool {
    let before = ["CREATE", "UNIQUE", "VIRTUAL"].into_iter();
    before
        .chain(CREATED)
        .any(|word| token.eq_ignore_ascii_case(word))
}

/// A statement of a schema as a script holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scripted {
    /// The statement, with `;` and a newline.
    pub text: String,
    /// Whether the statement arrives as it was. If not, comments were added.
    pub exact: bool,
}

/// Writes a statement such that the shell passes it on.
#[must_use]
pub fn scripted(sql: &str) -> Scripted {
    let mut text = String::with_capacity(sql.len() + 2);
    let mut line_begins = false;
    let mut last = Kind::Space;
    let mut exact = true;
    for (kind, token) in tokens(sql) {
        if line_begins && (token == "/" || token.eq_ignore_ascii_case("go")) {
            text.push_str("/**/");
            exact = false;
        }
        text.push_str(token);
        line_begins = kind == Kind::Space && (line_begins || token.contains('\n'));
        last = kind;
    }
    match last {
        Kind::LineComment => text.push('\n'),
        Kind::BlockComment(false) => text.push_str("*/"),
        _ => {}
    }
    exact &= text.len() == sql.len();
    text.push_str(";\n");
    let text = text.replace("\r\n", "\r\r\n");
    Scripted { text, exact }
}

/// The name in a `CREATE` statement, and the word for what it creates, in capitals.
#[must_use]
pub fn created(sql: &str) -> Option<(&'static str, Cow<'_, str>)> {
    let mut tokens = significant(sql);
    if !tokens.next()?.eq_ignore_ascii_case("CREATE") {
        return None;
    }
    let mut what = tokens.next()?;
    if ["UNIQUE", "VIRTUAL"]
        .iter()
        .any(|word| what.eq_ignore_ascii_case(word))
    {
        what = tokens.next()?;
    }
    let what = CREATED
        .into_iter()
        .find(|known| what.eq_ignore_ascii_case(known))?;
    Some((what, unquoted(tokens.next()?)?))
}

/// Whether a statement creates a virtual table.
#[must_use]
pub fn creates_virtual(sql: &str) -> bool {
    let words = ["CREATE", "VIRTUAL", "TABLE"];
    let mut tokens = significant(sql);
    words.iter().all(|word| {
        tokens
            .next()
            .is_some_and(|token| token.eq_ignore_ascii_case(word))
    })
}

fn unquoted(token: &str) -> Option<Cow<'_, str>> {
    let quote = *token.as_bytes().first()?;
    let end = match quote {
        b'\'' | b'"' | b'`' => char::from(quote),
        b'[' => ']',
        _ => return Some(Cow::Borrowed(token)),
    };
    let inner = token[1..].strip_suffix(end)?;
    Some(match end {
        ']' => Cow::Borrowed(inner),
        _ => Cow::Owned(inner.replace(&format!("{end}{end}"), &end.to_string())),
    })
}

/// Why no statement could be read.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// The bytes cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// What was read is no script.
    #[error("{0}")]
    Malformed(&'static str),
}

/// Reads the next statement of a script, as the shell does; with its `;`, without the
/// newline after it. Nothing at the end.
///
/// # Errors
/// The statement has no end, is too long, or is not UTF-8.
pub fn read_statement(
    script: &mut (impl BufRead + ?Sized),
) -> Result<Option<String>, StatementError> {
    let mut bytes = Vec::new();
    let mut end = StatementEnd::default();
    loop {
        let start = bytes.len();
        let room = (STATEMENT_LEN_MAX + 1 - start) as u64;
        let read = std::io::Read::take(&mut *script, room).read_until(b'\n', &mut bytes)?;
        if read == 0 && start == 0 {
            return Ok(None);
        }
        if read == 0 || bytes.pop() != Some(b'\n') {
            return Err(StatementError::Malformed("a statement has no end"));
        }
        if bytes.len() > start && bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        bytes[start..].iter().for_each(|&byte| end.feed(byte));
        if end.reached && bytes.last() == Some(&b';') {
            break;
        }
        end.feed(b'\n');
        bytes.push(b'\n');
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| StatementError::Malformed("a statement is not UTF-8"))
}

/// Finds where a statement ends, byte by byte, by the rules of `sqlite3_complete`.
#[derive(Debug, Default)]
struct StatementEnd {
    within: Within,
    previous: u8,
    word: Vec<u8>,
    words: usize,
    create: bool,
    trigger: bool,
    trigger_end: TriggerEnd,
    reached: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Plain,
    Quote(u8),
    LineComment,
    BlockComment,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum TriggerEnd {
    #[default]
    Body,
    Semicolon,
    End,
}

impl StatementEnd {
    fn feed(&mut self, byte: u8) {
        let previous = std::mem::replace(&mut self.previous, byte);
        match self.within {
            Within::Plain => self.feed_plain(previous, byte),
            Within::Quote(quote) if byte == quote => self.within = Within::Plain,
            Within::LineComment if byte == b'\n' => self.within = Within::Plain,
            Within::BlockComment if previous == b'*' && byte == b'/' => {
                self.within = Within::Plain;
                self.previous = 0;
            }
            _ => {}
        }
    }

    fn feed_plain(&mut self, previous: u8, byte: u8) {
        if is_word(byte) {
            if self.word.len() < 16 {
                self.word.push(byte.to_ascii_lowercase());
            }
            return;
        }
        self.end_word();
        match byte {
            b'\'' | b'"' | b'`' => self.begin(Within::Quote(byte)),
            b'[' => self.begin(Within::Quote(b']')),
            b'-' if previous == b'-' => self.within = Within::LineComment,
            b'*' if previous == b'/' => {
                self.within = Within::BlockComment;
                self.previous = 0;
            }
            b';' => self.semicolon(),
            _ if is_space(byte) => {}
            _ => self.begin(Within::Plain),
        }
    }

    fn begin(&mut self, within: Within) {
        self.within = within;
        // A comment's first character looks like a symbol; only words and `;` end a trigger,
        // and those come after whole comments.
        self.reached = false;
        self.trigger_end = match (&self.trigger_end, self.previous) {
            (TriggerEnd::Semicolon, b'-' | b'/') => TriggerEnd::Semicolon,
            (TriggerEnd::End, b'-' | b'/') => TriggerEnd::End,
            _ => TriggerEnd::Body,
        };
    }

    fn end_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let word = std::mem::take(&mut self.word);
        self.reached = false;
        match (self.words, word.as_slice()) {
            (0, b"create") => self.create = true,
            (1, b"trigger") if self.create => self.trigger = true,
            _ => {}
        }
        self.words += 1;
        self.trigger_end = if self.trigger_end == TriggerEnd::Semicolon && word == b"end" {
            TriggerEnd::End
        } else {
            TriggerEnd::Body
        };
    }

    fn semicolon(&mut self) {
        self.reached = !self.trigger || self.trigger_end == TriggerEnd::End;
        self.trigger_end = TriggerEnd::Semicolon;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STATEMENTS: [&str; 14] = [
        "CREATE TABLE t(a, b)",
        "CREATE TABLE t(\r\n  a -- one; two\r\n, b)",
        "CREATE TABLE t(a\n\n,b DEFAULT 'x;\n y''z')",
        "CREATE TABLE \"go\n;\"(\n'a;' TEXT, [b;\n] , `c;\n`)",
        "CREATE TABLE t(\ngo\n,\n go TEXT)",
        "CREATE TABLE t(a CHECK (a\n/\n2))",
        "CREATE VIEW v AS SELECT 1 -- the end;",
        "CREATE VIEW v AS SELECT 1 /* the end;",
        "CREATE VIEW v AS SELECT 1 /* a */ /**/ - 2 /* ; */",
        "CREATE VIEW v AS SELECT 1/2, 1 - -2\n.headers",
        "CREATE TRIGGER x AFTER INSERT ON t BEGIN\n SELECT 1;\n SELECT CASE WHEN 1 THEN 2 END;\nEND",
        "CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 'END;'; -- END;\n SELECT 1; /* END; */ END",
        "CREATE TRIGGER \"end\" AFTER INSERT ON t BEGIN SELECT \"end\"; SELECT end; END",
        "CREATE INDEX i ON t(a) WHERE a > 1 -- c\r\n ",
    ];

    #[test]
    fn statements_pass() {
        let scripts: Vec<Scripted> = STATEMENTS.map(scripted).into();
        let script: String = scripts.iter().map(|s| s.text.as_str()).collect();
        let mut script = script.as_bytes();
        for (sql, scripted) in STATEMENTS.iter().zip(&scripts) {
            let read = read_statement(&mut script).expect("well-formed");
            let read = read.expect("as many as were written");
            assert_eq!(scripted.exact, read == format!("{sql};"), "{sql}");
            assert!(
                significant(&read).eq(significant(&format!("{sql}\n;")))
                    || sql.contains("/* the end")
            );
        }
        assert!(read_statement(&mut script).expect("at the end").is_none());
        let inexact = scripts.iter().filter(|s| !s.exact).count();
        assert_eq!(inexact, 4);
    }

    #[test]
    fn statements_without_an_end_are_refused() {
        for script in [
            &b"CREATE TABLE t(a)"[..],
            b"CREATE TABLE t(a)\n",
            b"'a;\n",
            b"\xff;\n",
        ] {
            assert!(read_statement(&mut &*script).is_err());
        }
        let long = vec![b'x'; STATEMENT_LEN_MAX + 2];
        assert!(read_statement(&mut long.as_slice()).is_err());
    }

    #[test]
    fn names_are_found() {
        for (sql, what, name) in [
            ("CREATE TABLE t(a)", "TABLE", "t"),
            ("CREATE TABLE \"a \"\"b\"(a)", "TABLE", "a \"b"),
            ("CREATE TABLE [a b](a)", "TABLE", "a b"),
            ("CREATE UNIQUE INDEX /* x */ 'i''i' ON t(a)", "INDEX", "i'i"),
            ("CREATE VIRTUAL TABLE `v` USING fts5(a)", "TABLE", "v"),
            ("create Unique index I on T(a)", "INDEX", "I"),
        ] {
            assert_eq!(created(sql), Some((what, name.into())), "{sql}");
        }
    }

    #[test]
    fn keywords_mean_the_same_in_any_case() {
        let same = "CREATE UNIQUE INDEX i ON t(a)";
        assert!(means_the_same(
            same,
            "create /* x */ unique Index i ON t(a)"
        ));
        for other in [
            "CREATE UNIQUE INDEX I ON t(a)",
            "CREATE UNIQUE INDEX i ON t(A)",
            "CREATE INDEX i ON t(a)",
            "CREATE UNIQUE INDEX i ON t(a) x",
            "CREATE UNIQUE INDEX i ON t(",
        ] {
            assert!(
                !means_the_same(same, other) && !means_the_same(other, same),
                "{other}"
            );
        }
        assert!(!means_the_same(
            "CREATE TABLE view(a)",
            "CREATE TABLE VIEW(a)"
        ));
        assert!(creates_virtual(
            "create\nvirtual -- x\n Table f USING fts5(a)"
        ));
        assert!(!creates_virtual("CREATE TABLE virtual(a)"));
    }

    proptest! {
        #[test]
        fn tokens_are_all_of_it(sql in "[a-z'\"\\[\\]`;/*\n\r \\-\u{e9}-\u{ff}]{0,40}") {
            let all: String = tokens(&sql).map(|(_, token)| token).collect();
            prop_assert_eq!(&all, &sql);
        }
    }
}
