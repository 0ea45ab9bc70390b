//! `quickstart`: the whole story on sample data.
//!
//! Each step runs this very program as a person would, so that what is shown is what works.

mod running;

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use agent::{compare, log, sample};
use serde::Serialize;
use store::log::LogReader;

use running::Running;

use crate::{context::Context, error::CliError, ui::Ui};

/// Run the whole story on sample data, among three live nodes
///
/// Works in a directory of its own, with homes of its own, and cleans up after itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Work in this new directory, and keep it
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// How long entries may take to the other nodes, which is far less than a second.
const SPREAD_WAIT: Duration = Duration::from_secs(60);
/// How often it is looked whether they are there.
const SPREAD_POLL: Duration = Duration::from_millis(20);

/// What a step did, as a script sees it.
#[derive(Serialize)]
struct Done<'a> {
    step: usize,
    title: &'a str,
    command: &'a str,
    seconds: f64,
    output: &'a str,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        let (directory, kept) = match self.keep {
            Some(directory) => {
                std::fs::create_dir(&directory).map_err(|cause| {
                    CliError::failed(format!("cannot make {}", directory.display()))
                        .cause(&cause)
                        .hint("name a directory that does not exist yet")
                })?;
                (directory, None)
            }
            None => {
                let temporary = tempfile::Builder::new()
                    .prefix("souverain-quickstart-")
                    .tempdir()?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let mut story = Story {
            context,
            directory,
            program: env::current_exe()?,
            steps: 0,
        };
        story.tell(kept.is_some())?;
        if let Some(temporary) = kept {
            temporary.close()?;
        }
        Ok(())
    }
}

struct Story<'a> {
    context: &'a Context,
    directory: PathBuf,
    program: PathBuf,
    steps: usize,
}

impl Story<'_> {
    fn tell(&mut self, temporary: bool) -> Result<(), CliError> {
        let until = if temporary {
            "removed at the end; `--keep DIR` keeps it"
        } else {
            "kept"
        };
        self.say(&format!(
            "Working in {} ({until}).",
            self.directory.display()
        ))?;
        let data = self.directory.join("data");
        std::fs::create_dir(&data)?;
        sample::write(&data)?;
        self.say("Sample data is in data/: a SQLite shop and a folder of files.")?;

        self.step(
            "Make a home: keys and an empty store",
            &["--home", "here", "init"],
        )?;
        let export = [
            "--home",
            "here",
            "export",
            "data/files",
            "sqlite:data/shop.sqlite",
        ];
        let cid = self.step(
            "Export both into one sealed snapshot; this is its CID",
            &export,
        )?;
        let cid = cid.trim();
        self.step(
            "Check it as anyone can, without a key",
            &["--home", "here", "verify", cid, "--keyless"],
        )?;
        self.step(
            "Check it with the key: what is inside, too",
            &["--home", "here", "verify", cid],
        )?;
        self.step(
            "Let every node have it that asks",
            &["--home", "here", "share", cid, "--with", "public"],
        )?;
        let here = self.agent(
            "Run the node of this home; it listens on this machine alone",
            "here",
            &["--http", "0"],
        )?;
        self.step(
            "Make a second home, elsewhere",
            &["--home", "there", "init"],
        )?;
        let there = self.agent("Run its node too", "there", &[])?;
        self.step("And a third", &["--home", "beside", "init"])?;
        let beside = self.agent("Run its node", "beside", &[])?;
        for (home, other) in [
            ("here", "there"),
            ("here", "beside"),
            ("there", "here"),
            ("beside", "here"),
        ] {
            self.add(home, other)?;
        }
        let address = here.address().unwrap_or_default();
        let peer = ["--home", "there", "migrate", cid, "--peer", address];
        let into = ["--identity", "here/identity.txt", "--into", "restored"];
        let statement = ["--statement", "statement.txt"];
        self.step(
            "Migrate: fetch it from the first node, restore it with the key, read it back, state both sides",
            &[&peer[..], &into, &statement].concat(),
        )?;
        self.step(
            "Check that statement, as anyone can",
            &["--home", "there", "verify", "statement.txt"],
        )?;
        self.step(
            "Check the copy that the second node keeps, and could pass on",
            &["--home", "there", "verify", cid, "--keyless"],
        )?;
        self.audit(cid, here.http().unwrap_or_default())?;
        drop((here, there, beside));
        self.compare()?;
        self.recover(cid)
    }

    /// What the first node did, proven to others by its log.
    fn audit(&mut self, cid: &str, http: &str) -> Result<(), CliError> {
        let vkey = self.step(
            "All of this left signed entries in the log of the first node; this is the key that checks them",
            &["--home", "here", "log", "vkey"],
        )?;
        let vkey = ["--vkey", vkey.trim()];
        let url = format!("{http}/log");
        let export = ["log", "prove", cid, "--action", "export"];
        self.step(
            "The second node checks that log, every entry of it, over HTTP",
            &[&["--home", "there", "log", "verify", &url][..], &vkey].concat(),
        )?;
        self.step(
            "A proof that the export is in it, as a small file",
            &[&["--home", "here"][..], &export, &["-o", "proof.txt"]].concat(),
        )?;
        let nowhere = ["--home", "nowhere", "log", "verify"];
        self.step(
            "Anybody checks the proof, without a home, a node or a network",
            &[&nowhere[..], &["proof.txt"], &vkey].concat(),
        )?;
        let origin = vkey[1].split_once('+').map_or("", |(origin, _)| origin);
        self.spread(origin)?;
        for home in ["there", "beside"] {
            let proof = format!("proof-{home}.txt");
            let prove = [&["--home", home][..], &export, &["--origin", origin]].concat();
            self.step(
                match home {
                    "there" => "The second node was told of it, and can prove it",
                    _ => "And so can the third",
                },
                &[&prove[..], &["-o", &proof]].concat(),
            )?;
            self.step(
                "It holds by the same key",
                &[&nowhere[..], &[&proof], &vkey].concat(),
            )?;
        }
        self.step(
            "The log in one file, for an auditor",
            &["--home", "here", "log", "bundle", "audit.car"],
        )?;
        self.step(
            "The auditor checks it, and trusts nobody but the key",
            &[&nowhere[..], &["audit.car"], &vkey].concat(),
        )?;
        let mut forged = std::fs::read(self.directory.join("audit.car"))?;
        let middle = forged.len() / 2;
        forged[middle] ^= 1;
        std::fs::write(self.directory.join("forged.car"), forged)?;
        self.refused(
            "The same file with one bit changed is refused",
            &[&nowhere[..], &["forged.car"], &vkey].concat(),
        )
    }

    /// Lets the node of a home follow that of another.
    fn add(&mut self, home: &str, other: &str) -> Result<(), CliError> {
        let mut command = Command::new(&self.program);
        self.place(command.args(["--home", other, "peer", "invite"]));
        let output = command.stdin(Stdio::null()).output()?;
        let invite = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut command = Command::new(&self.program);
        command.args(["--home", home, "peer", "add", invite.trim_end()]);
        let shown = format!(
            "$ souverain --home {home} peer add \"$(souverain --home {other} peer invite)\""
        );
        let title = match home {
            "here" => "Let it follow the log of the first",
            _ => "Follow the log of the first, and keep a copy",
        };
        self.run(title, &shown, command).map(drop)
    }

    /// Waits until both other nodes have all of the log of the first.
    fn spread(&self, origin: &str) -> Result<(), CliError> {
        let genesis = super::log::genesis(origin)?;
        let size = |reader: Option<LogReader>| reader.map_or(0, |reader| reader.head().size);
        let all = size(log::open_own(&self.directory.join("here"))?);
        let deadline = Instant::now() + SPREAD_WAIT;
        for home in ["there", "beside"] {
            while size(log::open_followed(&self.directory.join(home), &genesis)?) < all {
                self.context.stop_if_interrupted()?;
                if Instant::now() > deadline {
                    return Err(CliError::failed(format!(
                        "the log of the first node is not in {home} yet"
                    )));
                }
                std::thread::sleep(SPREAD_POLL);
            }
        }
        Ok(())
    }

    /// Runs the program, which is to refuse, and shows what it says.
    fn refused(&mut self, title: &str, args: &[&str]) -> Result<(), CliError> {
        let started = Instant::now();
        let mut command = Command::new(&self.program);
        self.place(command.args(args));
        let output = command.stdin(Stdio::null()).output()?;
        self.context.stop_if_interrupted()?;
        let shown = format!("$ souverain {}", args.join(" "));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        self.show(title, &shown, started.elapsed(), &said)?;
        if output.status.code() == Some(3) {
            return Ok(());
        }
        Err(CliError::failed(format!(
            "step {} ended with {} in place of exit code 3",
            self.steps, output.status
        )))
    }

    /// Starts the agent of a home, and shows what it says when it is ready.
    fn agent(&mut self, title: &str, home: &str, more: &[&str]) -> Result<Running, CliError> {
        let started = Instant::now();
        let mut command = Command::new(&self.program);
        let args = [&["--home", home, "agent", "run"], more].concat();
        command.args(&args);
        self.place(&mut command);
        let running = Running::start(command)?;
        let shown = format!("$ souverain {}", args.join(" "));
        self.show(title, &shown, started.elapsed(), &running.told)?;
        if running.address().is_none() {
            return Err(CliError::failed(format!(
                "step {}: the agent did not start",
                self.steps
            )));
        }
        Ok(running)
    }

    /// Runs the program, and shows the command, its answer and its time.
    fn step(&mut self, title: &str, args: &[&str]) -> Result<String, CliError> {
        let shown = format!("$ souverain {}", args.join(" "));
        let program = self.program.clone();
        let mut command = Command::new(program);
        command.args(args);
        self.run(title, &shown, command)
    }

    fn run(&mut self, title: &str, shown: &str, mut command: Command) -> Result<String, CliError> {
        let started = Instant::now();
        self.place(&mut command);
        let output = command.stdin(Stdio::null()).output()?;
        self.context.stop_if_interrupted()?;
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        self.show(title, shown, started.elapsed(), &answer)?;
        if !output.status.success() {
            self.context.ui.write_stderr(&output.stderr)?;
            return Err(CliError::failed(format!(
                "step {} ended with {}",
                self.steps, output.status
            ))
            .hint("run `souverain -vv quickstart --keep DIR`, and the step again in DIR"));
        }
        Ok(answer)
    }

    /// Lets a command work in the story's directory, with its homes alone.
    fn place(&self, command: &mut Command) {
        command
            .current_dir(&self.directory)
            .env_remove("SOUVERAIN_HOME")
            .env_remove(crate::passphrase::VARIABLE);
    }

    fn show(
        &mut self,
        title: &str,
        command: &str,
        time: Duration,
        answer: &str,
    ) -> Result<(), CliError> {
        self.steps += 1;
        let done = Done {
            step: self.steps,
            title,
            command,
            seconds: time.as_secs_f64(),
            output: answer,
        };
        let seconds = time.as_secs_f64();
        let mut text = format!("\n{}. {title}\n   {command}\n", self.steps);
        for line in answer.lines() {
            text.push_str(&format!("   {line}\n"));
        }
        text.push_str(&format!("   ({seconds:.2} s)"));
        self.context.ui.answer("step", &done, text)
    }

    fn say(&self, text: &str) -> Result<(), CliError> {
        let ui: &Ui = &self.context.ui;
        if ui.is_json() {
            return Ok(());
        }
        ui.print_raw(format!("{text}\n").as_bytes())
    }

    /// Compares what was exported with what was restored, both read from where they are.
    fn compare(&mut self) -> Result<(), CliError> {
        let started = Instant::now();
        let place = |name: &str| self.directory.join(name);
        let source = compare::sqlite::content_hash(&place("data/shop.sqlite"))?;
        let copy = compare::sqlite::content_hash(&place("restored/shop.sqlite"))?;
        let differing = compare::tree::compare(&place("data/files"), &place("restored/files"))?;
        let answer = format!(
            "data/shop.sqlite      {source}\n\
             restored/shop.sqlite  {copy}\n\
             data/files and restored/files differ in {} places",
            differing.len()
        );
        let command = "compare data/ with restored/: content hashes, modes, times, links";
        self.show(
            "Compare the copy with the source",
            command,
            started.elapsed(),
            &answer,
        )?;
        if source != copy || !differing.is_empty() {
            return Err(CliError::unverified("the copy is not what the source is"));
        }
        Ok(())
    }

    /// Recovery with stock tools: done if they are here, told otherwise.
    fn recover(&mut self, cid: &str) -> Result<(), CliError> {
        self.step(
            "The way out: the snapshot as a folder, with its own recovery script",
            &["--home", "there", "get", cid, "folder"],
        )?;
        let shown = "sh recover.sh ../here/identity.txt ../recovered";
        if ["age", "zstd"].iter().all(|tool| is_installed(tool)) {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("cd folder && {shown}")]);
            let shown = format!("$ cd folder && {shown}");
            self.run(
                "Recover without this program: sh, age and zstd",
                &shown,
                command,
            )?;
        } else {
            self.say(&format!(
                "\nTo recover without this program, install age and zstd, and in folder/ run\n   $ {shown}"
            ))?;
        }
        self.say("\nDone. Keep identity.txt offline: with it and the CID (or the CAR file) all is recoverable.")
    }
}

fn is_installed(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| is_file(&directory.join(tool)))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}
