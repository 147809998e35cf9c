//! `token`: what to paste into Looker, or the way into the console.

use std::net::SocketAddr;

use clap::Args;
use serde::Serialize;

use super::{Expected, Session, secrets};
use crate::config::Hub;

/// `pintle token`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  pintle token\n  pintle token --admin")]
pub struct TokenArguments {
    /// The console's address and token instead
    #[arg(long)]
    pub admin: bool,
}

#[derive(Serialize)]
struct Shown {
    url: String,
    token: String,
}

impl TokenArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Expected> {
        let config = &session.config;
        let (label, shown, talk) = if self.admin {
            let url = console_url(config)?;
            let token = secrets::admin_token(config)?.expose().to_owned();
            (
                "Console",
                Shown { url, token },
                "open the console and log in with the token",
            )
        } else {
            let url = hub_url(&config.hub)?;
            let token = secrets::mint(&secrets::hub_secret(config)?, &secrets::nonce()?);
            (
                "Hub URL",
                Shown { url, token },
                "paste both into Looker: Admin, Actions, Add Action Hub; the token under Configure Authorization",
            )
        };
        let output = &mut *session.output;
        if output.json {
            return output.json(&shown);
        }
        output.line(format!("{label}  {}", shown.url))?;
        output.line(format!("Token    {}", shown.token))?;
        output.talk(talk);
        Ok(())
    }
}

/// The URL that Looker calls.
fn hub_url(hub: &Hub) -> Result<String, Expected> {
    if !hub.public_url.is_empty() {
        return Ok(hub.public_url.clone());
    }
    if hub.listen.port() == 0 {
        return Err(Expected::Usage(
            "hub.listen has port 0, so only the running server knows its port; give a port, or hub.public_url"
                .to_owned(),
        ));
    }
    let scheme = if hub.tls_cert_file.is_some() { "https" } else { "http" };
    Ok(format!("{scheme}://{}", hub.listen))
}

fn console_url(config: &crate::config::Config) -> Result<String, Expected> {
    let Some(listen) = config.admin.listen else {
        return Err(Expected::Usage(
            "the console is turned off; give admin.listen an address such as \"127.0.0.1:8481\"".to_owned(),
        ));
    };
    if listen.port() == 0 {
        return Err(Expected::Usage(
            "admin.listen has port 0, so only the running server knows its port; give a port".to_owned(),
        ));
    }
    Ok(format!("http://{}/", from_here(listen)))
}

/// Where this machine reaches a listener: a wildcard at the loopback address.
pub(super) fn from_here(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    listen
}
