//! A database that holds one of everything comes back as it was.

use std::path::Path;

use agent::target::ImportOptions;

use crate::{
    SERVER,
    same::assert_same,
    streams::{export, import},
};

fn torture(name: &str) -> String {
    let url = SERVER.create_database(name);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres/torture.sql");
    SERVER.load(&url, Path::new(script));
    url
}

#[test]
fn everything_comes_back_through_the_target() {
    let source = torture("torture");
    let target = SERVER.create_database("torture imported");
    let export = export(&source).expect("exports");
    let reports = import(&export, &target, ImportOptions::default()).expect("imports");
    for (stream, report) in export.streams.iter().zip(reports) {
        assert_eq!(
            stream.meta.rows.unwrap_or_default(),
            report.rows,
            "{}",
            stream.meta.name
        );
    }
    assert_same(&source, &target);
    let again = crate::streams::export(&target).expect("exports again");
    for (first, second) in export.streams.iter().zip(&again.streams) {
        let is_rehashed = first.meta.name.starts_with("public.by_hash_");
        assert_eq!(first.meta.name, second.meta.name);
        assert!(
            is_rehashed || first.bytes == second.bytes,
            "{} differs",
            first.meta.name
        );
    }
}

#[test]
fn everything_comes_back_through_psql() {
    let source = torture("torture psql");
    let target = SERVER.create_database("torture loaded");
    let script = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(script.path(), export(&source).expect("exports").script()).expect("written");
    SERVER.load(&target, script.path());
    assert_same(&source, &target);
}
