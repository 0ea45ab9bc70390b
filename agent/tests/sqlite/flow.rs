//! From a database to streams, and from streams to a database, by both ways.

use std::{
    io::{self, BufRead, Read, Write},
    ops::Range,
    path::Path,
    process::{Command, Stdio},
};

use protocol::{
    cut::Cutter,
    manifest::{SourceMeta, StreamMeta},
};
use rusqlite::Connection;
use souverain_agent::{
    intake::{Body, Intake, Message},
    source::{Source, SourceError, sqlite::SqliteSource},
    target::{Content, ImportOptions, StreamReport, Target, TargetError, sqlite::SqliteTarget},
};

/// An exported database.
#[derive(Clone, Debug)]
pub(crate) struct Exported {
    pub(crate) meta: SourceMeta,
    pub(crate) streams: Vec<Stream>,
}

#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) meta: StreamMeta,
    pub(crate) pieces: Vec<Vec<u8>>,
}

impl Stream {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.pieces.concat()
    }
}

impl Exported {
    pub(crate) fn script(&self) -> Vec<u8> {
        let all: Vec<Vec<u8>> = self.streams.iter().map(Stream::bytes).collect();
        all.concat()
    }

    pub(crate) fn stream(&mut self, name: &str) -> &mut Stream {
        let mut named = self.streams.iter_mut().filter(|s| s.meta.name == name);
        named.next().expect("there is one")
    }
}

pub(crate) fn export(path: &Path) -> Exported {
    try_export(path).expect("a sound database")
}

pub(crate) fn try_export(path: &Path) -> Result<Exported, SourceError> {
    export_while(path, || ())
}

/// Exports, and does something else once the first table is half read.
pub(crate) fn export_while(
    path: &Path,
    meanwhile: impl FnOnce() + Send + 'static,
) -> Result<Exported, SourceError> {
    let mut source = SqliteSource::open(path, 0)?;
    let (sender, receiver) = crossbeam_channel::bounded::<Message>(1);
    let gatherer = std::thread::spawn(move || {
        let mut streams = Vec::new();
        let (mut pieces, mut rows) = (Vec::new(), 0);
        let mut meanwhile = Some(meanwhile);
        for message in receiver {
            if message.stream == 1
                && let Some(meanwhile) = meanwhile.take()
            {
                meanwhile();
            }
            match message.body {
                Body::Piece { bytes, rows: more } => {
                    pieces.push(bytes.into());
                    rows += u64::from(more);
                }
                Body::End(end) => {
                    let pieces = std::mem::take(&mut pieces);
                    let meta = meta(&end, &pieces, std::mem::take(&mut rows));
                    streams.push(Stream { meta, pieces });
                }
                Body::Reused(_) | Body::UnitEnd(_) => panic!("no units here"),
            }
        }
        streams
    });
    let intake = Intake::new(Cutter::new(&[9; 32]), sender, Box::new(|_| None));
    let meta = source.read(&intake);
    drop(intake);
    let streams = gatherer.join().expect("it does not panic");
    Ok(Exported {
        meta: meta?,
        streams,
    })
}

fn meta(end: &souverain_agent::intake::StreamEnd, pieces: &[Vec<u8>], rows: u64) -> StreamMeta {
    let is_table = end.decl.kind == protocol::manifest::StreamKind::Table;
    StreamMeta {
        source: end.decl.source,
        kind: end.decl.kind,
        name: end.decl.name.clone(),
        head: end.head,
        tail: end.tail,
        bytes: pieces.iter().map(|piece| piece.len() as u64).sum(),
        rows: is_table.then_some(rows),
        columns: end.decl.columns.clone(),
        content: String::new(),
    }
}

/// Pieces one after the other, some of them damaged.
pub(crate) struct Pieces<'a> {
    rest: &'a [Vec<u8>],
    at: usize,
    offset: u64,
    damaged: Vec<usize>,
    number: usize,
    gaps: Vec<Range<u64>>,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(pieces: &'a [Vec<u8>], damaged: &[usize]) -> Self {
        Self {
            rest: pieces,
            at: 0,
            offset: 0,
            damaged: damaged.to_vec(),
            number: 0,
            gaps: Vec::new(),
        }
    }
}

impl BufRead for Pieces<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while let Some(piece) = self.rest.first() {
            let is_damaged = self.damaged.contains(&self.number);
            if !is_damaged && self.at < piece.len() {
                return Ok(&piece[self.at..]);
            }
            let end = self.offset + piece.len() as u64;
            if is_damaged {
                self.gaps.push(self.offset..end);
            }
            self.offset = end;
            self.at = 0;
            self.number += 1;
            self.rest = &self.rest[1..];
        }
        Ok(&[])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl Content for Pieces<'_> {
    fn gaps(&self) -> &[Range<u64>] {
        &self.gaps
    }
}

pub(crate) fn import(
    exported: &Exported,
    path: &Path,
    options: ImportOptions,
) -> Result<Vec<StreamReport>, TargetError> {
    import_damaged(exported, path, options, |_| Vec::new())
}

pub(crate) fn import_damaged(
    exported: &Exported,
    path: &Path,
    options: ImportOptions,
    damaged: impl Fn(&str) -> Vec<usize>,
) -> Result<Vec<StreamReport>, TargetError> {
    let mut target: Box<dyn Target> = Box::new(SqliteTarget::open(path));
    target.begin(&exported.meta, options)?;
    let mut reports = Vec::new();
    for stream in &exported.streams {
        let mut content = Pieces::new(&stream.pieces, &damaged(&stream.meta.name));
        reports.push(target.stream(&stream.meta, &mut content)?);
    }
    target.commit()?;
    Ok(reports)
}

/// Has the stock client load a script. It must have nothing to say.
pub(crate) fn load_with_stock_client(script: &[u8], path: &Path) {
    let mut client = Command::new("sqlite3")
        .arg("-init")
        .arg("/dev/null")
        .arg("-batch")
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sqlite3 is installed");
    let mut input = client.stdin.take().expect("it was asked for");
    let script = script.to_vec();
    let feeder = std::thread::spawn(move || input.write_all(&script));
    let output = client.wait_with_output().expect("it ends");
    feeder.join().expect("no panic").expect("it reads all");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        said.replace("-- Loading resources from /dev/null\n", ""),
        ""
    );
    assert!(output.status.success());
}

/// Makes a database, and returns it open.
pub(crate) fn database(path: &Path, sql: &str) -> Connection {
    let connection = Connection::open(path).expect("a new file");
    connection.execute_batch(sql).expect("sound SQL");
    connection
}

pub(crate) fn hash(path: &Path) -> String {
    let hash = souverain_agent::compare::sqlite::content_hash(path).expect("a sound database");
    hash.to_string()
}

/// Exports the database, restores it by both ways, and compares.
pub(crate) fn round_trip(path: &Path) -> Exported {
    let exported = export(path);
    let directory = tempfile::tempdir().expect("a directory");
    let ours = directory.path().join("ours.db");
    let stock = directory.path().join("stock.db");
    import(&exported, &ours, ImportOptions::default()).expect("own streams");
    load_with_stock_client(&exported.script(), &stock);
    for copy in [&ours, &stock] {
        check_integrity(copy);
        assert_eq!(hash(copy), hash(path), "{}", copy.display());
    }
    exported
}

pub(crate) fn check_integrity(path: &Path) {
    let connection = Connection::open(path).expect("a database");
    // One of the tables lies on purpose.
    connection
        .execute_batch("PRAGMA ignore_check_constraints=ON")
        .expect("a setting");
    let word: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("it can be checked");
    assert_eq!(word, "ok", "{}", path.display());
}
