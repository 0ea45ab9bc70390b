//! Reals as SQL that every SQLite reads back bit for bit.
//!
//! SQLite's own decimal parser is not exact: up to 3.42 it scales an integer by a power
//! of ten in the C `long double` of the machine, later with pairs of doubles. So a decimal
//! is written only where it lies so close to the double that an error of such a
//! parser (far below 2^-56 of the value) cannot reach the next one: the shortest
//! decimal if that holds for it, else one of 17 digits. Where parsers scale twice
//! (below 1e-290), the value is an integer divided by powers of two, which is exact.

use std::fmt::Write;

/// Longest form of a real, in bytes.
pub const REAL_LEN_MAX: usize = 512;

const INFINITY: &str = "9e999";
const DECIMAL_MIN: f64 = 1e-290;
/// Within these, the shortest decimal is written without an exponent.
const POSITIONAL: std::ops::Range<f64> = 1e-15..1e15;
const INTEGRAL_MAX: f64 = (1u64 << 53) as f64;
const STEP_BITS: u32 = 62;

/// A real as SQL.
#[derive(Clone, Debug)]
pub struct RealSql {
    bytes: [u8; REAL_LEN_MAX],
    len: usize,
}

impl RealSql {
    /// Writes `value`, which is not NaN: SQLite stores none.
    #[must_use]
    pub fn new(value: f64) -> Self {
        let mut text = Self {
            bytes: [0; REAL_LEN_MAX],
            len: 0,
        };
        if value.is_sign_negative() {
            text.put(format_args!("-"));
        }
        let size = value.abs();
        if size.is_infinite() {
            text.put(format_args!("{INFINITY}"));
        } else if size < INTEGRAL_MAX && size.fract() == 0.0 {
            text.put(format_args!("{}.0", size as u64));
        } else if size < DECIMAL_MIN {
            text.put_quotient(size);
        } else {
            text.put_decimal(size);
        }
        text
    }

    /// The SQL.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.write_fmt(text).expect("no form is longer");
    }

    fn put_decimal(&mut self, size: f64) {
        if POSITIONAL.contains(&size) {
            let start = self.len;
            self.put(format_args!("{size}"));
            if is_clear(size, &self.bytes[start..self.len]) {
                return;
            }
            self.len = start;
        }
        self.put(format_args!("{size:.16e}"));
    }

    fn put_quotient(&mut self, size: f64) {
        let bits = size.to_bits();
        let exponent = u32::try_from(bits >> 52).expect("the sign is gone");
        let fraction = bits & ((1 << 52) - 1);
        let (mantissa, scale) = match exponent {
            0 => (fraction, 1074),
            _ => (fraction | 1 << 52, 1075 - exponent),
        };
        let zeros = mantissa.trailing_zeros().min(scale);
        self.put(format_args!("{}.0", mantissa >> zeros));
        let mut scale = scale - zeros;
        while scale > 0 {
            let bits = scale.min(STEP_BITS);
            self.put(format_args!("/{}", 1u64 << bits));
            scale -= bits;
        }
    }
}

impl Write for RealSql {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        let room = self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// Whether the shortest decimal of `size` is far enough from where the next double begins.
fn is_clear(size: f64, decimal: &[u8]) -> bool {
    let Some(point) = memchr::memchr(b'.', decimal) else {
        return false;
    };
    let digits = decimal.iter().filter(|b| b.is_ascii_digit()).fold(
        (0u32, 0u64),
        |(count, value), &digit| {
            let value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            (count + u32::from(value != 0), value)
        },
    );
    let (count, integer) = digits;
    if count == 17 {
        // The nearest of its length, so within 0.23 of the distance to the next double.
        return true;
    }
    let places = decimal.len() - point - 1;
    if count > 15 || places > 22 {
        return false;
    }
    let power = POWERS[places];
    let error = size.mul_add(power, -(integer as f64)).abs();
    let is_power_of_two = size.to_bits() & ((1 << 52) - 1) == 0;
    let step = size - f64::from_bits(size.to_bits() - 1);
    error == 0.0 || (!is_power_of_two && error < 0.45 * step * power)
}

/// The powers of ten that are doubles.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Reads what [`RealSql`] writes; nothing if it would have written something else.
#[must_use]
pub fn parse(sql: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(sql).ok()?;
    let (sign, size) = match text.strip_prefix('-') {
        Some(size) => (-1.0, size),
        None => (1.0, text),
    };
    let size = if size == INFINITY {
        f64::INFINITY
    } else {
        let mut factors = size.split('/');
        let first: f64 = factors.next()?.parse().ok()?;
        factors.try_fold(first, |size, divisor| {
            divisor.parse::<u64>().ok().map(|d| size / d as f64)
        })?
    };
    let value = sign * size;
    (!value.is_nan() && RealSql::new(value).as_bytes() == sql).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sql(value: f64) -> String {
        String::from_utf8(RealSql::new(value).as_bytes().to_vec()).expect("ASCII")
    }

    #[test]
    fn forms() {
        let known = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (19.99, "19.99"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e100, "1.0000000000000000e100"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::INFINITY, "9e999"),
            (f64::NEG_INFINITY, "-9e999"),
        ];
        for (value, form) in known {
            assert_eq!(sql(value), form);
        }
        assert!(sql(f64::from_bits(1)).len() < REAL_LEN_MAX);
        assert!(sql(-f64::MIN_POSITIVE).len() < REAL_LEN_MAX);
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in [
            "", "-", "1", "1.", ".5", "1.50", "01.5", "+1.5", "inf", "NaN", "nan", "1e5", "9e998",
            "1.0/0", "1.0/2", "1.5/2", "1.0/+2", "1_0.5", "-9e9999", "1.5e0", "1.0e100",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn round_trips(bits: u64, cents: i32) {
            for value in [f64::from_bits(bits), f64::from(cents) / 100.0] {
                if !value.is_nan() {
                    let again = parse(RealSql::new(value).as_bytes()).expect("own form");
                    prop_assert_eq!(again.to_bits(), value.to_bits());
                }
            }
        }
    }
}
