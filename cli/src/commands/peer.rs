//! `peer`: the federation, whose logs this node follows and who may follow it.

use std::collections::BTreeSet;

use agent::{
    control::Client,
    federation::{ADDRESSES_MAX, Federation, Invite, Member, RECIPIENTS_MAX, Role},
    home::Home,
    keys::RecipientSet,
    log::{self, OwnLog, auditors, now_ms, set_auditors},
    node::Multiaddr,
};
use clap::ValueEnum;
use protocol::log::{entry::Action, keys::ORIGIN_PREFIX};
use serde::Serialize;

use crate::{context::Context, error::CliError, ui::Printable};

/// Say whose logs this node follows, and who may follow it
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Invite(InviteArgs),
    Add(AddArgs),
    List(ListArgs),
    Remove(RemoveArgs),
}

/// Print what others pass to `peer add`: addresses, peer id, the log's key, whom to seal to
#[derive(Debug, clap::Args)]
pub(crate) struct InviteArgs {
    /// Where the node is reached [default: where its running agent listens]
    #[arg(long, value_name = "MULTIADDR")]
    address: Vec<Multiaddr>,
}

/// Follow the log of another node, and let it follow this one's
///
/// Two nodes follow each other when each has added the other. A running agent takes it in at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
    souverain peer add \"$(souverain --home other peer invite)\" --role tenant --role witness")]
pub(crate) struct AddArgs {
    /// What `souverain peer invite` printed there
    #[arg(value_name = "INVITE", required = true)]
    invite: Vec<String>,
    /// What it is there for: its cosignatures count, or it can open the details of entries
    #[arg(long, value_enum, value_name = "ROLE", default_value = "tenant")]
    role: Vec<RoleChoice>,
}

/// Print the members of the federation, and how far their logs are here
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {}

/// Follow a log no more, and let its node not follow this one's
///
/// What is kept of the log stays.
#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    /// A peer id, or the origin of a log
    #[arg(value_name = "PEER|ORIGIN")]
    member: String,
}

/// What a member is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoleChoice {
    /// Its operations are in its log
    Tenant,
    /// Its cosignatures count
    Witness,
    /// It can open the details of entries to come
    Auditor,
}

#[derive(Serialize)]
struct InviteShown {
    invite: String,
}

#[derive(Serialize)]
struct MemberShown {
    peer: String,
    origin: String,
    roles: Vec<&'static str>,
    entries: u64,
    connected: Option<bool>,
    forked: bool,
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Invite(args) => args.run(context),
            Self::Add(args) => args.run(context),
            Self::List(ListArgs {}) => list(context),
            Self::Remove(args) => args.run(context),
        }
    }
}

impl InviteArgs {
    fn run(self, context: &Context) -> Result<(), CliError> {
        let home = context.open_home()?;
        let peer = home.peer_id();
        let addresses = match self.address.is_empty() {
            false => self.address,
            true => listened_on(&home)?,
        };
        let mut addresses: Vec<Multiaddr> = addresses
            .into_iter()
            .map(|address| address.with_p2p(peer))
            .collect::<Result<_, _>>()
            .map_err(|address| CliError::usage(format!("{address} is of another peer")))?;
        addresses.truncate(ADDRESSES_MAX);
        let recipients = home.default_recipients()?;
        let recipients = recipients.strings().filter(|one| one.starts_with("age1"));
        let invite = Invite {
            peer,
            addresses,
            log: OwnLog::new(&home, context.session.into_bytes())
                .record(now_ms(), &[])?
                .vkey,
            witness: Some(home.witness_key()?.key().clone()),
            recipients: recipients.take(RECIPIENTS_MAX).map(str::to_owned).collect(),
        };
        let shown = InviteShown {
            invite: invite.to_string(),
        };
        context.ui.answer("invite", &shown, &shown.invite)
    }
}

/// Where the running agent listens; not on loopback, if it does elsewhere.
fn listened_on(home: &Home) -> Result<Vec<Multiaddr>, CliError> {
    let Some(agent) = Client::connect(home.path()) else {
        return Err(CliError::failed(
            "no agent runs on this home, so it is not known where it is reached",
        )
        .hint("`souverain agent run` starts one; or name where with `--address MULTIADDR`"));
    };
    let status = agent.status()?;
    let all = status.external.iter().chain(&status.listening);
    let all: BTreeSet<&str> = all.map(String::as_str).collect();
    let is_local = |text: &&&str| text.starts_with("/ip4/127.") || text.starts_with("/ip6/::1/");
    let mut chosen: Vec<&&str> = all.iter().filter(|text| !is_local(text)).collect();
    if chosen.is_empty() {
        chosen = all.iter().collect();
    }
    Ok(chosen.iter().filter_map(|text| text.parse().ok()).collect())
}

impl AddArgs {
    fn run(self, context: &Context) -> Result<(), CliError> {
        let home = context.open_home()?;
        let invite: Invite = self.invite.join(" ").parse()?;
        if invite.peer == home.peer_id() {
            return Err(CliError::usage("that is the invite of this node itself")
                .hint("pass what `souverain peer invite` printed on the other node"));
        }
        let mut roles: BTreeSet<Role> = self.role.iter().map(|role| (*role).into()).collect();
        // Whoever is there for anything has a log that tells of it.
        roles.insert(Role::Tenant);
        if roles.contains(&Role::Witness) && invite.witness.is_none() {
            return Err(CliError::usage("the invite has no key to cosign with")
                .hint("ask for one that a later version of souverain made"));
        }
        if roles.contains(&Role::Auditor) && invite.recipients.is_empty() {
            return Err(CliError::usage("the invite has nobody to seal details to")
                .hint("`souverain log auditor add RECIPIENT` names one"));
        }
        let member = Member { roles, invite };
        let mut federation = Federation::load(home.path())?;
        federation.insert(member.clone())?;
        begin(context, &home, &member)?;
        if member.roles.contains(&Role::Auditor) {
            let these = RecipientSet::parse(&member.invite.recipients)?;
            let all = match auditors(&home)? {
                Some(now) => now.union(&these)?,
                None => these,
            };
            set_auditors(&home, Some(&all))?;
        }
        federation.save(&home)?;
        context.trail.done()?;
        tell_agent(context, &home)?;
        show(context, &home, &member)
    }
}

impl RemoveArgs {
    fn run(self, context: &Context) -> Result<(), CliError> {
        let home = context.open_home()?;
        let mut federation = Federation::load(home.path())?;
        let members: Vec<Member> = federation.named(&self.member).cloned().collect();
        if members.is_empty() {
            return Err(CliError::failed(format!(
                "{} is no member of the federation",
                Printable(&self.member)
            ))
            .hint("`souverain peer list` says who is"));
        }
        for member in &members {
            federation.remove(&member.invite.origin());
            begin(context, &home, member)?;
            context.trail.detail("removed", member.invite.log.name());
            if member.roles.contains(&Role::Auditor) {
                let now = auditors(&home)?;
                let left = now.iter().flat_map(RecipientSet::strings);
                let recipients = &member.invite.recipients;
                let left: Vec<&str> = left
                    .filter(|one| !recipients.iter().any(|r| r == one))
                    .collect();
                let left = match left.as_slice() {
                    [] => None,
                    left => Some(RecipientSet::parse(left)?),
                };
                set_auditors(&home, left.as_ref())?;
            }
            federation.save(&home)?;
            context.trail.done()?;
        }
        tell_agent(context, &home)?;
        list(context)
    }
}

fn begin(context: &Context, home: &Home, member: &Member) -> Result<(), CliError> {
    context.trail.begin(home, Action::FEDERATION)?;
    let origin = member.invite.log.name();
    if let Some(Ok(genesis)) = origin.strip_prefix(ORIGIN_PREFIX).map(str::parse) {
        context.trail.about(&genesis);
    }
    context.trail.detail("member", &member.to_string());
    Ok(())
}

fn tell_agent(context: &Context, home: &Home) -> Result<(), CliError> {
    if let Some(Err(error)) = Client::connect(home.path()).map(Client::federation_changed) {
        context.ui.warn(format!(
            "the running agent has not taken in the change yet: {error}"
        ))?;
    }
    Ok(())
}

fn list(context: &Context) -> Result<(), CliError> {
    let home = context.open_home()?;
    let federation = Federation::load(home.path())?;
    let mut members = federation.members().peekable();
    if members.peek().is_none() {
        context.ui.note("this node follows nobody");
    }
    members.try_for_each(|member| show(context, &home, member))
}

fn show(context: &Context, home: &Home, member: &Member) -> Result<(), CliError> {
    let origin = member.invite.origin();
    let genesis = super::log::genesis(origin.as_str())?;
    let kept = log::open_followed(home.path(), &genesis)?;
    let peer = member.invite.peer.to_string();
    let status = Client::connect(home.path()).and_then(|agent| agent.status().ok());
    let connected = status.map(|status| status.peers.iter().any(|other| other.peer == peer));
    let shown = MemberShown {
        roles: member.roles.iter().map(|role| role.as_str()).collect(),
        entries: kept.map_or(0, |kept| kept.head().size),
        forked: log::kept_forks(home.path())?
            .iter()
            .any(|fork| fork.accuses_log && fork.origin == origin),
        origin: origin.to_string(),
        peer,
        connected,
    };
    let connection = match shown.connected {
        Some(true) => "  connected",
        _ => "",
    };
    let forked = if shown.forked { "  FORKED" } else { "" };
    let text = format!(
        "{}  {}  {}  {} entries{connection}{forked}",
        shown.peer,
        shown.roles.join(","),
        shown.origin,
        shown.entries
    );
    context.ui.answer("member", &shown, text)
}

impl From<RoleChoice> for Role {
    fn from(choice: RoleChoice) -> Self {
        match choice {
            RoleChoice::Tenant => Self::Tenant,
            RoleChoice::Witness => Self::Witness,
            RoleChoice::Auditor => Self::Auditor,
        }
    }
}
