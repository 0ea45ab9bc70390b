//! Random values in columns of random affinity.

use proptest::prelude::*;
use rusqlite::types::Value;

use crate::flow::{database, export, hash, load_with_stock_client, round_trip};

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        (-9i64..9).prop_map(Value::Integer),
        any::<u64>().prop_map(|bits| Value::Real(f64::from_bits(bits))),
        (any::<i32>(), 0..12i32).prop_map(|(n, e)| Value::Real(f64::from(n) / 10f64.powi(e))),
        "[0-9]{0,3}(\\.[0-9]{0,2})?(e[0-9])?".prop_map(Value::Text),
        "(['\"\\\\,;()%\n\r\t\0 a]|\\PC|.){0,12}".prop_map(Value::Text),
        any::<Vec<u8>>().prop_map(Value::Blob),
        "[0-9]{1,4}".prop_map(|digits| Value::Blob(digits.into_bytes())),
    ]
}

fn affinity() -> impl Strategy<Value = &'static str> {
    const ALL: [&str; 8] = [
        "INTEGER",
        "TEXT",
        "BLOB",
        "REAL",
        "NUMERIC",
        "",
        "VARCHAR(9)",
        "BOOLEAN",
    ];
    proptest::sample::select(&ALL[..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn round_trip_in_any_column(
        types in proptest::collection::vec(affinity(), 4),
        rows in proptest::collection::vec(proptest::collection::vec(value(), 4), 0..60),
        encoding in proptest::sample::select(&["UTF-8", "UTF-16le", "UTF-16be"][..]),
    ) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.db");
        let columns: Vec<String> =
            types.iter().enumerate().map(|(i, t)| format!("c{i} {t}")).collect();
        let connection = database(
            &path,
            &format!("PRAGMA encoding='{encoding}'; CREATE TABLE t({}); BEGIN", columns.join(",")),
        );
        for row in rows {
            let done = connection
                .execute("INSERT INTO t VALUES(?1,?2,?3,?4)", rusqlite::params_from_iter(row));
            done.expect("any value fits");
        }
        connection.execute_batch("COMMIT").expect("it fits");
        drop(connection);
        round_trip(&path);
    }
}

#[test]
fn the_stock_client_reads_every_real() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.db");
    let connection = database(&path, "CREATE TABLE t(a); BEGIN");
    let mut insert = connection
        .prepare("INSERT INTO t VALUES(?1)")
        .expect("sound SQL");
    let mut add = |real: f64| insert.execute([real]).expect("it fits");
    let mut random = blake3::Hasher::new().update(b"reals").finalize_xof();
    for _ in 0..20_000 {
        let mut bytes = [0; 8];
        random.fill(&mut bytes);
        let bits = u64::from_le_bytes(bytes);
        add(f64::from_bits(bits));
        // Short decimals, the sum of two, and what is near them.
        let places = i32::from(bytes[0] % 18);
        let short = (bits >> (bytes[1] % 60)) as f64 / 10f64.powi(places);
        add(short);
        add(short + 0.1);
        add(f64::from_bits(short.to_bits() + 1));
        add(f64::from_bits(bits >> 12));
        add(f64::from_bits(bits % (1 << 56)));
    }
    for exponent in -1074..=1023 {
        let power = 2f64.powi(exponent);
        add(power);
        add(f64::from_bits(power.to_bits().saturating_sub(1)));
        add(f64::from_bits(power.to_bits() + 1));
    }
    for exponent in -323..=308 {
        add(format!("1e{exponent}").parse().expect("a real"));
    }
    drop(insert);
    connection.execute_batch("COMMIT").expect("it fits");
    drop(connection);
    let copy = directory.path().join("copy.db");
    load_with_stock_client(&export(&path).script(), &copy);
    assert_eq!(hash(&copy), hash(&path));
}
