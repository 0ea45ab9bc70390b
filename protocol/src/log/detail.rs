//! Details of an entry that may be personal or sensitive: committed to in the log, sealed to the
//! auditors beside it, and disclosed one by one.
//!
//! Who forgets the salt of a detail has erased it: the log still verifies, and tells nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::entry::{COMMITS_MAX, Entry, is_word};
use crate::seal::{self, OpenError, SealError, Sealed};

/// What is hashed of a detail begins with this.
pub const DETAIL_DOMAIN: &str = "souverain/log-detail/v1\n";
/// The version of details that is written.
pub const DETAIL_VERSION: u64 = 1;
/// Largest value of a detail in bytes.
pub const VALUE_SIZE_MAX: usize = 16 << 10;
/// Largest block of details in bytes, before it is sealed.
pub const DETAILS_SIZE_MAX: usize = COMMITS_MAX * (VALUE_SIZE_MAX + 256);

/// Why details are not those of an entry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DetailError {
    /// They are longer than any may be.
    #[error("the details are longer than {DETAILS_SIZE_MAX} bytes")]
    TooLong,
    /// They are of a version that this program does not know.
    #[error("the details are of a later version, {version}")]
    LaterVersion {
        /// The version.
        version: u64,
    },
    /// They do not have the form of details, or would be written in another way.
    #[error("not the details of an entry")]
    Malformed,
    /// They are of another entry.
    #[error("details of entry {found}, not of {expected}")]
    OtherEntry {
        /// Index of the entry.
        expected: u64,
        /// Index that they are said to be of.
        found: u64,
    },
    /// The entry commits to something else under this name, or to nothing.
    #[error("entry {seq} does not commit to this {name:?}")]
    NotCommitted {
        /// Index of the entry.
        seq: u64,
        /// Name of the detail.
        name: String,
    },
}

/// Why sealed details are not to be read.
#[derive(Debug, thiserror::Error)]
pub enum OpenDetailsError {
    /// They cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was sealed is none.
    #[error(transparent)]
    Detail(#[from] DetailError),
}

/// A detail of an entry: its value, and the salt that keeps others from guessing it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detail {
    /// The value.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
    /// Random bytes, drawn for this detail alone.
    #[serde(with = "serde_bytes")]
    pub salt: [u8; 32],
}

impl Detail {
    /// What an entry holds of it.
    #[must_use]
    pub fn commitment(&self, name: &str) -> [u8; 32] {
        let mut hash = Sha256::new().chain_update(DETAIL_DOMAIN);
        for part in [name.as_bytes(), &self.value] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.chain_update(self.salt).finalize().into()
    }
}

/// All details of an entry, by name: the block that is sealed to the auditors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details(BTreeMap<String, Detail>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    v: u64,
    fields: BTreeMap<String, Detail>,
}

impl Details {
    /// Takes details.
    ///
    /// # Errors
    /// There are too many, one is too long, or has a name that it may not have.
    pub fn new(details: BTreeMap<String, Detail>) -> Result<Self, DetailError> {
        let good = |(name, detail): (&String, &Detail)| {
            is_word(name) && detail.value.len() <= VALUE_SIZE_MAX
        };
        if details.len() <= COMMITS_MAX && details.iter().all(good) {
            Ok(Self(details))
        } else {
            Err(DetailError::Malformed)
        }
    }

    /// The details by name.
    #[must_use]
    pub fn by_name(&self) -> &BTreeMap<String, Detail> {
        &self.0
    }

    /// What the entry commits to.
    #[must_use]
    pub fn commitments(&self) -> BTreeMap<String, [u8; 32]> {
        let each = self.0.iter();
        each.map(|(name, detail)| (name.clone(), detail.commitment(name)))
            .collect()
    }

    /// Seals them to those who may know them.
    ///
    /// # Errors
    /// The recipients do not go together, or there are none.
    pub fn seal<'a>(
        &self,
        recipients: impl Iterator<Item = &'a dyn age::Recipient>,
    ) -> Result<Sealed, SealError> {
        seal::encrypt(recipients, &self.encode())
    }

    /// Opens what [`Details::seal`] sealed.
    ///
    /// # Errors
    /// No identity matches; or they are damaged, or none.
    pub fn open<'a>(
        identities: impl Iterator<Item = &'a dyn age::Identity>,
        sealed: &[u8],
    ) -> Result<Self, OpenDetailsError> {
        Ok(Self::parse(&seal::decrypt(identities, sealed)?)?)
    }

    /// Writes them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wire = Wire {
            v: DETAIL_VERSION,
            fields: self.0.clone(),
        };
        serde_ipld_dagcbor::to_vec(&wire).expect("plain structures serialize")
    }

    /// Reads them, and refuses what [`Details::encode`] would not write.
    ///
    /// # Errors
    /// It would not write this.
    pub fn parse(bytes: &[u8]) -> Result<Self, DetailError> {
        let wire: Wire = decode(bytes)?;
        if wire.v > DETAIL_VERSION {
            return Err(DetailError::LaterVersion { version: wire.v });
        }
        let details = Self::new(wire.fields)?;
        same(&details.encode(), bytes).map(|()| details)
    }

    /// Checks that an entry commits to these details and to no others.
    ///
    /// # Errors
    /// It does not.
    pub fn verify(&self, entry: &Entry) -> Result<(), DetailError> {
        let committed = &entry.draft().commit;
        let ours = self.commitments();
        let mut names = committed.keys().chain(ours.keys());
        match names.find(|name| committed.get(*name) != ours.get(*name)) {
            None => Ok(()),
            Some(name) => Err(DetailError::NotCommitted {
                seq: entry.draft().seq,
                name: name.clone(),
            }),
        }
    }

    /// Discloses one detail of the entry at an index, and nothing of the others.
    #[must_use]
    pub fn disclose(&self, seq: u64, name: &str) -> Option<Disclosure> {
        Some(Disclosure {
            v: DETAIL_VERSION,
            seq,
            name: name.to_owned(),
            detail: self.0.get(name)?.clone(),
        })
    }
}

/// A detail of one entry, for who may know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disclosure {
    v: u64,
    seq: u64,
    name: String,
    detail: Detail,
}

impl Disclosure {
    /// Index of the entry.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Name of the detail.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_ipld_dagcbor::to_vec(self).expect("plain structures serialize")
    }

    /// Reads it, and refuses what [`Disclosure::encode`] would not write.
    ///
    /// # Errors
    /// It would not write this.
    pub fn parse(bytes: &[u8]) -> Result<Self, DetailError> {
        let disclosure: Self = decode(bytes)?;
        if disclosure.v > DETAIL_VERSION {
            return Err(DetailError::LaterVersion {
                version: disclosure.v,
            });
        }
        let good = disclosure.v == DETAIL_VERSION
            && is_word(&disclosure.name)
            && disclosure.detail.value.len() <= VALUE_SIZE_MAX;
        if !good {
            return Err(DetailError::Malformed);
        }
        same(&disclosure.encode(), bytes).map(|()| disclosure)
    }

    /// The value, if the entry commits to it.
    ///
    /// # Errors
    /// It does not.
    pub fn verify(&self, entry: &Entry) -> Result<&[u8], DetailError> {
        let expected = entry.draft().seq;
        if self.seq != expected {
            return Err(DetailError::OtherEntry {
                expected,
                found: self.seq,
            });
        }
        let committed = entry.draft().commit.get(&self.name);
        if committed != Some(&self.detail.commitment(&self.name)) {
            return Err(DetailError::NotCommitted {
                seq: self.seq,
                name: self.name.clone(),
            });
        }
        Ok(&self.detail.value)
    }
}

#[derive(Deserialize)]
struct Version {
    v: u64,
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DetailError> {
    if bytes.len() > DETAILS_SIZE_MAX {
        return Err(DetailError::TooLong);
    }
    serde_ipld_dagcbor::from_slice(bytes).map_err(|_| match serde_ipld_dagcbor::from_slice(bytes) {
        Ok(Version { v }) if v > DETAIL_VERSION => DetailError::LaterVersion { version: v },
        _ => DetailError::Malformed,
    })
}

fn same(again: &[u8], bytes: &[u8]) -> Result<(), DetailError> {
    if again == bytes {
        Ok(())
    } else {
        Err(DetailError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;
    use crate::log::{
        entry::Action,
        testing::{Log, public, sign},
    };

    fn details() -> Details {
        let detail = |name: &str, value: &[u8], salt| {
            let detail = Detail {
                value: value.to_vec(),
                salt: [salt; 32],
            };
            (name.to_owned(), detail)
        };
        let all = [detail("file", b"/home/ada", 1), detail("error", b"", 2)];
        Details::new(all.into()).expect("few and short")
    }

    fn entry(details: &Details) -> Entry {
        let mut draft = Log::new().draft(Action::EXPORT);
        draft.commit = details.commitments();
        draft.sign(&public(1), sign(1)).expect("signs")
    }

    #[test]
    fn an_entry_commits_to_its_details_and_to_no_others() {
        let details = details();
        let entry = entry(&details);
        assert_eq!(details.verify(&entry), Ok(()));
        assert_eq!(Details::parse(&details.encode()), Ok(details.clone()));
        let no = |name: &str| {
            Err(DetailError::NotCommitted {
                seq: 1,
                name: name.to_owned(),
            })
        };
        type Change<'a> = &'a dyn Fn(&mut BTreeMap<String, Detail>);
        let changes: [(&str, Change<'_>); 5] = [
            ("file", &|all| {
                all.get_mut("file").expect("there").value[0] ^= 1
            }),
            ("file", &|all| {
                all.get_mut("file").expect("there").salt[0] ^= 1
            }),
            ("error", &|all| {
                all.remove("error");
            }),
            ("more", &|all| {
                all.insert("more".into(), all["file"].clone());
            }),
            ("error", &|all| {
                all.insert("error".into(), all["file"].clone());
            }),
        ];
        for (name, change) in changes {
            let mut all = details.by_name().clone();
            change(&mut all);
            let changed = Details::new(all).expect("few and short");
            assert_eq!(changed.verify(&entry), no(name));
        }
    }

    #[test]
    fn a_detail_is_disclosed_alone() {
        let details = details();
        let entry = entry(&details);
        let disclosure = details.disclose(1, "file").expect("there");
        let bytes = disclosure.encode();
        assert!(!bytes.windows(32).any(|window| window == [2; 32]));
        let parsed = Disclosure::parse(&bytes).expect("a disclosure");
        assert_eq!(parsed.verify(&entry), Ok(&b"/home/ada"[..]));
        assert_eq!((parsed.seq(), parsed.name()), (1, "file"));
        assert_eq!(details.disclose(1, "nothing"), None);
        let other = details.disclose(2, "file").expect("there");
        let refused = DetailError::OtherEntry {
            expected: 1,
            found: 2,
        };
        assert_eq!(other.verify(&entry), Err(refused));
        let mut renamed = parsed;
        renamed.name = "error".into();
        assert!(renamed.verify(&entry).is_err());
    }

    #[test]
    fn rejects_details_that_would_not_be_written() {
        let long = Detail {
            value: vec![0; VALUE_SIZE_MAX + 1],
            salt: [0; 32],
        };
        let short = Detail {
            value: Vec::new(),
            ..long.clone()
        };
        let many = (0..=COMMITS_MAX).map(|i| (format!("c{i}"), short.clone()));
        for bad in [
            [("file".to_owned(), long)].into(),
            [("File".to_owned(), short.clone())].into(),
            many.collect(),
        ] {
            assert_eq!(Details::new(bad), Err(DetailError::Malformed));
        }
        let good = HEXLOWER.encode(&details().encode());
        for (from, to) in [
            ("617601", "617600"),
            ("a2617601", "a3617501617601"),
            ("a2617601", "bf617601"),
            ("6576616c7565", "6576616c7566"),
            ("6466696c65", "6446696c65"),
        ] {
            assert!(good.contains(from), "{from}");
            let bad = HEXLOWER.decode(good.replacen(from, to, 1).as_bytes());
            let bad = Details::parse(&bad.expect("hexadecimal"));
            assert_eq!(bad, Err(DetailError::Malformed), "{from}");
        }
        let later = HEXLOWER.decode(good.replacen("617601", "617602", 1).as_bytes());
        let later = Details::parse(&later.expect("hexadecimal"));
        assert_eq!(later, Err(DetailError::LaterVersion { version: 2 }));
        let huge = Details::parse(&vec![0; DETAILS_SIZE_MAX + 1]);
        assert_eq!(huge, Err(DetailError::TooLong));
        let mut disclosure = details().disclose(1, "file").expect("there");
        disclosure.v = 2;
        let later = Disclosure::parse(&disclosure.encode());
        assert_eq!(later, Err(DetailError::LaterVersion { version: 2 }));
        let malformed = Err(DetailError::Malformed);
        disclosure.v = 0;
        assert_eq!(Disclosure::parse(&disclosure.encode()), malformed);
        disclosure.v = 1;
        disclosure.name = "File".into();
        assert_eq!(Disclosure::parse(&disclosure.encode()), malformed);
    }
}
