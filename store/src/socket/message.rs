//! Questions and answers: a length of four bytes, and that many bytes.

use std::io::{self, Read, Write};

use crate::{
    Blocks, KEY_SIZE_MAX, Table, VALUE_SIZE_MAX,
    index::{ENTRY_OVERHEAD, Location, PAGE_SIZE, Page},
};

/// First byte of each question. Another one is not answered.
const VERSION: u8 = 1;
/// Largest question, in bytes.
pub(crate) const QUESTION_SIZE_MAX: usize = 4 + KEY_SIZE_MAX;
/// Largest answer, in bytes: a page that the largest entry makes as long as it can be.
pub(crate) const ANSWER_SIZE_MAX: usize =
    1 + 2 * PAGE_SIZE + ENTRY_OVERHEAD + KEY_SIZE_MAX + VALUE_SIZE_MAX;
/// Largest text of a failure, in bytes.
const FAILURE_SIZE_MAX: usize = 1 << 10;

/// What a reader asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Where is the block with this multihash?
    Locate(Vec<u8>),
    /// What is the value of this key?
    Value(Table, Vec<u8>),
    /// What comes behind this key, or first?
    Page(Table, Option<Vec<u8>>),
    /// How many blocks are there?
    Blocks,
    /// May the asking process have the lock?
    HandOver,
}

/// What the holder of the store says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Locate(Option<Location>),
    Value(Option<Vec<u8>>),
    Page(Page),
    Blocks(Blocks),
    /// The lock comes with the next byte.
    HandedOver,
    /// The holder keeps the lock.
    Kept,
    Failed(String),
}

impl Question {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Locate(multihash) => [&[VERSION, b'l'], multihash.as_slice()].concat(),
            Self::Value(table, key) => [&[VERSION, b'v', *table as u8], key.as_slice()].concat(),
            Self::Page(table, None) => vec![VERSION, b'f', *table as u8],
            Self::Page(table, Some(key)) => {
                [&[VERSION, b'p', *table as u8], key.as_slice()].concat()
            }
            Self::Blocks => vec![VERSION, b'b'],
            Self::HandOver => vec![VERSION, b'h'],
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_prefix(&[VERSION])?;
        let in_table = |bytes: &[u8]| {
            let (table, key) = bytes.split_first()?;
            let key = (key.len() <= KEY_SIZE_MAX).then(|| key.to_vec())?;
            Some((Table::from_byte(*table)?, key))
        };
        match bytes.split_first()? {
            (b'l', multihash) => Some(Self::Locate(multihash.to_vec())),
            (b'v', rest) => in_table(rest).map(|(table, key)| Self::Value(table, key)),
            (b'f', [table]) => Some(Self::Page(Table::from_byte(*table)?, None)),
            (b'p', rest) => in_table(rest).map(|(table, key)| Self::Page(table, Some(key))),
            (b'b', []) => Some(Self::Blocks),
            (b'h', []) => Some(Self::HandOver),
            _ => None,
        }
    }
}

impl Answer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Locate(None) | Self::Value(None) => vec![b'0'],
            Self::Locate(Some(location)) => [b"l".as_slice(), &location.to_bytes()].concat(),
            Self::Value(Some(value)) => [b"v".as_slice(), value].concat(),
            Self::Blocks(blocks) => [b"b".as_slice(), &blocks.to_bytes()].concat(),
            Self::Page(page) => {
                let mut bytes = vec![if page.more { b'p' } else { b'e' }];
                for (key, value) in &page.entries {
                    bytes.extend_from_slice(&(key.len() as u16).to_be_bytes());
                    bytes.extend_from_slice(&(value.len() as u32).to_be_bytes());
                    bytes.extend_from_slice(key);
                    bytes.extend_from_slice(value);
                }
                bytes
            }
            Self::HandedOver => vec![b'h'],
            Self::Kept => vec![b'k'],
            Self::Failed(why) => {
                let text = why.as_bytes();
                [b"!".as_slice(), &text[..text.len().min(FAILURE_SIZE_MAX)]].concat()
            }
        }
    }

    /// Decodes the answer to a question.
    pub(crate) fn decode(question: &Question, bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match (kind, question) {
            (b'0', Question::Locate(_)) => Some(Self::Locate(None)),
            (b'0', Question::Value(..)) => Some(Self::Value(None)),
            (b'l', Question::Locate(_)) => Some(Self::Locate(Some(Location::from_bytes(rest)?))),
            (b'v', Question::Value(..)) if rest.len() <= VALUE_SIZE_MAX => {
                Some(Self::Value(Some(rest.to_vec())))
            }
            (b'b', Question::Blocks) => Some(Self::Blocks(Blocks::from_bytes(rest)?)),
            (b'p' | b'e', Question::Page(_, after)) => {
                let entries = entries(after.as_deref(), rest)?;
                let more = *kind == b'p';
                // A page that promises more must get on, or a scan would not end.
                (!more || !entries.is_empty()).then_some(Self::Page(Page { entries, more }))
            }
            (b'h', Question::HandOver) if rest.is_empty() => Some(Self::HandedOver),
            (b'k', Question::HandOver) if rest.is_empty() => Some(Self::Kept),
            (b'!', _) => Some(Self::Failed(String::from_utf8_lossy(rest).into_owned())),
            _ => None,
        }
    }
}

/// Decodes entries, whose keys must ascend.
fn entries(after: Option<&[u8]>, mut bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    while !bytes.is_empty() {
        let (key_size, rest) = bytes.split_first_chunk::<2>()?;
        let (value_size, rest) = rest.split_first_chunk::<4>()?;
        let key_size = usize::from(u16::from_be_bytes(*key_size));
        let value_size = u32::from_be_bytes(*value_size) as usize;
        if key_size > KEY_SIZE_MAX || value_size > VALUE_SIZE_MAX {
            return None;
        }
        let (key, rest) = rest.split_at_checked(key_size)?;
        let (value, rest) = rest.split_at_checked(value_size)?;
        let before = entries.last().map(|(key, _)| key.as_slice()).or(after);
        if before.is_some_and(|before| before >= key) {
            return None;
        }
        entries.push((key.to_vec(), value.to_vec()));
        bytes = rest;
    }
    Some(entries)
}

pub(crate) fn send(to: &mut impl Write, body: &[u8]) -> io::Result<()> {
    let len = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut message = Vec::with_capacity(4 + body.len());
    message.extend_from_slice(&len.to_be_bytes());
    message.extend_from_slice(body);
    to.write_all(&message)
}

pub(crate) fn receive(from: &mut impl Read, size_max: usize) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    let len = u32::from_be_bytes(len) as usize;
    if len > size_max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message of {len} bytes is larger than the limit of {size_max}"),
        ));
    }
    let mut body = vec![0; len];
    from.read_exact(&mut body)?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page() -> Page {
        Page {
            entries: vec![
                (vec![], vec![1]),
                (vec![0], vec![]),
                (vec![1; KEY_SIZE_MAX], vec![2; 9]),
            ],
            more: true,
        }
    }

    #[test]
    fn questions_come_through() {
        for question in [
            Question::Locate(vec![0x12, 0x20]),
            Question::Value(Table::Units, vec![]),
            Question::Value(Table::Config, vec![1; KEY_SIZE_MAX]),
            Question::Page(Table::Pieces, None),
            Question::Page(Table::Epochs, Some(vec![])),
            Question::Blocks,
            Question::HandOver,
        ] {
            let bytes = question.encode();
            assert!(bytes.len() <= QUESTION_SIZE_MAX);
            assert_eq!(Question::decode(&bytes), Some(question));
        }
    }

    #[test]
    fn answers_come_through() {
        let location = Location {
            pack: 1,
            offset: 2,
            size: 3,
            codec: 0x55,
            checksum: Some(4),
        };
        let older = Location {
            checksum: None,
            ..location
        };
        let blocks = Blocks {
            count: 1,
            size_bytes: 2,
        };
        for (question, answer) in [
            (Question::Locate(vec![]), Answer::Locate(None)),
            (Question::Locate(vec![]), Answer::Locate(Some(location))),
            (Question::Locate(vec![]), Answer::Locate(Some(older))),
            (Question::Value(Table::Units, vec![]), Answer::Value(None)),
            (
                Question::Value(Table::Units, vec![]),
                Answer::Value(Some(vec![])),
            ),
            (Question::Page(Table::Units, None), Answer::Page(page())),
            (
                Question::Page(Table::Units, None),
                Answer::Page(Page::default()),
            ),
            (Question::Blocks, Answer::Blocks(blocks)),
            (Question::Blocks, Answer::Failed("why".to_owned())),
            (Question::HandOver, Answer::HandedOver),
            (Question::HandOver, Answer::Kept),
        ] {
            assert_eq!(
                Answer::decode(&question, &answer.encode()),
                Some(answer.clone())
            );
        }
    }

    #[test]
    fn rejects_what_is_no_question() {
        for bytes in [
            b"".as_slice(),
            b"\x01",
            b"\x02b",
            b"\x01b\x00",
            b"\x01hh",
            b"\x01v",
            b"\x01v\x09key",
            b"\x01f\x01key",
            b"\x01?",
        ] {
            assert_eq!(Question::decode(bytes), None, "{bytes:?}");
        }
        let long = [b"\x01v\x01".as_slice(), &[0; KEY_SIZE_MAX + 1]].concat();
        assert_eq!(Question::decode(&long), None);
    }

    #[test]
    fn rejects_what_is_no_answer() {
        let first = Question::Page(Table::Units, None);
        let behind = Question::Page(Table::Units, Some(b"b".to_vec()));
        for (question, bytes, why) in [
            (&Question::Blocks, b"".as_slice(), "empty"),
            (
                &Question::Blocks,
                b"0",
                "nothing, where there is always something",
            ),
            (&Question::Blocks, b"b123", "too short"),
            (&first, b"p", "promises more and does not get on"),
            (&first, b"e\0\x01\0\0\0\x02kv", "a value that is cut"),
            (
                &first,
                b"e\0\x01\0\0\0\x00b\0\x01\0\0\0\x00a",
                "keys descend",
            ),
            (&behind, b"e\0\x01\0\0\0\x00b", "a key that was had before"),
            (&first, b"v", "the answer to another question"),
        ] {
            assert_eq!(Answer::decode(question, bytes), None, "{why}");
        }
    }

    #[test]
    fn receives_no_more_than_the_limit() {
        let mut message = Vec::new();
        send(&mut message, &[0; 10]).unwrap();
        assert_eq!(receive(&mut message.as_slice(), 10).unwrap(), [0; 10]);
        assert!(receive(&mut message.as_slice(), 9).is_err());
        assert!(receive(&mut &message[..13], 10).is_err());
    }

    proptest! {
        #[test]
        fn decoders_take_anything(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(question) = Question::decode(&bytes) {
                prop_assert_eq!(question.encode(), bytes.clone());
            }
            let question = Question::Page(Table::Units, None);
            if let Some(answer) = Answer::decode(&question, &bytes) && bytes[0] != b'!' {
                prop_assert_eq!(answer.encode(), bytes);
            }
        }
    }
}
