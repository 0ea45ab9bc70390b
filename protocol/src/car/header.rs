//! The DAG-CBOR header of a CAR.

use cid::Cid;

use super::{CarError, take_cid};

/// First bytes of a CARv2: the header of a CAR that says version 2 and nothing else.
pub(super) const V2_PRAGMA: &[u8] = &[
    0x0a, 0xa1, 0x67, b'v', b'e', b'r', b's', b'i', b'o', b'n', 0x02,
];

const MAJOR_UNSIGNED: u8 = 0;
const MAJOR_BYTES: u8 = 2;
const MAJOR_TEXT: u8 = 3;
const MAJOR_ARRAY: u8 = 4;
const MAJOR_MAP: u8 = 5;
const MAJOR_TAG: u8 = 6;
const TAG_CID: u64 = 42;

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u64,
    pub(super) roots: Option<Vec<Cid>>,
}

/// The header of a CARv1, with the length before it.
///
/// With one CIDv1 of SHA-256 it is [`super::HEADER_LEN_ONE_ROOT`] long, so that
/// one root can be written over another.
#[must_use]
pub fn header_bytes(roots: &[Cid]) -> Vec<u8> {
    let mut body = Vec::new();
    put_head(&mut body, MAJOR_MAP, 2);
    put_text(&mut body, "roots");
    put_head(&mut body, MAJOR_ARRAY, roots.len() as u64);
    for root in roots {
        let cid = root.to_bytes();
        put_head(&mut body, MAJOR_TAG, TAG_CID);
        put_head(&mut body, MAJOR_BYTES, cid.len() as u64 + 1);
        body.push(0);
        body.extend_from_slice(&cid);
    }
    put_text(&mut body, "version");
    put_head(&mut body, MAJOR_UNSIGNED, 1);
    let mut buffer = unsigned_varint::encode::usize_buffer();
    let mut out = unsigned_varint::encode::usize(body.len(), &mut buffer).to_vec();
    out.extend_from_slice(&body);
    out
}

/// Reads the body of a header: a map of `roots` and `version`, in any order.
pub(super) fn parse(body: &[u8]) -> Result<Header, CarError> {
    let mut input = Input(body);
    let fields = input.head(MAJOR_MAP)?;
    let (mut version, mut roots) = (None, None);
    for _ in 0..fields.min(3) {
        match input.text()? {
            b"version" if version.is_none() => version = Some(input.head(MAJOR_UNSIGNED)?),
            b"roots" if roots.is_none() => roots = Some(input.roots()?),
            _ => return Err(bad("a field that is unknown or there twice")),
        }
    }
    if !input.0.is_empty() {
        return Err(bad("bytes after the end"));
    }
    let version = version.ok_or(bad("no version"))?;
    Ok(Header { version, roots })
}

fn put_head(out: &mut Vec<u8>, major: u8, value: u64) {
    let major = major << 5;
    let bytes = value.to_be_bytes();
    match value {
        0..=23 => out.push(major | bytes[7]),
        24..=0xff => out.extend_from_slice(&[major | 24, bytes[7]]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&bytes);
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_head(out, MAJOR_TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Takes the head of an item of this major type; its value in the shortest form only.
    fn head(&mut self, major: u8) -> Result<u64, CarError> {
        let (&first, rest) = self.0.split_first().ok_or(bad("it is cut off"))?;
        if first >> 5 != major {
            return Err(bad("an item of another type"));
        }
        let len = match first & 0x1f {
            value @ 0..=23 => {
                self.0 = rest;
                return Ok(u64::from(value));
            }
            value @ 24..=27 => 1 << (value - 24),
            _ => return Err(bad("an item of indefinite length")),
        };
        let (bytes, rest) = rest.split_at_checked(len).ok_or(bad("it is cut off"))?;
        let value = bytes.iter().fold(0, |sum, &b| sum << 8 | u64::from(b));
        let shortest = match len {
            1 => value > 23,
            _ => value >> (len * 4) != 0,
        };
        if !shortest {
            return Err(bad("a number that is not in its shortest form"));
        }
        self.0 = rest;
        Ok(value)
    }

    fn bytes(&mut self, major: u8) -> Result<&'a [u8], CarError> {
        let len = self.head(major)?;
        let (bytes, rest) = usize::try_from(len)
            .ok()
            .and_then(|len| self.0.split_at_checked(len))
            .ok_or(bad("it is cut off"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<&'a [u8], CarError> {
        self.bytes(MAJOR_TEXT)
    }

    fn roots(&mut self) -> Result<Vec<Cid>, CarError> {
        let count = self.head(MAJOR_ARRAY)?;
        let mut roots = Vec::new();
        for _ in 0..count {
            if self.head(MAJOR_TAG)? != TAG_CID {
                return Err(bad("a root that is not a CID"));
            }
            let root = self.bytes(MAJOR_BYTES)?.split_first();
            let cid = root
                .filter(|(prefix, _)| **prefix == 0)
                .and_then(|(_, cid)| take_cid(cid))
                .filter(|(_, rest)| rest.is_empty());
            roots.push(cid.ok_or(bad("a root that is not a CID"))?.0);
        }
        Ok(roots)
    }
}

fn bad(what: &'static str) -> CarError {
    CarError::Header { what }
}
