//! `export`: sources in, one CID out.

use std::{
    ffi::OsString,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Instant,
};

use agent::{
    export::{self, Destination, ExportOptions, ExportReport},
    home::{ClassSecrets, Home},
    keyring::{ExportKeys, Keyring},
    keys::{Identities, RecipientSet},
    source::{self, Source, SourceOptions},
    url,
};
use cid::Cid;
use protocol::{
    block::Block,
    car,
    keys::{KeyKind, capsule::Mode},
    log::entry::Action,
    manifest::SnapshotMeta,
};
use serde::Serialize;
use store::Store;

use super::pin;
use crate::{
    backend::BackendArgs,
    context::Context,
    error::CliError,
    output_file::OutputFile,
    passphrase,
    progress::Bar,
    prompt::{OpenWith, terminal},
    ui::{Printable, Size},
};

/// Export data into a sealed snapshot and print its CID
///
/// A SOURCE is a directory or file, sqlite:PATH, or postgres://USER@HOST/DATABASE (its password
/// from PGPASSWORD, PGPASSFILE or ~/.pgpass). What earlier exports hold already is reused. An
/// export that was interrupted goes on where it was when the same command runs again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    souverain export ~/photos sqlite:shop.sqlite\n  \
    souverain export postgres://backup@db/shop --to age1…\n  \
    souverain export ~/photos --car - | ssh host 'cat > photos.car'\n  \
    souverain export ~/photos --backend kubo=http://127.0.0.1:5001")]
pub(crate) struct Args {
    /// What to export
    #[arg(value_name = "SOURCE", required = true)]
    sources: Vec<OsString>,
    /// Also seal to this recipient: age1…, an ssh public key, a plugin's, or a file of these
    #[arg(long, value_name = "RECIPIENT")]
    to: Vec<String>,
    /// Seal to a passphrase alone, asked for or from SOUVERAIN_PASSPHRASE
    #[arg(long, conflicts_with = "to")]
    passphrase: bool,
    /// Seal to the passphrase in the first line of a file
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    passphrase_file: Option<PathBuf>,
    /// Whether the keys travel with the snapshot (portable) or stay in this home (erasable)
    #[arg(long, value_enum, default_value_t = ModeArg::Portable)]
    mode: ModeArg,
    /// Pad what is sealed, so that sizes tell less
    #[arg(long)]
    pad: bool,
    /// zstd level, 1 (fast) to 19 (small)
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19))]
    level: i32,
    /// Seal with post-quantum keys at both levels
    #[arg(long)]
    post_quantum: bool,
    /// Write the snapshot to a CAR file, not to the store; or to standard output with -, and the
    /// CID to standard error
    #[arg(long, value_name = "FILE", conflicts_with_all = ["backend", "pin_service"])]
    car: Option<PathBuf>,
    #[command(flatten)]
    backend: BackendArgs,
    #[command(flatten)]
    service: pin::PinServiceArgs,
    /// Go on without files that cannot be read, and warn of each
    #[arg(long)]
    skip_unreadable: bool,
    /// Say what would be read, reused and written, and write nothing
    #[arg(long, conflicts_with = "car")]
    dry_run: bool,
    /// Make what is sealed durable each time that it is this many MiB more
    #[arg(long, value_name = "MIB", hide = true, default_value_t = 64,
          value_parser = clap::value_parser!(u64).range(1..=1024))]
    commit_every: u64,
}

/// How far the keys travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ModeArg {
    /// CID and key are enough to restore
    Portable,
    /// Destroying the keys in this home erases every copy
    Erasable,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Portable => Self::Portable,
            ModeArg::Erasable => Self::Erasable,
        }
    }
}

#[derive(Serialize)]
struct Exported {
    cid: Option<String>,
    bytes: u64,
    bytes_read: u64,
    bytes_written: u64,
    segments: u64,
    segments_reused: u64,
    streams: u64,
    rows: u64,
    seconds: f64,
}

impl Args {
    /// Whether what is durable when it is stopped is used by the next run.
    pub(crate) fn goes_on(&self) -> bool {
        self.car.is_none() && !self.dry_run
    }

    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        for source in &self.sources {
            context.warn_of_password(&source.to_string_lossy())?;
        }
        match &self.car {
            Some(file) => self.to_car(context, file),
            None => self.to_store(context),
        }
    }

    fn to_store(&self, context: &Context) -> Result<(), CliError> {
        let home = context.open_home()?;
        if !self.dry_run {
            self.begin(context, &home)?;
        }
        // Before the work, so that it is not for nothing.
        let kubo = self.backend.connect(context)?;
        let service = self.service.open(context, &home)?;
        let recipients = self.recipients(context, Some(&home))?;
        let identities = own_identities(context, &home)?;
        let store = Store::open(home.path(), "export")?;
        let keys = Keyring::new(&store).for_export(
            self.mode.into(),
            self.kind(&recipients),
            &recipients,
            identities.as_ref(),
        )?;
        let secrets = home.class_secrets(self.mode.into());
        let destination = match self.dry_run {
            true => Destination::DryRun(Some(&store)),
            false => Destination::Store(&store),
        };
        let started = Instant::now();
        let report = self.export(context, Some(&home), &keys, &secrets, destination)?;
        let (Some(root), false) = (report.root, self.dry_run) else {
            return self.answer(context, &report, started);
        };
        recorded(context, &report, &root)?;
        let in_home = |error: CliError| {
            error.hint_more(&format!(
                "the snapshot is in this home: `souverain pin add {root} …` goes on"
            ))
        };
        let published = kubo
            .map(|kubo| pin::publish(context, &kubo, &home, &store, &root))
            .transpose()
            .map_err(in_home)?;
        self.answer(context, &report, started)?;
        if let Some(published) = published {
            pin::answer(context, &self.backend, &root, &published, None)?;
        }
        if let Some(service) = service {
            let pinned = self.service.pin(context, &home, &store, &service, &root);
            let request = pinned.map_err(in_home)?;
            self.service.answer(context, &request, None)?;
            context.ui.note(format!("it is {} there", request.status));
        }
        Ok(())
    }

    /// Says in the log of the home what is about to be done.
    fn begin(&self, context: &Context, home: &Home) -> Result<(), CliError> {
        context.trail.begin(home, Action::EXPORT)?;
        for source in &self.sources {
            let source = url::redact(&source.to_string_lossy());
            context.trail.detail("source", &source);
        }
        Ok(())
    }

    /// Without a store, and without a home if recipients are named.
    fn to_car(&self, context: &Context, file: &Path) -> Result<(), CliError> {
        if self.mode == ModeArg::Erasable {
            return Err(CliError::usage(
                "an erasable snapshot cannot be exported straight to a CAR",
            )
            .hint("its keys stay in the home: export it, then run `souverain car export`"));
        }
        let home = context.home_if_any()?;
        if home.is_none() && self.to.is_empty() && !self.is_for_passphrase() {
            context.open_home()?;
        }
        if let (Some(home), false) = (&home, self.dry_run) {
            self.begin(context, home)?;
        }
        let recipients = self.recipients(context, home.as_ref())?;
        let keys = ExportKeys::once(self.kind(&recipients), &recipients)?;
        let secrets = match &home {
            Some(home) => home.class_secrets(Mode::Portable),
            None => ClassSecrets::generate()?,
        };
        let started = Instant::now();
        if file == Path::new("-") {
            context.ui.claim_stdout("the CAR")?;
            let mut writer = car::Writer::new(BufWriter::new(io::stdout()), &[])?;
            let mut put = |block: &Block| writer.write(block);
            let destination = Destination::Car(&mut put);
            let report = self.export(context, home.as_ref(), &keys, &secrets, destination)?;
            writer.finish()?.flush()?;
            if let Some(root) = &report.root {
                recorded(context, &report, root)?;
            }
            // Standard output is taken; with --quiet too, whoever exports needs the CID.
            if let Some(root) = &report.root {
                context
                    .ui
                    .write_stderr(format!("cid: {root}\n").as_bytes())?;
            }
            return self.tell(context, &report, started);
        }
        let mut out = OutputFile::create(file)?;
        let mut writer = car::Writer::with_root_later(out.writer())?;
        let mut put = |block: &Block| writer.write(block);
        let destination = Destination::Car(&mut put);
        let report = self.export(context, home.as_ref(), &keys, &secrets, destination)?;
        if let Some(root) = &report.root {
            writer.set_root(root)?;
        }
        writer.finish()?;
        out.publish()?;
        if let Some(root) = &report.root {
            recorded(context, &report, root)?;
        }
        self.answer(context, &report, started)
    }

    fn export(
        &self,
        context: &Context,
        home: Option<&Home>,
        keys: &ExportKeys,
        secrets: &ClassSecrets,
        destination: Destination<'_>,
    ) -> Result<ExportReport, CliError> {
        let snapshot = SnapshotMeta {
            created: context.now(),
            mode: self.mode.into(),
            node: home.map_or_else(|| "none".to_owned(), |home| home.peer_id().to_string()),
            program: concat!("souverain ", env!("CARGO_PKG_VERSION")).to_owned(),
            session: context.session.to_string(),
        };
        let options = ExportOptions {
            level: self.level,
            padded: self.pad,
            commit_every: self.commit_every << 20,
        };
        let sources = self.open_sources(home)?;
        let hints = sources.iter().map(|source| source.size_hint());
        if let Some(total) = hints.sum() {
            context.progress.bytes_total.store(total, Ordering::Relaxed);
        }
        let bar = Bar::follow(&context.ui, "exporting", &context.progress);
        let progress = &context.progress;
        let report = export::export(
            sources,
            keys,
            secrets,
            destination,
            snapshot,
            &options,
            progress,
        )?;
        drop(bar);
        for warning in &report.warnings {
            context.ui.warn(Printable(warning))?;
        }
        Ok(report)
    }

    fn open_sources(&self, home: Option<&Home>) -> Result<Vec<Box<dyn Source>>, CliError> {
        let options = SourceOptions {
            // Exporting the home into itself would never end, and hand out its keys.
            exclude: home
                .map(|home| home.path().to_owned())
                .into_iter()
                .collect(),
            skip_unreadable: self.skip_unreadable,
        };
        let opened = (0..).zip(&self.sources);
        let opened = opened.map(|(index, spec)| source::open(spec, index, &options));
        Ok(opened.collect::<Result<_, _>>()?)
    }

    fn is_for_passphrase(&self) -> bool {
        self.passphrase || self.passphrase_file.is_some()
    }

    /// The home's own recipients and those of --to; or a passphrase alone.
    fn recipients(&self, context: &Context, home: Option<&Home>) -> Result<RecipientSet, CliError> {
        if self.is_for_passphrase() {
            let chosen = passphrase::choose(self.passphrase_file.as_deref())?;
            return Ok(RecipientSet::passphrase(chosen));
        }
        let own = home.map(Home::default_recipients).transpose()?;
        let named = match self.to.as_slice() {
            [] => None,
            to => Some(RecipientSet::parse(to)?),
        };
        let all = match (own, named) {
            (Some(own), Some(named)) => own.union(&named)?,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return Err(CliError::usage("nobody could open the snapshot")),
        };
        Ok(all.with_prompt(terminal(&context.ui)))
    }

    fn kind(&self, recipients: &RecipientSet) -> KeyKind {
        match self.post_quantum {
            true => KeyKind::Hybrid,
            false => recipients.kind().unwrap_or(KeyKind::X25519),
        }
    }

    fn answer(
        &self,
        context: &Context,
        report: &ExportReport,
        started: Instant,
    ) -> Result<(), CliError> {
        let exported = Exported {
            cid: report.root.map(|root| root.to_string()),
            bytes: report.bytes,
            bytes_read: report.bytes_read,
            bytes_written: report.bytes_written,
            segments: report.segments,
            segments_reused: report.segments_reused,
            streams: report.streams,
            rows: report.rows,
            seconds: started.elapsed().as_secs_f64(),
        };
        if self.dry_run {
            return context
                .ui
                .answer("dry_run", &exported, format!("would have {}", did(report)));
        }
        let cid = exported.cid.clone().unwrap_or_default();
        context.ui.answer("exported", &exported, cid)?;
        self.tell(context, report, started)
    }

    /// Says in a line what was done.
    fn tell(
        &self,
        context: &Context,
        report: &ExportReport,
        started: Instant,
    ) -> Result<(), CliError> {
        let seconds = started.elapsed().as_secs_f64();
        context
            .ui
            .note(format!("{} in {seconds:.2} s", did(report)));
        Ok(())
    }
}

/// Records an export that is durable.
fn recorded(context: &Context, report: &ExportReport, root: &Cid) -> Result<(), CliError> {
    context.trail.about(root);
    let counts = [
        ("streams", report.streams),
        ("rows", report.rows),
        ("bytes", report.bytes),
    ];
    for (name, count) in counts {
        context.trail.detail(name, &count.to_string());
    }
    context.trail.done()
}

fn did(report: &ExportReport) -> String {
    format!(
        "read {}, written {}, {} segments of which {} reused",
        Size(report.bytes_read),
        Size(report.bytes_written),
        report.segments,
        report.segments_reused
    )
}

/// What opens earlier capsules, so that more can be reused. An export does without.
fn own_identities(context: &Context, home: &Home) -> Result<Option<Identities>, CliError> {
    if home.identity_path().is_none() {
        return Ok(None);
    }
    match OpenWith::default().load(Some(home), &context.ui) {
        Ok(identities) => Ok(Some(identities)),
        Err(error) => {
            context
                .ui
                .warn(format!("the home's identity is not used: {error}"))?;
            Ok(None)
        }
    }
}
