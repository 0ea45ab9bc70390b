//! The committed vectors of the snapshot format: this program reads them as the specification
//! says, refuses the broken ones, and so does a reader that was written from the specification.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use agent::{
    blocks::{Blocks, CarFile},
    keys::{Identities, Silent},
    open::{OpenSnapshot, open},
    progress::Progress,
    verify::{keyless, opened},
};
use protocol::{
    block::{Block, CODEC_DAG_PB},
    keys::{ClassIdentity, capsule::Capsule},
    list,
    manifest::Manifest,
    seal::Opener,
    unixfs::Node,
};

mod make;
mod negative;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/snapshot")
}

fn read(name: impl AsRef<Path>) -> Vec<u8> {
    let path = folder().join(name);
    fs::read(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

fn text(name: &str) -> String {
    String::from_utf8(read(name)).expect("UTF-8")
}

/// An error and its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn identities() -> Vec<ClassIdentity> {
    Capsule::parse(&read("plain/capsule.txt"))
        .expect("a capsule")
        .identities()
}

fn opened_car(path: &Path) -> Result<(Blocks<'static>, OpenSnapshot), String> {
    let car = CarFile::open(path).map_err(|err| chain(&err))?;
    let (root, blocks) = (car.root(), Blocks::Car(car));
    let mine = Identities::load(
        &[folder().join("identity.txt")],
        None,
        std::sync::Arc::new(Silent),
    )
    .expect("an identity");
    let snapshot = open(&blocks, &root, &mine, None).map_err(|err| chain(&err))?;
    Ok((blocks, snapshot))
}

/// Everything that is wrong with a snapshot, or nothing.
fn faults(path: &Path) -> Result<(), String> {
    let progress = Progress::default();
    let (blocks, snapshot) = opened_car(path)?;
    let (report, named) = keyless(&blocks, &snapshot.root, None, &progress).expect("a file");
    let mut faults: Vec<String> = report.damage.into_iter().map(|d| d.reason).collect();
    let report = opened(&blocks, &snapshot, &named, None, &progress).expect("a file");
    faults.extend(report.damage.into_iter().map(|d| d.reason));
    faults.extend(report.lies);
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.join("; "))
    }
}

fn refusal(kind: &str, bytes: &[u8], path: &Path) -> Result<(), String> {
    match kind {
        "capsule" => Capsule::parse(bytes).map(drop).map_err(|err| chain(&err)),
        "manifest" => Manifest::parse(bytes).map(drop).map_err(|err| chain(&err)),
        "list" => list::parse(bytes).map(drop).map_err(|err| chain(&err)),
        "node" => Node::decode(&node(bytes))
            .map(drop)
            .map_err(|err| chain(&err)),
        "object" => {
            let class = identities();
            let mut opener = Opener::new(&class).expect("memory");
            opener.open(bytes, 12).map(drop).map_err(|err| chain(&err))
        }
        "car" => faults(path),
        _ => panic!("an unknown kind of vector"),
    }
}

fn node(bytes: &[u8]) -> Block {
    let raw = protocol::block::raw_cid(&protocol::block::sha256(bytes));
    let cid = cid::Cid::new_v1(CODEC_DAG_PB, *raw.hash());
    Block::verify(cid, bytes.to_vec()).expect("its own CID")
}

/// Name, kind and expected refusal of all broken vectors.
fn negatives() -> Vec<(String, String, String)> {
    let index = text("negative/index.tsv");
    let row = |line: &str| {
        let mut words = line.splitn(3, '\t').map(str::to_owned);
        let mut next = || words.next().expect("three columns");
        (next(), next(), next())
    };
    index.lines().map(row).collect()
}

#[test]
#[ignore = "overwrites the vectors: only when the format changes"]
fn regenerate() {
    make::all();
}

#[test]
fn the_snapshot_is_what_the_texts_say() {
    let path = folder().join("snapshot.car");
    assert_eq!(faults(&path), Ok(()));
    let (blocks, snapshot) = opened_car(&path).expect("opens");
    assert_eq!(format!("{}\n", snapshot.root), text("root.txt"));
    assert_eq!(snapshot.manifest.encode(), text("plain/manifest.txt"));
    let mut opener = Opener::new(&snapshot.identities).expect("memory");
    let mut piece = |cid, len: u32| {
        let block = blocks.block(&cid).expect("a file").expect("there");
        opener.open(&block.bytes, len as usize).expect("opens")
    };
    let mut files: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    let mut lists = 0;
    for stream in &snapshot.manifest.streams {
        let file = files.entry(&stream.file).or_default();
        for reference in &stream.lists {
            let list = piece(reference.cid(), reference.len);
            assert_eq!(list, read(format!("plain/list-{lists}.txt")));
            lists += 1;
            for segment in list::parse(&list).expect("a list") {
                file.extend(piece(segment.cid(), segment.len));
            }
        }
    }
    assert_eq!(files.len(), 3);
    for (name, bytes) in files {
        assert!(bytes == read(Path::new("plain").join(name)), "{name}");
    }
}

#[test]
fn broken_ones_are_refused() {
    let negatives = negatives();
    assert!(negatives.len() > 70);
    let mut wrong = Vec::new();
    for (name, kind, says) in negatives {
        let path = folder().join("negative").join(&name);
        match refusal(&kind, &read(&path), &path) {
            Err(said) if said.contains(&says) => {}
            other => wrong.push(format!("{name}: expected {says:?}, found {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_specification_quotes_the_vectors() {
    let page = folder().join("../../../docs/format.md");
    let page = fs::read_to_string(page).expect("read");
    let car = CarFile::open(&folder().join("snapshot.car")).expect("a CAR");
    let root = car.root();
    let block = Blocks::Car(car)
        .block(&root)
        .expect("a file")
        .expect("there");
    let hex: String = block.bytes.iter().map(|b| format!("{b:02x}")).collect();
    let hex: Vec<&str> = (0..hex.len())
        .step_by(96)
        .map(|i| &hex[i..hex.len().min(i + 96)])
        .collect();
    let texts = [
        "plain/capsule.txt",
        "plain/manifest.txt",
        "plain/list-0.txt",
    ]
    .map(text);
    for text in texts.into_iter().chain([hex.join("\n")]) {
        let quoted: Vec<String> = text.lines().map(|line| format!("    {line}")).collect();
        assert!(
            page.contains(&format!("\n\n{}\n\n", quoted.join("\n"))),
            "{text}"
        );
    }
    assert!(page.contains(&format!("    {root}/\n")));
}

fn reader(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("python3")
        .arg("-B")
        .arg("read.py")
        .args(args)
        .current_dir(folder())
        .output()
        .expect("python3 is not installed: run tests/run, or apt install python3");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn a_reader_written_from_the_specification_reads_it() {
    let temporary = tempfile::tempdir().expect("temporary directory");
    let out = temporary.path().join("out");
    let said = reader(&["snapshot.car", "identity.txt", out.to_str().expect("UTF-8")]);
    assert_eq!(said, (Some(0), String::new()));
    for name in ["0-notes.tar", "1-shop.sql", "2-crm.sql"] {
        assert!(
            fs::read(out.join(name)).expect("read") == read(Path::new("plain").join(name)),
            "{name}"
        );
    }
}

#[test]
fn a_reader_written_from_the_specification_refuses_what_is_broken() {
    let mut wrong = Vec::new();
    for (name, kind, _) in negatives() {
        let path = format!("negative/{name}");
        let mut args = vec!["--check", &kind, &path];
        match kind.as_str() {
            "object" => args.extend(["12", "plain/capsule.txt"]),
            "car" => args.push("identity.txt"),
            _ => {}
        }
        let (code, said) = reader(&args);
        if code != Some(3) || !said.starts_with("refused: ") {
            wrong.push(format!("{name}: {code:?} {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
