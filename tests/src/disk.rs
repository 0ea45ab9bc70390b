//! A small disk: a tmpfs that only the processes started on it see.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A tmpfs in a mount namespace of its own.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Child,
    place: PathBuf,
    as_root: bool,
}

impl SmallDisk {
    /// Mounts one of `mib` MiB on a directory; nothing, said loudly, if that is not permitted.
    ///
    /// # Panics
    /// `unshare` cannot be run.
    #[must_use]
    pub fn mount(place: &Path, mib: u64) -> Option<Self> {
        let script =
            r#"mount -t tmpfs -o "size=$1m,mode=700" none "$2" && echo mounted && read line"#;
        for how in ["-m", "-rm"] {
            let mut holder = Command::new("unshare")
                .args([how, "sh", "-c", script, "sh", &mib.to_string()])
                .arg(place)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("unshare runs");
            let mut line = String::new();
            let stdout = holder.stdout.take().expect("is captured");
            BufReader::new(stdout).read_line(&mut line).expect("reads");
            if line == "mounted\n" {
                return Some(Self {
                    holder,
                    place: place.to_owned(),
                    as_root: how == "-m",
                });
            }
            let _ = holder.wait();
        }
        crate::program::note(
            "NOT TESTED: this user may not mount a tmpfs, so no disk is full here",
        );
        None
    }

    /// Grows it.
    ///
    /// # Panics
    /// It cannot be.
    pub fn grow(&self, mib: u64) {
        let size = format!("remount,size={mib}m");
        let place = self.place.as_os_str();
        let args = [OsStr::new("-o"), OsStr::new(&size), place];
        let grown = self.enter("mount").args(args).status().expect("runs");
        assert!(grown.success());
    }

    /// Fills it, until not a byte more fits, with a file that can be removed to make room.
    ///
    /// # Panics
    /// Nothing can be written.
    #[must_use]
    pub fn fill(&self) -> PathBuf {
        let filler = self.outside().join("filler");
        let mut file = fs::File::create(&filler).expect("creates");
        let mut step = 1 << 20;
        while step > 0 {
            match file.write(&vec![7; step]) {
                Ok(written) if written > 0 => {}
                _ => step /= 2,
            }
        }
        filler
    }

    /// The same command, on the disk.
    #[must_use]
    pub fn on(&self, command: &Command) -> Command {
        let mut inside = self.enter(command.get_program());
        inside
            .args(command.get_args())
            .env_clear()
            .stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                inside.env(name, value);
            }
        }
        inside
    }

    fn enter(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let pid = self.holder.id().to_string();
        command.args(["--mount", "--target", &pid]);
        if !self.as_root {
            command.args(["--preserve-credentials", "--user"]);
        }
        if let Some(parent) = self.place.parent() {
            command.arg(format!("--wdns={}", parent.display()));
        }
        command.arg("--").arg(program);
        command
    }

    /// How the disk is seen from outside.
    #[must_use]
    pub fn outside(&self) -> PathBuf {
        let below = self.place.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(below)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The end of its input ends it, and with it the namespace.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
