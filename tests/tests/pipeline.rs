//! The whole way: intake, sealing, store, reading, with sources made of rows.

use std::{fs, os::unix::fs::FileExt};

use agent::{
    blocks::{Blocks, CarFile},
    catalog,
    export::{Destination, ExportOptions, ExportReport},
    handover,
    open::{OpenSnapshot, open},
    progress::Progress,
    reading::{self, Item},
    verify,
};
use souverain_tests::node::{HEAD, Node, Rows, TAIL, first_pack, rows};

fn contents(blocks: &Blocks<'_>, snapshot: &OpenSnapshot) -> Vec<Vec<u8>> {
    let streams: Vec<_> = snapshot.manifest.streams.iter().collect();
    reading::read(
        blocks,
        &snapshot.identities,
        &streams,
        &|_| true,
        &Progress::default(),
        |pieces| {
            let mut found = vec![Vec::new()];
            while let Some(item) = pieces.next_item().expect("reads") {
                match item {
                    Item::Piece { bytes, .. } => found.last_mut().expect("one").extend(bytes),
                    Item::End { .. } => found.push(Vec::new()),
                    other => panic!("{other:?}"),
                }
            }
            found.pop();
            found
        },
    )
}

fn export_to(
    node: &Node,
    destination: Destination<'_>,
    source: Rows,
    options: &ExportOptions,
) -> ExportReport {
    node.try_export(destination, source, options)
        .expect("exports")
}

fn framed(rows: &[u8]) -> Vec<u8> {
    [HEAD, rows, TAIL].concat()
}

#[test]
fn streams_come_back_and_are_reused() {
    let node = Node::new();
    let store = node.store();
    let (a, b) = (rows(1, 60_000), rows(2, 9));
    let report = node.export(&store, Rows::new(&[("a", &a), ("b", &b), ("empty", b"")]));
    assert_eq!(report.rows, 60_009);
    let snapshot = node.open(&Blocks::Store(&store), &report);
    let streams = contents(&Blocks::Store(&store), &snapshot);
    assert_eq!(streams, [framed(&a), framed(&b), framed(b"")]);
    let again = node.export(&store, Rows::new(&[("a", &a), ("b", &b), ("empty", b"")]));
    assert_eq!(again.segments_reused, again.segments);
    assert!(
        again.bytes_written < 20_000,
        "{} bytes",
        again.bytes_written
    );
    let content = |r: &ExportReport| -> Vec<String> {
        node.open(&Blocks::Store(&store), r)
            .manifest
            .streams
            .iter()
            .map(|s| s.meta.content.clone())
            .collect()
    };
    assert_eq!(content(&report), content(&again));
    assert_eq!(catalog::snapshots(&store).expect("lists").len(), 2);
}

#[test]
fn a_change_reseals_what_is_around_it() {
    let node = Node::new();
    let store = node.store();
    let before = rows(1, 120_000);
    let first = node.export(&store, Rows::new(&[("a", &before)]));
    let mut after = before.clone();
    let at = before
        .iter()
        .skip(before.len() / 2)
        .position(|&b| b == b'\n')
        .expect("rows")
        + before.len() / 2
        + 1;
    after.splice(at..at, rows(9, 200));
    let second = node.export(&store, Rows::new(&[("a", &after)]));
    assert!(second.bytes_written * 3 < first.bytes_written, "{second:?}");
    assert_eq!(
        contents(
            &Blocks::Store(&store),
            &node.open(&Blocks::Store(&store), &second)
        ),
        [framed(&after)]
    );
}

#[test]
fn an_unchanged_unit_is_not_read() {
    let node = Node::new();
    let store = node.store();
    let a = rows(1, 60_000);
    let first = node.export(
        &store,
        Rows {
            units: true,
            ..Rows::new(&[("a", &a)])
        },
    );
    let second = node.export(
        &store,
        Rows {
            units: true,
            ..Rows::new(&[("a", &a)])
        },
    );
    assert!(first.bytes_read > second.bytes_read);
    assert_eq!(
        second.segments_reused,
        second.segments - 1,
        "all but the list with the tail"
    );
}

#[test]
fn a_dry_run_writes_nothing_and_counts_right() {
    let node = Node::new();
    let store = node.store();
    let a = rows(1, 60_000);
    let source = || Rows::new(&[("a", &a)]);
    let options = ExportOptions::default();
    let dry = export_to(&node, Destination::DryRun(Some(&store)), source(), &options);
    assert_eq!(dry.root, None);
    assert_eq!(store.blocks().expect("counts").count, 0);
    let real = export_to(&node, Destination::Store(&store), source(), &options);
    let same = |dry: &ExportReport, real: &ExportReport| {
        assert_eq!(dry.segments, real.segments);
        assert_eq!(dry.segments_reused, real.segments_reused);
        // age adds some random bytes to what it seals.
        let few = 512 * (1 + real.segments - real.segments_reused);
        let off = dry.bytes_written.abs_diff(real.bytes_written);
        assert!(off < few, "{dry:?} for {real:?}");
    };
    same(&dry, &real);
    let dry = export_to(&node, Destination::DryRun(Some(&store)), source(), &options);
    let real = export_to(&node, Destination::Store(&store), source(), &options);
    assert_eq!(real.segments_reused, real.segments);
    same(&dry, &real);
}

#[test]
fn padded_sizes_say_little() {
    let node = Node::new();
    let store = node.store();
    let table = rows(1, 60_000);
    let source = Rows::new(&[("a", &table)]);
    let options = ExportOptions {
        padded: true,
        ..ExportOptions::default()
    };
    let report = export_to(&node, Destination::Store(&store), source, &options);
    assert_eq!(
        contents(
            &Blocks::Store(&store),
            &node.open(&Blocks::Store(&store), &report)
        ),
        [framed(&table)]
    );
}

#[test]
fn a_car_from_an_export_restores_without_a_store() {
    let node = Node::new();
    let store = node.store();
    let table = rows(1, 60_000);
    let path = node.path("out.car");
    let mut writer =
        protocol::car::Writer::new(fs::File::create(&path).expect("file"), &[]).expect("header");
    let source = Rows::new(&[("a", &table)]);
    let mut write = |block: &protocol::block::Block| writer.write(block);
    let report = export_to(
        &node,
        Destination::Car(&mut write),
        source,
        &ExportOptions::default(),
    );
    writer.finish().expect("flushes");
    let car = CarFile::open(&path).expect("opens");
    assert_eq!(Some(car.root()), report.root);
    let blocks = Blocks::Car(car);
    let root = report.root.expect("root");
    let snapshot = open(&blocks, &root, &node.identities, None).expect("opens");
    assert_eq!(contents(&blocks, &snapshot), [framed(&table)]);
    let imported = handover::car_import(
        &store,
        fs::File::open(&path).expect("file"),
        "2026-01-02T03:04:05Z",
        &Progress::default(),
    );
    assert_eq!(imported.expect("imports"), [root]);
    assert_eq!(catalog::snapshots(&store).expect("lists").len(), 1);
}

#[test]
fn damage_is_found_with_and_without_a_key() {
    let node = Node::new();
    let store = node.store();
    let report = node.export(
        &store,
        Rows::new(&[("a", &rows(1, 60_000)), ("b", &rows(2, 60_000))]),
    );
    let root = report.root.expect("root");
    let check = || {
        let blocks = Blocks::Store(&store);
        let progress = Progress::default();
        let (keyless, named) = verify::keyless(&blocks, &root, None, &progress).expect("reads");
        let snapshot = node.open(&Blocks::Store(&store), &report);
        let opened = verify::opened(&blocks, &snapshot, &named, None, &progress).expect("reads");
        (keyless, opened)
    };
    let (keyless, opened) = check();
    assert_eq!(
        (keyless.damage.len(), opened.damage.len(), opened.lies.len()),
        (0, 0, 0),
        "{opened:?}"
    );
    assert_eq!(opened.rows, 120_000);
    let pack = first_pack(&node.home());
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(&pack)
        .expect("pack");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 300_000).expect("reads");
    file.write_all_at(&[byte[0] ^ 1], 300_000).expect("writes");
    let (keyless, opened) = check();
    assert_eq!(
        (keyless.damage.len(), opened.damage.len()),
        (1, 1),
        "{opened:?}"
    );
    assert_eq!(keyless.damage[0].cid, opened.damage[0].cid);
    assert!(opened.damage[0].segment.is_some());
}
