//! Where output goes: the answer to standard output, the rest to standard error.

use std::{
    ffi::OsString,
    fmt,
    io::{self, IsTerminal, Write},
};

use indicatif::MultiProgress;
use serde::Serialize;

use crate::{args::Global, error::CliError, log::stderr_is_terminal};

/// Version of every JSON object that is printed.
const JSON_VERSION: u8 = 1;

/// How and where to print. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Ui {
    json: bool,
    quiet: bool,
    color: bool,
    progress: bool,
    bars: MultiProgress,
}

#[derive(Serialize)]
struct Object<'a, T> {
    v: u8,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Serialize)]
struct Warning<'a> {
    warning: &'a str,
}

impl Ui {
    /// What can be known before the arguments are parsed, so that a usage error is printed right.
    pub(crate) fn from_raw_arguments(arguments: impl Iterator<Item = OsString>) -> Self {
        let json = arguments
            .skip(1)
            .take_while(|word| word != "--")
            .any(|word| word == "--json");
        let color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            json,
            quiet: false,
            color: color && stderr_is_terminal(),
            progress: false,
            bars: MultiProgress::new(),
        }
    }

    /// Plain text, for tests.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self {
            color: false,
            ..Self::from_raw_arguments(std::iter::empty())
        }
    }

    /// Drawing bars whatever standard error is, for tests.
    #[cfg(test)]
    pub(crate) fn with_progress(self) -> Self {
        Self {
            progress: true,
            ..self
        }
    }

    /// The same, once the arguments are known.
    pub(crate) fn configured(&self, global: &Global) -> Self {
        let ui = self.clone();
        Self {
            json: global.json,
            quiet: global.quiet,
            progress: stderr_is_terminal() && !(global.no_progress || global.quiet || global.json),
            ..ui
        }
    }

    /// Whether answers are JSON objects.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Makes sure that standard output can carry `what`, alone.
    pub(crate) fn claim_stdout(&self, what: &str) -> Result<(), CliError> {
        if self.json {
            return Err(CliError::usage(format!(
                "standard output cannot carry both {what} and JSON"
            ))
            .hint("name a file instead of `-`"));
        }
        if io::stdout().is_terminal() {
            return Err(CliError::usage(format!(
                "{what} is binary, and standard output is a terminal"
            ))
            .hint("name a file instead of `-`, or redirect the output"));
        }
        Ok(())
    }

    /// Whether long work shows how far it is.
    pub(crate) fn shows_progress(&self) -> bool {
        self.progress
    }

    /// The bars on the terminal.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Prints a part of the answer: one line (or more) of text, or one object.
    pub(crate) fn answer<T: Serialize>(
        &self,
        kind: &str,
        body: &T,
        text: impl fmt::Display,
    ) -> Result<(), CliError> {
        if self.json {
            self.print_object(kind, body)
        } else {
            self.print_raw(format!("{text}\n").as_bytes())
        }
    }

    /// Prints one versioned object on a line of its own.
    pub(crate) fn print_object<T: Serialize>(&self, kind: &str, body: &T) -> Result<(), CliError> {
        let object = Object {
            v: JSON_VERSION,
            kind,
            body,
        };
        let mut line = serde_json::to_vec(&object).map_err(io::Error::from)?;
        line.push(b'\n');
        self.print_raw(&line)
    }

    /// Prints bytes to standard output as they are.
    pub(crate) fn print_raw(&self, bytes: &[u8]) -> Result<(), CliError> {
        self.bars.suspend(|| {
            let mut out = io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()
        })?;
        Ok(())
    }

    /// Tells a person something that is not the answer.
    pub(crate) fn note(&self, text: impl fmt::Display) {
        if !self.quiet && !self.json {
            // Nothing is lost but a remark if standard error is closed.
            let _ = self.write_stderr(format!("{text}\n").as_bytes());
        }
    }

    /// Tells of something odd that did not stop the work.
    pub(crate) fn warn(&self, text: impl fmt::Display) -> Result<(), CliError> {
        let text = text.to_string();
        if self.json {
            return self.print_object("warning", &Warning { warning: &text });
        }
        let line = format!("{} {text}\n", self.yellow("Warning:"));
        Ok(self.write_stderr(line.as_bytes())?)
    }

    /// Writes to standard error without tearing a progress bar.
    pub(crate) fn write_stderr(&self, bytes: &[u8]) -> io::Result<()> {
        self.bars.suspend(|| io::stderr().lock().write_all(bytes))
    }

    /// Whether standard error takes colours.
    pub(crate) fn color_on_stderr(&self) -> bool {
        self.color
    }

    pub(crate) fn red(&self, text: &str) -> String {
        self.painted("1;31", text)
    }

    pub(crate) fn yellow(&self, text: &str) -> String {
        self.painted("1;33", text)
    }

    pub(crate) fn cyan(&self, text: &str) -> String {
        self.painted("1;36", text)
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Shows a text that came from elsewhere without letting it steer the terminal.
pub(crate) struct Printable<'a>(pub(crate) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() || is_bidi_control(c) {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A size in bytes as people read it.
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", indicatif::BinaryBytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(words: &[&str]) -> Ui {
        Ui::from_raw_arguments(words.iter().map(OsString::from))
    }

    #[test]
    fn json_is_found_before_arguments_are_parsed() {
        assert!(raw(&["souverain", "nonsense", "--json"]).is_json());
        assert!(!raw(&["souverain", "get", "--", "--json"]).is_json());
        assert!(!raw(&["--json"]).is_json());
    }

    #[test]
    fn names_from_elsewhere_cannot_steer_the_terminal() {
        let hostile = "a\x1b[2Jb\n\u{202e}c é";
        assert_eq!(
            Printable(hostile).to_string(),
            "a\\u{1b}[2Jb\\u{a}\\u{202e}c é"
        );
    }
}
