//! SQL scripts: where their statements end, and that they hold only what a schema is made of.
//!
//! The check keeps psql commands, transaction control and `COPY … PROGRAM` out of what is run. It is a
//! guard, not a wall: SQL of a snapshot runs with all rights of the role that imports it.

use std::ops::Range;

/// Statements that schemas are made of.
const ALLOWED: [&str; 11] = [
    "alter", "comment", "create", "do", "grant", "refresh", "reset", "revoke", "security",
    "select", "set",
];

/// Finds the statements that are complete in `script`, each with its semicolon. What follows the last
/// one is the beginning of another, or blank.
///
/// # Errors
/// Says what stands in the script that must not.
pub(crate) fn statements(script: &[u8]) -> Result<Vec<Range<usize>>, String> {
    let mut lexer = Lexer::new(script);
    let mut found = Vec::new();
    let mut statement = Statement::default();
    while let Some((start, token)) = lexer.next()? {
        statement.start.get_or_insert(start);
        if statement.take(&token)? {
            found.push(statement.start.unwrap_or(start)..lexer.at);
            statement = Statement::default();
        }
    }
    Ok(found)
}

/// Whether there is nothing but blanks and comments.
pub(crate) fn is_blank(script: &[u8]) -> Result<bool, String> {
    let mut lexer = Lexer::new(script);
    Ok(lexer.next()?.is_none() && !lexer.is_cut_off)
}

#[derive(Default)]
struct Statement {
    start: Option<usize>,
    /// First words, as far as they tell a function with a body in SQL.
    words: Vec<String>,
    parentheses: u32,
    blocks: u32,
}

impl Statement {
    /// Takes a token; true if it ends the statement.
    fn take(&mut self, token: &Token) -> Result<bool, String> {
        match token {
            Token::Word(word) => self.word(word)?,
            Token::Symbol(b'(') => self.parentheses += 1,
            Token::Symbol(b')') => self.parentheses = self.parentheses.saturating_sub(1),
            Token::Symbol(b';') if self.parentheses == 0 && self.blocks == 0 => return Ok(true),
            Token::Symbol(b'\\') => return Err("a psql command".into()),
            Token::Symbol(_) | Token::Quoted => {}
        }
        if self.words.is_empty() {
            return Err("a statement that begins with no word".into());
        }
        Ok(false)
    }

    fn word(&mut self, word: &str) -> Result<(), String> {
        if self.words.is_empty() && !ALLOWED.contains(&word) {
            return Err(format!("the statement {}", word.to_uppercase()));
        }
        if self.words.len() < 4 {
            self.words.push(word.to_owned());
        }
        if self.defines_routine() && self.parentheses == 0 {
            match word {
                "begin" => self.blocks += 1,
                "case" if self.blocks > 0 => self.blocks += 1,
                "end" => self.blocks = self.blocks.saturating_sub(1),
                _ => {}
            }
        }
        Ok(())
    }

    fn defines_routine(&self) -> bool {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        matches!(
            words[..],
            ["create", "function" | "procedure", ..]
                | ["create", "or", "replace", "function" | "procedure"]
        )
    }
}

enum Token {
    /// A word, in lower case.
    Word(String),
    /// A string or a quoted identifier.
    Quoted,
    Symbol(u8),
}

struct Lexer<'a> {
    script: &'a [u8],
    at: usize,
    /// The script ends inside of a token or a comment, or may do so.
    is_cut_off: bool,
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_in_word(byte: u8) -> bool {
    begins_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

impl<'a> Lexer<'a> {
    fn new(script: &'a [u8]) -> Self {
        Self {
            script,
            at: 0,
            is_cut_off: false,
        }
    }

    /// The next token and where it begins; nothing at the end, also where that is inside of a token.
    fn next(&mut self) -> Result<Option<(usize, Token)>, String> {
        loop {
            let start = self.at;
            let Some(&byte) = self.script.get(start) else {
                return Ok(None);
            };
            let next = self.script.get(start + 1).copied();
            let complete = match (byte, next) {
                (0, _) => return Err("a NUL byte".into()),
                (b'-' | b'/', None) => false,
                (b'-', Some(b'-')) => {
                    self.line_comment();
                    continue;
                }
                (b'/', Some(b'*')) => {
                    self.block_comment();
                    continue;
                }
                (b'\'', _) => self.string(false),
                (b'"', _) => self.quoted_until(b'"', false),
                (b'$', _) => match self.dollar_tag() {
                    Some(tag) => self.dollar_quoted(tag),
                    None => return Ok(Some(self.symbol(byte))),
                },
                (byte, _)
                    if byte.is_ascii_whitespace() || byte == 0x0b || byte.is_ascii_digit() =>
                {
                    self.at += 1;
                    continue;
                }
                (byte, _) if begins_word(byte) => {
                    let word = self.word();
                    if self.at == self.script.len() {
                        false
                    } else if word == "e" && self.script.get(self.at) == Some(&b'\'') {
                        self.string(true)
                    } else {
                        return Ok(Some((start, Token::Word(word))));
                    }
                }
                _ => return Ok(Some(self.symbol(byte))),
            };
            if !complete {
                self.at = self.script.len();
                self.is_cut_off = true;
                return Ok(None);
            }
            return Ok(Some((start, Token::Quoted)));
        }
    }

    fn symbol(&mut self, byte: u8) -> (usize, Token) {
        self.at += 1;
        (self.at - 1, Token::Symbol(byte))
    }

    fn word(&mut self) -> String {
        let rest = &self.script[self.at..];
        let len = rest.iter().take_while(|&&b| is_in_word(b)).count();
        self.at += len;
        String::from_utf8_lossy(&rest[..len]).to_ascii_lowercase()
    }

    fn line_comment(&mut self) {
        let rest = &self.script[self.at..];
        let end = rest.iter().position(|b| matches!(b, b'\n' | b'\r'));
        self.at += end.unwrap_or(rest.len());
    }

    fn block_comment(&mut self) {
        let mut depth = 0u32;
        while let Some(pair) = self.script.get(self.at..self.at + 2) {
            match pair {
                b"/*" => depth += 1,
                b"*/" => depth -= 1,
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            self.at += 2;
            if depth == 0 {
                return;
            }
        }
        self.at = self.script.len();
        self.is_cut_off = true;
    }

    /// A string and what continues it: another one after blanks with a line break.
    fn string(&mut self, escapes: bool) -> bool {
        loop {
            if !self.quoted_until(b'\'', escapes) {
                return false;
            }
            let end = self.at;
            let mut broken = false;
            while let Some(&byte) = self.script.get(self.at) {
                match byte {
                    b'\n' | b'\r' => broken = true,
                    b' ' | b'\t' | 0x0b | 0x0c => {}
                    b'-' if self.script.get(self.at + 1) == Some(&b'-') => {
                        self.line_comment();
                        continue;
                    }
                    _ => break,
                }
                self.at += 1;
            }
            if !broken || self.script.get(self.at) != Some(&b'\'') {
                self.at = end;
                return true;
            }
        }
    }

    fn quoted_until(&mut self, quote: u8, escapes: bool) -> bool {
        self.at += 1;
        while let Some(&byte) = self.script.get(self.at) {
            self.at += 1;
            if byte == b'\\' && escapes {
                self.at += 1;
            } else if byte == quote {
                if self.script.get(self.at) != Some(&quote) {
                    return true;
                }
                self.at += 1;
            }
        }
        false
    }

    /// Length of the `$tag$` here, if it is one.
    fn dollar_tag(&self) -> Option<usize> {
        let rest = &self.script[self.at + 1..];
        let len = rest
            .iter()
            .take_while(|&&b| is_in_word(b) && b != b'$')
            .count();
        let named = len == 0 || begins_word(rest[0]);
        (named && rest.get(len) == Some(&b'$')).then_some(len + 2)
    }

    fn dollar_quoted(&mut self, tag_len: usize) -> bool {
        let (tag, rest) = self.script[self.at..].split_at(tag_len);
        match memchr::memmem::find(rest, tag) {
            Some(end) => {
                self.at += tag_len + end + tag_len;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(script: &str) -> Result<Vec<&str>, String> {
        let found = statements(script.as_bytes())?;
        Ok(found.into_iter().map(|range| &script[range]).collect())
    }

    #[test]
    fn splits_where_the_server_does() {
        let whole = [
            "SELECT ';' || E'\\';' || $$;$$ || $a$;$b$;$a$ || \";\";",
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END;",
            "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC SELECT 1; END;",
            "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2);",
            "SELECT 1 /* ; /* ; */ ; */ -- ;\n + 1;",
            "COMMENT ON TABLE t IS 'a\n\\b;';",
            "SELECT E'a'\n'b\\';';",
            "SELECT 'a' -- x\n ';';",
            "CREATE TABLE a$b$ (c$d$ int);",
            "SELECT $1;",
        ];
        for script in whole {
            assert_eq!(split(script).expect(script), [script]);
            assert_eq!(
                split(&format!("-- x\n{script}\nSET a = 1;")).expect(script),
                [script, "SET a = 1;"]
            );
            for end in 0..script.len() {
                if script.is_char_boundary(end) && !script[end..].trim().is_empty() {
                    assert_eq!(
                        split(&script[..end]).expect(script),
                        [""; 0],
                        "{}",
                        &script[..end]
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_cut_off_is_not_blank() {
        for script in ["", " \n", "-- x", "/* ; */ -- \n\t"] {
            assert_eq!(is_blank(script.as_bytes()), Ok(true), "{script}");
        }
        for script in ["S", "SELECT 1", "'a", "/* x", "-", "$a$"] {
            assert_eq!(is_blank(script.as_bytes()), Ok(false), "{script}");
        }
    }

    #[test]
    fn rejects_what_no_schema_holds() {
        let bad = [
            "COPY t FROM PROGRAM 'id';",
            "copy/**/t TO PROGRAM 'id';",
            "SELECT 1; COMMIT; SELECT 2;",
            "SELECT 'a' ; ROLLBACK;",
            "SELECT 'a\\'; COMMIT; --';",
            "SELECT E'a'\n'b\\''; COMMIT;",
            "BEGIN;",
            "END;",
            "\\! id\n",
            "SELECT 1 \\gexec\n",
            "SELECT 1;\0",
            "('x');",
            "VACUUM;",
            "DROP TABLE t;",
        ];
        for script in bad {
            assert!(split(script).is_err(), "{script}");
        }
    }
}
