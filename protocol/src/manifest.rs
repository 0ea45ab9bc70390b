//! The manifest: what a snapshot holds, and where.
//!
//! Text, one record a line: a keyword, and then words that `sh` and `awk` read
//! or one JSON object. `stream` lines carry both: a number and the file that
//! `recover.sh` writes the stream to, then the JSON object; each is followed
//! by the `list` lines of its segment lists.

use std::collections::HashSet;

use cid::Cid;
use serde::{Deserialize, Serialize};

use crate::{
    block::{digest_of, raw_cid},
    keys::capsule::Mode,
};

/// First line of every manifest of this version.
pub const HEADER: &str = "souverain manifest 1";
/// Largest manifest, in bytes of plaintext.
pub const MANIFEST_SIZE_MAX: usize = crate::seal::PLAIN_SIZE_MAX;

/// What a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// When, how and by what it was made.
    pub snapshot: SnapshotMeta,
    /// Where the data came from.
    pub sources: Vec<SourceMeta>,
    /// The streams, in the order in which they are restored.
    pub streams: Vec<Stream>,
}

/// When, how and by what a snapshot was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotMeta {
    /// Start of the export, RFC 3339 in UTC.
    pub created: String,
    /// Portable or erasable.
    pub mode: Mode,
    /// Peer id of the node that made it.
    pub node: String,
    /// Name and version of the program that made it.
    pub program: String,
    /// The run that made it, a UUIDv7.
    pub session: String,
}

/// What kind of thing a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// A directory or a file.
    Tree,
    /// A SQLite database.
    Sqlite,
    /// A PostgreSQL database.
    Postgres,
}

/// Where data came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceMeta {
    /// What kind of thing it is.
    pub engine: Engine,
    /// Its short name: a directory's, a database's.
    pub name: String,
    /// Version of the engine, where it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// What could not be kept as it was: files that changed while read, and the like.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<String>,
}

/// What a stream is to its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// A file tree, as tar.
    Tree,
    /// SQL to run before the rows: types, tables.
    Before,
    /// The rows of a table.
    Table,
    /// SQL to run after the rows: sequences, indexes, constraints, triggers.
    After,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, in the words of its engine.
    #[serde(rename = "type")]
    pub native_type: String,
}

/// What a stream is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamMeta {
    /// Index of its source.
    pub source: u32,
    /// What it is to its source.
    pub kind: StreamKind,
    /// Its name, unique within its source: a table's, or the source's own.
    pub name: String,
    /// Bytes before the first row: what `psql` or `sqlite3` need to read the rows.
    pub head: u32,
    /// Bytes after the last row.
    pub tail: u32,
    /// Length in bytes, head and tail included.
    pub bytes: u64,
    /// Number of rows, of a table.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rows: Option<u64>,
    /// Columns in the order of the rows' values, of a table.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub columns: Vec<Column>,
    /// Content hash, in hexadecimal: see [`crate::list::ContentHasher`].
    pub content: String,
}

/// A stream and its segment lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The file that `recover.sh` appends the stream to.
    pub file: String,
    /// What it is.
    pub meta: StreamMeta,
    /// Its segment lists, in order.
    pub lists: Vec<ListRef>,
}

/// A sealed segment list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListRef {
    /// SHA-256 of the sealed list.
    pub block: [u8; 32],
    /// Length of the list in bytes.
    pub len: u32,
    /// Number of segments in it.
    pub segments: u32,
    /// Bytes of the stream that they hold.
    pub bytes: u64,
}

impl ListRef {
    /// The CID of the sealed list.
    #[must_use]
    pub fn cid(&self) -> Cid {
        raw_cid(&self.block)
    }
}

/// Why a manifest is not one that [`Manifest::encode`] writes.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The first line names a later version.
    #[error("the manifest is of a later format version")]
    FutureVersion,
    /// A line is not what it should be.
    #[error("line {line} of the manifest is malformed")]
    Malformed {
        /// Line number, from 1.
        line: usize,
    },
    /// A stream names a source that is not there, a file that is not safe, or a name twice.
    #[error("line {line} of the manifest says something that cannot be: {what}")]
    Impossible {
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Manifest {
    /// Writes the manifest.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = format!("{HEADER}\nsnapshot {}\n", json(&self.snapshot));
        for source in &self.sources {
            out.push_str(&format!("source {}\n", json(source)));
        }
        for (number, stream) in self.streams.iter().enumerate() {
            out.push_str(&format!(
                "stream {number} {} {}\n",
                stream.file,
                json(&stream.meta)
            ));
            for list in &stream.lists {
                out.push_str(&format!(
                    "list {} {} {} {}\n",
                    list.cid(),
                    list.len,
                    list.segments,
                    list.bytes
                ));
            }
        }
        out
    }

    /// Reads a manifest, and refuses what [`Manifest::encode`] would not write.
    ///
    /// # Errors
    /// Names the first line that is malformed or impossible, or the version.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let malformed = |line| ManifestError::Malformed { line };
        let text = std::str::from_utf8(bytes).map_err(|_| malformed(1))?;
        let mut lines = text.split('\n').enumerate().map(|(i, line)| (i + 1, line));
        match lines.next() {
            Some((_, HEADER)) => {}
            Some((_, other)) if other.starts_with("souverain manifest ") => {
                return Err(ManifestError::FutureVersion);
            }
            _ => return Err(malformed(1)),
        }
        let snapshot = lines
            .next()
            .and_then(|(_, line)| line.strip_prefix("snapshot "));
        let snapshot = snapshot
            .and_then(|s| serde_json::from_str(s).ok())
            .ok_or(malformed(2))?;
        let mut manifest = Self {
            snapshot,
            sources: Vec::new(),
            streams: Vec::new(),
        };
        for (number, line) in lines {
            if line.is_empty() {
                break;
            }
            manifest.take_line(line).ok_or(malformed(number))?;
            manifest
                .check_last()
                .map_err(|what| ManifestError::Impossible { line: number, what })?;
        }
        manifest.check_streams()?;
        // Whatever was not written as we write it: key order, spaces, a missing last newline.
        let again = manifest.encode();
        if again == text {
            return Ok(manifest);
        }
        let same = again
            .split('\n')
            .zip(text.split('\n'))
            .take_while(|(a, b)| a == b)
            .count();
        Err(malformed(same + 1))
    }

    fn take_line(&mut self, line: &str) -> Option<()> {
        let (keyword, rest) = line.split_once(' ')?;
        match keyword {
            "source" if self.streams.is_empty() => {
                self.sources.push(serde_json::from_str(rest).ok()?)
            }
            "stream" => {
                let mut words = rest.splitn(3, ' ');
                let _number = words.next()?;
                let file = words.next()?.to_owned();
                let meta = serde_json::from_str(words.next()?).ok()?;
                self.streams.push(Stream {
                    file,
                    meta,
                    lists: Vec::new(),
                });
            }
            "list" => {
                let mut words = rest.split(' ');
                let cid: Cid = words.next()?.parse().ok()?;
                let list = ListRef {
                    block: digest_of(&cid)?,
                    len: words.next()?.parse().ok()?,
                    segments: words.next()?.parse().ok()?,
                    bytes: words.next()?.parse().ok()?,
                };
                self.streams.last_mut()?.lists.push(list);
            }
            _ => return None,
        }
        Some(())
    }

    fn check_last(&self) -> Result<(), &'static str> {
        let Some(stream) = self.streams.last() else {
            return Ok(());
        };
        if stream.meta.source as usize >= self.sources.len() {
            return Err("no such source");
        }
        if !is_safe_file(&stream.file) {
            return Err("not a safe file name");
        }
        if u64::from(stream.meta.head) + u64::from(stream.meta.tail) > stream.meta.bytes {
            return Err("head and tail are longer than the stream");
        }
        if (stream.meta.kind == StreamKind::Table) != stream.meta.rows.is_some() {
            return Err("a table has rows, and nothing else does");
        }
        Ok(())
    }

    /// Checks the streams against each other, and against their lists.
    fn check_streams(&self) -> Result<(), ManifestError> {
        let mut names = HashSet::new();
        let mut files = HashSet::new();
        let mut line = 2 + self.sources.len();
        let mut last: Option<&Stream> = None;
        for stream in &self.streams {
            line += 1;
            let impossible = |what| ManifestError::Impossible { line, what };
            let (meta, file) = (&stream.meta, stream.file.as_str());
            match last {
                Some(last) if last.meta.source > meta.source => {
                    return Err(impossible("streams of its source stand before another's"));
                }
                Some(last) if last.meta.source == meta.source => {
                    if last.file != file {
                        return Err(impossible("another file than its source has"));
                    }
                }
                _ => {
                    if !files.insert(file) {
                        return Err(impossible("the file of another source"));
                    }
                }
            }
            if !names.insert((meta.source, meta.kind, meta.name.as_str())) {
                return Err(impossible("a name twice"));
            }
            let listed = stream.lists.iter().map(|list| list.bytes);
            if listed.reduce(u64::saturating_add).unwrap_or(0) != meta.bytes {
                return Err(impossible("its lists have another length than the stream"));
            }
            line += stream.lists.len();
            last = Some(stream);
        }
        Ok(())
    }
}

/// Whether a file name may appear in a `stream` line: plain ASCII, one component, no dot first,
/// and none that `recover.sh` uses itself.
#[must_use]
pub fn is_safe_file(name: &str) -> bool {
    let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=128).contains(&name.len())
        && name.bytes().all(safe)
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && name != "load.sh"
        && !name.ends_with(".part")
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain structures with string keys serialize")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Manifest {
        let table = StreamMeta {
            source: 1,
            kind: StreamKind::Table,
            name: "orders".into(),
            head: 0,
            tail: 0,
            bytes: 900,
            rows: Some(7),
            columns: vec![Column {
                name: "id".into(),
                native_type: "INTEGER".into(),
            }],
            content: "ab".repeat(32),
        };
        let tree = StreamMeta {
            source: 0,
            kind: StreamKind::Tree,
            name: "photos".into(),
            rows: None,
            columns: vec![],
            ..table.clone()
        };
        let source = |engine, name: &str| SourceMeta {
            engine,
            name: name.into(),
            version: None,
            warnings: vec![],
        };
        Manifest {
            snapshot: SnapshotMeta {
                created: "2026-01-02T03:04:05Z".into(),
                mode: Mode::Portable,
                node: "12D3KooW".into(),
                program: "souverain 0.1.0".into(),
                session: "0190".into(),
            },
            sources: vec![
                source(Engine::Tree, "photos"),
                source(Engine::Sqlite, "shop"),
            ],
            streams: vec![
                Stream {
                    file: "0-photos.tar".into(),
                    meta: tree,
                    lists: vec![ListRef {
                        block: [1; 32],
                        len: 10,
                        segments: 1,
                        bytes: 900,
                    }],
                },
                Stream {
                    file: "1-shop.sql".into(),
                    meta: table,
                    lists: vec![ListRef {
                        block: [2; 32],
                        len: 10,
                        segments: 1,
                        bytes: 900,
                    }],
                },
            ],
        }
    }

    #[test]
    fn round_trips() {
        let manifest = example();
        assert_eq!(
            Manifest::parse(manifest.encode().as_bytes()).expect("own"),
            manifest
        );
    }

    #[test]
    fn rejects_what_it_would_not_write() {
        let good = example().encode();
        let replaced = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            good.replacen(from, to, 1)
        };
        let bad = [
            String::new(),
            good.trim_end().to_owned(),
            format!("{good}\n"),
            format!("{good}junk\n"),
            replaced("snapshot {", "snapshot  {"),
            replaced("stream 0 ", "stream 1 "),
            replaced("\"source\":1", "\"source\":2"),
            replaced("\"rows\":7,", ""),
            replaced("\"head\":0", "\"head\":901"),
            replaced("0-photos.tar", "../photos"),
            replaced("0-photos.tar", ".photos"),
            replaced("0-photos.tar", "a/b"),
            replaced("0-photos.tar", "load.sh"),
            replaced("0-photos.tar", "1-shop.sql.part"),
            replaced("0-photos.tar", "1-shop.sql"),
            replaced("\"bytes\":900", "\"bytes\":901"),
            replaced("\"kind\":\"tree\"", "\"kind\":\"device\""),
            replaced("\"engine\":\"sqlite\"", "\"engine\":\"sqlite\",\"new\":1"),
            replaced(" 10 1 900\n", " 010 1 900\n"),
            replaced(" 10 1 900\n", " 10 1 900 1\n"),
            replaced("portable", "public"),
        ];
        for text in bad {
            assert!(Manifest::parse(text.as_bytes()).is_err(), "{text}");
        }
        let later = replaced("manifest 1", "manifest 2");
        assert!(matches!(
            Manifest::parse(later.as_bytes()),
            Err(ManifestError::FutureVersion)
        ));
    }
}
