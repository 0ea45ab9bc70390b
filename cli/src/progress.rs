//! How far long work is, on a terminal.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use agent::progress::Progress;
use indicatif::{ProgressBar, ProgressStyle};

use crate::ui::Ui;

/// Time between two looks at the counters.
const LOOK_EVERY_MS: u64 = 100;

const UNKNOWN_TOTAL: &str = "{msg} {spinner} {binary_bytes} {binary_bytes_per_sec}";
const KNOWN_TOTAL: &str =
    "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} ETA {eta}";

/// A bar that follows the counters of running work until it is dropped. Nothing without a terminal.
#[derive(Debug)]
pub(crate) struct Bar {
    follower: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
    bar: ProgressBar,
}

impl Bar {
    /// Follows `progress`.
    pub(crate) fn follow(ui: &Ui, what: &'static str, progress: &Progress) -> Self {
        if !ui.shows_progress() {
            return Self {
                follower: None,
                bar: ProgressBar::hidden(),
            };
        }
        let bar = ProgressBar::no_length().with_style(style(UNKNOWN_TOTAL));
        let bar = ui.bars().add(bar).with_message(what);
        let done = Arc::new(AtomicBool::new(false));
        let follower = std::thread::spawn({
            let (bar, done, progress) = (bar.clone(), done.clone(), progress.clone());
            move || {
                while !done.load(Ordering::Relaxed) {
                    look(&bar, &progress);
                    std::thread::park_timeout(Duration::from_millis(LOOK_EVERY_MS));
                }
            }
        });
        Self {
            follower: Some((done, follower)),
            bar,
        }
    }
}

fn look(bar: &ProgressBar, progress: &Progress) {
    let total = progress.bytes_total.load(Ordering::Relaxed);
    if total > 0 && bar.length().is_none() {
        bar.set_style(style(KNOWN_TOTAL));
        bar.set_length(total);
    }
    let read = progress.bytes_read.load(Ordering::Relaxed);
    bar.set_position(read + progress.bytes_skipped.load(Ordering::Relaxed));
    bar.tick();
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some((done, follower)) = self.follower.take() {
            done.store(true, Ordering::Relaxed);
            follower.thread().unpark();
            // It cannot fail but by a panic, which the panic hook has reported.
            let _ = follower.join();
        }
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("templates are constants, tried by a test")
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_learns_the_total_and_the_position() {
        let progress = Progress::default();
        let bar = ProgressBar::hidden().with_style(style(UNKNOWN_TOTAL));
        bar.unset_length();
        progress.bytes_read.store(40, Ordering::Relaxed);
        look(&bar, &progress);
        assert_eq!((bar.length(), bar.position()), (None, 40));
        progress.bytes_total.store(100, Ordering::Relaxed);
        progress.bytes_skipped.store(60, Ordering::Relaxed);
        look(&bar, &progress);
        assert_eq!((bar.length(), bar.position()), (Some(100), 100));
    }

    #[test]
    fn following_ends_with_the_bar() {
        let progress = Progress::default();
        drop(Bar::follow(
            &Ui::plain().with_progress(),
            "reading",
            &progress,
        ));
        drop(Bar::follow(&Ui::plain(), "reading", &progress));
    }
}
