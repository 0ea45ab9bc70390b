//! `--backend`: whether a Kubo holds snapshots too, where it is, and what lets one in.

use std::path::PathBuf;

use agent::{
    kubo::{Credentials, Endpoint, Kubo},
    secret_file,
};
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::{context::Context, error::CliError};

/// Environment variable that holds what lets one into a Kubo.
const VARIABLE: &str = "SOUVERAIN_KUBO_AUTH";
const FORM: &str =
    "it is `bearer:TOKEN` or `basic:USER:PASSWORD`, as in API.Authorizations of the Kubo";

/// Options of verbs that can work with a Kubo.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BackendArgs {
    /// Where the blocks are: in this home alone, or in a Kubo too, whose RPC is at a URL, a
    /// multiaddr or unix:PATH
    // Its value is looked at later: what clap does not take, it prints, and there may be a password in it.
    #[arg(long, value_name = "embedded|kubo=URL", default_value = "embedded")]
    backend: String,
    /// File with what lets one into the Kubo, bearer:TOKEN or basic:USER:PASSWORD [or the variable
    /// SOUVERAIN_KUBO_AUTH]
    #[arg(long, value_name = "FILE")]
    kubo_auth: Option<PathBuf>,
}

impl BackendArgs {
    /// The option as it was given, which holds no secret once it was understood.
    pub(crate) fn given(&self) -> &str {
        &self.backend
    }

    /// Connects with the Kubo that is named, if one is.
    pub(crate) fn connect(&self, context: &Context) -> Result<Option<Kubo>, CliError> {
        let Some(endpoint) = self.endpoint()? else {
            return Ok(None);
        };
        let credentials = self.credentials()?;
        if credentials.is_some() && endpoint.is_in_clear() {
            context.ui.warn(format!(
                "what lets one into the Kubo crosses the network to {endpoint} in clear; use https://"
            ))?;
        }
        let stop = context.progress.stop.clone();
        Ok(Some(Kubo::connect(&endpoint, credentials, stop)?))
    }

    fn endpoint(&self) -> Result<Option<Endpoint>, CliError> {
        if self.backend == "embedded" {
            return Ok(None);
        }
        let Some(address) = self.backend.strip_prefix("kubo=") else {
            return Err(
                CliError::usage("`--backend` takes `embedded` or `kubo=URL`")
                    .hint("for example `--backend kubo=http://127.0.0.1:5001`"),
            );
        };
        Ok(Some(address.parse()?))
    }

    fn credentials(&self) -> Result<Option<Credentials>, CliError> {
        let (from, secret) = match (&self.kubo_auth, std::env::var(VARIABLE)) {
            (Some(path), _) => (path.display().to_string(), secret_file::read(path)?),
            (None, Ok(text)) => {
                let text = Zeroizing::new(text);
                (VARIABLE.to_owned(), SecretString::from(text.as_str()))
            }
            (None, Err(std::env::VarError::NotPresent)) => return Ok(None),
            (None, Err(std::env::VarError::NotUnicode(_))) => {
                return Err(CliError::failed(format!("{VARIABLE} is not UTF-8")).hint(FORM));
            }
        };
        let credentials = Credentials::parse(&secret).map_err(|cause| {
            CliError::failed(format!("cannot use what is in {from}"))
                .cause(&cause)
                .hint(FORM)
        })?;
        Ok(Some(credentials))
    }
}
