//! `serve`: the hub, the deliveries and the admin listener, until a signal ends it.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;

use super::{Expected, Session, secrets};
use crate::config;
use crate::event::Code;
use crate::server::{self, Ending, Outside, ServiceError, Serving};
use crate::store;

/// `pintle serve`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  pintle serve\n  pintle serve --looker-url https://looker.corp.example:9999")]
pub struct ServeArguments {
    /// A Looker that downloads may come from, in addition to looker.allowed_origins; can be given several times
    #[arg(long, value_name = "URL")]
    pub looker_url: Vec<String>,
}

/// The end waits so long for threads that are at work.
const LAST_THREADS: Duration = Duration::from_secs(1);

impl ServeArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Expected> {
        let read = session.reader();
        let mut origins = Vec::new();
        for url in &self.looker_url {
            let origin = config::origin(url).map_err(|what| Expected::Usage(format!("--looker-url {url}: {what}")))?;
            origins.push(origin);
        }
        let mut config = read()?;
        // Made before anything listens, by the same rules as `token` makes them.
        let secret = secrets::hub_secret(&config)?;
        let token = secrets::admin_token(&config)?;
        let complete = move |config: &mut config::Config| {
            config.hub.secret = secret.clone();
            config.admin.token = token.clone();
            config.looker.allowed_origins.extend(origins.iter().cloned());
        };
        complete(&mut config);
        let logs = session.logs.clone();
        let outside = Outside {
            read_again: Box::new(move || {
                let mut config = read().map_err(|error| error.to_string())?;
                complete(&mut config);
                Ok(config)
            }),
            set_level: Box::new(move |level| logs.set_level(level).map_err(|error| error.to_string())),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("pintle")
            .build()
            .map_err(|error| failed(format!("cannot start the runtime: {error}"), None))?;
        let shown = config.clone();
        let output = &mut *session.output;
        let ending = runtime.block_on(server::run(config, outside, |serving| tell(serving, &shown, output)));
        // What still blocks a thread (a download that was cut off by a second signal, a name that nobody answers for) ends
        // with the process.
        runtime.shutdown_timeout(LAST_THREADS);
        match ending {
            Ok(Ending::Drained { waiting: 0 }) => {
                output.talk("drained: nothing was in hand any more, and nothing waits");
                Ok(())
            }
            Ok(Ending::Drained { waiting }) => {
                output.talk(format!(
                    "drained: nothing was in hand any more; {} on the disk for the next start",
                    super::format::waiting(waiting)
                ));
                Ok(())
            }
            Ok(Ending::Left(left)) => {
                output.talk(format!(
                    "stopped with something left: {left}; nothing that was acknowledged is lost"
                ));
                Ok(())
            }
            Ok(Ending::Interrupted) => {
                output.talk("stopped at once, at a second signal; nothing that was acknowledged is lost");
                Ok(())
            }
            Err(error) => Err(expected(&error)),
        }
    }
}

/// What to paste into Looker, and where the console is.
fn tell(serving: &Serving, config: &config::Config, output: &mut super::Output) {
    for finding in &serving.findings {
        if finding.serious {
            tracing::error!(event = "store_finding", what = %finding.what);
        } else {
            tracing::warn!(event = "store_finding", what = %finding.what);
        }
    }
    let mut hub = config.hub.clone();
    hub.listen = serving.hub;
    match crate::looker::public_url(&hub) {
        Ok(url) => match token(&hub, std::io::stderr().is_terminal()) {
            Some(Ok(token)) => {
                output.talk(format!("Looker's hub URL: {url}"));
                output.talk(format!("its token: {token}"));
            }
            Some(Err(error)) => output.warn(error.to_string()),
            None => output.talk(format!("Looker's hub URL: {url} (its token: `pintle token`)")),
        },
        Err(error) => output.warn(error.to_string()),
    }
    if let Some(admin) = serving.admin {
        let reached = super::token::from_here(admin);
        output.talk(format!(
            "console: http://{reached}/ (its token: `pintle token --admin`)"
        ));
        // Only for eyes: a log is read by others, and later.
        if let Some(code) = serving.login_code.as_ref().filter(|_| std::io::stderr().is_terminal()) {
            output.talk(format!(
                "log in once, within a quarter of an hour: http://{reached}/#login={code}"
            ));
        }
        if !admin.ip().is_loopback() {
            output.warn(format!(
                "admin.listen is {admin}: whoever reaches it sees the login and the metrics without TLS; better 127.0.0.1 and a proxy or an SSH tunnel"
            ));
        }
    }
    if config.looker.allowed_origins.is_empty() {
        output.warn(
            "looker.allowed_origins is empty: every download is refused; start with --looker-url https://YOUR-LOOKER or set it",
        );
    }
    tracing::info!(
        event = "serving",
        version = env!("CARGO_PKG_VERSION"),
        hub = %serving.hub,
        admin = ?serving.admin,
        store = %config.store.path.display(),
    );
}

/// A token for Looker. Only for eyes: a log is read by others, and later.
fn token(hub: &config::Hub, seen: bool) -> Option<Result<String, secrets::SecretError>> {
    seen.then(|| Ok(secrets::mint(&hub.secret, &secrets::nonce()?)))
}

fn expected(error: &ServiceError) -> Expected {
    let code = match error {
        ServiceError::Unfit(unfit) => Some(unfit.code()),
        ServiceError::Listen(_) => Some(Code::PortTaken),
        ServiceError::Store(store::Error::InUse { .. }) => Some(Code::StoreInUse),
        ServiceError::Store(store::Error::Folder { .. }) => Some(Code::FolderNotOurs),
        ServiceError::Store(store::Error::Full { .. }) => Some(Code::StoreFull),
        ServiceError::Store(store::Error::Damaged { .. }) => Some(Code::StoreDamaged),
        ServiceError::Store(store::Error::Newer { .. }) => Some(Code::NewerStore),
        ServiceError::Store(store::Error::Stopped { .. }) => Some(Code::SyncFailed),
        ServiceError::Store(store::Error::Io { .. }) => Some(Code::FolderUnusable),
        _ => None,
    };
    failed(error.to_string(), code)
}

const fn failed(message: String, code: Option<Code>) -> Expected {
    Expected::Failed { message, code }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Secret;

    #[test]
    fn the_token_is_for_eyes_and_is_good() {
        let hub = config::Hub {
            secret: Secret::new("a-secret"),
            ..config::Config::default().hub
        };
        assert!(token(&hub, false).is_none());
        let token = token(&hub, true).unwrap().unwrap();
        let tokens = crate::looker::Tokens::new(&hub.secret, &[]).unwrap();
        assert!(
            tokens
                .check(Some(format!("Token token=\"{token}\"").as_bytes()))
                .is_ok()
        );
    }
}
