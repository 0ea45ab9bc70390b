//! Pinning services: asked, waited for, looked at and told to forget, whatever they answer.

use std::{fs, os::unix::fs::PermissionsExt};

use hyper::Response;
use serde_json::{Value, json};
use souverain_tests::{
    http::{Body, HttpServer, body, endless, reply},
    kubo::Kubo,
    pinning::FakeService,
    program::{Sandbox, noise},
    running::Running,
};

const TOKEN: &str = "t0ken-of-mine";
const OTHER: &str = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";

/// A home with a small snapshot, that knows a service as `shelf`.
fn home(url: &str) -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("tree")).expect("creates");
    fs::write(sandbox.path("tree/noise"), noise(21, 1 << 20)).expect("writes");
    let root = sandbox.ok(&["export", "tree"]);
    let token = sandbox.path("token");
    fs::write(&token, format!("{TOKEN}\n")).expect("writes");
    fs::set_permissions(&token, PermissionsExt::from_mode(0o600)).expect("restricts");
    let add = [
        "pin",
        "service",
        "add",
        "shelf",
        url,
        "--token-file",
        "token",
    ];
    assert_eq!(sandbox.ok(&add), "shelf");
    (sandbox, root)
}

fn answer(sandbox: &Sandbox, args: &[&str]) -> Value {
    let objects = sandbox
        .run(&[args, &["--json"]].concat())
        .succeeded()
        .objects();
    objects.last().expect("an object").clone()
}

#[test]
fn a_service_is_asked_until_it_has_pinned() {
    let service = FakeService::start(TOKEN, &["queued", "pinning", "pinned"]);
    let (sandbox, root) = home(&service.url());
    let add = ["pin", "add", &root, "--pin-service", "shelf"];
    let pinned = answer(&sandbox, &add);
    assert_eq!(pinned["status"], "pinned", "{pinned}");
    assert_eq!(pinned["cid"], root.as_str());
    assert_eq!(pinned["delegates"].as_array().expect("a list").len(), 1);
    let asked = service.asked();
    let peer = agent::home::Home::open(&sandbox.home())
        .expect("opens")
        .peer_id();
    let pin = json!({ "cid": root, "name": format!("souverain/{peer}"), "origins": [] });
    assert_eq!((asked.len(), &asked[0].pin), (1, &pin));

    // It is pinned: it is not asked again.
    assert_eq!(sandbox.ok(&add), root);
    assert_eq!(service.asked().len(), 1);
    let list = ["pin", "list", "--pin-service", "shelf"];
    let line = sandbox.ok(&list);
    assert!(
        line.starts_with(&format!("{root}  pinned  2026-")),
        "{line}"
    );
    assert_eq!(answer(&sandbox, &list)["requestid"], asked[0].id.as_str());

    let remove = ["pin", "remove", &root, "--pin-service", "shelf"];
    assert_eq!(sandbox.ok(&remove), root);
    assert!(service.asked().is_empty());
    sandbox.run(&remove).failed(1, "has no pin of");
    assert_eq!(sandbox.ok(&list), "");
}

#[test]
fn a_request_stands_when_the_wait_is_over() {
    let service = FakeService::start(TOKEN, &[]);
    let (sandbox, root) = home(&service.url());
    let add = ["pin", "add", &root, "--pin-service", "shelf"];
    let at_once = answer(&sandbox, &[&add[..], &["--wait", "0"]].concat());
    assert_eq!(at_once["status"], "queued", "{at_once}");
    let waiting = sandbox.run(&[&add[..], &["--wait", "1"]].concat());
    let waiting = waiting.failed(1, "has not pinned");
    assert!(waiting.stderr.contains("the request stands"), "{waiting:?}");
    // It is the same request that is waited for, though the service is unwell now and then.
    service.take(&["pinning", "pinned"]);
    service.fail_with(&[503]);
    sandbox.run(&add).failed(1, "HTTP status 503");
    assert_eq!(sandbox.ok(&add), root);
    let asked = service.asked();
    assert_eq!((asked.len(), asked[0].status.as_str()), (1, "pinned"));
    let posts = service
        .calls()
        .iter()
        .filter(|call| call.starts_with("POST"))
        .count();
    assert_eq!(posts, 1);
}

#[test]
fn a_failed_request_is_told_and_replaced() {
    let service = FakeService::start(TOKEN, &["failed"]);
    let (sandbox, root) = home(&service.url());
    let add = ["pin", "add", &root, "--pin-service", "shelf"];
    let failed = sandbox.run(&add).failed(1, "failed to pin");
    assert!(failed.stderr.contains("it is failed"), "{failed:?}");
    assert!(
        sandbox
            .ok(&["pin", "list", "--pin-service", "shelf"])
            .contains("failed")
    );
    let first = service.asked().remove(0).id;
    service.take(&["pinned"]);
    assert_eq!(sandbox.ok(&add), root);
    let asked = service.asked();
    assert_eq!(asked.len(), 1, "it was replaced");
    assert_ne!(asked[0].id, first);
}

#[test]
fn long_lists_are_read_page_by_page_and_pins_of_others_left_alone() {
    let service = FakeService::start(TOKEN, &[]);
    let (sandbox, root) = home(&service.url());
    let peer = agent::home::Home::open(&sandbox.home())
        .expect("opens")
        .peer_id();
    let name = format!("souverain/{peer}");
    for index in 0..2500 {
        let name = if index % 500 == 0 {
            "somebody else"
        } else {
            &name
        };
        service.add(OTHER, name, "pinned");
    }
    service.add(&root, "somebody else", "pinned");
    let list = sandbox.ok(&["pin", "list", "--pin-service", "shelf"]);
    assert_eq!(list.lines().count(), 2495);
    let pages = service.calls();
    assert_eq!(pages.len(), 3, "{pages:?}");
    sandbox
        .run(&["pin", "remove", &root, "--pin-service", "shelf"])
        .failed(1, "has no pin of");
    assert_eq!(
        sandbox.ok(&["pin", "remove", OTHER, "--pin-service", "shelf"]),
        OTHER
    );
    assert_eq!(service.asked().len(), 6);
}

#[test]
fn an_export_can_ask_a_kubo_and_a_service() {
    let service = FakeService::start(TOKEN, &["pinned"]);
    let (sandbox, _) = home(&service.url());
    let kubo = Kubo::start();
    let backend = format!("kubo={}", kubo.api());
    fs::write(sandbox.path("tree/more"), "more").expect("writes");
    let export = [
        "export",
        "tree",
        "--backend",
        &backend,
        "--pin-service",
        "shelf",
        "--json",
    ];
    let objects = sandbox.run(&export).succeeded().objects();
    let kinds: Vec<&str> = objects
        .iter()
        .map(|o| o["type"].as_str().expect("a type"))
        .collect();
    assert_eq!(kinds, ["exported", "pinned", "warning", "pin_request"]);
    for object in [&objects[1], &objects[3]] {
        assert_eq!(object["cid"], objects[0]["cid"]);
    }
    let root = objects[0]["cid"].as_str().expect("a CID");
    assert!(kubo.ok(&["pin", "ls", "--type=recursive"]).contains(root));
    assert_eq!(service.asked()[0].pin["cid"], root);
    // An agent that listens on loopback alone is of no use to a service, and is not told of.
    let agent = Running::start(&sandbox, &[]);
    sandbox.ok(&["pin", "remove", root, "--pin-service", "shelf"]);
    service.take(&["pinned"]);
    let again = sandbox
        .run(&["pin", "add", root, "--pin-service", "shelf"])
        .succeeded();
    assert!(
        again
            .stderr
            .contains("no agent that the internet can reach"),
        "{again:?}"
    );
    assert_eq!(service.asked()[0].pin["origins"], json!([]));
    agent.stop();
}

#[test]
fn what_does_not_let_one_in_is_told_before_the_work_and_no_token_is_printed() {
    let service = FakeService::start("another-token", &[]);
    let (sandbox, root) = home(&service.url());
    fs::write(sandbox.path("tree/more"), "more").expect("writes");
    for args in [
        &["export", "tree", "--pin-service", "shelf"][..],
        &["pin", "add", &root, "--pin-service", "shelf", "-vv"],
        &["pin", "list", "--pin-service", "shelf"],
        &["pin", "remove", &root, "--pin-service", "shelf"],
    ] {
        let refused = sandbox
            .run(args)
            .failed(1, "does not take the token (HTTP status 401)");
        assert!(!refused.stderr.contains(TOKEN), "{refused:?}");
    }
    assert_eq!(sandbox.listed(), [root.as_str()], "nothing was exported");
    let unknown = ["pin", "add", &root, "--pin-service", "nobody"];
    sandbox
        .run(&unknown)
        .failed(1, "knows no pinning service nobody");
    sandbox
        .run(&["pin", "add", &root])
        .failed(2, "where the snapshot is to be pinned");
    fs::set_permissions(sandbox.path("token"), PermissionsExt::from_mode(0o644)).expect("opens");
    let open = sandbox.run(&["pin", "list", "--pin-service", "shelf"]);
    open.failed(1, "can be read or changed by others");
}

#[test]
fn services_are_added_listed_and_removed() {
    let (sandbox, _) = home("https://pin.example/psa");
    let add = |name: &str, url: &str| {
        sandbox.run(&["pin", "service", "add", name, url, "--token-file", "token"])
    };
    add("shelf", "https://pin.example").failed(1, "there is a pinning service shelf already");
    add("plain", "http://pin.example").failed(2, "is not the https:// URL");
    let secret =
        add("secret", "https://me:hidden@pin.example").failed(2, "can be read by every user");
    assert!(!secret.stderr.contains("hidden"), "{secret:?}");
    assert_eq!(
        add("other", "http://localhost:1").succeeded().stdout,
        "other\n"
    );
    let list = ["pin", "service", "list"];
    assert_eq!(
        sandbox.ok(&list),
        "other  http://localhost:1/\nshelf  https://pin.example/psa"
    );
    let known = answer(&sandbox, &list);
    assert_eq!(
        known["token_file"],
        sandbox.path("token").to_str().expect("UTF-8")
    );
    assert!(!known.to_string().contains(TOKEN));
    sandbox
        .run(&["pin", "list", "--pin-service", "other"])
        .failed(1, "does not answer");
    assert_eq!(sandbox.ok(&["pin", "service", "remove", "shelf"]), "shelf");
    sandbox
        .run(&["pin", "service", "remove", "shelf"])
        .failed(1, "knows no pinning service");
}

#[test]
fn answers_that_do_not_follow_the_api_are_refused() {
    type Answer = fn(&str) -> Response<Body>;
    fn status(cid: &str, status: &str) -> String {
        json!({
            "requestid": "one", "status": status, "created": "2026-01-02T03:04:05Z",
            "pin": { "cid": cid }, "delegates": [],
        })
        .to_string()
    }
    let cases: &[(&str, Answer, i32, &str)] = &[
        (
            "list",
            |_| reply(200, body("<html>")),
            1,
            "is not what its API says",
        ),
        (
            "list",
            |_| reply(200, body("{\"count\":-1,\"results\":[]}")),
            1,
            "is not what its API says",
        ),
        (
            "list",
            |_| reply(200, endless(b"[[[[[[[[")),
            1,
            "longer than",
        ),
        ("list", |_| reply(500, endless(b"x")), 1, "longer than"),
        ("list", |_| reply(307, body("")), 1, "it sends us elsewhere"),
        ("list", |_| reply(403, body("")), 1, "HTTP status 403"),
        (
            "list",
            |_| reply(500, body("<html>")),
            1,
            "nothing that its API knows",
        ),
        (
            "list",
            |_| {
                reply(
                    409,
                    body(
                        "{\"error\":{\"reason\":\"INSUFFICIENT_FUNDS\",\"details\":\"\\u001b[31mpay\"}}",
                    ),
                )
            },
            1,
            "INSUFFICIENT_FUNDS:  [31mpay (HTTP status 409)",
        ),
        // A list that says that there is more, and never comes to its end.
        (
            "list",
            |root| {
                let results = format!("{{\"count\":9,\"results\":[{}]}}", status(root, "queued"));
                reply(200, body(results))
            },
            1,
            "does not come to its end",
        ),
        (
            "post",
            |root| reply(202, body(status(root, "done"))),
            1,
            "there is no status",
        ),
        (
            "post",
            |_| reply(202, body(status(OTHER, "queued"))),
            3,
            "speaks of",
        ),
        (
            "post",
            |_| reply(202, body("")),
            1,
            "is not what its API says",
        ),
        (
            "look",
            |_| reply(200, body(status(OTHER, "pinned"))),
            3,
            "speaks of",
        ),
        (
            "look",
            |_| reply(404, body("{\"error\":{\"reason\":\"NOT_FOUND\"}}")),
            1,
            "NOT_FOUND",
        ),
        (
            "look",
            |root| reply(200, body(status(root, "pinned").replace("one", "two"))),
            1,
            "another request",
        ),
    ];
    let (sandbox, root) = home("https://pin.example");
    for (number, &(call, answer, code, what)) in cases.iter().enumerate() {
        let known = root.clone();
        let server = HttpServer::start(move |request| {
            let is_check = request.uri().query() == Some("limit=1");
            let here = match (request.method().as_str(), request.uri().path()) {
                ("POST", _) => "post",
                ("GET", "/pins") => "list",
                _ => "look",
            };
            match here {
                "list" if is_check => reply(200, body("{\"count\":0,\"results\":[]}")),
                here if here == call => answer(&known),
                "list" => reply(200, body("{\"count\":0,\"results\":[]}")),
                "post" => reply(202, body(status(&known, "queued"))),
                _ => reply(200, body(status(&known, "pinned"))),
            }
        });
        let (name, url) = (number.to_string(), format!("http://{}", server.address));
        sandbox.ok(&[
            "pin",
            "service",
            "add",
            &name,
            &url,
            "--token-file",
            "token",
        ]);
        let ran = sandbox.run(&["pin", "add", &root, "--pin-service", &name]);
        assert!(!ran.stderr.contains('\u{1b}'), "{ran:?}");
        ran.failed(code, what);
    }
}
