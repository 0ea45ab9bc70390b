//! The statement of a migration: what was moved, from which snapshot, and that both sides hold the same.
//!
//! Text, one record a line, that the node which migrated signs as a [`crate::note`] under its peer id.

use serde::{Deserialize, Serialize};

use crate::manifest::StreamKind;

/// First line of every statement of this version.
pub const HEADER: &str = "souverain migration 1";

/// What a migration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Root CID of the snapshot.
    pub root: String,
    /// Peer id of the node that made the snapshot.
    pub source: String,
    /// Peer id of the node that migrated it, and signs.
    pub target: String,
    /// When the migration began, RFC 3339 in UTC.
    pub began: String,
    /// When the target had been read back, RFC 3339 in UTC.
    pub ended: String,
    /// The streams that were migrated, in the order of the manifest.
    pub streams: Vec<Migrated>,
}

/// A stream, as it is in the snapshot and as it is in the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Migrated {
    /// Name of its source.
    pub source: String,
    /// What it is to its source.
    pub kind: StreamKind,
    /// Its name.
    pub name: String,
    /// What the snapshot says of it.
    pub snapshot: Content,
    /// What the target holds, read back from there; nothing if only a part of its source was migrated
    /// and it is no table.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub restored: Option<Content>,
}

/// What a stream holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// Length in bytes.
    pub bytes: u64,
    /// Number of rows, of a table.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rows: Option<u64>,
    /// Content hash, in hexadecimal, over the pieces that the snapshot cuts the stream into: see
    /// [`crate::list::ContentHasher`].
    pub hash: String,
}

/// A text is not one that [`Migration::encode`] writes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the statement is malformed")]
pub struct MigrationError {
    /// Line number, from 1.
    pub line: usize,
}

impl Migrated {
    /// Whether the target holds what the snapshot says.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.restored.as_ref() == Some(&self.snapshot)
    }

    /// Whether it is data, and not a schema around it.
    #[must_use]
    pub fn is_data(&self) -> bool {
        matches!(self.kind, StreamKind::Table | StreamKind::Tree)
    }
}

impl Migration {
    /// Writes the statement, without a signature.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = format!(
            "{HEADER}\nroot {}\nsource {}\ntarget {}\nbegan {}\nended {}\n",
            self.root, self.source, self.target, self.began, self.ended
        );
        for stream in &self.streams {
            let json = serde_json::to_string(stream);
            out.push_str(&format!(
                "stream {}\n",
                json.expect("plain structures serialize")
            ));
        }
        out
    }

    /// Reads a statement, and refuses what [`Migration::encode`] would not write.
    ///
    /// # Errors
    /// Names the first line that is malformed.
    pub fn parse(text: &str) -> Result<Self, MigrationError> {
        let malformed = |line| MigrationError { line };
        let mut lines = text.split_terminator('\n').zip(1..);
        if lines.next() != Some((HEADER, 1)) {
            return Err(malformed(1));
        }
        let mut field = |keyword: &str, number: usize| {
            let (line, _) = lines.next().ok_or(malformed(number))?;
            let value = line
                .strip_prefix(keyword)
                .and_then(|rest| rest.strip_prefix(' '));
            let value = value.filter(|value| !value.is_empty() && !value.contains(' '));
            value.map(str::to_owned).ok_or(malformed(number))
        };
        let mut migration = Self {
            root: field("root", 2)?,
            source: field("source", 3)?,
            target: field("target", 4)?,
            began: field("began", 5)?,
            ended: field("ended", 6)?,
            streams: Vec::new(),
        };
        for (line, number) in lines {
            let stream = line.strip_prefix("stream ");
            let stream = stream.and_then(|json| serde_json::from_str(json).ok());
            migration.streams.push(stream.ok_or(malformed(number))?);
        }
        // Whatever was not written as it is written here.
        let again = migration.encode();
        if again == text {
            return Ok(migration);
        }
        let same = again.split('\n').zip(text.split('\n'));
        Err(malformed(same.take_while(|(a, b)| a == b).count() + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Migration {
        let content = Content {
            bytes: 900,
            rows: Some(7),
            hash: "ab".repeat(32),
        };
        let table = Migrated {
            source: "shop".into(),
            kind: StreamKind::Table,
            name: "orders\nof \"today\"".into(),
            snapshot: content.clone(),
            restored: Some(content),
        };
        let after = Migrated {
            kind: StreamKind::After,
            name: "shop".into(),
            restored: None,
            ..table.clone()
        };
        Migration {
            root: "bafyroot".into(),
            source: "12D3source".into(),
            target: "12D3target".into(),
            began: "2026-01-02T03:04:05Z".into(),
            ended: "2026-01-02T03:04:06Z".into(),
            streams: vec![table, after],
        }
    }

    #[test]
    fn round_trips_and_tells_what_is_the_same() {
        let migration = example();
        let text = migration.encode();
        assert_eq!(text.lines().count(), 8);
        assert_eq!(Migration::parse(&text), Ok(migration.clone()));
        let same: Vec<bool> = migration.streams.iter().map(Migrated::is_same).collect();
        assert_eq!(same, [true, false]);
    }

    #[test]
    fn rejects_what_it_would_not_write() {
        let good = example().encode();
        let replaced = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            good.replacen(from, to, 1)
        };
        for bad in [
            String::new(),
            good.trim_end().to_owned(),
            format!("{good}\n"),
            format!("{good}junk\n"),
            replaced("migration 1", "migration 2"),
            replaced("root bafyroot\n", ""),
            replaced("root bafyroot", "root "),
            replaced("root bafyroot", "root bafy root"),
            replaced("source 12D3", "target 12D3"),
            replaced("\"rows\":7", "\"rows\":07"),
            replaced("\"rows\":7,", "\"rows\":null,"),
            replaced("\"bytes\":900", "\"bytes\": 900"),
            replaced("{\"source\"", "{\"new\":1,\"source\""),
        ] {
            assert!(Migration::parse(&bad).is_err(), "{bad}");
        }
    }
}
