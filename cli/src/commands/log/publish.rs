//! `log publish`: the log as a folder that any IPFS node can fetch.

use agent::{
    control::Client,
    log::{self, open_own},
};
use protocol::log::entry::Action;
use serde::Serialize;

use crate::{context::Context, error::CliError};

/// Let everyone have the log as a folder of tiles, by its CID
///
/// The folder has the layout of c2sp.org/tlog-tiles: whoever fetched it, by `ipfs get` or from a gateway, checks it with
/// `souverain log verify FOLDER --vkey KEY` or other verifiers. Sealed details are not in it. A folder that was published
/// before is not given away any more; most of its blocks are in the new one.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Shown {
    cid: String,
    size: u64,
    new_blocks: u64,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let Self {} = self;
        let store = context.open_store_to_change("log publish", Action::SHARE)?;
        let home = context.home()?;
        let reader = open_own(&home)?.ok_or_else(|| {
            CliError::failed("this home has no log yet")
                .hint("it begins with the first operation that is recorded")
        })?;
        let published = log::publish(&reader, &store)?;
        drop(store);
        context.trail.about(&published.root);
        context.trail.detail("with", "public");
        context.trail.done()?;
        if let Some(Err(error)) = Client::connect(&home).map(Client::refresh) {
            context.ui.warn(format!(
                "the running agent does not give it away yet: {error}"
            ))?;
        }
        let shown = Shown {
            cid: published.root.to_string(),
            size: published.size,
            new_blocks: published.new_blocks,
        };
        context.ui.note(format!(
            "{} entries, {} new blocks",
            shown.size, shown.new_blocks
        ));
        context.ui.answer("published", &shown, &shown.cid)
    }
}
