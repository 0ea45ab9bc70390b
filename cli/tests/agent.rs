//! `agent`: it runs, says where, is seen, and stops.

mod souverain;

use std::{
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use serde_json::Value;
use souverain::{Sandbox, running::Running, write_tree};

fn status(sandbox: &Sandbox) -> Value {
    let ran = sandbox.run(&["agent", "status", "--json"]).succeeded();
    ran.objects().remove(0)
}

/// Asks until the answer is as expected; the time is a limit, and not waited for.
fn until(sandbox: &Sandbox, expected: impl Fn(&Value) -> bool) -> Value {
    let began = std::time::Instant::now();
    loop {
        let found = status(sandbox);
        if expected(&found) {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{found}");
    }
}

fn homes(count: usize) -> Vec<Sandbox> {
    let homes: Vec<Sandbox> = (0..count).map(|_| Sandbox::new()).collect();
    for home in &homes {
        home.ok(&["init"]);
    }
    homes
}

#[test]
fn runs_on_loopback_until_told_to_stop() {
    let home = &homes(1)[0];
    for signal in ["-TERM", "-INT"] {
        let agent = Running::start(home, &[]);
        assert_eq!(agent.addresses.len(), 2);
        let peer = status(home)["peer"].as_str().expect("a peer").to_owned();
        for address in [agent.tcp(), agent.quic()] {
            assert!(address.starts_with("/ip4/127.0.0.1/"), "{address}");
            assert!(address.ends_with(&format!("/p2p/{peer}")), "{address}");
        }
        let mode = |file| {
            let metadata = std::fs::metadata(home.home().join(file)).expect("it is there");
            metadata.permissions().mode() & 0o777
        };
        assert_eq!((mode("agent.sock"), mode("agent.lock")), (0o600, 0o600));
        agent.signal(signal);
        let output = agent.wait();
        assert!(output.status.success(), "{output:?}");
        assert_eq!((output.stdout, output.stderr), (vec![], vec![]));
        assert!(!home.home().join("agent.sock").exists());
        home.run(&["agent", "status"])
            .failed(1, "no agent runs on this home");
    }
}

#[test]
fn http_is_served_where_asked_and_the_gateway_is_off_unless_asked_for() {
    let home = &homes(1)[0];
    assert_eq!(Running::start(home, &[]).http, None);
    let status = |agent: &Running| {
        use std::io::{Read, Write};
        let url = agent.http.as_deref().expect("it serves");
        let address = url.strip_prefix("http://").expect("plain HTTP");
        assert!(address.starts_with("127.0.0.1:"), "{address}");
        let mut stream = std::net::TcpStream::connect(address).expect("connects");
        let request =
            "GET /ipfs/bafkqaaa?format=raw HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("reads");
        answer
            .split(' ')
            .nth(1)
            .map(str::to_owned)
            .expect("a status")
    };
    let agent = Running::start(home, &["--http", "0"]);
    assert_eq!(status(&agent), "404");
    agent.stop();
    let agent = Running::start(home, &["--http", "127.0.0.1:0", "--gateway"]);
    assert_eq!(status(&agent), "200");
    let taken = agent.http.clone().expect("it serves");
    let taken = taken.strip_prefix("http://").expect("plain HTTP");
    let other = &homes(1)[0];
    other
        .run(&["agent", "run", "--http", taken])
        .failed(1, &format!("cannot listen on {taken}"));
    agent.stop();
    other
        .run(&["agent", "run", "--gateway"])
        .failed(2, "--http");
    other
        .run(&["agent", "run", "--http", "localhost:80"])
        .failed(2, "not an address");
}

#[test]
fn a_home_has_one_agent() {
    let home = &homes(1)[0];
    let agent = Running::start(home, &[]);
    home.run(&["agent", "run"])
        .failed(1, "an agent runs on this home already (process ");
    agent.signal("-KILL");
    agent.wait();
    // What a dead agent left is no obstacle.
    assert!(home.home().join("agent.sock").exists());
    home.run(&["agent", "status"])
        .failed(1, "no agent runs on this home");
    Running::start(home, &[]).stop();
}

#[test]
fn nodes_connect_over_tcp_and_quic_and_come_back() {
    let homes = homes(2);
    let server = Running::start(&homes[0], &["--listen", "/ip4/127.0.0.1/tcp/0"]);
    let tcp = server.tcp().to_owned();
    let client = Running::start(&homes[1], &["--peer", &tcp]);
    let is_connected = |s: &Value| {
        let peer = &s["peers"][0];
        peer["rtt_us"].is_u64() && peer["agent"].is_string()
    };
    let seen = until(&homes[1], is_connected);
    let peer = &seen["peers"][0];
    assert!(tcp.ends_with(peer["peer"].as_str().expect("a peer")));
    assert_eq!(peer["inbound"], false);
    assert!(
        peer["agent"]
            .as_str()
            .expect("a name")
            .starts_with("souverain/")
    );
    assert!(seen["bytes_received"].as_u64() > Some(0) && seen["bytes_sent"].as_u64() > Some(0));
    assert_eq!(until(&homes[0], is_connected)["peers"][0]["inbound"], true);
    let text = homes[1].ok(&["agent", "status"]);
    assert!(text.contains("peers      1\n"), "{text}");

    // The same port again, so that the client finds it.
    server.stop();
    until(&homes[1], |s| s["peers"] == Value::Array(vec![]));
    let port = tcp.split("/p2p/").next().expect("an address");
    let server = Running::start(&homes[0], &["--listen", port]);
    until(&homes[1], is_connected);
    client.stop();
    server.stop();

    let server = Running::start(&homes[0], &[]);
    let client = Running::start(&homes[1], &["--peer", server.quic()]);
    let seen = until(&homes[1], is_connected);
    let address = seen["peers"][0]["address"].as_str().expect("an address");
    assert!(address.contains("/quic-v1"), "{address}");
    client.stop();
    server.stop();
}

#[test]
fn a_private_network_lets_nobody_in_without_its_key() {
    let homes = homes(3);
    let key = |digit: &str| format!("/key/swarm/psk/1.0.0/\n/base16/\n{}\n", digit.repeat(64));
    for (home, digit) in homes.iter().zip(["5", "5", "6"]) {
        std::fs::write(home.path("swarm.key"), key(digit)).expect("writes");
    }
    let with_key = &["--swarm-key", "swarm.key"][..];
    let server = Running::start(&homes[0], with_key);
    assert_eq!(server.addresses.len(), 1, "there is no QUIC");
    let address = ["--peer", server.tcp()];
    let stranger = Running::start(&homes[2], &[with_key, &address].concat());
    let member = Running::start(&homes[1], &[with_key, &address].concat());
    let connected = |s: &Value| s["peers"][0]["rtt_us"].is_u64();
    until(&homes[1], connected);
    assert_eq!(status(&homes[0])["peers"].as_array().map(Vec::len), Some(1));
    assert_eq!(status(&homes[2])["peers"], Value::Array(vec![]));
    for agent in [member, stranger, server] {
        agent.stop();
    }

    let quic = ["--listen", "/ip4/127.0.0.1/udp/0/quic-v1"];
    homes[0]
        .run(&[&["agent", "run"], with_key, &quic].concat())
        .failed(1, "is QUIC, and private networks are over TCP only");
    std::fs::write(homes[0].path("swarm.key"), "5555").expect("writes");
    homes[0]
        .run(&[&["agent", "run"], with_key].concat())
        .failed(1, "cannot use the swarm key swarm.key");
}

#[test]
fn says_in_json_where_it_listens() {
    let home = &homes(1)[0];
    let mut child = home
        .command(&["agent", "run", "--json", "--dht", "off"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    let stdout = std::io::BufReader::new(child.stdout.take().expect("piped"));
    let mut kinds = Vec::new();
    for line in std::io::BufRead::lines(stdout) {
        let object: Value = serde_json::from_str(&line.expect("reads")).expect("an object");
        assert_eq!(object["v"], 1);
        kinds.push(object["type"].as_str().expect("a type").to_owned());
        if object["type"] == "ready" {
            assert_eq!(object["pid"], child.id());
            child.kill().expect("it runs");
        }
    }
    child.wait().expect("ends");
    assert_eq!(kinds, ["listening", "listening", "ready"]);
}

#[test]
fn addresses_that_make_no_sense_are_refused() {
    let home = &homes(1)[0];
    for (args, code, text) in [
        (["--listen", "127.0.0.1:4001"], 2, "invalid value"),
        (
            ["--listen", "/ip4/203.0.113.7/tcp/0"],
            1,
            "/ip4/203.0.113.7/tcp/0",
        ),
        (
            ["--peer", "/ip4/127.0.0.1/tcp/4001"],
            1,
            "does not end with the id of a peer",
        ),
    ] {
        let ran = home.run(&[&["agent", "run"], &args[..]].concat());
        assert!(ran.stderr.contains("Hint: ") || code == 2, "{ran:?}");
        ran.failed(code, text);
    }
}

#[test]
fn other_verbs_go_on_while_the_agent_runs() {
    let home = &homes(1)[0];
    let agent = Running::start(home, &[]);
    write_tree(&home.path("tree"));
    let root = home.ok(&["export", "tree"]);
    assert!(home.ok(&["list"]).starts_with(&root));
    home.ok(&["verify", &root]);
    home.ok(&["import", &root, "--into", "back"]);
    home.ok(&["car", "export", &root, "file.car"]);
    let imported = home.ok(&["car", "import", "file.car"]);
    assert_eq!(imported, root);
    assert_eq!(status(home)["peers"], Value::Array(vec![]));
    agent.stop();
    assert!(home.ok(&["list"]).starts_with(&root));
}

/// The number of the process that holds the store, once it is doing what is expected.
fn holder(home: &Sandbox, purpose: &str) -> String {
    let began = std::time::Instant::now();
    loop {
        let text = std::fs::read_to_string(home.home().join("lock")).unwrap_or_default();
        if let Some(pid) = text.trim_end().strip_suffix(purpose) {
            return pid.trim().to_owned();
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{text:?}");
    }
}

#[test]
fn ten_verbs_at_once_are_in_nobodys_way() {
    let home = &homes(1)[0];
    let agent = Running::start(home, &[]);
    write_tree(&home.path("tree"));
    let root = home.ok(&["export", "tree"]);
    std::fs::write(home.path("tree/three.txt"), "three\n").expect("writes");
    let car = |n: usize| format!("{n}.car");
    let cars: Vec<String> = (0..4).map(car).collect();
    let mut all: Vec<Vec<&str>> = vec![vec!["export", "tree"]];
    all.extend(cars.iter().map(|file| vec!["car", "export", &root, file]));
    all.extend((0..3).map(|_| vec!["verify", &root]));
    all.extend((0..2).map(|_| vec!["list"]));
    std::thread::scope(|scope| {
        let running: Vec<_> = all
            .iter()
            .map(|args| scope.spawn(|| home.ok(args)))
            .collect();
        for verb in running {
            verb.join().expect("it works");
        }
    });
    assert_eq!(home.ok(&["list"]).lines().count(), 2);
    // Of writers, one comes first, and the others are told, or come later.
    let exports: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..10)
            .map(|_| scope.spawn(|| home.run(&["export", "tree"])))
            .collect();
        running
            .into_iter()
            .map(|e| e.join().expect("ends"))
            .collect()
    });
    assert!(exports.iter().any(|ran| ran.code == Some(0)));
    for ran in exports.into_iter().filter(|ran| ran.code != Some(0)) {
        ran.failed(1, "the store is in use by process ");
    }
    home.ok(&["verify", &root]);
    agent.stop();
}

#[test]
fn a_kill_of_either_leaves_the_other_and_the_store_whole() {
    let home = &homes(1)[0];
    write_tree(&home.path("tree"));
    let first = home.ok(&["export", "tree"]);
    // Large enough to be at work for longer than it takes to see that it is.
    let large: Vec<u8> = (0..16_u32 << 20)
        .flat_map(|n| n.wrapping_mul(0x9E37_79B9).to_le_bytes())
        .collect();
    std::fs::create_dir(home.path("large")).expect("creates");
    std::fs::write(home.path("large/file"), large).expect("writes");
    let export = || {
        home.command(&["export", "large"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("starts")
    };
    let agent = Running::start(home, &[]);
    let mut killed = export();
    assert_eq!(holder(home, "export"), killed.id().to_string());
    assert!(home.ok(&["list"]).starts_with(&first));
    killed.kill().expect("it runs");
    killed.wait().expect("ends");
    assert!(status(home)["uptime_s"].is_u64());
    home.ok(&["verify", &first]);

    let export = export();
    assert_eq!(holder(home, "export"), export.id().to_string());
    agent.signal("-KILL");
    agent.wait();
    assert!(home.ok(&["list"]).starts_with(&first));
    let output = export.wait_with_output().expect("ends");
    assert!(output.status.success(), "{output:?}");
    let root = String::from_utf8(output.stdout).expect("a CID");
    home.ok(&["verify", root.trim_end()]);
    let agent = Running::start(home, &[]);
    std::fs::write(home.path("tree/three.txt"), "three\n").expect("writes");
    let second = home.ok(&["export", "tree"]);
    home.ok(&["verify", &second]);
    agent.stop();
}

/// Exports 4 MiB that do not compress, for everyone who asks.
fn shared_noise(home: &Sandbox) -> String {
    let noise: Vec<u8> = (0..1u32 << 20)
        .flat_map(|n| (n.wrapping_mul(0x9E37_79B9) ^ n >> 7).to_le_bytes())
        .collect();
    std::fs::write(home.path("noise"), noise).expect("writes");
    let root = home.ok(&["export", "noise"]);
    home.ok(&["share", &root, "--with", "public"]);
    root
}

#[test]
fn a_limit_of_upload_holds_and_nonsense_is_refused() {
    let [source, target] = &homes(2)[..] else {
        unreachable!("two were asked for");
    };
    let root = shared_noise(source);
    let agent = Running::start(source, &["--limit-upload", "1MiB"]);
    let started = Instant::now();
    target.ok(&["pull", &root, "--peer", agent.tcp()]);
    // 4 MiB, of which a message may go ahead of its time.
    let took = started.elapsed();
    assert!(took > Duration::from_secs(2), "{took:?}");
    agent.stop();
    for bad in ["fast", "25:00-26:00=1M"] {
        source
            .run(&["agent", "run", "--limit-upload", bad])
            .failed(2, "Error: invalid value");
    }
}

#[test]
fn a_snapshot_goes_through_a_relay_between_nodes_that_cannot_reach_each_other() {
    let [relay, source, target] = &homes(3)[..] else {
        unreachable!("three were asked for");
    };
    let root = shared_noise(source);
    let relay = Running::start(relay, &["--relay"]);
    // It listens nowhere else, so that there is no other way to it.
    let circuit = format!("{}/p2p-circuit", relay.tcp());
    let server = Running::start(source, &["--listen", &circuit]);
    target.ok(&["pull", &root, "--peer", server.tcp()]);
    target.ok(&["verify", &root, "--keyless"]);
    server.stop();
    relay.stop();
}
