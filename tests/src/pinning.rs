//! A pinning service on loopback, after the OpenAPI of the IPFS Pinning Service API 1.0.0.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use hyper::{Method, Request, Response};
use serde_json::{Value, json};

use crate::http::{Body, HttpServer, body, reply};

/// What a service remembers of a request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its id.
    pub id: String,
    /// The pin, as it was sent.
    pub pin: Value,
    /// How far it is.
    pub status: String,
    created: String,
}

#[derive(Debug, Default)]
struct State {
    asked: Vec<Asked>,
    count: usize,
    /// What becomes of requests each time that somebody looks.
    course: Vec<&'static str>,
    /// Statuses of errors to be sent before anything else.
    errors: Vec<u16>,
    calls: Vec<String>,
}

/// A running service; it ends when it is dropped.
#[derive(Debug)]
pub struct FakeService {
    server: HttpServer,
    state: Arc<Mutex<State>>,
}

impl FakeService {
    /// Starts a service that takes a token, and takes requests through the statuses of `course`, one each time that
    /// somebody looks at one.
    #[must_use]
    pub fn start(token: &'static str, course: &[&'static str]) -> Self {
        let state = Arc::new(Mutex::new(State {
            course: course.to_vec(),
            ..State::default()
        }));
        let server = HttpServer::start({
            let state = state.clone();
            move |request| {
                let mut state = state.lock().expect("not poisoned");
                answer(&mut state, token, &request)
            }
        });
        Self { server, state }
    }

    /// Where its API is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/psa/", self.server.address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    /// What it remembers.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// The method and path of each call, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// Answers the next calls with errors of these statuses, the last one first.
    pub fn fail_with(&self, statuses: &[u16]) {
        self.state().errors = statuses.to_vec();
    }

    /// What becomes of requests from now on.
    pub fn take(&self, course: &[&'static str]) {
        self.state().course = course.to_vec();
    }

    /// Adds a request that somebody else made.
    pub fn add(&self, cid: &str, name: &str, status: &str) {
        let pin = json!({ "cid": cid, "name": name });
        let mut state = self.state();
        state.add(pin).status = status.to_owned();
    }
}

impl State {
    fn add(&mut self, pin: Value) -> &mut Asked {
        self.count += 1;
        let count = self.count;
        self.asked.push(Asked {
            // What an id may be: text that needs escaping in a path.
            id: format!("request {count}/of ?many#"),
            pin,
            status: "queued".to_owned(),
            created: format!(
                "2026-01-02T03:{:02}:{:02}.{:03}Z",
                count / 60000,
                count / 1000 % 60,
                count % 1000
            ),
        });
        self.asked.last_mut().expect("just pushed")
    }
}

fn failure(status: u16, reason: &str) -> Response<Body> {
    let text = json!({ "error": { "reason": reason, "details": format!("{reason} in words") } });
    reply(status, body(text.to_string()))
}

fn status(asked: &Asked) -> Value {
    json!({
        "requestid": asked.id, "status": asked.status, "created": asked.created, "pin": asked.pin,
        "delegates": ["/ip4/203.0.113.1/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"],
        "info": { "status_details": format!("it is {}", asked.status) },
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let code = std::str::from_utf8(&rest[..2]).expect("two digits");
                rest = &rest[2..];
                u8::from_str_radix(code, 16).expect("two digits")
            }
            other => other,
        });
    }
    String::from_utf8(bytes).expect("UTF-8")
}

fn answer(state: &mut State, token: &str, request: &Request<Bytes>) -> Response<Body> {
    let path = request.uri().path();
    state.calls.push(format!("{} {path}", request.method()));
    let sent = request.headers().get("authorization");
    if sent.is_none_or(|sent| sent.as_bytes() != format!("Bearer {token}").as_bytes()) {
        return failure(401, "UNAUTHORIZED");
    }
    if let Some(status) = state.errors.pop() {
        return failure(status, "INTERNAL_SERVER_ERROR");
    }
    let Some(rest) = path.strip_prefix("/psa/pins") else {
        return failure(404, "NOT_FOUND");
    };
    let id = rest.strip_prefix('/').map(decoded);
    let index = id
        .as_ref()
        .map(|id| state.asked.iter().position(|asked| asked.id == *id));
    match (request.method(), index) {
        (_, Some(None)) => failure(404, "NOT_FOUND"),
        (&Method::POST, replaced) => {
            let pin: Value = serde_json::from_slice(request.body()).expect("JSON");
            let kind = request.headers().get("content-type");
            assert_eq!(kind.expect("there").as_bytes(), b"application/json");
            let asked = state.add(pin).clone();
            if let Some(Some(index)) = replaced {
                state.asked.remove(index);
            }
            reply(202, body(status(&asked).to_string()))
        }
        (&Method::GET, Some(Some(index))) => {
            if !state.course.is_empty() {
                state.asked[index].status = state.course.remove(0).to_owned();
            }
            reply(200, body(status(&state.asked[index]).to_string()))
        }
        (&Method::DELETE, Some(Some(index))) => {
            state.asked.remove(index);
            reply(202, body(""))
        }
        (&Method::GET, None) => results(state, request.uri().query().unwrap_or_default()),
        _ => failure(400, "BAD_REQUEST"),
    }
}

fn results(state: &State, query: &str) -> Response<Body> {
    let query: HashMap<String, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), decoded(value)))
        .collect();
    let statuses = query.get("status").map_or("pinned", String::as_str);
    let is = |key: &str, value: &Value| query.get(key).is_none_or(|wanted| value == wanted);
    let mut found: Vec<&Asked> = state
        .asked
        .iter()
        .rev()
        .filter(|asked| statuses.split(',').any(|status| status == asked.status))
        .filter(|asked| is("name", &asked.pin["name"]) && is("cid", &asked.pin["cid"]))
        .filter(|asked| {
            query
                .get("before")
                .is_none_or(|before| asked.created < *before)
        })
        .collect();
    let count = found.len();
    let limit: usize = query
        .get("limit")
        .map_or(10, |limit| limit.parse().expect("a number"));
    assert!((1..=1000).contains(&limit), "{limit}");
    found.truncate(limit);
    let results: Vec<Value> = found.into_iter().map(status).collect();
    reply(
        200,
        body(json!({ "count": count, "results": results }).to_string()),
    )
}
