//! What was left out of a restored tree.

/// Most notes that are kept; the others are counted.
const NOTES_MAX: usize = 1000;

/// Gathers notes.
#[derive(Debug, Default)]
pub(super) struct Skipped {
    notes: Vec<String>,
    more: u64,
}

impl Skipped {
    /// Says something of the entry at `path`.
    pub(super) fn entry(&mut self, path: &[u8], what: &str) {
        let path = String::from_utf8_lossy(path);
        self.note(format!("./{path} {what}"));
    }

    pub(super) fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        } else {
            self.more += 1;
        }
    }

    /// All notes so far.
    pub(super) fn take(&mut self) -> Vec<String> {
        let mut notes = std::mem::take(&mut self.notes);
        if self.more > 0 {
            notes.push(format!("and {} more", self.more));
        }
        notes
    }
}
