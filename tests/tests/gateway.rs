//! The gateway, asked by curl, by Kubo, and by those who do not mean well.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use cid::Cid;
use protocol::{block::check, car::Reader};
use souverain_tests::{
    kubo::Kubo,
    packs,
    program::{Sandbox, noise, note, tree},
    running::Running,
    web::{Answer, Scripted, curl},
};

const RAW: &str = "application/vnd.ipld.raw";
const CAR: &str = "application/vnd.ipld.car";
/// Most memory that an attacked node may have resident, in KiB.
const MEMORY_KIB_MAX: u64 = 256 << 10;

/// A home with an exported tree of this many MiB.
fn source(mib: usize) -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("tree")).expect("creates");
    fs::write(sandbox.path("tree/noise"), noise(11, mib << 20)).expect("writes");
    let root = sandbox.ok(&["export", "tree"]);
    (sandbox, root)
}

fn serve(sandbox: &Sandbox) -> Running {
    Running::start(sandbox, &["--http", "127.0.0.1:0", "--gateway"])
}

/// The CIDs of the blocks of a CAR, each checked.
fn cids(car: &[u8]) -> Vec<Cid> {
    let mut reader = Reader::new(car).expect("a CAR");
    let mut found = Vec::new();
    while let Some(block) = reader.next_unverified().expect("a whole block") {
        found.push(*block.verify().expect("undamaged").cid());
    }
    found
}

#[test]
fn blocks_and_cars_are_what_the_store_has() {
    let (source, root) = source(3);
    source.ok(&["share", &root, "--with", "public"]);
    let server = serve(&source);
    let ask = |target: &str| curl(&server.url(target), &[]);

    let car = ask(&format!("/ipfs/{root}?format=car"));
    assert_eq!((car.status, car.exit), (200, 0));
    let all = cids(&car.body);
    assert_eq!(all[0].to_string(), root, "the root comes first");
    for cid in &all {
        let raw = ask(&format!("/ipfs/{cid}?format=raw"));
        assert_eq!((raw.status, raw.exit), (200, 0));
        check(cid, &raw.body).expect("what its CID says");
        assert_eq!(raw.header("content-length"), raw.body.len().to_string());
    }
    let folder = ask(&format!("/ipfs/{root}?format=car&dag-scope=entity"));
    assert_eq!(cids(&folder.body).len(), 1, "a directory without its files");
    let file = ask(&format!("/ipfs/{root}/manifest.age?format=car"));
    let way = cids(&file.body);
    assert_eq!((way[0].to_string(), way.len()), (root.clone(), 2));
    let absent = ask(&format!("/ipfs/{root}/nothing?format=car"));
    assert_eq!(absent.status, 404);

    // Another home takes it, and is whole.
    let target = Sandbox::new();
    fs::write(target.path("got.car"), &car.body).expect("writes");
    assert_eq!(target.ok(&["car", "import", "got.car"]), root);
    target.ok(&["verify", &root, "--keyless"]);
    server.stop();
}

#[test]
fn kubo_imports_the_car() {
    let (source, root) = source(8);
    source.ok(&["share", &root, "--with", "public"]);
    let server = serve(&source);
    let car = source.path("got.car");
    let answer = curl(
        &server.url(&format!("/ipfs/{root}")),
        &["-H", "Accept: application/vnd.ipld.car"],
    );
    assert_eq!((answer.status, answer.exit), (200, 0));
    fs::write(&car, answer.body).expect("writes");
    let kubo = Kubo::start();
    let imported = kubo.ok(&["dag", "import", "--stats", car.to_str().expect("UTF-8")]);
    assert!(imported.contains(&root), "{imported}");
    let place = source.path("folder");
    kubo.ok(&["get", "-o", place.to_str().expect("UTF-8"), &root]);
    source.ok(&["get", &root, "own"]);
    assert_eq!(tree(&place), tree(&source.path("own")));
    server.stop();
}

/// Kubo's retrieval over HTTP: it learns where the gateway is from a router, probes it, and asks it for each block.
#[test]
fn kubo_fetches_blocks_without_libp2p() {
    let (source, root) = source(8);
    source.ok(&["share", &root, "--with", "public"]);
    let server = serve(&source);
    let peer = server.tcp().rsplit('/').next().expect("an id").to_owned();
    let port = server
        .url("")
        .rsplit(':')
        .next()
        .expect("a port")
        .to_owned();
    let provider = serde_json::json!({ "Providers": [{
        "Schema": "peer",
        "ID": peer,
        "Addrs": [format!("/ip4/127.0.0.1/tcp/{port}/http")],
        "Protocols": ["transport-ipfs-gateway-http"],
    }]});
    let router = Scripted::start(move |asked| {
        let head = "Content-Type: application/json\r\n";
        match asked.target.starts_with("/routing/v1/providers/") {
            true => asked.answer("200 OK", head, provider.to_string().as_bytes()),
            false => asked.answer("404 Not Found", "", b""),
        }
        true
    });
    let kubo = Kubo::configured(&[
        ("HTTPRetrieval.Enabled", "true"),
        ("Routing.DelegatedRouters", &format!("[\"{}\"]", router.url)),
        ("Routing.Type", r#""delegated""#),
    ]);
    kubo.ok(&["pin", "add", "--progress=false", &root]);
    assert_eq!(kubo.ok(&["swarm", "peers"]), "");
    let place = source.path("folder");
    kubo.ok(&[
        "--offline",
        "get",
        "-o",
        place.to_str().expect("UTF-8"),
        &root,
    ]);
    source.ok(&["get", &root, "own"]);
    assert_eq!(tree(&place), tree(&source.path("own")));
    server.stop();
}

#[test]
fn a_limit_of_uploads_holds_over_http() {
    let (source, root) = source(8);
    source.ok(&["share", &root, "--with", "public"]);
    let limit = ["--limit-upload", "4MiB"];
    let http = ["--http", "127.0.0.1:0", "--gateway"];
    let server = Running::start(&source, &[&http[..], &limit].concat());
    // What may go at once, and a block more, is not waited for.
    let least = Duration::from_secs_f64((8.0 - 1.0 - 1.0) / 4.0);

    let began = Instant::now();
    let car = curl(&server.url(&format!("/ipfs/{root}?format=car")), &[]);
    assert_eq!((car.status, car.exit), (200, 0));
    assert!(began.elapsed() >= least, "{:?}", began.elapsed());
    assert_eq!(cids(&car.body)[0].to_string(), root);

    let target = Sandbox::new();
    let began = Instant::now();
    target.ok(&["pull", &root, "--gateway", &server.url("")]);
    assert!(began.elapsed() >= least, "{:?}", began.elapsed());
    target.ok(&["verify", &root, "--keyless"]);
    server.stop();

    // Nothing goes where the rate is none, and a block is not waited for for ever.
    let none = Running::start(&source, &[&http[..], &["--limit-upload", "0"]].concat());
    let block = curl(&none.url(&format!("/ipfs/{root}?format=raw")), &[]);
    assert_eq!((block.status, block.header("retry-after")), (503, "1"));
    let probe = curl(&none.url("/ipfs/bafkqaaa?format=raw"), &[]);
    assert_eq!(probe.status, 200);
    none.stop();
}

#[test]
fn formats_are_negotiated() {
    let (source, root) = source(1);
    source.ok(&["share", &root, "--with", "public"]);
    let server = serve(&source);
    let probe = "bafkqaaa";
    let path = format!("/ipfs/{root}");
    let cases: &[(&str, &str, u16, &str)] = &[
        ("?format=raw", "", 200, RAW),
        ("?format=car", "", 200, CAR),
        ("?format=car", RAW, 200, CAR),
        ("?format=raw&filename=x", "*/*", 200, RAW),
        ("", RAW, 200, RAW),
        ("", CAR, 200, CAR),
        (
            "",
            "application/vnd.ipld.car; version=1; order=dfs; dups=n",
            200,
            CAR,
        ),
        ("", "text/html, application/vnd.ipld.raw;q=0.1", 200, RAW),
        ("", "", 400, ""),
        ("", "text/html", 406, ""),
        ("", "application/vnd.ipld.car;version=2", 406, ""),
        ("", "application/vnd.ipld.car;dups=y", 406, ""),
        ("?format=tar", RAW, 406, ""),
        ("?format=ipns-record", "", 406, ""),
        ("?format=car&car-order=other", "", 400, ""),
        ("?format=car&dag-scope=most", "", 400, ""),
        ("?format=car&entity-bytes=x", "", 400, ""),
        ("/manifest.age?format=raw", "", 400, ""),
        ("/..?format=car", "", 400, ""),
    ];
    for (rest, accept, status, media) in cases {
        let accept = format!("Accept: {accept}");
        // An empty value makes curl leave the header out.
        let accept = accept.trim_end();
        for method in ["GET", "HEAD"] {
            let method: &[&str] = if method == "HEAD" { &["--head"] } else { &[] };
            let url = server.url(&format!("{path}{rest}"));
            let answer = curl(&url, &[method, &["-H", accept]].concat());
            assert_eq!(
                answer.status, *status,
                "{rest} {accept} {method:?} {answer:?}"
            );
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert!(
                answer.header("content-type").starts_with(media),
                "{answer:?}"
            );
            if *status == 200 {
                assert!(answer.header("cache-control").contains("immutable"));
                assert!(
                    answer
                        .header("content-disposition")
                        .starts_with("attachment")
                );
                assert_eq!(
                    answer.header("content-location").is_empty(),
                    rest.contains("format=")
                );
                let known = format!("If-None-Match: {}", answer.header("etag"));
                let again = curl(&url, &["-H", accept, "-H", &known]);
                assert_eq!((again.status, again.body.len()), (304, 0), "{again:?}");
            }
        }
    }
    let ask = |target: &str, args: &[&str]| curl(&server.url(target), args);
    let raw = ask(&format!("/ipfs/{probe}?format=raw"), &[]);
    assert_eq!((raw.status, raw.body.len(), raw.exit), (200, 0, 0));
    let car = ask(&format!("/ipfs/{probe}?format=car"), &[]);
    assert_eq!((car.status, cids(&car.body)), (200, vec![]));
    assert_eq!(ask(&format!("/ipns/{probe}?format=raw"), &[]).status, 501);
    assert_eq!(ask("/", &[]).status, 404);
    assert_eq!(ask(&path, &["-X", "POST"]).status, 405);
    let body = ask(&format!("{path}?format=raw"), &["-X", "GET", "-d", "x"]);
    assert_eq!(body.status, 400);
    let old = ask(&format!("{path}?format=car"), &["--http1.0"]);
    assert_eq!(old.status, 505, "its end could not be told from a cut");
    let long = format!("{path}?format=raw&x={}", "y".repeat(5000));
    assert_eq!(ask(&long, &[]).status, 414);
    let big = format!("X-Big: {}", "y".repeat(20_000));
    assert_eq!(
        ask(&format!("{path}?format=raw"), &["-H", &big]).status,
        431
    );
    server.stop();
}

#[test]
fn what_is_not_shared_looks_like_what_is_not_there() {
    let (source, root) = source(1);
    let server = serve(&source);
    let absent = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";
    let answers = |cid: &str| -> Vec<String> {
        let ask = |rest: &str, args: &[&str]| {
            let mut answer: Answer = curl(&server.url(&format!("/ipfs/{cid}{rest}")), args);
            answer.headers.remove("date");
            // Of a HEAD curl prints the head, with the time of day in it.
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let timeless = text
                .split_inclusive('\n')
                .filter(|l| !l.starts_with("date: "));
            answer.body = timeless.collect::<String>().into_bytes();
            format!("{answer:?}")
        };
        let etag = format!("If-None-Match: \"{cid}.raw\"");
        vec![
            ask("?format=raw", &[]),
            ask("?format=raw", &["--head"]),
            ask("?format=raw", &["-H", &etag]),
            ask("?format=raw", &["-H", "If-None-Match: *"]),
            ask("?format=raw", &["-H", "Cache-Control: only-if-cached"]),
            ask("?format=car", &[]),
            ask("?format=car&dag-scope=block", &["--head"]),
            ask("/manifest.age?format=car", &[]),
        ]
    };
    let not_there = answers(absent);
    assert!(not_there[0].contains("status: 404"), "{}", not_there[0]);
    assert!(not_there[4].contains("status: 412"), "{}", not_there[4]);
    assert_eq!(answers(&root), not_there);
    let friend = "12D3KooWMReLDEqLd1tLfot2iGV8p7tQxKfLrQYAzrgizYKL1NSp";
    source.ok(&["share", &root, "--with", friend]);
    assert_eq!(answers(&root), not_there, "it is for one peer");
    source.ok(&["share", &root, "--with", "public"]);
    assert_eq!(
        curl(&server.url(&format!("/ipfs/{root}?format=raw")), &[]).status,
        200
    );
    source.ok(&["share", &root, "--without", "public"]);
    assert_eq!(answers(&root), not_there, "it was taken back");
    server.stop();
}

#[test]
fn a_damaged_block_cuts_the_car_off() {
    let (source, root) = source(6);
    source.ok(&["share", &root, "--with", "public"]);
    let blocks = packs::blocks(&source.home());
    let large = blocks.iter().max_by_key(|place| place.len).expect("blocks");
    let pack = fs::File::options()
        .write(true)
        .open(&large.pack)
        .expect("opens");
    pack.write_all_at(b"damage", large.offset + large.len / 2)
        .expect("writes");
    let server = serve(&source);
    let car = curl(&server.url(&format!("/ipfs/{root}?format=car")), &[]);
    assert_eq!((car.status, car.exit), (200, 18), "it is cut off");
    let raw = curl(&server.url(&format!("/ipfs/{}?format=raw", large.cid)), &[]);
    assert_eq!(raw.status, 500);
    let head = curl(&server.url(&format!("/ipfs/{root}?format=raw")), &[]);
    assert_eq!(head.status, 200, "others are served");
    let said = server.stop();
    assert!(said.contains("damaged"), "{said}");
}

#[test]
fn honest_callers_are_served_while_others_flood_and_drip() {
    let (source, root) = source(64);
    source.ok(&["share", &root, "--with", "public"]);
    let server = serve(&source);
    let address = server.url("").trim_start_matches("http://").to_owned();
    let car = server.url(&format!("/ipfs/{root}?format=car"));
    let calm = Instant::now();
    assert_eq!(curl(&car, &[]).exit, 0);
    let calm = calm.elapsed();

    // Heads that never end, more of them than there are places.
    let mut heads: Vec<TcpStream> = Vec::new();
    for _ in 0..600 {
        let mut stream = TcpStream::connect(&address).expect("connects");
        // It may have been closed for one that came later.
        let _ = stream.write_all(b"GET /ipfs/");
        heads.push(stream);
    }
    let began = Instant::now();
    let answer = curl(&car, &[]);
    assert_eq!((answer.status, answer.exit), (200, 0));
    assert_eq!(cids(&answer.body)[0].to_string(), root);
    note(format_args!(
        "a CAR of 64 MiB: {calm:?} alone, {:?} beside heads that do not end",
        began.elapsed()
    ));
    drop(heads);

    // CARs that are asked for and not read take all places, until they are cut off.
    let mut unread: Vec<TcpStream> = Vec::new();
    while curl(&car, &["--head"]).status == 200 {
        assert!(unread.len() < 100, "there is no end of places");
        let mut stream = TcpStream::connect(&address).expect("connects");
        let request = format!("GET /ipfs/{root}?format=car HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("writes");
        // Its first byte says that it has a place.
        let mut first = [0; 12];
        stream.read_exact(&mut first).expect("an answer");
        unread.push(stream);
    }
    let full = curl(&car, &[]);
    assert_eq!((full.status, full.header("retry-after")), (503, "1"));
    let raw = curl(&server.url(&format!("/ipfs/{root}?format=raw")), &[]);
    assert_eq!(raw.status, 200, "blocks are served meanwhile");
    let began = Instant::now();
    while curl(&car, &["--head"]).status != 200 {
        assert!(began.elapsed() < Duration::from_secs(60));
    }
    let memory = server.memory_kib();
    note(format_args!(
        "{} CARs that were not read; {memory} KiB",
        unread.len()
    ));
    assert!(memory < MEMORY_KIB_MAX, "{memory} KiB");
    server.stop();
}
