//! What says that it is a Kubo and is none, or lies: told as such, within bounds, and nothing is lost.

use std::fs;

use hyper::Response;
use souverain_tests::{
    http::{Body, HttpServer, body, endless, reply},
    program::{Sandbox, noise},
};

const OTHER: &str = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";

fn version(version: &str) -> Response<Body> {
    let text = format!(r#"{{"Version":"{version}","Commit":"","Repo":"18"}}"#);
    reply(200, body(text))
}

fn said(message: &str) -> Response<Body> {
    let text = format!(r#"{{"Message":"{message}","Code":0,"Type":"error"}}"#);
    reply(500, body(text))
}

fn source() -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("tree")).expect("creates");
    fs::write(sandbox.path("tree/noise"), noise(11, 3 << 20)).expect("writes");
    let root = sandbox.ok(&["export", "tree"]);
    (sandbox, root)
}

/// A Kubo that answers well, but for one call.
fn but_for(
    call: &'static str,
    answer: impl Fn() -> Response<Body> + Send + Sync + 'static,
) -> HttpServer {
    HttpServer::start(move |request| {
        let path = request
            .uri()
            .path()
            .trim_start_matches("/api/v0/")
            .to_owned();
        let by_name = request.uri().query().unwrap_or_default().contains("name=");
        if path == call {
            return answer();
        }
        match path.as_str() {
            "version" => version("0.43.0"),
            "pin/ls" if by_name => reply(200, body("")),
            "pin/ls" => said("is not pinned"),
            "block/stat" => said("block was not found locally"),
            "dag/import" => reply(
                200,
                body("{\"Stats\":{\"BlockCount\":7777,\"BlockBytesCount\":9}}\n"),
            ),
            _ => reply(404, body("404 page not found")),
        }
    })
}

#[test]
fn what_answers_in_another_way_is_told_from_a_kubo() {
    let (sandbox, root) = source();
    type Answer = fn() -> Response<Body>;
    let cases: &[(&str, Answer, &str)] = &[
        (
            "version",
            || version("0.28.0"),
            "0.29.0 is the first one that will do",
        ),
        ("version", || version("banana"), "is not the RPC of a Kubo"),
        (
            "version",
            || reply(404, body("404 page not found")),
            "is not the RPC of a Kubo",
        ),
        ("version", || reply(307, body("")), "HTTP status 307"),
        ("version", || reply(401, body("")), "HTTP status 401"),
        (
            "version",
            || reply(500, body("<html>")),
            "is not the RPC of a Kubo",
        ),
        ("version", || reply(200, body("<html>")), "makes no sense"),
        (
            "version",
            || reply(200, endless(b"{\"Version\":")),
            "is longer than",
        ),
        ("version", || reply(500, endless(b"x")), "is longer than"),
        ("pin/ls", || reply(200, endless(b"aaaa")), "is longer than"),
        ("pin/ls", || reply(200, endless(b"{}\n")), "makes no sense"),
        (
            "pin/ls",
            || reply(200, body("{\"Cid\":\"b")),
            "is not whole",
        ),
        (
            "dag/import",
            || said("disk\\u001b[31m full"),
            "Kubo says of dag/import: disk [31m full",
        ),
        ("dag/import", || reply(200, body("")), "is not whole"),
        ("dag/import", || reply(200, endless(b"{}\n")), "more than"),
    ];
    for (call, answer, what) in cases {
        let server = but_for(call, answer);
        let backend = format!("kubo=http://{}", server.address);
        let ran = sandbox.run(&["pin", "add", &root, "--backend", &backend]);
        assert!(!ran.stderr.contains('\u{1b}'), "{ran:?}");
        ran.failed(1, what);
    }
    // None of it was of any harm.
    assert_eq!(sandbox.listed(), [root]);
}

#[test]
fn a_kubo_that_pins_something_else_or_counts_wrong_is_not_believed() {
    let (sandbox, root) = source();
    // Counts are compared before a root is.
    let server = but_for("pin/add", || said("unreachable"));
    let add = |server: &HttpServer| {
        let backend = format!("kubo=http://{}", server.address);
        sandbox.run(&["pin", "add", &root, "--backend", &backend])
    };
    add(&server).failed(1, "7777 blocks came of ");
    // From here on it counts what really comes.
    let honest_but = |pins: &'static str| {
        HttpServer::start(move |request| {
            let by_name = request.uri().query().unwrap_or_default().contains("name=");
            match request.uri().path() {
                "/api/v0/version" => version("0.43.0"),
                "/api/v0/pin/ls" if by_name => reply(200, body("")),
                "/api/v0/pin/ls" => said("is not pinned"),
                "/api/v0/block/stat" => said("block was not found locally"),
                "/api/v0/dag/import" => {
                    let form = request.body();
                    let start = form
                        .windows(4)
                        .position(|w| w == b"\r\n\r\n")
                        .expect("a head")
                        + 4;
                    let end = form
                        .windows(5)
                        .rposition(|w| w == b"\r\n--s")
                        .expect("a tail");
                    let mut car = protocol::car::Reader::new(&form[start..end]).expect("a CAR");
                    let mut count = 0;
                    while car.next_block().expect("whole").is_some() {
                        count += 1;
                    }
                    let stats =
                        format!("{{\"Stats\":{{\"BlockCount\":{count},\"BlockBytesCount\":1}}}}\n");
                    reply(200, body(stats))
                }
                "/api/v0/pin/add" => reply(200, body(pins)),
                _ => reply(404, body("")),
            }
        })
    };
    let other = format!("{{\"Progress\":1}}\n{{\"Pins\":[\"{OTHER}\"]}}\n");
    let lies = honest_but(Box::leak(other.into_boxed_str()));
    add(&lies).failed(3, &format!("the Kubo pinned {OTHER}, not {root}"));
    add(&honest_but("{\"Progress\":1}\n")).failed(1, "is not whole");
    add(&honest_but("{\"Pins\":[\"\\u001b[31m\"]}\n")).failed(3, "the Kubo pinned [31m, not");
    let says = HttpServer::start(|request| match request.uri().path() {
        "/api/v0/version" => version("0.43.0"),
        _ => reply(200, body("")),
    });
    let backend = format!("kubo=http://{}", says.address);
    sandbox
        .run(&["pin", "remove", &root, "--backend", &backend])
        .failed(1, "has not pinned");
}

#[test]
fn hostile_cars_end_a_pull_and_leave_no_snapshot() {
    let (sandbox, root) = source();
    sandbox.ok(&["car", "export", &root, "whole.car"]);
    let whole = fs::read(sandbox.path("whole.car")).expect("reads");
    let mut damaged = whole.clone();
    *damaged.last_mut().expect("not empty") ^= 1;
    let twice = [&whole[..], &whole[59..]].concat();
    let cut = whole[..whole.len() - 9].to_vec();
    let early = whole[..59].to_vec();
    let cases: Vec<(Body, i32, &str)> = vec![
        (body(damaged), 3, "does not match"),
        (body(twice), 3, "was not asked for"),
        (body(cut), 3, "not a whole one"),
        (body(early), 1, "does not have all of"),
        (body("<html>no CAR</html>"), 3, "what came is no CAR"),
        (endless(b"\x00"), 3, "what came is no CAR"),
        (body(""), 3, "what came is no CAR"),
    ];
    for (bytes, code, what) in cases {
        let bytes = std::sync::Mutex::new(Some(bytes));
        let server = but_for("dag/export", move || {
            let bytes = bytes.lock().expect("not poisoned").take();
            reply(200, bytes.unwrap_or_else(|| body("")))
        });
        let target = Sandbox::new();
        let backend = format!("kubo=http://{}", server.address);
        let pull = ["pull", &root, "--backend", &backend];
        target.run(&pull).failed(code, what);
        assert_eq!(target.listed(), Vec::<String>::new());
    }
}
