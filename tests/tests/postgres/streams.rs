//! Streams as a source writes them, kept in memory, and given to targets.

use std::{
    io::{BufRead, Cursor, Read},
    ops::Range,
    thread,
};

use agent::{
    intake::{Body, Intake, StreamDecl},
    source::{Source, SourceError, postgres::PostgresSource},
    target::{Content, ImportOptions, StreamReport, Target, TargetError, postgres::PostgresTarget},
};
use protocol::{
    cut::Cutter,
    manifest::{SourceMeta, StreamKind, StreamMeta},
};

/// Messages that may wait between the source and the collector.
const QUEUE: usize = 8;

/// One stream in whole.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) decl: StreamDecl,
    pub(crate) meta: StreamMeta,
    pub(crate) bytes: Vec<u8>,
    /// Lengths of the pieces it was cut into.
    pub(crate) pieces: Vec<usize>,
}

/// All that a source wrote, in the order of restoring.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    pub(crate) meta: SourceMeta,
    pub(crate) streams: Vec<Stream>,
}

#[derive(Default)]
struct Partial {
    bytes: Vec<u8>,
    pieces: Vec<usize>,
    rows: u64,
}

/// Exports a database; `watch` sees every piece's stream and may act between two of them.
pub(crate) fn export_watched(
    url: &str,
    mut watch: impl FnMut(u64) + Send,
) -> Result<Export, SourceError> {
    let mut source = PostgresSource::open(url, 0)?;
    let (send, receive) = crossbeam_channel::bounded(QUEUE);
    let intake = Intake::new(Cutter::new(&[7; 32]), send, Box::new(|_| None));
    thread::scope(|scope| {
        let collector = scope.spawn(move || {
            let mut open: Vec<Partial> = Vec::new();
            let mut streams = Vec::new();
            let mut seen = 0;
            for message in receive {
                let stream = message.stream as usize;
                if open.len() <= stream {
                    open.resize_with(stream + 1, Partial::default);
                }
                match message.body {
                    Body::Piece { bytes, rows } => {
                        seen += 1;
                        watch(seen);
                        open[stream].pieces.push(bytes.len());
                        open[stream].bytes.extend(bytes);
                        open[stream].rows += u64::from(rows);
                    }
                    Body::End(end) => {
                        let partial = std::mem::take(&mut open[stream]);
                        streams.push(finished(partial, end.decl, end.head, end.tail));
                    }
                    body => panic!("a database has no units: {body:?}"),
                }
            }
            streams.sort_by_key(|s: &Stream| s.decl.position);
            streams
        });
        let meta = source.read(&intake);
        drop(intake);
        let streams = collector.join().expect("the collector does not panic");
        Ok(Export {
            meta: meta?,
            streams,
        })
    })
}

fn finished(partial: Partial, decl: StreamDecl, head: u32, tail: u32) -> Stream {
    let meta = StreamMeta {
        source: decl.source,
        kind: decl.kind,
        name: decl.name.clone(),
        head,
        tail,
        bytes: partial.bytes.len() as u64,
        rows: (decl.kind == StreamKind::Table).then_some(partial.rows),
        columns: decl.columns.clone(),
        content: String::new(),
    };
    Stream {
        decl,
        meta,
        bytes: partial.bytes,
        pieces: partial.pieces,
    }
}

/// Exports a database.
pub(crate) fn export(url: &str) -> Result<Export, SourceError> {
    export_watched(url, |_| ())
}

impl Export {
    /// What `recover.sh` leaves: all streams, one after the other.
    pub(crate) fn script(&self) -> Vec<u8> {
        self.streams
            .iter()
            .flat_map(|s| s.bytes.iter().copied())
            .collect()
    }

    pub(crate) fn stream(&mut self, name: &str) -> &mut Stream {
        let found = self.streams.iter_mut().find(|s| s.meta.name == name);
        found.unwrap_or_else(|| panic!("no stream {name}"))
    }
}

/// Content in memory, with gaps.
pub(crate) struct Memory {
    bytes: Cursor<Vec<u8>>,
    gap: Option<Range<u64>>,
}

impl Memory {
    pub(crate) fn whole(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Cursor::new(bytes),
            gap: None,
        }
    }

    /// The stream without its piece `lost`, as one that is damaged.
    pub(crate) fn without_piece(stream: &Stream, lost: usize) -> Self {
        let start: usize = stream.pieces[..lost].iter().sum();
        let end = start + stream.pieces[lost];
        let mut bytes = stream.bytes.clone();
        bytes.drain(start..end);
        let gap = Some(start as u64..end as u64);
        Self {
            bytes: Cursor::new(bytes),
            gap,
        }
    }
}

impl Read for Memory {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.bytes.read(buf)
    }
}

impl BufRead for Memory {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.bytes.fill_buf()
    }

    fn consume(&mut self, amt: usize) {
        self.bytes.consume(amt);
    }
}

impl Content for Memory {
    fn gaps(&self) -> &[Range<u64>] {
        self.gap.as_slice()
    }
}

/// Imports what `keep` chooses, and commits.
pub(crate) fn import_chosen(
    export: &Export,
    url: &str,
    options: ImportOptions,
    keep: impl Fn(&Stream) -> bool,
) -> Result<Vec<StreamReport>, TargetError> {
    let mut target = Box::new(PostgresTarget::open(url)?);
    target.begin(&export.meta, options)?;
    let mut reports = Vec::new();
    for stream in export.streams.iter().filter(|s| keep(s)) {
        let mut content = Memory::whole(stream.bytes.clone());
        reports.push(target.stream(&stream.meta, &mut content)?);
    }
    target.commit()?;
    Ok(reports)
}

/// Imports all.
pub(crate) fn import(
    export: &Export,
    url: &str,
    options: ImportOptions,
) -> Result<Vec<StreamReport>, TargetError> {
    import_chosen(export, url, options, |_| true)
}
