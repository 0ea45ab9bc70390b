//! Errors as a person or a script sees them: what failed, why, and what to do next.
//!
//! Every error of the agent becomes a [`CliError`] here; which hint it gets is
//! decided in one place, by what is found in its chain of causes.

use std::{
    error::Error,
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use serde::Serialize;

use crate::{hints, ui::Ui};

/// The work failed.
const EXIT_FAILED: u8 = 1;
/// The command line makes no sense.
const EXIT_USAGE: u8 = 2;
/// Something is not what its CID, hash or signature says.
const EXIT_UNVERIFIED: u8 = 3;
/// The program itself is at fault.
pub(crate) const EXIT_BUG: u8 = 255;

/// Most causes that are printed.
const CAUSES_MAX: usize = 16;

/// How a run ends that did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The work failed.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// Something is not what its CID, hash or signature says.
    Unverified,
    /// Nobody reads the answer any more: nothing is printed.
    BrokenPipe,
    /// The user stopped it.
    Interrupted,
    /// The program is at fault.
    Bug,
}

/// Why the program ends without having done what was asked.
#[derive(Debug)]
pub(crate) struct CliError {
    kind: Kind,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

#[derive(Serialize)]
struct JsonError<'a> {
    error: &'a str,
    causes: &'a [String],
    hint: Option<&'a str>,
    exit: u8,
}

impl CliError {
    fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
            causes: Vec::new(),
            hint: None,
        }
    }

    /// The work failed.
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// The command line makes no sense.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Something is not what it should be.
    pub(crate) fn unverified(message: impl fmt::Display) -> Self {
        Self::new(Kind::Unverified, message)
    }

    /// The program is at fault.
    pub(crate) fn bug(place: &str, what: Option<&str>) -> Self {
        let mut error = Self::new(Kind::Bug, format!("this is a bug in souverain, at {place}"));
        error.causes.extend(what.map(str::to_owned));
        error.hint("what was durable is kept; report the place, the version and what you ran")
    }

    /// What clap has to say.
    pub(crate) fn from_clap(error: clap::Error, ui: &Ui) -> Self {
        if ui.is_json() {
            return Self::from_clap_text(&error.render().to_string());
        }
        let text = if ui.color_on_stderr() {
            error.render().ansi().to_string()
        } else {
            error.render().to_string()
        };
        // Clap begins with a label of its own.
        let text = text.trim_end();
        Self::usage(text.strip_prefix("error: ").unwrap_or(text))
    }

    /// The same for a script: what is wrong in one line, and the advice apart from it.
    fn from_clap_text(text: &str) -> Self {
        let line = |paragraph: &str| {
            let words: Vec<_> = paragraph.split_whitespace().collect();
            words.join(" ")
        };
        let mut paragraphs = text.trim().split("\n\n").map(line);
        let first = paragraphs.next().unwrap_or_default();
        let error = Self::usage(first.strip_prefix("error: ").unwrap_or(&first));
        let advice: Vec<_> = paragraphs
            .map(|advice| advice.strip_prefix("tip: ").unwrap_or(&advice).to_owned())
            .collect();
        match advice.as_slice() {
            [] => error,
            advice => error.hint(advice.join("; ")),
        }
    }

    /// Adds a cause and its causes.
    pub(crate) fn cause(mut self, cause: &(dyn Error + 'static)) -> Self {
        let chain = std::iter::successors(Some(cause), |&error| error.source());
        for error in chain.take(CAUSES_MAX) {
            let text = error.to_string();
            // A transparent error says the same as the one below it.
            if self.causes.last() != Some(&text) && self.message != text {
                self.causes.push(text);
            }
        }
        self
    }

    /// Says more of what to do next.
    pub(crate) fn hint_more(mut self, more: &str) -> Self {
        self.hint = Some(match self.hint.take() {
            Some(hint) => format!("{hint}; {more}"),
            None => more.to_owned(),
        });
        self
    }

    /// Says what to do next.
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// An error that came up after the user asked to stop is that wish come true. `goes_on` says
    /// whether the next run begins where this one was.
    pub(crate) fn interrupted_if(self, stop: &AtomicBool, goes_on: bool) -> Self {
        if self.kind != Kind::Failed || !stop.load(Ordering::Relaxed) {
            return self;
        }
        Self::new(Kind::Interrupted, "interrupted").hint(if goes_on {
            "what was durable is kept; run the same command again to go on"
        } else {
            "run the same command again"
        })
    }

    /// Whether nothing was tried, as the command line makes no sense.
    pub(crate) fn is_usage(&self) -> bool {
        self.kind == Kind::Usage
    }

    /// What the process exits with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Failed | Kind::BrokenPipe | Kind::Interrupted => EXIT_FAILED,
            Kind::Usage => EXIT_USAGE,
            Kind::Unverified => EXIT_UNVERIFIED,
            Kind::Bug => EXIT_BUG,
        }
    }

    /// Prints the error, where a person or a script looks for it.
    pub(crate) fn report(&self, ui: &Ui) {
        if self.kind == Kind::BrokenPipe {
            return;
        }
        let printed = if ui.is_json() {
            let error = JsonError {
                error: &self.message,
                causes: &self.causes,
                hint: self.hint.as_deref(),
                exit: self.exit_code(),
            };
            ui.print_object("error", &error).map_err(|_| ())
        } else {
            ui.write_stderr(self.text(ui).as_bytes()).map_err(|_| ())
        };
        // With both ends closed there is nobody left to tell but the exit code.
        let _ = printed;
    }

    fn text(&self, ui: &Ui) -> String {
        let mut out = format!("{} {}\n", ui.red("Error:"), self.message);
        match self.causes.as_slice() {
            [] => {}
            [cause] => out.push_str(&format!("{} {cause}\n", ui.red("Caused by:"))),
            causes => {
                out.push_str(&format!("{}\n", ui.red("Caused by:")));
                for (number, cause) in (1..).zip(causes) {
                    out.push_str(&format!("  {number}: {cause}\n"));
                }
            }
        }
        if let Some(hint) = &self.hint {
            out.push_str(&format!("{} {hint}\n", ui.cyan("Hint:")));
        }
        out
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes
            .iter()
            .try_for_each(|cause| write!(f, ": {cause}"))
    }
}

/// Every error of the agent, with the exit code and the hint that go with it.
impl<E: Error + 'static> From<E> for CliError {
    fn from(error: E) -> Self {
        let advice = hints::advise(&error);
        let mut told = Self::new(advice.kind, &error);
        if let Some(cause) = error.source() {
            told = told.cause(cause);
        }
        told.hint = advice.hint;
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open entry 41")]
    struct Outer(#[source] Inner);
    #[derive(Debug, thiserror::Error)]
    #[error("no identity matches")]
    struct Inner;

    #[test]
    fn prints_error_causes_and_hint() {
        let ui = Ui::plain();
        let one = CliError::failed("cannot read")
            .cause(&Inner)
            .hint("try again");
        assert_eq!(
            one.text(&ui),
            "Error: cannot read\nCaused by: no identity matches\nHint: try again\n"
        );
        let two = CliError::failed("cannot read").cause(&Outer(Inner));
        assert_eq!(
            two.text(&ui),
            "Error: cannot read\nCaused by:\n  1: cannot open entry 41\n  2: no identity matches\n"
        );
    }

    #[test]
    fn a_bug_is_reported_by_its_place() {
        let bug = CliError::bug("cli/src/x.rs:7", Some("a local invariant"));
        assert_eq!(bug.exit_code(), 255);
        let text = bug.text(&Ui::plain());
        assert!(
            text.starts_with("Error: this is a bug in souverain, at cli/src/x.rs:7\nCaused by: a local invariant\nHint: "),
            "{text}"
        );
    }

    #[test]
    fn a_script_gets_one_line_and_the_advice_apart() {
        let error = CliError::from_clap_text(
            "error: unexpected argument '--foo' found\n\n  tip: a similar argument exists: '--full'\n\n\
             Usage: souverain export <SOURCE>...\n\nFor more information, try '--help'.\n",
        );
        assert_eq!(error.message, "unexpected argument '--foo' found");
        assert_eq!(
            error.hint.as_deref(),
            Some(
                "a similar argument exists: '--full'; Usage: souverain export <SOURCE>...; \
                 For more information, try '--help'."
            )
        );
        let missing = "error: these were not provided:\n  --into <TARGET>\n  <CID>\n";
        assert_eq!(
            CliError::from_clap_text(missing).message,
            "these were not provided: --into <TARGET> <CID>"
        );
    }

    #[test]
    fn what_keeps_nothing_does_not_say_so() {
        let stop = AtomicBool::new(true);
        let hint = |goes_on| CliError::failed("x").interrupted_if(&stop, goes_on).hint;
        assert!(hint(true).is_some_and(|hint| hint.contains("is kept")));
        assert!(hint(false).is_some_and(|hint| !hint.contains("is kept")));
    }

    #[test]
    fn only_a_failure_becomes_an_interruption() {
        let stop = AtomicBool::new(true);
        let kind = |error: CliError| error.interrupted_if(&stop, true).kind;
        assert_eq!(kind(CliError::failed("x")), Kind::Interrupted);
        assert_eq!(kind(CliError::usage("x")), Kind::Usage);
        assert_eq!(kind(CliError::unverified("x")), Kind::Unverified);
        stop.store(false, Ordering::Relaxed);
        assert_eq!(
            CliError::failed("x").interrupted_if(&stop, true).kind,
            Kind::Failed
        );
    }
}
