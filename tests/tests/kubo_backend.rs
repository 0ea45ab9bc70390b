//! A Kubo as a back end: snapshots are published there, pinned, recovered without this program, and read back.

use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
    process::Command,
    sync::Arc,
};

use serde_json::Value;
use souverain_tests::{
    kubo::Kubo,
    packs::{self, Place},
    program::{Ran, Sandbox, noise, note, tree},
    relay::{Break, Relay, Way},
};

/// What a guest of a Kubo has to be allowed.
const CALLS: &[&str] = &[
    "/api/v0/version",
    "/api/v0/block/stat",
    "/api/v0/dag/export",
    "/api/v0/dag/import",
    "/api/v0/pin/add",
    "/api/v0/pin/ls",
    "/api/v0/pin/rm",
];

/// A home and data beside it, that do not compress.
fn source(seed: u64, mib: usize) -> Sandbox {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("tree")).expect("creates");
    fs::write(sandbox.path("tree/noise"), noise(seed, mib << 20)).expect("writes");
    fs::write(sandbox.path("tree/note"), "a note").expect("writes");
    sandbox
}

fn at(kubo: &Kubo) -> String {
    format!("kubo={}", kubo.api())
}

fn peer(sandbox: &Sandbox) -> String {
    let home = agent::home::Home::open(&sandbox.home()).expect("opens");
    home.peer_id().to_string()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Runs with variables in the environment.
fn with(sandbox: &Sandbox, variables: &[(&str, &str)], args: &[&str]) -> Ran {
    let mut command = sandbox.command(args);
    Ran::of(
        command
            .envs(variables.iter().copied())
            .output()
            .expect("runs"),
    )
}

fn answer(ran: Ran) -> Value {
    let objects = ran.succeeded().objects();
    objects.last().expect("an object").clone()
}

#[test]
fn what_is_published_is_pinned_recovered_and_read_back() {
    let kubo = Kubo::start();
    let source = source(1, 24);
    let backend = at(&kubo);
    let root = source.ok(&["export", "tree", "--backend", &backend]);
    assert_eq!(source.listed(), [root.as_str()]);
    let pins = kubo.ok(&["pin", "ls", "--names", "--type=recursive"]);
    let name = format!("souverain/{}", peer(&source));
    let pinned = |line: &str| line == format!("{root} recursive {name}");
    assert!(pins.lines().any(pinned), "{pins}");

    // Without this program: by Kubo, age and zstd.
    let folder = source.path("folder");
    kubo.ok(&["--offline", "get", "-o", text(&folder), &root]);
    source.ok(&["get", &root, "ours"]);
    assert_eq!(tree(&folder), tree(&source.path("ours")));
    let manifest = format!("{root}/manifest.age");
    let sealed = kubo.run(&["--offline", "cat", &manifest]);
    assert_eq!(
        sealed.stdout,
        fs::read(source.path("ours/manifest.age")).expect("reads")
    );
    let run = |command: &str| {
        let ran = Command::new("sh")
            .args(["-ec", command])
            .current_dir(&folder)
            .output();
        let ran = ran.expect("runs");
        assert!(ran.status.success(), "{command}: {ran:?}");
    };
    let identity = source.home().join("identity.txt");
    run(&format!("sh recover.sh {} ../out", text(&identity)));
    run("mkdir ../back && cat ../out/*.tar | tar -x -i -C ../back");
    assert_eq!(tree(&source.path("back")), tree(&source.path("tree")));

    // And read back, by its socket.
    let target = Sandbox::new();
    let socket = format!("kubo=unix:{}", text(&kubo.socket()));
    let pulled = answer(target.run(&["pull", &root, "--backend", &socket, "--json"]));
    assert!(pulled["blocks"].as_u64() > Some(24), "{pulled}");
    assert_eq!(target.listed(), [root.as_str()]);
    target.ok(&["verify", &root, "--keyless"]);
    target.ok(&[
        "import",
        &root,
        "--into",
        "back",
        "--identity",
        text(&identity),
    ]);
    assert_eq!(tree(&target.path("back")), tree(&source.path("tree")));
    let again = answer(target.run(&["pull", &root, "--backend", &socket, "--json"]));
    assert_eq!(again["blocks"], 0, "{again}");

    // What is pinned is not sent twice, not even by another home.
    for home in [&source, &target] {
        let again = answer(home.run(&["pin", "add", &root, "--backend", &socket, "--json"]));
        assert_eq!(
            (&again["was_pinned"], &again["blocks"]),
            (&Value::Bool(true), &0.into())
        );
    }
    assert!(
        source
            .ok(&["pin", "list", "--backend", &backend])
            .starts_with(&root)
    );
    assert_eq!(target.ok(&["pin", "list", "--backend", &backend]), "");
    let remove = ["pin", "remove", &root, "--backend", &backend];
    target.run(&remove).failed(1, "has not pinned");
    assert_eq!(source.ok(&remove), root);
    source.run(&remove).failed(1, "has not pinned");
    let pins = kubo.ok(&["pin", "ls", "--type=recursive"]);
    assert!(!pins.contains(&root), "{pins}");
    // The blocks are there still, so that only the pin is to be made.
    let again = answer(source.run(&["pin", "add", &root, "--backend", &backend, "--json"]));
    assert_eq!(again["blocks"], 0, "{again}");
}

#[test]
fn a_later_snapshot_sends_what_changed() {
    let kubo = Kubo::start();
    let source = source(2, 24);
    let backend = at(&kubo);
    let export = ["export", "tree", "--backend", &backend, "--json"];
    let first = answer(source.run(&export));
    assert!(first["bytes"].as_u64() > Some(24 << 20), "{first}");
    fs::write(source.path("tree/note"), "another note").expect("writes");
    let second = answer(source.run(&export));
    assert_ne!(first["cid"], second["cid"]);
    assert!(second["bytes"].as_u64() < Some(1 << 20), "{second}");
    let root = second["cid"].as_str().expect("a CID");
    kubo.ok(&["--offline", "dag", "stat", "--progress=false", root]);
    assert_eq!(
        source
            .ok(&["pin", "list", "--backend", &backend])
            .lines()
            .count(),
        2
    );
}

#[test]
fn a_kubo_that_is_killed_on_the_way_gets_the_rest_when_it_is_back() {
    const SIZE: u64 = 96 << 20;
    // It writes what comes every 4 MiB, not every 100, so that little data shows what is kept.
    let kubo = Arc::new(Kubo::configured(&[("Import.BatchMaxSize", "4194304")]));
    let source = source(3, 96);
    let killed = kubo.clone();
    let relay = Relay::breaking(
        kubo.api_socket(),
        Some(Break {
            way: Way::Up,
            // It may be behind by as much as sockets and its own batches hold.
            after: SIZE / 4 * 3,
            what: Box::new(move || killed.kill()),
        }),
    );
    let backend = format!("kubo=http://{}", relay.address);
    let broken = source.run(&["export", "tree", "--backend", &backend]);
    assert_eq!(broken.stdout, "");
    let broken = broken.failed(1, "pin add");
    note(&broken.stderr);
    let root = source.listed().remove(0);
    source
        .run(&["pin", "add", &root, "--backend", &backend])
        .failed(1, "Kubo");

    kubo.restart();
    assert_eq!(source.ok(&["pin", "list", "--backend", &at(&kubo)]), "");
    let rest = answer(source.run(&["pin", "add", &root, "--backend", &at(&kubo), "--json"]));
    let sent = rest["bytes"].as_u64().expect("a number");
    note(format_args!(
        "{sent} bytes of {SIZE} after it was killed on the way"
    ));
    assert!((1..SIZE * 3 / 4).contains(&sent), "{rest}");
    kubo.ok(&["--offline", "dag", "stat", "--progress=false", &root]);
    assert!(kubo.ok(&["pin", "ls", "--type=recursive"]).contains(&root));
}

#[test]
fn reading_back_goes_on_where_it_broke() {
    const SIZE: u64 = 150 << 20;
    let kubo = Kubo::start();
    let source = source(4, 150);
    let root = source.ok(&["export", "tree", "--backend", &at(&kubo)]);
    let relay = Relay::breaking(
        kubo.api_socket(),
        Some(Break {
            way: Way::Down,
            after: SIZE * 2 / 3,
            what: Box::new(|| {}),
        }),
    );
    let target = Sandbox::new();
    let through = format!("kubo=http://{}", relay.address);
    let pull = ["pull", &root, "--backend", &through, "--json"];
    let broken = target.run(&["pull", &root, "--backend", &through]);
    broken.failed(1, "broke during dag/export");
    assert_eq!(target.listed(), Vec::<String>::new());
    let before = relay.counted(Way::Down);
    let rest = answer(target.run(&pull));
    let came = relay.counted(Way::Down) - before;
    note(format_args!(
        "{came} bytes of {SIZE} after it broke at two thirds"
    ));
    assert!(came < SIZE * 2 / 3, "{rest}");
    assert_eq!(target.listed(), [root.as_str()]);
    target.ok(&["verify", &root, "--keyless"]);
}

#[test]
fn a_run_that_waits_for_a_kubo_can_be_stopped() {
    let kubo = Arc::new(Kubo::start());
    let source = source(10, 48);
    let root = source.ok(&["export", "tree"]);
    // It hangs at once, or with the CAR half-way.
    for after in [0, 24 << 20] {
        let hung = kubo.clone();
        let what = Box::new(move || hung.signal("-STOP"));
        let way = Way::Up;
        let relay = Relay::hanging(kubo.api_socket(), Break { way, after, what });
        let backend = format!("kubo=http://{}", relay.address);
        let child = source.spawn(&["pin", "add", &root, "--backend", &backend]);
        while !relay.is_broken() {
            std::thread::yield_now();
        }
        let id = child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status();
        assert!(sent.expect("runs").success());
        let ran = Ran::of(child.wait_with_output().expect("ends"));
        ran.failed(1, "interrupted");
        kubo.signal("-CONT");
    }
    source.ok(&["pin", "add", &root, "--backend", &at(&kubo)]);
}

#[test]
fn what_a_kubo_lacks_is_told() {
    let kubo = Kubo::start();
    let source = source(5, 4);
    let root = source.ok(&["export", "tree"]);
    let target = Sandbox::new();
    let pull = ["pull", &root, "--backend", &at(&kubo)];
    target.run(&pull).failed(1, "does not have all of");
    // It has the root, and nothing else.
    let car = source.path("root.car");
    source.ok(&["car", "export", &root, text(&car)]);
    let block = source.path("block");
    let sandbox = Kubo::start();
    sandbox.ok(&["dag", "import", "--pin-roots=false", text(&car)]);
    fs::write(&block, sandbox.run(&["block", "get", &root]).stdout).expect("writes");
    let put = [
        "block",
        "put",
        "--cid-codec=dag-pb",
        "--allow-big-block",
        text(&block),
    ];
    assert_eq!(kubo.ok(&put), root);
    target.run(&pull).failed(1, "does not have all of");
    assert_eq!(target.listed(), Vec::<String>::new());
}

/// Blocks are sent as the checksums of the store let them through: who takes them has to check the CIDs.
#[test]
fn what_is_damaged_gets_into_no_kubo() {
    let kubo = Kubo::start();
    let source = source(7, 4);
    let root = source.ok(&["export", "tree"]);
    let flip = |file: &Path, at: u64| {
        let file = fs::File::options().read(true).write(true).open(file);
        let file = file.expect("opens");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("reads");
        file.write_all_at(&[byte[0] ^ 1], at).expect("writes");
    };
    let segment = |place: &Place| place.len > 1 << 18;

    let car = source.path("all.car");
    source.ok(&["car", "export", &root, text(&car)]);
    let place = packs::of_car(&car).into_iter().find(segment);
    let place = place.expect("a segment");
    flip(&car, place.offset + place.len / 2);
    let import = kubo.run(&["dag", "import", "--pin-roots=false", text(&car)]);
    let said = String::from_utf8_lossy(&import.stderr).into_owned();
    assert!(
        !import.status.success() && said.contains("mismatch"),
        "{said}"
    );

    let packed = packs::blocks(&source.home()).into_iter();
    let packed = packed
        .filter(|other| other.cid == place.cid)
        .collect::<Vec<_>>();
    assert_eq!(packed.len(), 1);
    flip(&packed[0].pack, packed[0].offset);
    let damaged = source.run(&["pin", "add", &root, "--backend", &at(&kubo)]);
    damaged.failed(3, "does not match its CID");
    assert!(!kubo.ok(&["pin", "ls", "--type=recursive"]).contains(&root));
    let known = ["--offline", "block", "stat", &place.cid.to_string()];
    assert!(!kubo.run(&known).status.success());
}

#[test]
fn a_kubo_that_wants_a_secret_gets_it_from_a_file_or_the_environment() {
    let source = source(6, 1);
    let root = source.ok(&["export", "tree"]);
    for secret in ["bearer:t0ken-of-mine", "basic:me:pass:word-of-mine"] {
        let kubo = Kubo::guarded(secret, CALLS);
        let backend = at(&kubo);
        let add = ["pin", "add", &root, "--backend", &backend];
        source
            .run(&add)
            .failed(1, "refuses version (HTTP status 403)");
        let wrong = with(&source, &[("SOUVERAIN_KUBO_AUTH", "bearer:wr0ng")], &add);
        let wrong = wrong.failed(1, "API.Authorizations");
        assert!(!wrong.stderr.contains("wr0ng"), "{wrong:?}");
        let odd = with(&source, &[("SOUVERAIN_KUBO_AUTH", "digest:0dd")], &add);
        let odd = odd.failed(1, "cannot use what is in SOUVERAIN_KUBO_AUTH");
        assert!(!odd.stderr.contains("0dd"), "{odd:?}");

        let file = source.path("auth");
        fs::write(&file, format!("{secret}\n")).expect("writes");
        let by_file = [&add[..], &["--kubo-auth", text(&file)]].concat();
        let mode = |mode| fs::set_permissions(&file, PermissionsExt::from_mode(mode));
        mode(0o644).expect("opens up");
        let open = source
            .run(&by_file)
            .failed(1, "can be read or changed by others");
        assert!(open.stderr.contains("chmod 600"), "{open:?}");
        mode(0o600).expect("restricts");
        assert_eq!(source.ok(&by_file), root);
        let environment = [("SOUVERAIN_KUBO_AUTH", secret)];
        let list = ["pin", "list", "--backend", &backend, "-vv"];
        let listed = with(&source, &environment, &list).succeeded();
        assert!(listed.stdout.starts_with(&root), "{listed:?}");
        for part in ["t0ken-of-mine", "word-of-mine"] {
            assert!(!listed.stderr.contains(part), "{listed:?}");
        }
        let target = Sandbox::new();
        let pull = ["pull", &root, "--backend", &backend];
        let pulled = with(&target, &environment, &pull).succeeded();
        assert_eq!(pulled.stdout.trim(), root);
        let remove = ["pin", "remove", &root, "--backend", &backend];
        let removed = with(&source, &environment, &remove).succeeded();
        assert_eq!(removed.stdout.trim(), root);
    }
}

#[test]
fn a_guest_who_may_not_pin_is_told_before_anything_counts() {
    let source = source(7, 1);
    let root = source.ok(&["export", "tree"]);
    let without = |call: &str| {
        let calls: Vec<&str> = CALLS
            .iter()
            .copied()
            .filter(|c| !c.ends_with(call))
            .collect();
        Kubo::guarded("bearer:guest", &calls)
    };
    for call in ["pin/ls", "dag/import", "pin/add"] {
        let kubo = without(call);
        let add = ["pin", "add", &root, "--backend", &at(&kubo)];
        let refused = with(&source, &[("SOUVERAIN_KUBO_AUTH", "guest")], &add);
        refused.failed(1, &format!("refuses {call} (HTTP status 403)"));
    }
}

#[test]
fn addresses_that_make_no_sense_or_hold_secrets_are_refused() {
    let source = source(8, 1);
    let root = source.ok(&["export", "tree"]);
    for backend in [
        "kubo=http://me:hidden@127.0.0.1:1",
        "kubo=ftp://me:hidden@x",
        "kubo=",
        "kubo=127.0.0.1:5001",
        "http://me:hidden@127.0.0.1:1",
        "ipfs",
    ] {
        for verb in [&["pin", "add"][..], &["pull"], &["pin", "remove"]] {
            let ran = source.run(&[verb, &[&root, "--backend", backend]].concat());
            let ran = ran.failed(2, "");
            assert!(!ran.stderr.contains("hidden"), "{ran:?}");
        }
    }
    source
        .run(&["pin", "add", &root])
        .failed(2, "where the snapshot is to be pinned");
    let ran = source.run(&["pull", &root]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("--peer"), "{ran:?}");
    source
        .run(&["pull", &root, "--backend", "embedded"])
        .failed(2, "--peer");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let closed = format!("kubo=http://{}", free.local_addr().expect("an address"));
    drop(free);
    source
        .run(&["pin", "list", "--backend", &closed])
        .failed(1, "no Kubo answers at");
    // The export would be for nothing: it does not begin.
    fs::write(source.path("tree/note"), "a new note").expect("writes");
    source
        .run(&["export", "tree", "--backend", &closed])
        .failed(1, "no Kubo answers at");
    assert_eq!(source.listed(), [root]);
    let missing = format!("kubo=unix:{}", text(&source.path("no.sock")));
    source
        .run(&["pin", "list", "--backend", &missing])
        .failed(1, "no Kubo answers at");
}

#[test]
fn a_kubo_behind_tls_is_known_by_its_certificate() {
    let kubo = Kubo::start();
    let source = source(9, 1);
    let relay = Relay::tls(kubo.api_socket());
    let certificate = source.path("ca.pem");
    fs::write(
        &certificate,
        relay.certificate.as_ref().expect("speaks TLS"),
    )
    .expect("writes");
    let backend = format!("kubo=https://localhost:{}", relay.address.port());
    let export = ["export", "tree", "--backend", &backend];
    let unknown = source.run(&export).failed(1, "no Kubo answers at");
    assert!(
        unknown.stderr.to_lowercase().contains("certificate"),
        "{unknown:?}"
    );
    let trusted = [("SSL_CERT_FILE", text(&certificate))];
    let root = with(&source, &trusted, &export).succeeded().stdout;
    assert!(
        kubo.ok(&["pin", "ls", "--type=recursive"])
            .contains(root.trim())
    );
    let other = format!("kubo=https://127.0.0.1:{}", relay.address.port());
    let list = ["pin", "list", "--backend", &other];
    let wrong = with(&source, &trusted, &list).failed(1, "no Kubo answers at");
    assert!(
        wrong.stderr.to_lowercase().contains("certificate"),
        "{wrong:?}"
    );
}
