//! Times the log against what its signatures and hashes alone take, in one run: `log DIR [ENTRIES] [ROUNDS]`.
//!
//! One line a goal: how many entries a second its ceiling does, how many the log does, and the ratio, all medians
//! over the rounds. Ceiling and log take turns, so that both meet the same machine. DIR is where the log is written: a
//! directory that does not exist yet, on the disk that is meant.

use std::{
    env,
    error::Error,
    fs,
    hint::black_box,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use agent::{
    home::{Home, InitOptions},
    log::{Depth, Event, LogSource, OwnLog, now_ms, open_own, verify},
    progress::Progress,
};
use ed25519_dalek::{Signature, Signer, SigningKey};
use protocol::{
    block::{raw_cid, sha256},
    log::{
        entry::{Action, ENTRY_DOMAIN},
        tree::{Hash, leaf_hash, node_hash},
    },
};

/// Entries that one checkpoint is signed for, and one sync made.
const BATCH: usize = 1 << 14;
/// What an entry has beside what is signed: the signature and its key.
const SIG_SIZE: usize = 70;
const SESSION: [u8; 16] = *b"\x01\x9b\x7c\x5e\x9d\x08\x7c\xc3\x98\xc4\xdc\x0c\x0c\x07\x39\x8f";

/// A goal: the rates of its ceiling and of the log, in entries a second, and their ratio.
struct Goal {
    name: &'static str,
    wanted: f64,
    rounds: Vec<[f64; 3]>,
}

impl Goal {
    fn new(name: &'static str, wanted: f64) -> Self {
        Self {
            name,
            wanted,
            rounds: Vec::new(),
        }
    }

    fn add(&mut self, entries: usize, ceiling: Duration, log: Duration) {
        let [ceiling, log] = [ceiling, log].map(|time| entries as f64 / time.as_secs_f64());
        self.rounds.push([ceiling, log, log / ceiling]);
    }

    #[expect(clippy::print_stdout, reason = "the measurement is the output")]
    fn print(&self) {
        let [ceiling, log, ratio] = [0, 1, 2].map(|column| {
            let mut all: Vec<f64> = self.rounds.iter().map(|round| round[column]).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        });
        let verdict = if ratio >= self.wanted { "ok" } else { "short" };
        println!(
            "{}: {log:.0}/s of {ceiling:.0}/s, {ratio:.2} >= {:.2} {verdict}",
            self.name, self.wanted
        );
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let out = black_box(work());
    (start.elapsed(), out)
}

#[expect(clippy::print_stdout, reason = "the measurement is the output")]
fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [dir, numbers @ ..] = args.as_slice() else {
        return Err("usage: log DIR [ENTRIES] [ROUNDS]".into());
    };
    let number = |at: usize, otherwise: usize| numbers.get(at).map_or(Ok(otherwise), |n| n.parse());
    let (size, rounds) = (number(0, 1_000_000)?, number(1, 3)?);
    let dir = Path::new(dir);
    fs::create_dir(dir)?;
    let mut append = Goal::new("durable append, of signing on one core", 0.8);
    let mut tree = Goal::new("audit by tree, of hashing on all cores", 0.7);
    let mut admit = Goal::new("admission, of strict verifying on all cores", 0.9);
    for round in 0..rounds {
        let home = Home::init(&dir.join(round.to_string()), &InitOptions::default())?;
        let key = SigningKey::from_bytes(&[7; 32]);
        let signed = grow(&home, size, &key, &mut append)?;
        let entries = read(&home, size)?;
        if round == 0 {
            println!(
                "{:.1} bytes an entry, {:.2} beside it on disk",
                entries.iter().map(Vec::len).sum::<usize>() as f64 / size as f64,
                overhead(&home, &entries)?
            );
        }
        audit(&home, &entries, &mut tree)?;
        admission(&home, &signed, &key, &mut admit)?;
        fs::remove_dir_all(home.path())?;
    }
    fs::remove_dir(dir)?;
    [append, tree, admit].iter().for_each(Goal::print);
    Ok(())
}

/// What is signed of an entry, or as much.
fn message(entry: &[u8]) -> Vec<u8> {
    [ENTRY_DOMAIN.as_bytes(), &entry[SIG_SIZE..]].concat()
}

/// Signed messages, as long as those of entries.
type Signed = Vec<(Vec<u8>, Signature)>;

/// Appends entries to the log of a home until it has so many, beside signing as many messages.
fn grow(
    home: &Home,
    size: usize,
    key: &SigningKey,
    goal: &mut Goal,
) -> Result<Signed, Box<dyn Error>> {
    let log = OwnLog::new(home, SESSION);
    let event = |n: usize| Event {
        peer: Some(home.peer_id().to_string()),
        subject: vec![raw_cid(&sha256(&n.to_le_bytes()))],
        ..Event::of(Action::SERVE)
    };
    // The log has a first entry, and one whose length is that of most.
    let [begun, last] = [0, 1].map(|n| log.record(now_ms(), &[event(n)]));
    let mut at = begun.and(last)?.size as usize;
    let reader = open_own(home.path())?.ok_or("no log")?;
    let model = message(&reader.entry(at as u64 - 1)?);
    let mut all = Vec::with_capacity(size);
    let (mut signing, mut appending) = (Duration::ZERO, Duration::ZERO);
    let mut appended = 0;
    while at < size {
        let count = BATCH.min(size - at);
        let messages: Vec<_> = (at..at + count)
            .map(|n| [&n.to_le_bytes(), &model[8..]].concat())
            .collect();
        let events: Vec<_> = (at..at + count).map(event).collect();
        let sign = |message: Vec<u8>| {
            let signature = key.sign(&message);
            (message, signature)
        };
        let (time, signed) = timed(|| messages.into_iter().map(sign).collect::<Vec<_>>());
        signing += time;
        let (time, recorded) = timed(|| log.record(now_ms(), &events));
        appending += time;
        at = recorded?.size as usize;
        appended += count;
        all.extend(signed);
    }
    goal.add(appended, signing, appending);
    Ok(all)
}

fn read(home: &Home, size: usize) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let reader = open_own(home.path())?.ok_or("no log")?;
    Ok(reader.entries(0..size as u64)?)
}

/// Bytes on disk for each entry, besides the entry and the checkpoint.
fn overhead(home: &Home, entries: &[Vec<u8>]) -> Result<f64, Box<dyn Error>> {
    let mut bytes = 0;
    for file in fs::read_dir(home.path().join("log/own"))? {
        let file = file?;
        if file.file_name() != "checkpoint" {
            bytes += file.metadata()?.len();
        }
    }
    let own: usize = entries.iter().map(Vec::len).sum();
    Ok((bytes as f64 - own as f64) / entries.len() as f64)
}

/// Works on as many parts as there are cores.
fn on_all_cores<T: Sync>(all: &[T], work: impl Fn(&[T]) + Sync) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for part in all.chunks(all.len().div_ceil(cores).max(1)) {
            scope.spawn(|| work(part));
        }
    });
}

fn hold(home: &Home, depth: Depth, size: usize) -> Result<Duration, Box<dyn Error>> {
    let source = LogSource::folder(&home.path().join("log/own"))?;
    let (time, verified) = timed(|| verify(&source, depth, None, &Progress::default()));
    match verified?.size == size as u64 {
        true => Ok(time),
        false => Err("the log has another size".into()),
    }
}

/// Audits the log by its tree, beside hashing its leaves and nodes.
fn audit(home: &Home, entries: &[Vec<u8>], goal: &mut Goal) -> Result<(), Box<dyn Error>> {
    let hashing = || {
        on_all_cores(entries, |part| {
            let mut level: Vec<Hash> = part.iter().map(|entry| leaf_hash(entry)).collect();
            while level.len() > 1 {
                let pairs = level.chunks_exact(2);
                level = pairs.map(|pair| node_hash(&pair[0], &pair[1])).collect();
            }
            black_box(level);
        });
    };
    let (before, ()) = timed(hashing);
    let log = hold(home, Depth::Tree, entries.len())?;
    let (after, ()) = timed(hashing);
    goal.add(entries.len(), (before + after) / 2, log);
    Ok(())
}

/// Admits all entries of the log out of its files, beside checking as many signatures.
fn admission(
    home: &Home,
    signed: &Signed,
    key: &SigningKey,
    goal: &mut Goal,
) -> Result<(), Box<dyn Error>> {
    let key = key.verifying_key();
    let verifying = |part: &[(Vec<u8>, Signature)]| {
        on_all_cores(part, |part| {
            for (message, signature) in part {
                let verified = key.verify_strict(message, signature);
                verified.expect("it was signed");
            }
        });
    };
    let reader = open_own(home.path())?.ok_or("no log")?;
    let size = reader.head().size as usize;
    let (half, rest) = signed.split_at(signed.len() / 2);
    let (before, ()) = timed(|| verifying(half));
    let log = hold(home, Depth::Entries, size)?;
    let (after, ()) = timed(|| verifying(rest));
    let ceiling = (before + after).mul_f64(size as f64 / signed.len() as f64);
    goal.add(size, ceiling, log);
    Ok(())
}
