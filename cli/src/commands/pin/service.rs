//! Pinning services: which ones this home knows, and what they are asked.

use std::{path::PathBuf, time::Duration};

use agent::{
    control::Client,
    home::Home,
    pinning::{self, PinRequest, PinStatus, PinningService, Service, ServiceName},
    sharing,
};
use cid::Cid;
use serde::Serialize;
use store::Store;

use crate::{context::Context, error::CliError, ui::Printable};

/// The pinning services that this home knows
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Add(AddArgs),
    List(ListArgs),
    Remove(RemoveArgs),
}

/// Make a pinning service known, which speaks the IPFS Pinning Service API
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// What to call it: lower-case letters, digits, - and _
    #[arg(value_name = "NAME")]
    name: ServiceName,
    /// Where its API is: https://…, the part before /pins
    #[arg(value_name = "URL")]
    url: String,
    /// File of mode 0600 whose first line is the access token that the service gave out; it stays there
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
}

/// List the pinning services, the name first
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {}

/// Forget a pinning service; what it has pinned, it keeps
#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: ServiceName,
}

/// Options of verbs that can ask a pinning service.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PinServiceArgs {
    /// Ask this pinning service to fetch and hold the snapshot; a name of `souverain pin service add`
    #[arg(long, value_name = "NAME")]
    pub(super) pin_service: Option<ServiceName>,
    /// Seconds to wait until the service has all of it; with 0 it need only take the request
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        requires = "pin_service"
    )]
    wait: u64,
}

#[derive(Serialize)]
struct Known {
    name: String,
    url: String,
    token_file: PathBuf,
}

#[derive(Serialize)]
struct Request<'a> {
    cid: String,
    service: String,
    status: PinStatus,
    requestid: &'a str,
    created: &'a str,
    delegates: &'a [String],
    details: Option<&'a str>,
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        let home = context.open_home()?;
        match self {
            Self::Add(args) => {
                let added = pinning::add(home.path(), args.name, &args.url, &args.token_file)?;
                context
                    .ui
                    .answer("pin_service", &known(&added), &added.name)
            }
            Self::List(ListArgs {}) => {
                for service in pinning::list(home.path())? {
                    let line = format!("{}  {}", service.name, service.endpoint);
                    context.ui.answer("pin_service", &known(&service), line)?;
                }
                Ok(())
            }
            Self::Remove(args) => {
                let service = pinning::find(home.path(), &args.name)?;
                pinning::remove(home.path(), &args.name)?;
                context
                    .ui
                    .answer("pin_service_removed", &known(&service), &args.name)
            }
        }
    }
}

fn known(service: &Service) -> Known {
    Known {
        name: service.name.to_string(),
        url: service.endpoint.to_string(),
        token_file: service.token_file.clone(),
    }
}

impl PinServiceArgs {
    /// The service that is named, once it was seen that it answers and takes the token.
    pub(crate) fn open(
        &self,
        context: &Context,
        home: &Home,
    ) -> Result<Option<PinningService>, CliError> {
        let Some(name) = &self.pin_service else {
            return Ok(None);
        };
        let service = PinningService::open(home.path(), name, context.progress.stop.clone())?;
        service.check()?;
        Ok(Some(service))
    }

    /// Asks the service to pin a snapshot, and says what came of it.
    pub(crate) fn pin(
        &self,
        context: &Context,
        home: &Home,
        store: &Store,
        service: &PinningService,
        root: &Cid,
    ) -> Result<PinRequest, CliError> {
        let status = Client::connect(home.path())
            .map(Client::status)
            .transpose()?;
        let origins = status.as_ref().map(pinning::origins).unwrap_or_default();
        if origins.is_empty() {
            context.ui.warn(
                "no agent that the internet can reach runs on this home; \
                 the service finds the snapshot only where others have it",
            )?;
        } else if !sharing::share(store, root)?.public {
            context.ui.warn(format!(
                "the snapshot is not shared with everyone, and the service may not get it: \
                 `souverain share {root} --with public`, or with the service's peers"
            ))?;
        }
        let wait = Duration::from_secs(self.wait);
        Ok(service.pin(root, &home.peer_id(), &origins, wait)?)
    }

    /// Prints a request as an object, or as a line where it is the answer.
    pub(crate) fn answer(
        &self,
        context: &Context,
        request: &PinRequest,
        text: Option<&str>,
    ) -> Result<(), CliError> {
        match &self.pin_service {
            Some(name) => answer(context, name, request, text),
            None => Ok(()),
        }
    }
}

pub(super) fn answer(
    context: &Context,
    service: &ServiceName,
    request: &PinRequest,
    text: Option<&str>,
) -> Result<(), CliError> {
    let body = Request {
        cid: request.cid.to_string(),
        service: service.to_string(),
        status: request.status,
        requestid: &request.id,
        created: &request.created,
        delegates: &request.delegates,
        details: request.details.as_deref(),
    };
    if context.ui.is_json() || text.is_some() {
        let text = text.unwrap_or_default();
        context.ui.answer("pin_request", &body, text)?;
    }
    Ok(())
}

/// A request as a line: the CID first.
pub(super) fn line(request: &PinRequest) -> String {
    let PinRequest {
        cid,
        status,
        created,
        id,
        ..
    } = request;
    let mut line = format!("{cid}  {status}  {}  {}", Printable(created), Printable(id));
    if let Some(details) = &request.details {
        line.push_str(&format!("  {}", Printable(details)));
    }
    line
}
