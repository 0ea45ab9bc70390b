//! Values as SQL literals, one way to write each, and the strict way back.
//!
//! | value | literal |
//! |---|---|
//! | NULL | `NULL` |
//! | integer | `-17` |
//! | real | see [`super::real`] |
//! | text | `'it''s'`; with a newline, a carriage return or a NUL, or not well-formed: `CAST(X'610A' AS TEXT)` |
//! | blob | `X'00FF'` |
//!
//! `CAST` takes the bytes in the encoding of the database.

use std::ops::Range;

use super::{Encoding, real};

/// Where literals are written to.
pub trait Sink {
    /// Why it takes no more.
    type Error;
    /// Takes some bytes.
    ///
    /// # Errors
    /// It takes no more.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}

impl Sink for Vec<u8> {
    type Error = std::convert::Infallible;
    fn put(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// Writes an integer.
///
/// # Errors
/// The sink takes no more.
pub fn put_integer<S: Sink>(sink: &mut S, value: i64) -> Result<(), S::Error> {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        start -= 1;
        digits[start] = b'-';
    }
    sink.put(&digits[start..])
}

/// Writes a real, which is not NaN.
///
/// # Errors
/// The sink takes no more.
pub fn put_real<S: Sink>(sink: &mut S, value: f64) -> Result<(), S::Error> {
    sink.put(real::RealSql::new(value).as_bytes())
}

/// Writes a blob.
///
/// # Errors
/// The sink takes no more.
pub fn put_blob<S: Sink>(sink: &mut S, blob: &[u8]) -> Result<(), S::Error> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    sink.put(b"X'")?;
    let mut hex = [0; 4096];
    for chunk in blob.chunks(hex.len() / 2) {
        for (pair, byte) in hex.chunks_exact_mut(2).zip(chunk) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        sink.put(&hex[..2 * chunk.len()])?;
    }
    sink.put(b"'")
}

/// Writes text, given as its bytes in the encoding of the database.
///
/// # Errors
/// The sink takes no more.
pub fn put_text<S: Sink>(sink: &mut S, text: &[u8], encoding: Encoding) -> Result<(), S::Error> {
    if encoding == Encoding::Utf8 {
        return put_decoded(sink, text, Some(text), encoding);
    }
    let decoded = encoding.decode(text);
    put_decoded(sink, text, decoded.as_ref().map(String::as_bytes), encoding)
}

fn put_decoded<S: Sink>(
    sink: &mut S,
    stored: &[u8],
    decoded: Option<&[u8]>,
    encoding: Encoding,
) -> Result<(), S::Error> {
    let Some(mut text) = decoded.filter(|text| is_plain(text, encoding)) else {
        sink.put(b"CAST(")?;
        put_blob(sink, stored)?;
        return sink.put(b" AS TEXT)");
    };
    sink.put(b"'")?;
    while let Some(quote) = memchr::memchr(b'\'', text) {
        sink.put(&text[..=quote])?;
        sink.put(b"'")?;
        text = &text[quote + 1..];
    }
    sink.put(text)?;
    sink.put(b"'")
}

/// Whether UTF-8 text can stand between quotes and arrive in the database unchanged.
fn is_plain(text: &[u8], encoding: Encoding) -> bool {
    if memchr::memchr3(b'\n', b'\r', 0, text).is_some() {
        return false;
    }
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    // SQLite replaces these two when it converts to UTF-16.
    encoding == Encoding::Utf8 || !text.contains(['\u{fffe}', '\u{ffff}'])
}

/// A value read from a line. Ranges are of the line, decoded in place.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// An integer.
    Integer(i64),
    /// A real.
    Real(f64),
    /// Text, in UTF-8.
    Text(Range<usize>),
    /// Text, in the encoding of the database.
    StoredText(Range<usize>),
    /// A blob.
    Blob(Range<usize>),
}

/// A line is not one that the functions above write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a row")]
pub struct Malformed;

/// Reads the literals from `at` on: separated by commas, ended by `)`. Returns where the
/// `)` was. Decodes text and blobs in place.
///
/// # Errors
/// A literal is not exactly one that is written here, or there are more than `max`.
pub fn parse(
    line: &mut [u8],
    mut at: usize,
    encoding: Encoding,
    max: usize,
    values: &mut Vec<Value>,
) -> Result<usize, Malformed> {
    values.clear();
    loop {
        if values.len() == max {
            return Err(Malformed);
        }
        let (value, end) = parse_one(line, at, encoding)?;
        values.push(value);
        match line.get(end) {
            Some(b',') => at = end + 1,
            Some(b')') => return Ok(end),
            _ => return Err(Malformed),
        }
    }
}

/// Reads the literal at `at`. Returns where it ended.
///
/// # Errors
/// It is not exactly one that is written here.
pub fn parse_one(
    line: &mut [u8],
    at: usize,
    encoding: Encoding,
) -> Result<(Value, usize), Malformed> {
    let rest = line.get(at..).ok_or(Malformed)?;
    match rest.first() {
        Some(b'N') if rest.starts_with(b"NULL") => Ok((Value::Null, at + 4)),
        Some(b'\'') => parse_text(line, at + 1, encoding),
        Some(b'X') if rest.starts_with(b"X'") => {
            let (range, end) = parse_hex(line, at + 2)?;
            Ok((Value::Blob(range), end))
        }
        Some(b'C') if rest.starts_with(b"CAST(X'") => {
            let (range, end) = parse_hex(line, at + 7)?;
            let tail = b" AS TEXT)";
            if !line[end..].starts_with(tail) || !needs_cast(&line[range.clone()], encoding) {
                return Err(Malformed);
            }
            Ok((Value::StoredText(range), end + tail.len()))
        }
        Some(b'-' | b'0'..=b'9') => parse_number(line, at),
        _ => Err(Malformed),
    }
}

fn needs_cast(stored: &[u8], encoding: Encoding) -> bool {
    if encoding == Encoding::Utf8 {
        return !is_plain(stored, encoding);
    }
    let decoded = encoding.decode(stored);
    decoded.is_none_or(|text| !is_plain(text.as_bytes(), encoding))
}

fn parse_number(line: &[u8], at: usize) -> Result<(Value, usize), Malformed> {
    let window = &line[at..line.len().min(at + real::REAL_LEN_MAX)];
    let len = window
        .iter()
        .position(|byte| matches!(byte, b',' | b')'))
        .ok_or(Malformed)?;
    let number = &window[..len];
    let value = if number[1..].iter().all(u8::is_ascii_digit) && number != b"-" {
        Value::Integer(parse_integer(number).ok_or(Malformed)?)
    } else {
        Value::Real(real::parse(number).ok_or(Malformed)?)
    };
    Ok((value, at + len))
}

fn parse_integer(number: &[u8]) -> Option<i64> {
    let digits = number.strip_prefix(b"-").unwrap_or(number);
    if digits[0] == b'0' && number.len() > 1 {
        return None;
    }
    std::str::from_utf8(number).ok()?.parse().ok()
}

fn parse_text(
    line: &mut [u8],
    start: usize,
    encoding: Encoding,
) -> Result<(Value, usize), Malformed> {
    let mut read = start;
    let mut written = start;
    let end = loop {
        let quote = read + memchr::memchr(b'\'', &line[read..]).ok_or(Malformed)?;
        let doubled = line.get(quote + 1) == Some(&b'\'');
        let keep = quote + usize::from(doubled);
        if written != read {
            line.copy_within(read..keep, written);
        }
        written += keep - read;
        if !doubled {
            break quote + 1;
        }
        read = quote + 2;
    };
    let range = start..written;
    if !is_plain(&line[range.clone()], encoding) {
        return Err(Malformed);
    }
    Ok((Value::Text(range), end))
}

fn parse_hex(line: &mut [u8], start: usize) -> Result<(Range<usize>, usize), Malformed> {
    let len = memchr::memchr(b'\'', &line[start..]).ok_or(Malformed)?;
    if len % 2 != 0 {
        return Err(Malformed);
    }
    let mut bad = 0;
    for i in 0..len / 2 {
        let (high, low) = (line[start + 2 * i], line[start + 2 * i + 1]);
        let (high, low) = (NIBBLES[usize::from(high)], NIBBLES[usize::from(low)]);
        bad |= high | low;
        line[start + i] = high << 4 | low & 15;
    }
    if bad & 0xf0 != 0 {
        return Err(Malformed);
    }
    Ok((start..start + len / 2, start + len + 1))
}

/// The value of each upper-case hexadecimal digit; 0xff for what is none.
const NIBBLES: [u8; 256] = {
    let mut table = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789ABCDEF"[value as usize] as usize] = value;
        value += 1;
    }
    table
};

/// Reads the literals of one row, `1,'a',NULL)`, and writes them again: the same bytes, or
/// nothing if they are malformed.
#[must_use]
pub fn recode(literals: &[u8], encoding: Encoding) -> Option<Vec<u8>> {
    let mut line = literals.to_vec();
    let mut values = Vec::new();
    let end = parse(&mut line, 0, encoding, usize::MAX, &mut values).ok()?;
    if end + 1 != line.len() {
        return None;
    }
    let mut out = Vec::with_capacity(literals.len());
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let done = match value {
            Value::Null => out.put(b"NULL"),
            Value::Integer(integer) => put_integer(&mut out, *integer),
            Value::Real(real) => put_real(&mut out, *real),
            Value::Text(range) => {
                let text = &line[range.clone()];
                put_decoded(&mut out, text, Some(text), encoding)
            }
            Value::StoredText(range) => put_text(&mut out, &line[range.clone()], encoding),
            Value::Blob(range) => put_blob(&mut out, &line[range.clone()]),
        };
        match done {
            Ok(()) => {}
        }
    }
    out.push(b')');
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn recoded(literals: &str) -> Option<String> {
        recode(literals.as_bytes(), Encoding::Utf8).map(|out| String::from_utf8(out).expect("text"))
    }

    #[test]
    fn well_formed_rows_are_kept() {
        for row in [
            "NULL)",
            "0,-1,9223372036854775807,-9223372036854775808)",
            "'','''','it''s','''a''','a,b)',X'',X'00FF')",
            "CAST(X'0A' AS TEXT),CAST(X'FF' AS TEXT),CAST(X'6100' AS TEXT),CAST(X'0D' AS TEXT))",
            "1.5,-0.0,9e999,-9e999,'\u{1F600}')",
        ] {
            assert_eq!(recoded(row).as_deref(), Some(row));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for row in [
            "",
            ")",
            "NULL",
            "null)",
            "1",
            "1,)",
            ",1)",
            "1 )",
            " 1)",
            "01)",
            "-0)",
            "+1)",
            "--1)",
            "9223372036854775808)",
            "0x10)",
            "1e3)",
            "'a)",
            "'a'b)",
            "\"a\")",
            "a)",
            "'a\nb')",
            "'a\0b')",
            "X'0')",
            "X'0g')",
            "X'ff')",
            "x'FF')",
            "CAST(X'61' AS TEXT))",
            "CAST(X'0A' AS BLOB))",
            "CAST(X'0A' AS TEXT)",
            "randomblob(9))",
            "1);",
            "1));",
            "-)",
            "1+1)",
            "(1))",
            "load_extension('x'))",
            "1/2)",
            "CAST('a' AS TEXT))",
        ] {
            assert_eq!(recoded(row), None, "{row}");
        }
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes: Vec<u8>) {
            let _ = recode(&bytes, Encoding::Utf8);
            let _ = recode(&bytes, Encoding::Utf16be);
        }

        #[test]
        fn mutated_rows_are_kept_or_refused(
            row in "(NULL|-?[0-9]{1,3}|'([a-z,')(\n]|''){0,4}'|X'[0-9A-F]{0,4}'|[0-9]\\.[0-9]{1,2}|CAST\\(X'[0-9A-F]{2}' AS TEXT\\)|,){1,6}\\)",
        ) {
            if let Some(again) = recode(row.as_bytes(), Encoding::Utf8) {
                prop_assert_eq!(again, row.as_bytes());
            }
        }

        #[test]
        fn text_round_trips(text: Vec<u8>, big_endian: bool) {
            let wide = if big_endian { Encoding::Utf16be } else { Encoding::Utf16le };
            for encoding in [Encoding::Utf8, wide] {
                let mut out = Vec::new();
                put_text(&mut out, &text, encoding).expect("a vector takes all");
                out.push(b')');
                prop_assert_eq!(recode(&out, encoding), Some(out));
            }
        }
    }
}
