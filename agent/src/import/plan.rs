//! What of a snapshot goes where.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    path::Path,
};

use protocol::manifest::{Engine, SourceMeta, Stream, StreamKind};

use super::ImportError;
use crate::{
    open::OpenSnapshot,
    target::{self, ImportOptions},
    url,
};

/// What of a snapshot is imported.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only these sources, by name; all if empty.
    pub sources: Vec<String>,
    /// Only these streams, by name; all if empty.
    pub streams: Vec<String>,
}

/// A source of the snapshot, the target it goes to, and the streams that go there.
#[derive(Debug)]
pub struct Planned<'a> {
    /// The source.
    pub source: &'a SourceMeta,
    /// Its target, as a path or URL.
    pub into: OsString,
    /// Its streams, in order.
    pub streams: Vec<&'a Stream>,
    /// Whether streams of the source are left out.
    pub partial: bool,
}

impl Planned<'_> {
    pub(super) fn options(&self, options: ImportOptions) -> ImportOptions {
        ImportOptions {
            partial: self.partial,
            ..options
        }
    }
}

/// Says what an import would do: which streams of which sources go where.
///
/// # Errors
/// A name is unknown, or there are several sources for a target that takes one.
pub fn plan<'a>(
    snapshot: &'a OpenSnapshot,
    into: &OsStr,
    selection: &Selection,
) -> Result<Vec<Planned<'a>>, ImportError> {
    target::recognise(into)?;
    let mut planned = choose(snapshot, selection)?;
    for part in &mut planned {
        part.into = into.to_owned();
    }
    if planned.len() > 1 {
        spread(&mut planned, into)?;
    }
    Ok(planned)
}

/// Says which streams of which sources are meant, without a place to go to.
///
/// # Errors
/// A name is unknown.
pub fn choose<'a>(
    snapshot: &'a OpenSnapshot,
    selection: &Selection,
) -> Result<Vec<Planned<'a>>, ImportError> {
    let manifest = &snapshot.manifest;
    let sources = || manifest.sources.iter().map(|s| s.name.as_str());
    if let Some(name) = selection
        .sources
        .iter()
        .find(|&name| sources().all(|s| s != name))
    {
        return Err(ImportError::NoSuch {
            what: "source",
            name: name.clone(),
            known: join(sources()),
        });
    }
    let wanted: BTreeSet<&str> = selection.streams.iter().map(String::as_str).collect();
    let mut unknown = wanted.clone();
    let mut planned = Vec::new();
    for (index, source) in manifest.sources.iter().enumerate() {
        if !selection.sources.is_empty() && !selection.sources.contains(&source.name) {
            continue;
        }
        let own: Vec<&Stream> = manifest
            .streams
            .iter()
            .filter(|s| s.meta.source as usize == index)
            .collect();
        if let Some((streams, partial)) = chosen(source.engine, own, &wanted, &mut unknown) {
            planned.push(Planned {
                source,
                into: OsString::new(),
                streams,
                partial,
            });
        }
    }
    if let Some(name) = unknown.first() {
        let known = manifest
            .streams
            .iter()
            .filter(|s| is_selectable(s.meta.kind));
        return Err(ImportError::NoSuch {
            what: "stream",
            name: (*name).to_owned(),
            known: join(known.map(|s| s.meta.name.as_str())),
        });
    }
    Ok(planned)
}

/// The streams of a source that are wanted, and whether some are left out; nothing if all are.
fn chosen<'a, 'n>(
    engine: Engine,
    own: Vec<&'a Stream>,
    wanted: &BTreeSet<&'n str>,
    unknown: &mut BTreeSet<&'n str>,
) -> Option<(Vec<&'a Stream>, bool)> {
    let named = |stream: &&&Stream| {
        wanted.contains(stream.meta.name.as_str()) && is_selectable(stream.meta.kind)
    };
    let count = own.iter().filter(named).count();
    for stream in own.iter().filter(named) {
        unknown.remove(stream.meta.name.as_str());
    }
    if !wanted.is_empty() && count == 0 {
        return None;
    }
    let all = own.iter().filter(|s| is_selectable(s.meta.kind)).count();
    let partial = !wanted.is_empty() && count < all;
    let streams = own
        .into_iter()
        .filter(|s| {
            // Of PostgreSQL, this would be the large objects too, which may be huge.
            let indexes = s.meta.kind == StreamKind::After && engine == Engine::Sqlite;
            !partial || s.meta.kind == StreamKind::Before || indexes || named(&s)
        })
        .collect();
    Some((streams, partial))
}

fn is_selectable(kind: StreamKind) -> bool {
    matches!(kind, StreamKind::Table | StreamKind::Tree)
}

fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// Gives each of several sources a place of its own below a directory.
fn spread(planned: &mut [Planned<'_>], into: &OsStr) -> Result<(), ImportError> {
    let named = |fits: bool| {
        let parts = planned.iter().filter(|p| fits_directory(p.source) == fits);
        join(parts.map(|p| p.source.name.as_str()))
    };
    let (fit, unfit) = (named(true), named(false));
    let scheme = into.to_str().and_then(url::scheme);
    if scheme.is_some() {
        let known = join(planned.iter().map(|p| p.source.name.as_str()));
        return Err(ImportError::SeveralSources { known, unfit });
    }
    // A source without a name is unfit too, and its name says nothing.
    if !planned.iter().all(|part| fits_directory(part.source)) {
        return Err(ImportError::UnfitForDirectory { unfit, fit });
    }
    let mut taken = BTreeSet::new();
    for part in planned {
        let suffix = match part.source.engine {
            Engine::Sqlite => ".sqlite",
            Engine::Tree | Engine::Postgres => "",
        };
        let name = &part.source.name;
        let numbered = (2u64..).map(|number| format!("{name}-{number}{suffix}"));
        // A tree may be called as the file of a database would be.
        let file = std::iter::once(format!("{name}{suffix}"))
            .chain(numbered)
            .find(|file| taken.insert(file.clone()))
            .expect("there are more numbers than sources");
        part.into = Path::new(into).join(file).into_os_string();
    }
    Ok(())
}

/// Whether a directory can take the source beside others, under its name.
fn fits_directory(source: &SourceMeta) -> bool {
    let name = source.name.as_str();
    source.engine != Engine::Postgres
        && Path::new(name).components().count() == 1
        && !name.contains(['/', '\0'])
        && !matches!(name, "." | "..")
}
