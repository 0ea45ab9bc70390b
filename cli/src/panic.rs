//! What a bug looks like from outside: a short text and exit code 255.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{error::CliError, ui::Ui};

static HAPPENED: AtomicBool = AtomicBool::new(false);

/// Reports the first panic of any thread as a bug, and remembers it for the exit code.
pub(crate) fn install(ui: &Ui) {
    let ui = ui.clone();
    std::panic::set_hook(Box::new(move |panic| {
        if HAPPENED.swap(true, Ordering::SeqCst) {
            return;
        }
        let place = panic.location().map_or_else(
            || "an unknown place".to_owned(),
            |at| format!("{}:{}", at.file(), at.line()),
        );
        // Only constant texts: a formatted one may quote what must not be printed.
        let what = panic.payload().downcast_ref::<&'static str>();
        CliError::bug(&place, what.copied()).report(&ui);
    }));
}

/// Whether any thread panicked.
pub(crate) fn happened() -> bool {
    HAPPENED.load(Ordering::SeqCst)
}
