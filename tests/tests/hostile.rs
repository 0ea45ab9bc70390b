//! Snapshots that lie, escape or explode: told with exit code 3, and nothing is written.

use std::{fs, path::Path};

use protocol::manifest::{Engine, Manifest, StreamKind};
use souverain_tests::{
    forge::{Forger, manifest, tar, tar_entry, zeros_frame},
    program::{Sandbox, tree},
};

/// What is wrong, the exit code, what the error says, and how it is made: the manifest's text.
type Case = (&'static str, i32, &'static str, fn(&mut Forger) -> String);

fn with_tar(forger: &mut Forger, entries: &[Vec<u8>]) -> Manifest {
    let piece = forger.piece(&tar(entries), 0);
    let stream = forger.stream(StreamKind::Tree, "files", &[piece]);
    manifest(Engine::Tree, vec![stream])
}

fn file(name: &str) -> Vec<u8> {
    tar_entry(name, b'0', "", b"content")
}

fn honest(forger: &mut Forger) -> Manifest {
    with_tar(forger, &[file("a"), file("b")])
}

fn lying(forger: &mut Forger, from: &str, to: &str) -> String {
    let text = honest(forger).encode();
    assert!(text.contains(from), "no {from} in {text}");
    text.replacen(from, to, 1)
}

const CASES: &[Case] = &[
    ("a parent", 3, "hostile", |f| {
        with_tar(f, &[file("../escaped")]).encode()
    }),
    ("a parent below", 3, "hostile", |f| {
        with_tar(f, &[file("a/../../escaped")]).encode()
    }),
    ("an absolute path", 3, "hostile", |f| {
        with_tar(f, &[file("/tmp/souverain-escaped")]).encode()
    }),
    ("a device", 3, "hostile", |f| {
        with_tar(f, &[tar_entry("device", b'3', "", b"")]).encode()
    }),
    ("a path through a link", 3, "hostile", |f| {
        with_tar(f, &[tar_entry("out", b'2', "..", b""), file("out/escaped")]).encode()
    }),
    ("a link to a file outside", 3, "hostile", |f| {
        with_tar(f, &[tar_entry("passwd", b'1', "/etc/passwd", b"")]).encode()
    }),
    ("a link to a file above", 3, "hostile", |f| {
        with_tar(f, &[tar_entry("key", b'1', "../home/identity.txt", b"")]).encode()
    }),
    ("no tar", 3, "hostile", |f| {
        let piece = f.piece(&[b'x'; 4096], 0);
        let stream = f.stream(StreamKind::Tree, "files", &[piece]);
        manifest(Engine::Tree, vec![stream]).encode()
    }),
    ("more bytes than there are", 3, "", |f| {
        let mut manifest = honest(f);
        manifest.streams[0].meta.bytes += 1;
        manifest.streams[0].lists[0].bytes += 1;
        manifest.encode()
    }),
    ("more bytes than its lists have", 3, "another length", |f| {
        lying(f, "\"bytes\":3072", "\"bytes\":3073")
    }),
    ("another content hash", 3, "content hash", |f| {
        let mut manifest = honest(f);
        manifest.streams[0].meta.content = "ab".repeat(32);
        manifest.encode()
    }),
    ("more rows than there are", 3, "hostile", |f| {
        let mut rows = f.piece(b"INSERT INTO \"t\" VALUES(1);\n", 1);
        rows.rows = 2;
        let before = f.piece(b"CREATE TABLE \"t\"(a);\n", 0);
        let before = f.stream(StreamKind::Before, "before", &[before]);
        let table = f.stream(StreamKind::Table, "t", &[rows]);
        manifest(Engine::Sqlite, vec![before, table]).encode()
    }),
    ("a statement that is no schema", 3, "", |f| {
        let before = f.piece(b"ATTACH DATABASE 'escaped' AS x;\n", 0);
        let before = f.stream(StreamKind::Before, "before", &[before]);
        manifest(Engine::Sqlite, vec![before]).encode()
    }),
    ("a file above", 3, "safe file name", |f| {
        lying(f, " 0-forged ", " ../forged ")
    }),
    ("a file of a directory", 3, "safe file name", |f| {
        lying(f, " 0-forged ", " a/forged ")
    }),
    ("a segment count", 3, "", |f| {
        lying(f, " 1 3072\n", " 2 3072\n")
    }),
    ("a list of another stream", 3, "", |f| {
        lying(f, " 1 3072\n", " 1 3073\n")
    }),
    ("an unknown keyword", 3, "malformed", |f| {
        lying(f, "source {", "sauce {")
    }),
    ("a later manifest", 1, "later format version", |f| {
        lying(f, "manifest 1", "manifest 2")
    }),
    ("a later capsule", 1, "later format version", |f| {
        f.capsule = Some("# souverain capsule 2\n".into());
        honest(f).encode()
    }),
    ("a capsule of something else", 3, "malformed", |f| {
        f.capsule = Some("hello\n".into());
        honest(f).encode()
    }),
    (
        "a frame that holds more than it states",
        3,
        "decompress",
        |f| {
            let piece = f.frame(&zeros_frame(2048, 800), &[0; 2048], 0);
            let stream = f.stream(StreamKind::Tree, "files", &[piece]);
            manifest(Engine::Tree, vec![stream]).encode()
        },
    ),
    (
        "a frame that states more than a piece",
        3,
        "expected 2048 bytes",
        |f| {
            let piece = f.frame(&zeros_frame(100 << 20, 800), &[0; 2048], 0);
            let stream = f.stream(StreamKind::Tree, "files", &[piece]);
            manifest(Engine::Tree, vec![stream]).encode()
        },
    ),
    (
        "a manifest that states a terabyte",
        3,
        "the frame holds 1099511627776",
        |f| {
            f.manifest_frame = Some(zeros_frame(1 << 40, 8));
            honest(f).encode()
        },
    ),
    ("a manifest that is no frame", 3, "not a zstd frame", |f| {
        f.manifest_frame = Some(b"souverain manifest 1\n".to_vec());
        honest(f).encode()
    }),
];

fn everything_but_cars(sandbox: &Sandbox) -> Vec<String> {
    let all = tree(&sandbox.path(""));
    let plain = |(path, what): (&std::path::PathBuf, &String)| format!("{} {what}", path.display());
    let kept =
        |path: &Path| path.extension().is_none_or(|e| e != "car") && !path.starts_with("home");
    all.iter()
        .filter(|(path, _)| kept(path))
        .map(plain)
        .collect()
}

#[test]
fn hostile_snapshots_are_refused_and_write_nothing() {
    let sandbox = Sandbox::new();
    let reader = fs::read_to_string(sandbox.home().join("recipients.txt")).expect("reads");
    let forge = |name: &str, make: fn(&mut Forger) -> String| {
        let mut forger = Forger::new(&reader);
        let manifest = make(&mut forger);
        forger.write(&manifest, &sandbox.path(name));
        manifest.contains("\"engine\":\"sqlite\"")
    };
    forge("honest.car", |f| honest(f).encode());
    sandbox.ok(&["verify", "honest.car"]);
    sandbox.ok(&["import", "honest.car", "--into", "honest"]);
    assert_eq!(
        fs::read(sandbox.path("honest/b")).expect("is there"),
        b"content"
    );
    let before = everything_but_cars(&sandbox);
    for &(what, code, text, make) in CASES {
        let is_database = forge("forged.car", make);
        for into in ["new", "honest"] {
            if is_database && into == "honest" {
                continue;
            }
            let args = ["import", "forged.car", "--replace", "--into", into];
            let ran = sandbox.run(&args);
            assert_eq!(ran.code, Some(code), "{what}: {ran:#?}");
            let ran = ran.failed(code, text);
            assert!(ran.stdout.is_empty(), "{what}: {ran:#?}");
            assert_eq!(everything_but_cars(&sandbox), before, "{what}");
        }
        // A lie is told by verify too; what a tar or schema says is only an import's concern.
        let verified = sandbox.run(&["verify", "forged.car"]);
        assert_ne!(verified.code, Some(255), "{what}: {verified:#?}");
        if what.ends_with(" than there are") {
            assert_eq!(verified.code, Some(3), "{what}: {verified:#?}");
            assert!(
                verified.stdout.contains("the manifest says"),
                "{verified:#?}"
            );
        }
    }
    assert!(!Path::new("/tmp/souverain-escaped").exists());
}

#[test]
fn a_source_with_a_path_for_a_name_stays_inside() {
    let sandbox = Sandbox::new();
    let reader = fs::read_to_string(sandbox.home().join("recipients.txt")).expect("reads");
    for name in ["../escaped", "/tmp/souverain-escaped", "a/b", "..", ""] {
        let mut forger = Forger::new(&reader);
        let mut manifest = honest(&mut forger);
        let mut second = manifest.sources[0].clone();
        name.clone_into(&mut second.name);
        manifest.sources.push(second);
        let mut stream = manifest.streams[0].clone();
        stream.meta.source = 1;
        stream.file = "1-forged".into();
        manifest.streams.push(stream);
        forger.write(&manifest.encode(), &sandbox.path("forged.car"));
        let before = everything_but_cars(&sandbox);
        let ran = sandbox.run(&["import", "forged.car", "--into", "below/target"]);
        let _ = ran.failed(1, "a directory cannot take");
        assert_eq!(everything_but_cars(&sandbox), before, "{name}");
    }
}
