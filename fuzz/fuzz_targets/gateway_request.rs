//! Requests to the gateway: what is understood is told in one way, and understood so again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use souverain_agent::http::gateway::request::{Ask, Scope};

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(3, '\n');
    let path = lines.next().unwrap_or_default();
    let query = lines.next();
    let accept: Vec<&str> = lines.next().unwrap_or_default().split('\n').collect();
    let Ok(ask) = Ask::parse(path, query, &accept) else {
        return;
    };
    let target = ask.target();
    let (path, query) = target.split_once('?').expect("a query");
    match Ask::parse(path, Some(query), &[]) {
        Ok(again) => assert_eq!(again, ask),
        // What was written out may be longer than a request may be.
        Err(refusal) => assert_eq!(refusal.status, 414),
    }
    if let Ask::Car(car) = ask
        && let Scope::Entity(Some(range)) = car.scope
    {
        for len in [0, 1, 1 << 20, u64::MAX] {
            if let Some((from, to)) = range.within(len) {
                assert!(from <= to && to < len);
            }
        }
    }
});
