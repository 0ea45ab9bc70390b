//! The federation: the nodes whose logs this one follows, and that may follow it.
//!
//! `HOME/federation.txt` has a line for each, `ROLE[,ROLE]… INVITE`, sorted by log; an invite is what a node says of
//! itself, in one line: where it is reached, the key of its log, the key that it cosigns with, whom to seal to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

use libp2p::{Multiaddr, PeerId};
use protocol::{
    log::{
        checkpoint::Origin,
        cosignature::CosignerKey,
        keys::{ORIGIN_PREFIX, origin_of},
        replica::{self, limits::ORIGINS_MAX},
    },
    note::{NoteError, VerifierKey},
};

use crate::{durable_file, home::Home, keys::RecipientSet, node};

/// Most addresses of an invite.
pub const ADDRESSES_MAX: usize = 8;
/// Most recipients of an invite.
pub const RECIPIENTS_MAX: usize = 4;
/// Longest invite, in bytes.
pub const INVITE_SIZE_MAX: usize = 16 << 10;
/// Largest file of a federation, in bytes.
const FILE_SIZE_MAX: u64 = (ORIGINS_MAX * INVITE_SIZE_MAX) as u64;
/// The first line of the file.
const HEADER: &str = "souverain federation 1";
/// What the names of keys that cosign begin with.
const WITNESS_PREFIX: &str = "souverain-witness/";
/// Characters of the peer id that end them: names are in every proof, and keys tell peers apart.
const WITNESS_PEER_LEN: usize = 16;

/// The name of the key that a peer cosigns with.
#[must_use]
pub fn witness_name(peer: &PeerId) -> String {
    let peer = peer.to_string();
    let end = peer.len().saturating_sub(WITNESS_PEER_LEN);
    format!("{WITNESS_PREFIX}{}", &peer[end..])
}

/// What a member is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Its operations are in its log.
    Tenant,
    /// Its cosignatures count.
    Witness,
    /// It can open the details of entries.
    Auditor,
}

/// What a node says of itself to those who are to follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// Its peer id.
    pub peer: PeerId,
    /// Where it is reached, each with the peer id at its end; that may be all there is.
    pub addresses: Vec<Multiaddr>,
    /// A key of its log, whose name is the log's origin.
    pub log: VerifierKey,
    /// What it cosigns with.
    pub witness: Option<CosignerKey>,
    /// Whom to seal to, so that it can read.
    pub recipients: Vec<String>,
}

/// A node of the federation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it is there for; at least one.
    pub roles: BTreeSet<Role>,
    /// What it said of itself.
    pub invite: Invite,
}

/// All members but the node itself, by the origin of their logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Federation {
    members: BTreeMap<Origin, Member>,
}

/// Why words are no invite.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    /// It is longer than any.
    #[error("an invite is at most {INVITE_SIZE_MAX} bytes")]
    TooLong,
    /// A part of it has no known form.
    #[error("{0:?} is no part of an invite")]
    Unknown(String),
    /// A key is none.
    #[error("a key of the invite is none")]
    Key(#[from] NoteError),
    /// A part is missing, comes twice or too often, or not in its place.
    #[error("{0}")]
    Form(&'static str),
}

/// Why the federation cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum FederationError {
    /// The file cannot be used.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The file is not as this program writes it.
    #[error("line {line} of {} is malformed", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// There are too many.
    #[error("a federation has at most {ORIGINS_MAX} logs")]
    Full,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tenant, Self::Witness, Self::Auditor];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Witness => "witness",
            Self::Auditor => "auditor",
        }
    }
}

impl Invite {
    /// The log.
    ///
    /// # Panics
    /// Never: the key of an invite has the name of a log.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin::new(self.log.name()).expect("checked when it was made")
    }

    fn check(&self) -> Result<(), InviteError> {
        let form = |what| Err(InviteError::Form(what));
        let of_peer = |address: &Multiaddr| node::peer_of(address).is_ok_and(|p| p == self.peer);
        let witness = witness_name(&self.peer);
        if self.addresses.is_empty() || self.addresses.len() > ADDRESSES_MAX {
            return form("an invite has 1 to 8 addresses");
        }
        if !self.addresses.iter().all(of_peer) {
            return form("the addresses of an invite end with the id of one peer");
        }
        let genesis = self.log.name().strip_prefix(ORIGIN_PREFIX);
        let genesis = genesis.and_then(|cid| cid.parse().ok());
        if genesis.is_none_or(|cid| origin_of(&cid).as_str() != self.log.name()) {
            return form("the key of an invite's log has another name than a log");
        }
        if self
            .witness
            .as_ref()
            .is_some_and(|key| key.name() != witness)
        {
            return form("the key that an invite's node cosigns with has another name");
        }
        if self.recipients.len() > RECIPIENTS_MAX {
            return form("an invite has at most 4 recipients");
        }
        Ok(())
    }
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for address in &self.addresses {
            write!(f, "{address} ")?;
        }
        write!(f, "{}", self.log)?;
        if let Some(witness) = &self.witness {
            write!(f, " {witness}")?;
        }
        for recipient in &self.recipients {
            write!(f, " {recipient}")?;
        }
        Ok(())
    }
}

impl FromStr for Invite {
    type Err = InviteError;

    fn from_str(text: &str) -> Result<Self, InviteError> {
        if text.len() > INVITE_SIZE_MAX {
            return Err(InviteError::TooLong);
        }
        let (mut addresses, mut log, mut witness) = (Vec::new(), None, None);
        let mut recipients: Vec<String> = Vec::new();
        for word in text.split_whitespace() {
            if word.starts_with('/') {
                let address = word.parse::<Multiaddr>();
                addresses.push(address.map_err(|_| InviteError::Unknown(word.to_owned()))?);
            } else if word.starts_with(WITNESS_PREFIX) {
                if witness.replace(word.parse()?).is_some() {
                    return Err(InviteError::Form("an invite has one key that cosigns"));
                }
            } else if word.starts_with(ORIGIN_PREFIX) {
                if log.replace(word.parse::<VerifierKey>()?).is_some() {
                    return Err(InviteError::Form("an invite has one log"));
                }
            } else if RecipientSet::parse(&[word]).is_ok() && word.starts_with("age1") {
                recipients.push(word.to_owned());
            } else {
                return Err(InviteError::Unknown(word.to_owned()));
            }
        }
        let first = addresses.first().and_then(|a| node::peer_of(a).ok());
        let invite = Self {
            peer: first.ok_or(InviteError::Form(
                "an invite begins with an address of a peer",
            ))?,
            addresses,
            log: log.ok_or(InviteError::Form("an invite has the key of a log"))?,
            witness,
            recipients,
        };
        invite.check().map(|()| invite)
    }
}

impl Member {
    /// As replicas know it.
    #[must_use]
    pub fn for_replica(&self) -> replica::Member {
        let roles = self.roles.iter().filter_map(|role| match role {
            Role::Tenant => Some(replica::Role::Tenant),
            Role::Auditor => Some(replica::Role::Auditor),
            Role::Witness => {
                let key = self.invite.witness.clone()?;
                Some(replica::Role::Witness(Box::new(key)))
            }
        });
        replica::Member {
            origin: self.invite.origin(),
            roles: roles.collect(),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let (words, invite) = line.split_once(' ')?;
        let role = |word| Role::ALL.into_iter().find(|role| role.as_str() == word);
        let roles = words.split(',').map(role).collect::<Option<_>>()?;
        let invite = invite.parse().ok()?;
        let member = Self { roles, invite };
        (member.to_string() == line).then_some(member)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles: Vec<&str> = self.roles.iter().map(|role| role.as_str()).collect();
        write!(f, "{} {}", roles.join(","), self.invite)
    }
}

impl Federation {
    /// That of a home; nobody, if it has no file.
    ///
    /// # Errors
    /// The file cannot be read, or is malformed.
    pub fn load(home: &Path) -> Result<Self, FederationError> {
        let path = file(home);
        let failed = |cause| FederationError::Io {
            path: path.clone(),
            cause,
        };
        let file = match std::fs::File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            opened => opened.map_err(failed)?,
        };
        let mut text = String::new();
        file.take(FILE_SIZE_MAX)
            .read_to_string(&mut text)
            .map_err(failed)?;
        Self::parse(&text).map_err(|line| FederationError::Malformed { path, line })
    }

    /// Reads the text of a federation's file.
    ///
    /// # Errors
    /// It is not as this program writes it: the number of the line, from 1.
    pub fn parse(text: &str) -> Result<Self, usize> {
        let mut federation = Self::default();
        let mut lines = text.lines().zip(1..);
        if lines.next().is_none_or(|(header, _)| header != HEADER) {
            return Err(1);
        }
        for (line, number) in lines {
            let member = Member::parse(line).ok_or(number)?;
            let before = federation.members.len();
            federation.insert(member).map_err(|_| number)?;
            if federation.members.len() == before {
                return Err(number);
            }
        }
        match federation.to_string() == text {
            true => Ok(federation),
            false => Err(text.lines().count()),
        }
    }

    /// Puts it in the place of the home's, durably.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, home: &Home) -> Result<(), FederationError> {
        let path = file(home.path());
        durable_file::replace(&path, self.to_string().as_bytes())
            .map_err(|cause| FederationError::Io { path, cause })
    }

    /// Adds a member, or puts it in the place of the one with its log.
    ///
    /// # Errors
    /// There are too many.
    pub fn insert(&mut self, member: Member) -> Result<(), FederationError> {
        let origin = member.invite.origin();
        // One is the node's own.
        if self.members.len() + 1 >= ORIGINS_MAX && !self.members.contains_key(&origin) {
            return Err(FederationError::Full);
        }
        self.members.insert(origin, member);
        Ok(())
    }

    /// Takes a member out.
    pub fn remove(&mut self, origin: &Origin) -> Option<Member> {
        self.members.remove(origin)
    }

    /// Its members.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Its members that a word names: a peer id, an origin, or the CID of its first entry.
    pub fn named<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a Member> {
        self.members().filter(move |member| {
            let origin = member.invite.log.name();
            member.invite.peer.to_string() == word
                || origin == word
                || origin.strip_prefix(ORIGIN_PREFIX) == Some(word)
        })
    }
}

impl fmt::Display for Federation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        self.members()
            .try_for_each(|member| writeln!(f, "{member}"))
    }
}

fn file(home: &Path) -> PathBuf {
    home.join("federation.txt")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOG: &str = "souverain/bafyreih52tzxzhcc7bzda4g5shgvxcpc5q4dtnnyvbhl6zao2mrr46wsnm+5db94c73+Ae1JKMYo0cLG6ukDOJBZlWEpWSc6XGP5NjbBRhSshzfR";
    const PEER: &str = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";
    const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

    fn text() -> String {
        format!("/ip4/127.0.0.1/tcp/4001/p2p/{PEER} /p2p/{PEER} {LOG} {RECIPIENT}")
    }

    fn member() -> Member {
        Member {
            roles: BTreeSet::from([Role::Tenant, Role::Auditor]),
            invite: text().parse().expect("an invite"),
        }
    }

    #[test]
    fn an_invite_is_read_as_it_was_written() {
        let invite: Invite = text().parse().expect("an invite");
        assert_eq!(invite.to_string(), text());
        assert_eq!(invite.peer.to_string(), PEER);
        assert_eq!(invite.addresses.len(), 2);
        assert_eq!(invite.origin().as_str(), &LOG[..LOG.find('+').expect("+")]);
    }

    #[test]
    fn what_is_no_invite_is_refused() {
        let address = format!("/ip4/127.0.0.1/tcp/4001/p2p/{PEER}");
        let other = PeerId::random();
        for bad in [
            String::new(),
            LOG.to_owned(),
            address.clone(),
            format!("{address} {LOG} {LOG}"),
            format!("{address} {LOG} what"),
            format!("{address} /p2p/{other} {LOG}"),
            format!("/ip4/127.0.0.1/tcp/4001 {LOG}"),
            format!("{}{LOG}", format!("{address} ").repeat(9)),
            format!("{address} {LOG}{}", format!(" {RECIPIENT}").repeat(5)),
            format!("{address} other{LOG}"),
            format!("{address} {}", LOG.replace("+5db9", "+5db8")),
            format!("{address} {LOG} {RECIPIENT}{}", " ".repeat(INVITE_SIZE_MAX)),
        ] {
            assert!(bad.parse::<Invite>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_federation_is_read_as_it_was_written_and_in_no_other_way() {
        let mut federation = Federation::default();
        federation.insert(member()).expect("there is room");
        let written = federation.to_string();
        assert_eq!(Federation::parse(&written), Ok(federation));
        let line = member().to_string();
        for bad in [
            String::new(),
            line.clone(),
            format!("{HEADER}\n{line}"),
            format!("{HEADER}\n{line}\n{line}\n"),
            format!("{HEADER}\n\n{line}\n"),
            format!(
                "{HEADER}\n{}\n",
                line.replace("tenant,auditor", "auditor,tenant")
            ),
            format!("{HEADER}\n{}\n", line.replace("tenant", "owner")),
            format!("{HEADER}\n{}\n", line.replace(" /p2p", "  /p2p")),
        ] {
            assert!(Federation::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_member_is_found_by_peer_origin_and_cid() {
        let mut federation = Federation::default();
        federation.insert(member()).expect("there is room");
        let origin = &LOG[..LOG.find('+').expect("+")];
        for word in [PEER, origin, &origin[ORIGIN_PREFIX.len()..]] {
            assert_eq!(federation.named(word).count(), 1, "{word}");
        }
        assert_eq!(federation.named("souverain/").count(), 0);
        assert!(federation.remove(&member().invite.origin()).is_some());
        assert_eq!(federation.members().count(), 0);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = text.parse::<Invite>();
            let _ = Federation::parse(&text);
        }
    }
}
