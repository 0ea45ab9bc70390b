//! What to do about an error, and which exit code it deserves: one table for all verbs.

use std::{error::Error, io};

use agent::{
    blocks::BlocksError,
    catalog::CatalogError,
    control::{ControlError, FailureKind},
    daemon::DaemonError,
    export::ExportError,
    federation::{FederationError, InviteError},
    handover::HandoverError,
    home::HomeError,
    http::HttpError,
    import::ImportError,
    keyring::KeyringError,
    keys::{IdentityError, RecipientError},
    kubo::{EndpointError, KuboError},
    log::{
        self, ArchiveLogError, BundleFileError, ForgetError, LogError, PolicyFileError, ProveError,
        PublishLogError, VerifyError, details::DetailsError,
    },
    migrate::MigrateError,
    node::NodeError,
    open::OpenSnapshotError,
    pinning::{PinningError, ServiceError},
    pull::{PullError, PullerError},
    recipients::RecipientsError,
    secret_file::SecretFileError,
    source::SourceError,
    target::TargetError,
};
use protocol::{
    car::CarError,
    keys::capsule::CapsuleError,
    log::{bundle::BundleError, fork::ForkError, policy::PolicyError, proof::ProofError},
    manifest::ManifestError,
    seal::OpenError,
    snapshot::Damage,
};
use store::StoreError;

use crate::error::Kind;

/// What goes with an error.
pub(crate) struct Advice {
    pub(crate) kind: Kind,
    pub(crate) hint: Option<String>,
}

const LATER_VERSION: &str = "use a later version of souverain";
const SOURCES: &str =
    "a SOURCE is a directory or file, `sqlite:PATH` or `postgres://USER@HOST/DATABASE`";
const OTHER_COPY: &str =
    "`souverain verify` says what is damaged; take an undamaged copy of the snapshot";
const SKIP_DAMAGED: &str =
    "`--skip-damaged` restores all that is undamaged; nothing was restored now";
const MAKE_ROOM: &str = "make room and run the same command again";
const MAKE_ROOM_AND_GO_ON: &str =
    "make room and run the same command again; what was durable is kept";
const PASSPHRASE: &str = "set SOUVERAIN_PASSPHRASE or pass `--passphrase-file FILE`";
const TARGETS: &str =
    "a TARGET is a directory, `sqlite:PATH` or `postgres://USER@HOST/DATABASE`, as the source was";
const FORK: &str = "it proves nothing against anybody";
const INVITE: &str = "pass what `souverain peer invite` printed, whole and in quotes";
const UNDAMAGED_FILE: &str = "take an undamaged copy of the file";
const RESCUE: &str = "keep a copy of the home as it is; in a new home, `souverain --home NEW init` and \
                      `souverain --home NEW car import HOME/packs/*.car` take in all that is undamaged";
const BUNDLE: &str = "the bundle is not proven: ask for another one, and doubt who gave this";
const LOG_DAMAGED: &str = "keep a copy of the home as it is: `souverain log verify` says where it does not hold; \
                           put the folder `log` back from a backup only if no peer has seen more of it";
const NOT_FOUND: &str = "name a peer that has it with `--peer`, or a gateway with `--gateway`; only what is shared with `public` is announced";
const NOT_SHARED: &str = "where the snapshot is, `souverain share CID --with PEER` lets this node \
     have it; `souverain agent status` here prints the PEER. A gateway gives what is shared with `public`";
const NOT_THERE: &str =
    "see that the other side runs and listens where you say: `souverain agent status` there";
const FREE_ADDRESS: &str = "choose an address of this machine and a free port, such as 127.0.0.1:0";
const OTHER_CID: &str = "take the CID from whoever made the snapshot: `souverain list` there";

const LIES: &str =
    "who sent this is damaged or lies; what came before is kept: pull from somebody else";
const KUBO_GOES_ON: &str =
    "see that the Kubo runs, and run the same command again: what arrived is not sent again";
const KUBO_ADDRESS: &str = "give the address of its RPC, as `ipfs config Addresses.API` prints it: `--backend kubo=http://127.0.0.1:5001`";
const KUBO_CALLS: &str = "set SOUVERAIN_KUBO_AUTH, or name a file with `--kubo-auth`, with an AuthSecret of its API.Authorizations \
     that may use version, block/stat, dag/export, dag/import, pin/add, pin/ls and pin/rm below /api/v0";

const SERVICE_URL: &str =
    "give the https:// URL of its IPFS Pinning Service API, the part before /pins";

/// Looks through an error and its causes for one that something is known about.
pub(crate) fn advise(error: &(dyn Error + 'static)) -> Advice {
    std::iter::successors(Some(unwrapped(error)), |&error| {
        error.source().map(unwrapped)
    })
    .find_map(about)
    .unwrap_or(Advice {
        kind: Kind::Failed,
        hint: None,
    })
}

/// The error that a transparent one stands for: it is skipped in the chain of causes.
fn unwrapped<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let within: Option<&(dyn Error + 'static)> = match error {
        e if e.is::<ExportError>() => match e.downcast_ref() {
            Some(ExportError::Source(e)) => Some(e),
            Some(ExportError::Store(e)) => Some(e),
            Some(ExportError::Catalog(e)) => Some(e),
            _ => None,
        },
        e if e.is::<ImportError>() => match e.downcast_ref() {
            Some(ImportError::Blocks(e)) => Some(e),
            Some(ImportError::Target(e)) => Some(e),
            _ => None,
        },
        e if e.is::<HandoverError>() => match e.downcast_ref() {
            Some(HandoverError::Blocks(e)) => Some(e),
            Some(HandoverError::Store(e)) => Some(e),
            Some(HandoverError::Catalog(e)) => Some(e),
            _ => None,
        },
        e if e.is::<KeyringError>() => match e.downcast_ref() {
            Some(KeyringError::Store(e)) => Some(e),
            Some(KeyringError::Capsule(e)) => Some(e),
            _ => None,
        },
        e if e.is::<RecipientsError>() => match e.downcast_ref() {
            Some(RecipientsError::Open(e)) => Some(e),
            Some(RecipientsError::Keyring(e)) => Some(e),
            Some(RecipientsError::Store(e)) => Some(e),
            Some(RecipientsError::Catalog(e)) => Some(e),
            _ => None,
        },
        e if e.is::<OpenSnapshotError>() => match e.downcast_ref() {
            Some(OpenSnapshotError::Blocks(e)) => Some(e),
            _ => None,
        },
        e if e.is::<BlocksError>() => match e.downcast_ref() {
            Some(BlocksError::Store(e)) => Some(e),
            _ => None,
        },
        e if e.is::<DaemonError>() => match e.downcast_ref() {
            Some(DaemonError::Node(e)) => Some(e),
            Some(DaemonError::Store(e)) => Some(e),
            Some(DaemonError::Http(e)) => Some(e),
            Some(DaemonError::Log(e)) => Some(e),
            Some(DaemonError::Federation(e)) => Some(e),
            _ => None,
        },
        e if e.is::<LogError>() => match e.downcast_ref() {
            Some(LogError::Store(e)) => Some(e),
            Some(LogError::Key(e)) => Some(e),
            Some(LogError::Details(e)) => Some(e),
            Some(LogError::Federation(e)) => Some(e),
            _ => None,
        },
        e if e.is::<ProveError>() => match e.downcast_ref() {
            Some(ProveError::Log(e)) => Some(e),
            _ => None,
        },
        e if e.is::<PublishLogError>() => match e.downcast_ref() {
            Some(PublishLogError::Log(e)) => Some(e),
            Some(PublishLogError::Store(e)) => Some(e),
            _ => None,
        },
        e if e.is::<ArchiveLogError>() => match e.downcast_ref() {
            Some(ArchiveLogError::Log(e)) => Some(e),
            Some(ArchiveLogError::Details(e)) => Some(e),
            _ => None,
        },
        e if e.is::<ForgetError>() => match e.downcast_ref() {
            Some(ForgetError::Log(e)) => Some(e),
            _ => None,
        },
        e if e.is::<BundleFileError>() => match e.downcast_ref() {
            Some(BundleFileError::Log(e)) => Some(e),
            Some(BundleFileError::Details(e)) => Some(e),
            Some(BundleFileError::Bundle(e)) => Some(e),
            _ => None,
        },
        e if e.is::<VerifyError>() => match e.downcast_ref() {
            Some(VerifyError::Source(e)) => Some(e),
            _ => None,
        },
        e if e.is::<log::SourceError>() => match e.downcast_ref() {
            Some(log::SourceError::Store(e)) => Some(e),
            _ => None,
        },
        e if e.is::<DetailsError>() => match e.downcast_ref() {
            Some(DetailsError::Store(e)) => Some(e),
            Some(DetailsError::Recipients(e)) => Some(e),
            Some(DetailsError::Home(e)) => Some(e),
            _ => None,
        },
        e if e.is::<PullerError>() => match e.downcast_ref() {
            Some(PullerError::Daemon(e)) => Some(e),
            Some(PullerError::Pull(e)) => Some(e),
            Some(PullerError::Agent(e)) => Some(e),
            None => None,
        },
        e if e.is::<MigrateError>() => match e.downcast_ref() {
            Some(MigrateError::Pull(e)) => Some(e),
            Some(MigrateError::Import(e)) => Some(e),
            Some(MigrateError::ReadBack(e)) => Some(e),
            Some(MigrateError::Blocks(e)) => Some(e),
            _ => None,
        },
        e if e.is::<PullError>() => match e.downcast_ref() {
            Some(PullError::Store(e)) => Some(e),
            Some(PullError::Handover(e)) => Some(e),
            _ => None,
        },
        e if e.is::<KuboError>() => match e.downcast_ref() {
            Some(KuboError::Handover(e)) => Some(e),
            Some(KuboError::Pull(e)) => Some(e),
            Some(KuboError::Blocks(e)) => Some(e),
            _ => None,
        },
        e if e.is::<PinningError>() => match e.downcast_ref() {
            Some(PinningError::Service(e)) => Some(e),
            _ => None,
        },
        e if e.is::<ServiceError>() => match e.downcast_ref() {
            Some(ServiceError::Token(e)) => Some(e),
            _ => None,
        },
        e if e.is::<CatalogError>() => match e.downcast_ref() {
            Some(CatalogError::Store(e)) => Some(e),
            _ => None,
        },
        _ => None,
    };
    within.map_or(error, unwrapped)
}

#[expect(
    clippy::borrowed_box,
    reason = "the source of an error that boxes its cause is the box"
)]
fn about(error: &(dyn Error + 'static)) -> Option<Advice> {
    fn of<E: Error + 'static>(
        error: &(dyn Error + 'static),
        about: impl Fn(&E) -> Option<Advice>,
    ) -> Option<Advice> {
        error.downcast_ref::<E>().and_then(about)
    }
    of(error, about_home)
        .or_else(|| of(error, |e: &IdentityError| e.hint().map(failed)))
        .or_else(|| of(error, about_recipient))
        .or_else(|| of(error, |e: &KeyringError| e.hint().map(failed)))
        .or_else(|| of(error, about_store))
        .or_else(|| of(error, about_source))
        .or_else(|| of(error, about_import))
        .or_else(|| of(error, about_target))
        .or_else(|| of(error, about_snapshot))
        .or_else(|| of(error, about_handover))
        .or_else(|| of(error, about_blocks))
        .or_else(|| of(error, about_opening))
        .or_else(|| of(error, about_capsule))
        .or_else(|| of(error, about_manifest))
        .or_else(|| of(error, about_car))
        .or_else(|| of(error, about_log))
        .or_else(|| of(error, about_verifying))
        .or_else(|| of(error, about_proof))
        .or_else(|| of(error, about_bundle))
        .or_else(|| of(error, |_: &BundleError| Some(unverified(BUNDLE))))
        .or_else(|| of(error, about_policy))
        .or_else(|| of(error, about_policy_file))
        .or_else(|| of(error, |_: &ForkError| Some(unverified(FORK))))
        .or_else(|| of(error, |_: &InviteError| Some(usage(INVITE))))
        .or_else(|| of(error, about_federation))
        .or_else(|| of(error, about_forgetting))
        .or_else(|| of(error, about_details))
        .or_else(|| of(error, about_daemon))
        .or_else(|| of(error, about_node))
        .or_else(|| of(error, |_: &HttpError| Some(failed(FREE_ADDRESS))))
        .or_else(|| of(error, about_pull))
        .or_else(|| of(error, about_control))
        .or_else(|| of(error, about_kubo))
        .or_else(|| of(error, about_endpoint))
        .or_else(|| of(error, about_pinning))
        .or_else(|| of(error, about_service))
        .or_else(|| of(error, |e: &SecretFileError| Some(failed(e.hint()))))
        .or_else(|| of(error, |_: &Damage| Some(unverified(OTHER_COPY))))
        .or_else(|| of(error, |_: &Box<Damage>| Some(unverified(OTHER_COPY))))
        .or_else(|| of(error, about_io))
}

fn failed(hint: impl Into<String>) -> Advice {
    Advice {
        kind: Kind::Failed,
        hint: Some(hint.into()),
    }
}

fn usage(hint: impl Into<String>) -> Advice {
    Advice {
        kind: Kind::Usage,
        hint: Some(hint.into()),
    }
}

fn unverified(hint: impl Into<String>) -> Advice {
    Advice {
        kind: Kind::Unverified,
        hint: Some(hint.into()),
    }
}

fn about_home(error: &HomeError) -> Option<Advice> {
    match error {
        HomeError::Recipients(cause) => about_recipient(cause),
        error => error.hint().map(failed),
    }
}

fn about_recipient(error: &RecipientError) -> Option<Advice> {
    let hint = error.hint()?;
    Some(match error {
        RecipientError::Unknown { .. } | RecipientError::Secret => usage(hint),
        _ => failed(hint),
    })
}

fn about_store(error: &StoreError) -> Option<Advice> {
    Some(failed(match error {
        StoreError::InUse { .. } => "wait until it is done, or use another `--home DIR`",
        StoreError::Missing { .. } => "run `souverain init` first",
        StoreError::Full { .. } => MAKE_ROOM_AND_GO_ON,
        StoreError::Schema { .. } => LATER_VERSION,
        StoreError::LogFull { .. } => MAKE_ROOM,
        StoreError::ArchiveMissing { .. } => {
            "put the archive back in its place; `souverain log show --action archive` tells by which CID others may have it"
        }
        StoreError::Damaged { .. } => RESCUE,
        _ => return None,
    }))
}

fn about_log(error: &LogError) -> Option<Advice> {
    Some(match error {
        LogError::Chain(_)
        | LogError::Keys { .. }
        | LogError::Entry { .. }
        | LogError::Checkpoint(_) => unverified(LOG_DAMAGED),
        LogError::Behind { .. } => unverified(
            "if the home was restored from an older backup, `souverain agent run` fetches what is missing from members of its federation; or put back the latest copy of the home. If it was not, its log's key is used elsewhere. Nothing is signed until then",
        ),
        LogError::Forked { .. } => unverified(
            "nothing more is signed with its keys; `souverain log fork FILE` checks the proof, and `souverain init` makes a home with a new log",
        ),
        LogError::OtherKey { .. } => failed(
            "put back the key `log-N.key` of this number; never make another home of the same name",
        ),
        LogError::Doubted { .. } | LogError::Denied { .. } => unverified(
            "it does not show what it saw, so that it may be wrong. If the home was restored from an older backup, `souverain agent run` fetches what is missing from members of its federation; or put back the latest copy of the home. `souverain log cosign` asks the witness again, and `souverain log policy FILE` takes it out of the policy. Nothing is signed until then",
        ),
        LogError::NoKey { .. } => failed(
            "put back the key `log-N.key` of this number; if it is lost, `souverain log key recover` takes the log back with its recovery key",
        ),
        LogError::OtherRecovery => failed("name the file with `--recovery-file FILE`"),
        LogError::Empty => failed("it begins with the first operation that is recorded"),
        _ => return None,
    })
}

fn about_verifying(error: &VerifyError) -> Option<Advice> {
    Some(match error {
        VerifyError::OtherLog { .. } | VerifyError::OtherKey { .. } => unverified(
            "see that the key and the log are of the same node: `souverain log vkey` there",
        ),
        error if error.is_proof() => unverified(
            "keep what you have of it: with the signed checkpoint it shows what its owner, or who gave it to you, did",
        ),
        _ => return None,
    })
}

fn about_proof(error: &ProofError) -> Option<Advice> {
    Some(match error {
        ProofError::Malformed { .. } | ProofError::TooLong => {
            unverified("`souverain log prove` makes files that this reads")
        }
        _ => unverified(
            "the entry is not proven: ask for another proof, and doubt who gave this one",
        ),
    })
}

fn about_bundle(error: &BundleFileError) -> Option<Advice> {
    Some(match error {
        BundleFileError::Range { .. } => usage("choose fewer with `--from N` and `--to N`"),
        BundleFileError::Car(_)
        | BundleFileError::Block { .. }
        | BundleFileError::Entry { .. }
        | BundleFileError::CutOff { .. } => unverified(BUNDLE),
        _ => return None,
    })
}

fn about_policy(error: &PolicyError) -> Option<Advice> {
    Some(match error {
        PolicyError::TooLong
        | PolicyError::Line { .. }
        | PolicyError::Key { .. }
        | PolicyError::NoQuorum => usage("a policy has the form of c2sp.org/tlog-policy"),
        _ => unverified("ask the log's owner for a checkpoint that enough witnesses have cosigned"),
    })
}

fn about_policy_file(error: &PolicyFileError) -> Option<Advice> {
    Some(match error {
        PolicyFileError::Read { .. } => {
            failed("name a file with a policy, as c2sp.org/tlog-policy has it")
        }
        PolicyFileError::NotText { .. } => usage("save it as UTF-8"),
        PolicyFileError::Url { .. } => usage(
            "a witness's line is `witness NAME VKEY URL`, and /add-checkpoint is below the URL",
        ),
        _ => return None,
    })
}

fn about_details(error: &DetailsError) -> Option<Advice> {
    Some(match error {
        DetailsError::Damaged { .. } => {
            unverified("take them from a backup of the home, or ask an auditor who has them")
        }
        DetailsError::Open { .. } => {
            failed("name an identity that they were sealed to with `--identity FILE`")
        }
        _ => return None,
    })
}

fn about_source(error: &SourceError) -> Option<Advice> {
    if let Some(hint) = error.hint() {
        return Some(failed(hint));
    }
    Some(failed(match error {
        SourceError::Unknown(_) => return Some(usage(SOURCES)),
        SourceError::Special { .. } => SOURCES,
        SourceError::Io { cause, .. } if cause.kind() == io::ErrorKind::NotFound => SOURCES,
        SourceError::Io { cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied => {
            "run as a user who may read it, or pass `--skip-unreadable`"
        }
        SourceError::Io { cause, .. } if cause.kind() == io::ErrorKind::InvalidFilename => {
            "paths below the source have 4,092 bytes at most; `--skip-unreadable` leaves longer ones out"
        }
        _ => return None,
    }))
}

fn about_import(error: &ImportError) -> Option<Advice> {
    Some(match error {
        ImportError::Damaged(_) => unverified(SKIP_DAMAGED),
        ImportError::Lie { .. } => unverified(
            "whoever made the snapshot made it wrong, or on purpose; nothing was restored",
        ),
        ImportError::NoSuch { .. } => failed("`souverain show` lists what the snapshot holds"),
        ImportError::SeveralSources { unfit, .. } if unfit.is_empty() => {
            failed("choose one with `--source NAME`, or restore all into a directory")
        }
        ImportError::SeveralSources { .. } => failed("choose one with `--source NAME`"),
        ImportError::UnfitForDirectory { fit, .. } => failed(match fit.as_str() {
            "" => "restore one at a time, with `--source NAME` and a target of its kind".to_owned(),
            fit => format!(
                "with `--source NAME` restore each of these alone into a target of its kind, and into the \
                 directory: {fit}"
            ),
        }),
        ImportError::PartlyDone { .. } => {
            failed("restore what is missing with `--source NAME` once the cause is gone")
        }
        _ => return None,
    })
}

fn about_target(error: &TargetError) -> Option<Advice> {
    Some(match error {
        TargetError::NotEmpty(_) => {
            failed("name an empty target, or pass `--merge` or `--replace`")
        }
        TargetError::Unknown(_) => usage(TARGETS),
        TargetError::Unsuitable(_) => failed(TARGETS),
        TargetError::Hostile { .. } => unverified("do not trust whoever made this snapshot"),
        TargetError::Content { .. } => unverified(SKIP_DAMAGED),
        TargetError::Database { .. } => failed(error.hint()?),
        _ => return None,
    })
}

fn about_snapshot(error: &OpenSnapshotError) -> Option<Advice> {
    match error {
        OpenSnapshotError::NoCapsule { .. } => Some(failed(
            "an erasable snapshot opens only in the home that holds its keys",
        )),
        OpenSnapshotError::NoPassphrase { .. } | OpenSnapshotError::WrongPassphrase { .. } => {
            Some(failed(PASSPHRASE))
        }
        _ => None,
    }
}

fn about_handover(error: &HandoverError) -> Option<Advice> {
    match error {
        HandoverError::Damaged { .. } => Some(unverified(OTHER_COPY)),
        HandoverError::NoRoot => Some(unverified(UNDAMAGED_FILE)),
        HandoverError::NotEmpty { .. } => Some(failed("name a directory that is new or empty")),
        _ => None,
    }
}

fn about_blocks(error: &BlocksError) -> Option<Advice> {
    match error {
        BlocksError::NoRoot { .. } => Some(unverified(UNDAMAGED_FILE)),
        _ => None,
    }
}

fn about_opening(error: &OpenError) -> Option<Advice> {
    use age::DecryptError as Decrypt;
    Some(match error {
        OpenError::NoMatchingIdentity
        | OpenError::Decrypt(
            Decrypt::NoMatchingKeys | Decrypt::DecryptionFailed | Decrypt::KeyDecryptionFailed,
        ) => failed("pass `--identity FILE` with the identity of one of its recipients"),
        OpenError::Decrypt(Decrypt::PluginResolve(_)) => {
            failed("install the plugin somewhere in PATH")
        }
        _ => unverified(OTHER_COPY),
    })
}

fn about_capsule(error: &CapsuleError) -> Option<Advice> {
    match error {
        CapsuleError::Open(error) => about_opening(error),
        CapsuleError::FutureVersion => Some(failed(LATER_VERSION)),
        CapsuleError::Malformed { .. } => Some(unverified(OTHER_COPY)),
    }
}

fn about_manifest(error: &ManifestError) -> Option<Advice> {
    Some(match error {
        ManifestError::FutureVersion => failed(LATER_VERSION),
        _ => unverified("whoever made the snapshot made it wrong, or on purpose"),
    })
}

fn about_car(error: &CarError) -> Option<Advice> {
    Some(match error {
        CarError::Header { .. } => {
            unverified("name a CAR file, as `souverain car export` writes it")
        }
        CarError::Version { .. } => failed(LATER_VERSION),
        CarError::CutOff { .. } | CarError::Section { .. } | CarError::Block { .. } => {
            unverified(UNDAMAGED_FILE)
        }
        CarError::Io(_) => return None,
    })
}

fn about_forgetting(error: &ForgetError) -> Option<Advice> {
    Some(match error {
        ForgetError::Followed(_) => failed("`souverain peer remove` it first"),
        ForgetError::Unknown(_) => {
            failed("`souverain log fork` says what is kept of it, if anything is")
        }
        ForgetError::Log(_) => return None,
    })
}

fn about_federation(error: &FederationError) -> Option<Advice> {
    Some(match error {
        FederationError::Malformed { .. } => failed("put back what it said, or delete the line"),
        FederationError::Full => failed("`souverain peer remove` makes room"),
        FederationError::Io { .. } => return None,
    })
}

fn about_daemon(error: &DaemonError) -> Option<Advice> {
    match error {
        DaemonError::Running { .. } => Some(failed(
            "`souverain agent status` says what it does; stop it, or use another `--home DIR`",
        )),
        _ => None,
    }
}

fn about_pull(error: &PullError) -> Option<Advice> {
    Some(match error {
        PullError::Unreachable { .. } => failed(NOT_THERE),
        PullError::Missing { .. } => failed(NOT_SHARED),
        PullError::NoProvider { .. } => failed(NOT_FOUND),
        PullError::Stalled { .. } => failed("run the same command again; what was durable is kept"),
        PullError::TooManyGateways => usage("name those with `--gateway` that have the snapshot"),
        PullError::NotSnapshot { .. } | PullError::Node { .. } => unverified(OTHER_CID),
        PullError::Unwanted { .. } | PullError::Car(_) => unverified(LIES),
        _ => return None,
    })
}

fn about_kubo(error: &KuboError) -> Option<Advice> {
    Some(match error {
        KuboError::Unreachable { .. } => {
            failed(format!("see that `ipfs daemon` runs; {KUBO_ADDRESS}"))
        }
        KuboError::Refused { .. } => failed(KUBO_CALLS),
        KuboError::NotKubo { .. } | KuboError::Malformed { .. } | KuboError::TooLong { .. } => {
            failed(KUBO_ADDRESS)
        }
        KuboError::Old { .. } => failed("use a later version of Kubo"),
        KuboError::Said { .. } => failed("the log of the Kubo may say more: `ipfs log tail`"),
        KuboError::Broken { .. } | KuboError::CutOff { .. } | KuboError::Stalled { .. } => {
            failed(KUBO_GOES_ON)
        }
        KuboError::OtherRoot { .. } => unverified("do not count on what this Kubo says"),
        KuboError::NotThere { .. } => failed(
            "where the snapshot is, `souverain pin add CID --backend kubo=URL` sends what is missing",
        ),
        KuboError::NotPinned { .. } => {
            failed("`souverain pin list` shows what is; other pins are left alone")
        }
        _ => return None,
    })
}

fn about_endpoint(error: &EndpointError) -> Option<Advice> {
    Some(match error {
        EndpointError::Secret => usage(
            "put `basic:USER:PASSWORD` into SOUVERAIN_KUBO_AUTH, or into a file for `--kubo-auth`",
        ),
        EndpointError::Malformed(_) => usage(KUBO_ADDRESS),
    })
}

fn about_pinning(error: &PinningError) -> Option<Advice> {
    Some(match error {
        PinningError::Unreachable { .. } => failed(
            "`souverain pin service list` says where it is; run the same command again later",
        ),
        PinningError::Refused { .. } => failed(
            "get a token from the service, and write it into the file that `souverain pin service list --json` names",
        ),
        PinningError::Said { .. } => failed("ask those who run the service, or try again later"),
        PinningError::Malformed { .. } => failed(SERVICE_URL),
        PinningError::OtherCid { .. } => unverified("do not count on what this service says"),
        PinningError::Failed { .. } => failed(
            "see that it can fetch the snapshot from somebody: `souverain agent run --listen`, `souverain share`; \
             the same command asks anew",
        ),
        PinningError::NotYet { .. } => failed(
            "the request stands: run the same command again to go on waiting, longer with `--wait SECONDS`",
        ),
        PinningError::NotPinned { .. } => {
            failed("`souverain pin list --pin-service NAME` shows what there is")
        }
        _ => return None,
    })
}

fn about_service(error: &ServiceError) -> Option<Advice> {
    Some(match error {
        ServiceError::Known { .. } => {
            failed("take another name, or `souverain pin service remove` it first")
        }
        ServiceError::Unknown { .. } => failed(
            "`souverain pin service list` shows which there are, `souverain pin service add` makes one known",
        ),
        ServiceError::Secret => usage("put the token into a file of mode 0600, for `--token-file`"),
        ServiceError::Endpoint(_) => usage(SERVICE_URL),
        ServiceError::Damaged { .. } => {
            failed("`souverain pin service remove` it, and add it again")
        }
        _ => return None,
    })
}

fn about_control(error: &ControlError) -> Option<Advice> {
    Some(match error {
        ControlError::Failed { kind, .. } => match kind {
            FailureKind::Unreachable => failed(NOT_THERE),
            FailureKind::Missing => failed(NOT_SHARED),
            FailureKind::Unverified => unverified(OTHER_CID),
            FailureKind::Other => return None,
        },
        ControlError::Io(_) | ControlError::Unexpected => {
            failed("`souverain agent status` says how the agent is; start it anew if it hangs")
        }
        ControlError::Interrupted => return None,
    })
}

fn about_node(error: &NodeError) -> Option<Advice> {
    Some(failed(match error {
        NodeError::QuicInPrivate { .. } => {
            "name a TCP address such as /ip4/127.0.0.1/tcp/4001, or leave out `--swarm-key`"
        }
        NodeError::NoPeerId { .. } => {
            "use the address as the other node prints it: /ip4/HOST/tcp/PORT/p2p/PEER"
        }
        NodeError::Listen { .. } | NodeError::ListenTimeout { .. } => {
            "choose an address of this machine and a free port, such as /ip4/127.0.0.1/tcp/0"
        }
        _ => return None,
    }))
}

fn about_io(error: &io::Error) -> Option<Advice> {
    Some(match error.kind() {
        io::ErrorKind::BrokenPipe => Advice {
            kind: Kind::BrokenPipe,
            hint: None,
        },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => failed(MAKE_ROOM),
        io::ErrorKind::PermissionDenied => {
            failed("run as a user who may, or change the permissions")
        }
        io::ErrorKind::NotADirectory => {
            failed("something on that path is a file; name another place")
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(error: impl Error + 'static) -> (Kind, String) {
        let advice = advise(&error);
        (advice.kind, advice.hint.unwrap_or_default())
    }

    #[test]
    fn finds_what_transparent_errors_stand_for() {
        let in_use = || StoreError::InUse {
            pid: 1,
            purpose: "export".into(),
        };
        let wrapped = [
            advice(ExportError::Catalog(CatalogError::Store(in_use()))),
            advice(ImportError::Blocks(BlocksError::Store(in_use()))),
            advice(HandoverError::Store(in_use())),
            advice(OpenSnapshotError::Blocks(BlocksError::Store(in_use()))),
        ];
        for found in wrapped {
            assert_eq!(found, advice(in_use()));
            assert!(found.1.contains("wait"), "{found:?}");
        }
    }

    #[test]
    fn damage_is_told_from_a_missing_key() {
        let capsule = |cause| OpenSnapshotError::Capsule {
            root: protocol::block::raw_cid(&[0; 32]),
            cause: CapsuleError::Open(cause),
        };
        let (kind, hint) = advice(capsule(OpenError::NoMatchingIdentity));
        assert_eq!(kind, Kind::Failed);
        assert!(hint.contains("--identity"), "{hint}");
        let (kind, _) = advice(capsule(OpenError::NotAFrame));
        assert_eq!(kind, Kind::Unverified);
        let (kind, _) = advice(HandoverError::Car(CarError::CutOff { offset: 9 }));
        assert_eq!(kind, Kind::Unverified);
    }

    #[test]
    fn a_full_disk_is_seen_at_the_end_of_the_chain() {
        let cause = io::Error::from(io::ErrorKind::StorageFull);
        let (kind, hint) = advice(TargetError::Io {
            path: "x".into(),
            cause,
        });
        assert_eq!((kind, hint.as_str()), (Kind::Failed, MAKE_ROOM));
    }
    #[test]
    fn a_path_that_is_too_long_can_be_left_out() {
        // ENAMETOOLONG
        let cause = io::Error::from_raw_os_error(36);
        let path = "x".into();
        let (kind, hint) = advice(SourceError::Io { path, cause });
        assert_eq!(kind, Kind::Failed);
        assert!(hint.contains("--skip-unreadable"), "{hint}");
    }
}
