//! Records of pax extended headers: `LEN KEY=VALUE\n`.

use super::Timestamp;

/// Largest set of records of one entry, in bytes.
pub(crate) const RECORDS_SIZE_MAX: usize = 1 << 20;

/// Appends a record.
pub(crate) fn push(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    // The length counts its own digits.
    let mut len = rest + 1;
    while rest + len.to_string().len() != len {
        len = rest + len.to_string().len();
    }
    records.extend_from_slice(len.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Reads the first record: its key, its value, and what follows it. Nothing if it is malformed.
pub(crate) fn split_first(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = memchr::memchr(b' ', &records[..records.len().min(12)])?;
    let len = usize::try_from(decimal(&records[..space])?).ok()?;
    if len <= space || len > records.len() {
        return None;
    }
    let (record, rest) = records.split_at(len);
    let record = record[space + 1..].strip_suffix(b"\n")?;
    let equals = memchr::memchr(b'=', record)?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

/// Reads a decimal number: digits only.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Writes a time: seconds, with the fraction that there is.
pub(crate) fn time(time: Timestamp) -> String {
    let (sign, seconds, nanos) = match (time.seconds < 0, time.nanos) {
        (false, nanos) => ("", time.seconds.unsigned_abs(), nanos),
        (true, 0) => ("-", time.seconds.unsigned_abs(), 0),
        (true, nanos) => ("-", time.seconds.unsigned_abs() - 1, 1_000_000_000 - nanos),
    };
    if nanos == 0 {
        return format!("{sign}{seconds}");
    }
    let text = format!("{sign}{seconds}.{nanos:09}");
    text.trim_end_matches('0').to_owned()
}

/// Reads a time; digits after the ninth of the fraction are dropped.
pub(crate) fn parse_time(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let dot = memchr::memchr(b'.', text).unwrap_or(text.len());
    let (whole, fraction) = text.split_at(dot);
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let mut digits = [b'0'; 9];
    let fraction = fraction.get(1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    for (digit, &from) in digits.iter_mut().zip(fraction) {
        *digit = from;
    }
    let nanos = u32::try_from(decimal(&digits)?).ok()?;
    Some(match (negative, nanos) {
        (false, nanos) => Timestamp { seconds, nanos },
        (true, 0) => Timestamp {
            seconds: -seconds,
            nanos,
        },
        (true, nanos) => Timestamp {
            seconds: -seconds - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_length_of_a_record_counts_its_own_digits() {
        for len in [0, 1, 5, 90, 91, 92, 93, 94, 95, 96, 990, 991, 992, 993, 994] {
            let (mut records, value) = (Vec::new(), vec![b'v'; len]);
            push(&mut records, b"k", &value);
            assert_eq!(
                split_first(&records),
                Some((&b"k"[..], &value[..], &b""[..]))
            );
        }
    }

    #[test]
    fn rejects_malformed_records() {
        let cases: [&[u8]; 9] = [
            b"",
            b"5",
            b"x k=v\n",
            b"6 k=v",
            b"7 k=v\n",
            b"5 k=v\n",
            b"1 k=v\n",
            b"6 kkv\n",
            b"99999999999999999999 k=v\n",
        ];
        for records in cases {
            assert_eq!(split_first(records), None, "{records:?}");
        }
    }

    #[test]
    fn rejects_malformed_times() {
        let cases: [&[u8]; 6] = [
            b"1.x",
            b"x",
            b"--1",
            b"1.-5",
            b"99999999999999999999",
            b"1 2",
        ];
        for text in cases {
            assert_eq!(parse_time(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn times_round_trip(seconds in any::<i32>(), nanos in 0..1_000_000_000u32) {
            let it = Timestamp { seconds: seconds.into(), nanos };
            prop_assert_eq!(parse_time(time(it).as_bytes()), Some(it));
        }
    }
}
