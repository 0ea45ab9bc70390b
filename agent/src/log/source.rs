//! Where a log is read from to be checked: the files of a home, a folder of tiles, or a server of tiles.
//!
//! Nothing that comes from here is trusted.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use protocol::log::{
    checkpoint::CHECKPOINT_SIZE_MAX,
    tile::{BUNDLE_SIZE_MAX, TILE_SIZE_MAX, TileKind, TilePath},
};
use store::{StoreError, log::LogReader};
use tokio::runtime::{Builder, Runtime};

use crate::web;

/// How long a tile may take to come.
const TILE_WAIT: Duration = Duration::from_secs(60);

/// A log, as it is read.
#[derive(Debug)]
pub enum LogSource {
    /// The files of a home.
    Files(Box<LogReader>),
    /// A folder with `checkpoint` and `tile/…` in it, as a static server has it.
    Tiles(PathBuf),
    /// The same over HTTP.
    Web(Box<WebLog>),
}

/// A log over HTTP.
#[derive(Debug)]
pub struct WebLog {
    base: String,
    client: reqwest::Client,
    runtime: Runtime,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Its files cannot be.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is none.
    #[error("there is no log in {place}")]
    Missing {
        /// Where it was looked for.
        place: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// A server does not give it.
    #[error("cannot fetch {url}")]
    Fetch {
        /// What was asked for.
        url: String,
        /// Why not.
        #[source]
        cause: reqwest::Error,
    },
    /// A server answers otherwise.
    #[error("{url} answers {status}")]
    Answer {
        /// What was asked for.
        url: String,
        /// The status code.
        status: u16,
    },
    /// A file or an answer is longer than any.
    #[error("{name} is longer than {limit} bytes")]
    TooLong {
        /// What was asked for.
        name: String,
        /// The most that it may have.
        limit: usize,
    },
    /// The system gives no threads or sockets.
    #[error("cannot start to fetch")]
    Threads(#[source] io::Error),
}

impl LogSource {
    /// The log in a folder: files as a home has them, or tiles.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn folder(dir: &Path) -> Result<Self, SourceError> {
        if dir.join("entries").is_file() {
            let reader = LogReader::open(dir)?.ok_or_else(|| missing(dir))?;
            return Ok(Self::Files(Box::new(reader)));
        }
        if !dir.join("checkpoint").is_file() {
            return Err(missing(dir));
        }
        Ok(Self::Tiles(dir.to_owned()))
    }

    /// The log at a URL, which `/checkpoint` and `/tile/…` are below.
    ///
    /// # Errors
    /// The system gives no threads or sockets.
    pub fn web(url: &str) -> Result<Self, SourceError> {
        let threads = Builder::new_current_thread().enable_all().build();
        let client = web::client().timeout(TILE_WAIT).build();
        Ok(Self::Web(Box::new(WebLog {
            base: url.trim_end_matches('/').to_owned(),
            client: client.map_err(|cause| SourceError::Fetch {
                url: url.to_owned(),
                cause,
            })?,
            runtime: threads.map_err(SourceError::Threads)?,
        })))
    }

    /// The checkpoint, as a note.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn checkpoint(&self) -> Result<Vec<u8>, SourceError> {
        let found = match self {
            Self::Files(reader) => Some(reader.head().note.clone()),
            Self::Tiles(dir) => read(&dir.join("checkpoint"), CHECKPOINT_SIZE_MAX)?,
            Self::Web(web) => web.fetch("checkpoint", CHECKPOINT_SIZE_MAX)?,
        };
        found.ok_or_else(|| SourceError::Missing {
            place: self.place(),
        })
    }

    /// The bytes of a tile or bundle; of one that is not full also those of the full one, which may have taken
    /// its place. Nothing if there is neither.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn tile(&self, path: TilePath) -> Result<Option<Vec<u8>>, SourceError> {
        let limit = match path.kind() {
            TileKind::Entries => BUNDLE_SIZE_MAX,
            TileKind::Hashes(_) => TILE_SIZE_MAX,
        };
        let read_one = |path: TilePath| match self {
            Self::Files(reader) => of_files(reader, path),
            Self::Tiles(dir) => read(&dir.join(path.to_string()), limit),
            Self::Web(web) => web.fetch(&path.to_string(), limit),
        };
        match read_one(path)? {
            None if !path.is_full() => read_one(path.full()),
            found => Ok(found),
        }
    }

    /// Where it is, for people.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Files(_) => "the home".to_owned(),
            Self::Tiles(dir) => dir.display().to_string(),
            Self::Web(web) => web.base.clone(),
        }
    }
}

fn of_files(reader: &LogReader, path: TilePath) -> Result<Option<Vec<u8>>, SourceError> {
    if !path.is_in(reader.head().size) {
        return Ok(None);
    }
    Ok(Some(match path.kind() {
        TileKind::Entries => reader.bundle(path)?,
        TileKind::Hashes(_) => reader.tile(path)?.bytes().to_vec(),
    }))
}

fn missing(dir: &Path) -> SourceError {
    SourceError::Missing {
        place: dir.display().to_string(),
    }
}

/// A whole file, if there is one.
fn read(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, SourceError> {
    let failed = |cause| SourceError::Io {
        path: path.to_owned(),
        cause,
    };
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > limit {
        return Err(SourceError::TooLong {
            name: path.display().to_string(),
            limit,
        });
    }
    Ok(Some(bytes))
}

impl WebLog {
    /// What is at a path, if anything is.
    fn fetch(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, SourceError> {
        let url = format!("{}/{path}", self.base);
        self.runtime.block_on(self.get(&url, limit))
    }

    async fn get(&self, url: &str, limit: usize) -> Result<Option<Vec<u8>>, SourceError> {
        let failed = |cause: reqwest::Error| SourceError::Fetch {
            url: url.to_owned(),
            cause: cause.without_url(),
        };
        let mut answer = self.client.get(url).send().await.map_err(failed)?;
        match answer.status().as_u16() {
            200 => {}
            404 | 410 => return Ok(None),
            status => {
                return Err(SourceError::Answer {
                    url: url.to_owned(),
                    status,
                });
            }
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > limit {
                return Err(SourceError::TooLong {
                    name: url.to_owned(),
                    limit,
                });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes))
    }
}
