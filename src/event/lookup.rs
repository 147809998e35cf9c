//! Names are looked up on threads, and one that nobody answers for keeps its thread for about ten seconds, whoever has
//! given up meanwhile. So at most so many are looked up at once, each purpose apart, and names that were answered last
//! time never wait behind those that were not: whoever has data planes made up takes no thread from the store, and no
//! lookup from a good destination.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::network::allowed;

/// How long one waits for its turn: less than any connect timeout, so that the reason is told and not a timeout.
const PATIENCE: Duration = Duration::from_secs(8);
/// An answer that took longer is none to count on.
const PROMPT: Duration = Duration::from_secs(2);
/// Names that are remembered as answered.
const KNOWN: usize = 4096;

/// The lookups of one purpose; what is given here holds for the whole process.
#[derive(Debug)]
pub struct Lookups {
    /// Names that were answered promptly last time, and those of the configuration.
    answered: Semaphore,
    /// New ones, and those that were not.
    others: Semaphore,
    known: Mutex<Known>,
    most: usize,
    patience: Duration,
    system: fn(&str) -> io::Result<Vec<SocketAddr>>,
}

#[derive(Debug)]
struct Known {
    answered: BTreeSet<String>,
    configured: BTreeSet<String>,
}

static DOWNLOADS: Lookups = Lookups::new(16, PATIENCE, system);
static DELIVERIES: Lookups = Lookups::new(16, PATIENCE, system);
static FORMS: Lookups = Lookups::new(4, PATIENCE, system);

/// There was no turn in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{most} other names were being looked up for {seconds} s without an answer: see that the name server answers, and which destinations have names that do not exist"
)]
struct Crowded {
    most: usize,
    seconds: u64,
}

fn system(name: &str) -> io::Result<Vec<SocketAddr>> {
    Ok((name, 0).to_socket_addrs()?.collect())
}

impl Lookups {
    const fn new(most: usize, patience: Duration, system: fn(&str) -> io::Result<Vec<SocketAddr>>) -> Self {
        Self {
            answered: Semaphore::const_new(most),
            others: Semaphore::const_new(most),
            known: Mutex::new(Known {
                answered: BTreeSet::new(),
                configured: BTreeSet::new(),
            }),
            most,
            patience,
            system,
        }
    }

    /// All addresses of a name. Given up, it waits for no turn any more; a lookup that has begun keeps its turn.
    async fn find(&'static self, name: String) -> io::Result<Vec<SocketAddr>> {
        let trusted = {
            let known = self.known();
            known.answered.contains(&name) || known.configured.contains(&name)
        };
        let turns = if trusted { &self.answered } else { &self.others };
        let Ok(Ok(turn)) = tokio::time::timeout(self.patience, turns.acquire()).await else {
            return Err(io::Error::other(Crowded {
                most: self.most,
                seconds: self.patience.as_secs(),
            }));
        };
        // The system asks for as long as it likes, and the turn lasts as long as that.
        let work = move || {
            let began = Instant::now();
            let found = (self.system)(&name);
            self.remember(name, found.is_ok() && began.elapsed() < PROMPT);
            drop(turn);
            found
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }

    fn remember(&self, name: String, answered: bool) {
        let known = &mut self.known().answered;
        if !answered {
            known.remove(&name);
            return;
        }
        // More than anybody has: those that are in use come back at their next lookup.
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(name);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hosts of configured destinations, whose names are the operator's: after a start, or when the name server has
/// come back, they are looked up at once, however many others wait.
pub fn configured<'a>(urls: impl Iterator<Item = &'a str>) {
    let host = |url| Some(url::Url::parse(url).ok()?.host_str()?.to_owned());
    DELIVERIES.known().configured = urls.filter_map(host).collect();
}

/// Resolves a name as the system does, each time anew, and refuses it where it leads to what is forbidden. The
/// addresses that were looked at are those that are connected to: a second answer of the name's server counts nothing.
#[derive(Debug, Clone, Copy)]
pub struct CarefulResolver(&'static Lookups);

impl CarefulResolver {
    /// For Looker's downloads, whose names are the operator's.
    pub const DOWNLOADS: Self = Self(&DOWNLOADS);
    /// For deliveries.
    pub const DELIVERIES: Self = Self(&DELIVERIES);
    /// For the form's probes, whose names are anybody's with a token.
    pub const FORMS: Self = Self(&FORMS);
}

impl Resolve for CarefulResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let lookups = self.0;
        Box::pin(async move {
            let found = lookups.find(name.as_str().to_owned()).await?;
            let found = allowed(found).map_err(io::Error::other)?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static BUSY: AtomicUsize = AtomicUsize::new(0);

    /// Nobody answers for names in `.never`; the others are answered at once.
    fn slow(name: &str) -> io::Result<Vec<SocketAddr>> {
        if name.ends_with(".never") {
            BUSY.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(700));
            BUSY.fetch_sub(1, Ordering::SeqCst);
            return Err(io::Error::other("Temporary failure in name resolution"));
        }
        Ok(vec!["10.0.0.1:0".parse().unwrap()])
    }

    #[tokio::test]
    async fn names_that_nobody_answers_for_keep_few_threads_and_no_good_name_waiting() {
        static LOOKUPS: Lookups = Lookups::new(3, Duration::from_millis(300), slow);
        assert!(LOOKUPS.find("good.example".to_owned()).await.is_ok());
        // Whoever asks gives up at once, as a form's probe does; the threads go on.
        for number in 0..40 {
            let lookup = LOOKUPS.find(format!("h{number}.never"));
            assert!(tokio::time::timeout(Duration::from_millis(5), lookup).await.is_err());
        }
        assert_eq!(BUSY.load(Ordering::SeqCst), 3, "no more threads than turns");
        let began = Instant::now();
        assert!(LOOKUPS.find("good.example".to_owned()).await.is_ok());
        assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
        let crowded = LOOKUPS.find("new.example".to_owned()).await.unwrap_err().to_string();
        assert!(
            crowded.contains("3 other names") && crowded.contains("name server"),
            "{crowded}"
        );
        LOOKUPS.known().configured.insert("new.example".to_owned());
        assert!(
            LOOKUPS.find("new.example".to_owned()).await.is_ok(),
            "it is the operator's"
        );
        LOOKUPS.known().configured.clear();
        LOOKUPS.remember("new.example".to_owned(), false);
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert!(LOOKUPS.find("new.example".to_owned()).await.is_ok(), "turns come back");
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        static LOOKUPS: Lookups = Lookups::new(1, PATIENCE, slow);
        for number in 0..KNOWN + 10 {
            LOOKUPS.remember(number.to_string(), true);
        }
        assert_eq!(LOOKUPS.known().answered.len(), 10);
        LOOKUPS.remember((KNOWN + 1).to_string(), false);
        assert_eq!(LOOKUPS.known().answered.len(), 9);
    }

    #[test]
    fn configured_destinations_are_known_by_their_hosts() {
        configured(["https://R.example/v1/batch", "no url"].into_iter());
        assert_eq!(DELIVERIES.known().configured, BTreeSet::from(["r.example".to_owned()]));
    }
}
