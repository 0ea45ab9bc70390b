//! The help of every verb is what was committed: `BLESS=1 cargo test -p souverain --test help` to change it.

mod souverain;

use std::{fs, path::Path};

use souverain::souverain;

/// Every page of help, by the words that lead to it.
const PAGES: &[&str] = &[
    "",
    "init",
    "export",
    "list",
    "show",
    "diff",
    "get",
    "verify",
    "import",
    "car",
    "car export",
    "car import",
    "recipients",
    "recipients list",
    "recipients add",
    "recipients remove",
    "pull",
    "share",
    "group",
    "peer",
    "peer invite",
    "peer add",
    "peer list",
    "peer remove",
    "pin",
    "pin add",
    "pin list",
    "pin remove",
    "pin service",
    "pin service add",
    "pin service list",
    "pin service remove",
    "agent",
    "agent run",
    "agent status",
    "log",
    "log show",
    "log verify",
    "log prove",
    "log publish",
    "log archive",
    "log bundle",
    "log fork",
    "log forget",
    "log checkpoint",
    "log vkey",
    "log policy",
    "log cosign",
    "log key",
    "log key rotate",
    "log key recover",
    "log auditor",
    "log auditor list",
    "log auditor add",
    "log auditor remove",
    "quickstart",
    "completions",
    "man",
    "migrate",
];

fn page(words: &str) -> String {
    let output = souverain()
        .args(words.split_whitespace())
        .arg("--help")
        .output()
        .expect("runs");
    assert!(output.status.success(), "{words}");
    assert!(output.stderr.is_empty(), "{words}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn file_of(words: &str) -> String {
    let name = match words {
        "" => "souverain".to_owned(),
        words => words.replace(' ', "-"),
    };
    format!("{}/tests/help/{name}.txt", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn help_is_what_was_committed() {
    let mut differing = Vec::new();
    for words in PAGES {
        let (page, file) = (page(words), file_of(words));
        if std::env::var_os("BLESS").is_some() {
            let directory = Path::new(&file).parent().expect("in a directory");
            fs::create_dir_all(directory).expect("creates");
            fs::write(&file, &page).expect("writes");
        } else if fs::read_to_string(&file).ok().as_deref() != Some(&page) {
            differing.push((file, page));
        }
    }
    assert!(differing.is_empty(), "{differing:#?}");
}

#[test]
fn every_verb_has_a_page() {
    let mut found = Vec::new();
    for &words in PAGES {
        let page = page(words);
        let verbs = page
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .map_while(|line| line.split_whitespace().next())
            .filter(|verb| *verb != "help");
        for verb in verbs {
            found.push(format!("{words} {verb}").trim_start().to_owned());
        }
    }
    found.sort();
    let mut pages: Vec<_> = PAGES.iter().skip(1).map(|s| (*s).to_owned()).collect();
    pages.sort();
    assert_eq!(found, pages);
}

#[test]
fn no_option_takes_a_secret() {
    for words in PAGES {
        for secret in ["--password ", "--key ", "--secret ", "--passphrase <"] {
            assert!(!page(words).contains(secret), "{words}: {secret}");
        }
    }
}
