//! `init`: keys and a store.

use agent::{
    home::{Home, InitOptions},
    log::{OwnLog, now_ms},
};
use serde::Serialize;
use store::Store;

use crate::{context::Context, error::CliError};

/// Make a home: the node's key, an age identity and an empty store
///
/// Prints the node's peer id, the age recipient that exports are sealed to, and the key that verifies its log. The identity is the
/// only thing that opens your snapshots: keep a copy of `identity.txt` offline. With
/// --recipient-only no identity is made: the node can export but not read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    souverain init\n  \
    souverain init --recipient-only --to age1… --to ~/.ssh/id_ed25519.pub")]
pub(crate) struct Args {
    /// Make no identity: only seal, to the recipients of --to
    #[arg(long, requires = "to")]
    recipient_only: bool,
    /// Who can open exports: age1…, an ssh public key, a plugin's, or a file of these
    #[arg(long, value_name = "RECIPIENT", requires = "recipient_only")]
    to: Vec<String>,
    /// Make post-quantum keys (MLKEM768-X25519; `age` 1.3 or later opens them)
    #[arg(long)]
    post_quantum: bool,
}

#[derive(Serialize)]
struct Made<'a> {
    home: &'a str,
    peer: &'a str,
    recipients: &'a [&'a str],
    log: &'a str,
    identity: Option<&'a str>,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        let options = InitOptions {
            recipients_only: self.to,
            post_quantum: self.post_quantum,
        };
        let home = Home::init(&context.home()?, &options)?;
        drop(Store::open(home.path(), "init")?);
        let recipients = home.default_recipients()?;
        let recipients: Vec<&str> = recipients.strings().collect();
        let peer = home.peer_id().to_string();
        let log = OwnLog::new(&home, context.session.into_bytes()).record(now_ms(), &[])?;
        let log = log.vkey.to_string();
        let identity = home.identity_path().map(|path| path.display().to_string());
        let made = Made {
            home: &home.path().display().to_string(),
            peer: &peer,
            recipients: &recipients,
            log: &log,
            identity: identity.as_deref(),
        };
        let mut lines = vec![format!("peer: {peer}")];
        lines.extend(recipients.iter().map(|line| format!("recipient: {line}")));
        lines.push(format!("log: {log}"));
        context.ui.answer("init", &made, lines.join("\n"))?;
        match identity {
            Some(path) => context.ui.note(format!(
                "Your identity is in {path}.\n\
                 Nothing else opens your snapshots: keep a copy of it offline, on paper or a stick."
            )),
            None => context.ui.note(
                "This node has no identity: it exports to the recipients above, and cannot read.",
            ),
        }
        context.ui.note(format!(
            "What takes your log back, should its key be stolen, is {}: move it offline too.",
            home.log_recovery_path(1).display()
        ));
        Ok(())
    }
}
