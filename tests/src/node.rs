//! A node without a home: a store, keys and secrets in a temporary directory; and a source made
//! of rows.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use agent::{
    blocks::Blocks,
    export::{Destination, ExportError, ExportOptions, ExportReport, export},
    home::ClassSecrets,
    intake::{Intake, StreamDecl},
    keyring::ExportKeys,
    keys::{Identities, Silent},
    open::{OpenSnapshot, open},
    progress::Progress,
    source::{Source, SourceError},
};
use protocol::{
    keys::{
        ClassIdentity, KeyKind,
        capsule::{Capsule, Epoch, Mode},
    },
    manifest::{Engine, SnapshotMeta, SourceMeta, StreamKind},
};
use store::Store;
use tempfile::TempDir;

/// Tables of rows, written in bursts of odd sizes between a head and a tail line.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Name and rows of each table.
    pub tables: Vec<(String, Vec<u8>)>,
    /// Whether each table is a unit.
    pub units: bool,
}

/// The line before the rows of every table.
pub const HEAD: &[u8] = b"HEAD\n";
/// The line after them.
pub const TAIL: &[u8] = b"TAIL\n";

impl Rows {
    /// A source of tables that are no units.
    #[must_use]
    pub fn new(tables: &[(&str, &[u8])]) -> Self {
        let owned = |(name, rows): &(&str, &[u8])| ((*name).to_owned(), rows.to_vec());
        Self {
            tables: tables.iter().map(owned).collect(),
            units: false,
        }
    }
}

impl Source for Rows {
    fn size_hint(&self) -> Option<u64> {
        None
    }

    fn read(&mut self, intake: &Intake<'_>) -> Result<SourceMeta, SourceError> {
        for (position, (name, rows)) in self.tables.iter().enumerate() {
            let mut writer = intake.stream(StreamDecl {
                source: 0,
                position: u32::try_from(position).expect("few tables"),
                kind: StreamKind::Table,
                name: name.clone(),
                file: "0-rows.sql".into(),
                columns: vec![],
            });
            let key = *blake3::hash(rows).as_bytes();
            if self.units && writer.unit_begin(&key)? {
                writer.finish(b"")?;
                continue;
            }
            writer.head(HEAD)?;
            for burst in rows.chunks(70_001) {
                writer.write(burst)?;
            }
            if self.units {
                writer.unit_end(key)?;
            }
            writer.finish(TAIL)?;
        }
        Ok(SourceMeta {
            engine: Engine::Sqlite,
            name: "rows".into(),
            version: None,
            warnings: vec![],
        })
    }
}

/// `count` rows that do not compress well, the same for the same seed.
#[must_use]
pub fn rows(seed: u64, count: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for i in 0..count {
        let noise = blake3::hash(&(seed * 1_000_003 + i).to_le_bytes());
        out.extend_from_slice(format!("{i}\t{noise}\n").as_bytes());
    }
    out
}

/// Keys, secrets and a place for a store.
#[derive(Debug)]
pub struct Node {
    dir: TempDir,
    /// What exports seal with.
    pub keys: ExportKeys,
    /// What opens them.
    pub identities: Identities,
    /// What pieces are cut and found with.
    pub secrets: ClassSecrets,
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    /// Makes keys and a directory.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mine = ClassIdentity::generate(KeyKind::X25519);
        let file = dir.path().join("identity.txt");
        let secret = mine.to_secret_string();
        fs::write(&file, secrecy::ExposeSecret::expose_secret(&secret)).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("restricted");
        let epoch = Epoch {
            class: Mode::Portable,
            number: 1,
        };
        let class = ClassIdentity::generate(KeyKind::X25519);
        let mut capsule = Capsule::default();
        capsule.insert(epoch, class.clone());
        let recipient = mine.to_public();
        let sealed = capsule.seal([&recipient as _].into_iter()).expect("seals");
        let keys = ExportKeys {
            epoch,
            recipient: class.to_public(),
            capsule: Some(sealed),
            reusable: vec![epoch],
        };
        let identities = Identities::load(&[&file], None, Arc::new(Silent)).expect("loads");
        let secrets = ClassSecrets {
            cut: [1; 32],
            dedup: [2; 32],
        };
        Self {
            dir,
            keys,
            identities,
            secrets,
        }
    }

    /// A path in the node's directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the store is.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// Opens the store.
    #[must_use]
    pub fn store(&self) -> Store {
        Store::open(&self.home(), "test").expect("the store opens")
    }

    /// Exports rows.
    ///
    /// # Errors
    /// As [`export`].
    pub fn try_export(
        &self,
        destination: Destination<'_>,
        source: Rows,
        options: &ExportOptions,
    ) -> Result<ExportReport, ExportError> {
        self.try_export_all(destination, vec![Box::new(source)], options)
    }

    /// Exports any sources.
    ///
    /// # Errors
    /// As [`export`].
    pub fn try_export_all(
        &self,
        destination: Destination<'_>,
        sources: Vec<Box<dyn Source>>,
        options: &ExportOptions,
    ) -> Result<ExportReport, ExportError> {
        let meta = SnapshotMeta {
            created: "2026-01-02T03:04:05Z".into(),
            mode: Mode::Portable,
            node: "node".into(),
            program: "test".into(),
            session: "session".into(),
        };
        let progress = Progress::default();
        export(
            sources,
            &self.keys,
            &self.secrets,
            destination,
            meta,
            options,
            &progress,
        )
    }

    /// Exports rows to a store.
    #[must_use]
    pub fn export(&self, store: &Store, source: Rows) -> ExportReport {
        self.try_export(Destination::Store(store), source, &ExportOptions::default())
            .expect("exports")
    }

    /// Opens what was exported.
    #[must_use]
    pub fn open(&self, blocks: &Blocks<'_>, report: &ExportReport) -> OpenSnapshot {
        let root = report.root.expect("a root");
        open(blocks, &root, &self.identities, None).expect("opens")
    }
}

/// The one pack of a small store.
#[must_use]
pub fn first_pack(home: &Path) -> PathBuf {
    let mut packs = fs::read_dir(home.join("packs")).expect("packs");
    packs.next().expect("one pack").expect("an entry").path()
}
