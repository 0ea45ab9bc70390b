//! Every `console` block of the README and the guide is run, and prints what it says.
//!
//! The blocks of one page share a shell, in a new HOME. Numbers, CIDs and keys differ from run
//! to run, so their shape is compared; a line that is `…` stands for any lines.
//! `BLESS=1 cargo test -p souverain --test transcripts` writes what was printed into the pages.

mod souverain;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const PAGES: &[&str] = &["README.md", "docs/guide.md"];
/// Stands in the pages for the HOME of the run.
const HOME: &str = "/home/me";
const MARK: char = '\u{1}';

/// A command of a page, and the lines that it is said to print.
#[derive(Debug, PartialEq)]
struct Step {
    command: String,
    expected: Vec<String>,
    /// Where those lines begin in the page.
    line: usize,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut within, mut continued) = (false, false);
    for (number, line) in page.lines().enumerate() {
        if line.starts_with("```") {
            within = line == "```console";
            continued = false;
        } else if within {
            if let Some(command) = line.strip_prefix("$ ") {
                steps.push(Step {
                    command: command.to_owned(),
                    expected: Vec::new(),
                    line: number + 1,
                });
                continued = goes_on(line);
            } else {
                let step = steps.last_mut().expect("a block begins with a command");
                if continued {
                    step.command.push('\n');
                    step.command
                        .push_str(line.strip_prefix("> ").unwrap_or(line));
                    step.line = number + 1;
                    continued = goes_on(&step.command);
                } else {
                    step.expected.push(line.to_owned());
                }
            }
        }
    }
    steps
}

/// Whether the shell waits for more: after a backslash, or within single quotes.
fn goes_on(command: &str) -> bool {
    command.ends_with('\\') || command.matches('\'').count() % 2 == 1
}

/// Runs all commands in one shell; gives the lines that each printed.
fn run(steps: &[Step], home: &Path) -> Vec<Vec<String>> {
    let mut script = String::new();
    for step in steps {
        let command = &step.command;
        script.push_str(&format!(
            "{command}\ncode=$?; printf '{MARK}'; (exit $code)\n"
        ));
    }
    let program = PathBuf::from(env!("CARGO_BIN_EXE_souverain"));
    let directory = program.parent().expect("in a directory").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(directory).chain(std::env::split_paths(&path)));
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1\n{script}")])
        .env_clear()
        .env("PATH", path.expect("no colon in the path of the program"))
        .env("HOME", home)
        .env("TMPDIR", home)
        .current_dir(home)
        .stdin(Stdio::null())
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).replace(&*home.to_string_lossy(), HOME);
    let mut outputs: Vec<Vec<String>> = text
        .split(MARK)
        .map(|part| part.lines().map(str::to_owned).collect())
        .collect();
    let rest = outputs.pop().expect("what follows the last mark");
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(outputs.len(), steps.len(), "{text}");
    outputs
}

/// The shape of a line: what differs from run to run is taken out.
fn shape(line: &str) -> String {
    line.split_whitespace()
        .map(word_shape)
        .collect::<Vec<_>>()
        .join(" ")
}

fn word_shape(word: &str) -> String {
    const NAMED: [(&str, &str); 4] = [
        ("bafy", "CID"),
        ("bafk", "CID"),
        ("age1", "RECIPIENT"),
        ("12D3KooW", "PEER"),
    ];
    if word.starts_with("souverain/bafy") && word.contains('+') {
        return "VKEY".to_owned();
    }
    for (start, name) in NAMED {
        if let Some((before, after)) = word.split_once(start) {
            let after = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
            return format!("{}{name}{}", word_shape(before), word_shape(after));
        }
    }
    let is_session = |c: char| c.is_ascii_hexdigit() || c == '-';
    if word.len() == 36 && word.chars().all(is_session) {
        return "SESSION".to_owned();
    }
    let unit = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if ["B", "KiB", "MiB", "GiB"].contains(&unit) {
        return word.replace(unit, "SIZE");
    }
    let mut out = String::new();
    let mut digits = false;
    for c in word.chars() {
        let digit = c.is_ascii_digit() || (digits && c == '.');
        if digit && !digits {
            out.push('N');
        } else if !digit {
            out.push(c);
        }
        digits = digit;
    }
    out
}

/// Whether what was printed has the shape of what was expected.
fn matches(expected: &[String], found: &[String]) -> bool {
    let Some((first, rest)) = expected.split_first() else {
        return found.is_empty();
    };
    if first == "…" {
        return (0..=found.len()).any(|skipped| matches(rest, &found[skipped..]));
    }
    found
        .split_first()
        .is_some_and(|(line, others)| shape(first) == shape(line) && matches(rest, others))
}

/// The page with what was printed in place of what was expected.
fn blessed(page: &str, steps: &[Step], outputs: &[Vec<String>]) -> String {
    let lines: Vec<&str> = page.lines().collect();
    let (mut out, mut next) = (Vec::new(), 0);
    for (step, output) in steps.iter().zip(outputs) {
        out.extend(lines[next..step.line].iter().map(|&line| line.to_owned()));
        let same = matches(&step.expected, output);
        out.extend(if same { &step.expected } else { output }.iter().cloned());
        next = step.line + step.expected.len();
    }
    out.extend(lines[next..].iter().map(|&line| line.to_owned()));
    out.join("\n") + "\n"
}

#[test]
fn pages_say_what_the_program_prints() {
    for page in PAGES {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
        let text = fs::read_to_string(&file).expect(page);
        let steps = steps(&text);
        assert!(!steps.is_empty(), "{page} has no transcript");
        let home = tempfile::tempdir().expect("a temporary directory");
        let outputs = run(&steps, home.path());
        if std::env::var_os("BLESS").is_some() {
            fs::write(&file, blessed(&text, &steps, &outputs)).expect("writes");
            continue;
        }
        for (step, output) in steps.iter().zip(&outputs) {
            assert!(
                matches(&step.expected, output),
                "{page}: {}\nexpected:\n{}\nfound:\n{}",
                step.command,
                step.expected.join("\n"),
                output.join("\n")
            );
        }
    }
}

#[test]
fn a_transcript_is_taken_apart_and_put_together() {
    let page = "text\n```console\n$ a \\\n> b\none 12 KiB\n$ c\n```\n```sh\n$ not run\n```\n";
    let found = steps(page);
    let commands: Vec<_> = found.iter().map(|s| s.command.as_str()).collect();
    assert_eq!(commands, ["a \\\nb", "c"]);
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let same = [lines("one 7.5 MiB"), lines("")];
    assert_eq!(blessed(page, &found, &same), page);
    let other = [lines("two"), lines("three")];
    assert_eq!(
        blessed(page, &found, &other),
        page.replace("one 12 KiB", "two")
            .replace("$ c\n", "$ c\nthree\n")
    );
}

#[test]
fn shapes_tell_texts_apart_but_not_runs() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(matches(
        &lines("cid bafyabc, 12.5 KiB\n…\nend"),
        &lines("cid bafyxyz, 3 MiB\nmore\nmore\nend")
    ));
    assert!(matches(
        &lines(r#"{"cid":"bafyabc","bytes":12}"#),
        &lines(r#"{"cid":"bafyxyz","bytes":3456}"#)
    ));
    assert!(matches(
        &lines("session 01a2077d-14fd-7631-b41d-d56746fdda46"),
        &lines("session 01a2077d-0679-713a-9e13-8bdc7d0ee356")
    ));
    assert!(!matches(&lines("cid bafyabc"), &lines("cid none")));
    assert!(!matches(&lines("a"), &lines("a\nb")));
    assert!(!matches(&lines("a\nb"), &lines("a")));
}
