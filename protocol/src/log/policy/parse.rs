//! The lines of a policy.

use std::{collections::BTreeMap, str::FromStr};

use super::{
    GROUPS_MAX, Group, LOGS_MAX, Member, POLICY_SIZE_MAX, Policy, PolicyError, PolicyLog,
    PolicyWitness, WITNESSES_MAX,
};
use crate::note::SignerKey;

/// The name of no witnesses at all.
const NONE: &[u8] = b"none";

type Items<'a> = Vec<&'a [u8]>;

/// A policy as far as it was read.
#[derive(Default)]
struct Reader {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<Group>,
    /// Witnesses and groups, and whether they are in a group.
    names: BTreeMap<Vec<u8>, (Member, bool)>,
    quorum: Option<Option<Member>>,
}

pub(super) fn parse(policy: &[u8]) -> Result<Policy, PolicyError> {
    if policy.len() > POLICY_SIZE_MAX {
        return Err(PolicyError::TooLong);
    }
    let mut reader = Reader::default();
    let mut number = 0;
    for line in policy.split_inclusive(|&b| b == b'\n') {
        number += 1;
        reader.read(line, number)?;
    }
    Ok(Policy {
        logs: reader.logs,
        witnesses: reader.witnesses,
        groups: reader.groups,
        quorum: reader.quorum.ok_or(PolicyError::NoQuorum)?,
    })
}

impl Reader {
    fn read(&mut self, line: &[u8], number: usize) -> Result<(), PolicyError> {
        let wrong = |reason| PolicyError::Line {
            line: number,
            reason,
        };
        let line = line.strip_suffix(b"\n");
        let line = line.ok_or(wrong("no newline at its end"))?;
        if line.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
            return Err(wrong("a control character"));
        }
        let items: Items<'_> = line
            .split(|b| matches!(b, b' ' | b'\t'))
            .filter(|item| !item.is_empty())
            .collect();
        let Some((keyword, items)) = items.split_first() else {
            return Ok(());
        };
        match (*keyword, items) {
            (comment, _) if comment.starts_with(b"#") => Ok(()),
            (b"log", [key]) => self.log(key, None, number),
            (b"log", [key, url]) => self.log(key, Some(url), number),
            (b"witness", [name, key]) => self.witness(name, key, None, number),
            (b"witness", [name, key, url]) => self.witness(name, key, Some(url), number),
            (b"group", [name, needed, members @ ..]) => {
                self.group(name, needed, members).map_err(wrong)
            }
            (b"quorum", [name]) => self.quorum(name).map_err(wrong),
            (b"log" | b"witness" | b"group" | b"quorum", _) => {
                Err(wrong("too few or too many words"))
            }
            _ => Err(wrong("an unknown word at its beginning")),
        }
    }

    fn log(&mut self, key: &[u8], url: Option<&&[u8]>, line: usize) -> Result<(), PolicyError> {
        let wrong = |reason| PolicyError::Line { line, reason };
        let key = parse_key(key, line)?;
        if self.logs.len() >= LOGS_MAX {
            return Err(wrong("more logs than any policy has"));
        }
        if self.logs.iter().any(|log| log.key.public() == key.public()) {
            return Err(wrong("the key of another log"));
        }
        let url = url.map(|url| url.to_vec());
        self.logs.push(PolicyLog { key, url });
        Ok(())
    }

    fn witness(
        &mut self,
        name: &[u8],
        key: &[u8],
        url: Option<&&[u8]>,
        line: usize,
    ) -> Result<(), PolicyError> {
        let wrong = |reason| PolicyError::Line { line, reason };
        let key: SignerKey<_> = parse_key(key, line)?;
        let mut before = self.witnesses.iter();
        if before.any(|witness| witness.key.public() == key.public()) {
            return Err(wrong("the key of another witness"));
        }
        let index = self.witnesses.len();
        if index >= WITNESSES_MAX {
            return Err(wrong("more witnesses than any policy has"));
        }
        self.define(name, Member::Witness(index)).map_err(wrong)?;
        self.witnesses.push(PolicyWitness {
            name: name.to_vec(),
            key,
            url: url.map(|url| url.to_vec()),
        });
        Ok(())
    }

    fn group(&mut self, name: &[u8], needed: &[u8], names: &[&[u8]]) -> Result<(), &'static str> {
        let needed = match needed {
            b"all" => names.len(),
            b"any" => 1,
            digits => parse_number(digits).ok_or("neither all, any nor a number")?,
        };
        if !(1..=names.len()).contains(&needed) {
            return Err("as many members as are needed cannot be");
        }
        let mut members = Vec::with_capacity(names.len());
        for name in names {
            let (member, taken) = self.names.get_mut(*name).ok_or("an unknown member")?;
            if std::mem::replace(taken, true) {
                return Err("a member of another group, or twice of this one");
            }
            members.push(*member);
        }
        let index = self.groups.len();
        if index >= GROUPS_MAX {
            return Err("more groups than any policy has");
        }
        self.define(name, Member::Group(index))?;
        self.groups.push(Group { needed, members });
        Ok(())
    }

    fn quorum(&mut self, name: &[u8]) -> Result<(), &'static str> {
        if self.quorum.is_some() {
            return Err("a second quorum");
        }
        self.quorum = Some(match self.names.get(name) {
            _ if name == NONE => None,
            Some((member, _)) => Some(*member),
            None => return Err("an unknown witness or group"),
        });
        Ok(())
    }

    fn define(&mut self, name: &[u8], member: Member) -> Result<(), &'static str> {
        if name == NONE {
            return Err("a name that stands for none");
        }
        match self.names.insert(name.to_vec(), (member, false)) {
            Some(_) => Err("a name that is in use"),
            None => Ok(()),
        }
    }
}

fn parse_key<const TYPE: u8>(key: &[u8], line: usize) -> Result<SignerKey<TYPE>, PolicyError> {
    let text = std::str::from_utf8(key).map_err(|_| PolicyError::Line {
        line,
        reason: "a key that is not UTF-8",
    })?;
    SignerKey::from_str(text).map_err(|error| PolicyError::Key { line, error })
}

/// A number as it would be written.
fn parse_number(digits: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(digits).ok()?;
    let number: usize = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}
