//! Our witness as others meet it: what a replica decides, behind HTTP, and the client of others that asks it, built from
//! its Go module: see `tests/go/witness`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use agent::{
    home::Home,
    log::{
        key::WitnessKey,
        keys_of, open_own,
        witnessing::{Call, Witnessing, answer},
    },
};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use libp2p::futures::executor::block_on;
use protocol::{
    log::{
        checkpoint::UnverifiedCheckpoint,
        cosignature::CosignerKey,
        replica::{AddCheckpoint, Config, Effect, Input, Kept, Member, Refusal, Replica},
        tree::Edge,
    },
    note::SignatureLine,
};
use tokio::sync::mpsc;

use crate::{
    http::{HttpServer, body, reply},
    program::{Ran, Sandbox},
};

/// The program that asks a witness, built once.
fn asker() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let test = std::env::current_exe().expect("a running test has a path");
        let target = test.ancestors().nth(3).expect("target/PROFILE/deps/TEST");
        let program = target.join("tools/witness/witness");
        let status = Command::new("go")
            .current_dir(manifest.join("go/witness"))
            .env("GOFLAGS", "-mod=readonly -buildvcs=false")
            .args(["build", "-o"])
            .arg(&program)
            .arg(".")
            .status()
            .expect("Go, 1.26 or later, is installed");
        assert!(status.success(), "the client of witnesses does not build");
        program
    })
}

/// Runs it to the end.
///
/// # Panics
/// It cannot be built or run.
#[must_use]
pub fn ask(args: &[&str]) -> Ran {
    let mut command = Command::new(asker());
    // Servers on loopback are not behind a proxy.
    command.env("NO_PROXY", "*").args(args);
    Ran::of(command.output().expect("runs"))
}

/// A witness of one log, and its key, which is that of another home.
///
/// # Panics
/// There is no such log, or no such home.
#[must_use]
pub fn witness_of(sandbox: &Sandbox, witness: &Sandbox) -> (HttpServer, CosignerKey) {
    let home = Home::open(&witness.home()).expect("a home");
    let key = home.witness_key().expect("a key");
    let cosigner = key.key().clone();
    let reader = open_own(&sandbox.home()).expect("reads").expect("a log");
    let keys = keys_of(&reader).expect("it holds");
    let checkpoint = UnverifiedCheckpoint::parse(&reader.head().note).expect("a checkpoint");
    let edge = Edge::read(reader.head().size, |level, index| reader.node(level, index));
    let kept = Kept {
        edge: edge.expect("reads"),
        checkpoint: Some(checkpoint.verify(keys.key()).expect("signed")),
        target: None,
        fork: None,
        keys: keys.clone(),
    };
    let mut replica = Replica::new(Config {
        cosigned: Some(BTreeMap::new()),
        ..Config::default()
    });
    let member = Member {
        origin: keys.origin().clone(),
        roles: Vec::new(),
    };
    let kept = Some(Box::new(kept));
    replica.handle(0, Input::Follow { member, kept });
    let (calls, mut called) = mpsc::channel::<Call>(4);
    std::thread::spawn(move || {
        while let Some((request, answer)) = called.blocking_recv() {
            let _ = answer.send(decide(&mut replica, &key, request));
        }
    });
    let witnessing = Witnessing { calls };
    let server = HttpServer::start(move |request| {
        let said = block_on(answer(&witnessing, request.body()));
        let mut answer = reply(said.status, body(said.body));
        let media = HeaderValue::from_static(said.media);
        answer.headers_mut().insert(CONTENT_TYPE, media);
        answer
    });
    (server, cosigner)
}

/// What a replica decides, whose disk keeps everything at once.
fn decide(
    replica: &mut Replica,
    key: &WitnessKey,
    request: AddCheckpoint,
) -> Result<SignatureLine, Refusal> {
    let request = Box::new(request);
    let mut effects = replica.handle(0, Input::AddCheckpoint { call: 1, request });
    let ticket = effects.iter().find_map(|effect| match effect {
        Effect::KeepCosigned { ticket, .. } => Some(*ticket),
        _ => None,
    });
    if let Some(ticket) = ticket {
        effects = replica.handle(0, Input::Kept { ticket });
    }
    let decided = effects.iter().find_map(|effect| match effect {
        Effect::Cosign { checkpoint, .. } => Some(Ok(key
            .cosign(checkpoint.checkpoint(), 1_800_000_000)
            .expect("cosigned"))),
        Effect::Refuse { because, .. } => Some(Err(*because)),
        _ => None,
    });
    decided.expect("it decides")
}
