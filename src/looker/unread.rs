//! What the hub holds of requests that have not come in whole, in bytes: so many in all, and of one token half of them.
//! Whoever leaves a thousand bodies half sent takes neither the memory nor the others' part of it. Small requests, which
//! are nearly all, are not counted: the number of connections bounds them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::token::TokenId;

/// What a request may have uncounted.
const FREE: usize = 16 * 1024;

/// All bytes of a hub.
#[derive(Debug)]
pub(super) struct Unread {
    most: usize,
    patience: Duration,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Of each token that has any.
    by_token: HashMap<TokenId, usize>,
}

/// One request's part; dropped, it is free again.
#[derive(Debug)]
pub(super) struct Claim {
    unread: Arc<Unread>,
    token: TokenId,
    bytes: usize,
}

/// There was no room in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "too many large requests are coming in at once, and none of them ended within {seconds} s; send it again, or let Looker send a download URL (supported_download_settings)"
)]
pub(super) struct NoRoom {
    seconds: u64,
}

impl Unread {
    /// So many bytes in all; who finds no room waits so long for it.
    pub(super) fn new(most: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            most,
            patience,
            taken: Mutex::default(),
            freed: Notify::new(),
        })
    }

    pub(super) fn claim(self: &Arc<Self>, token: TokenId) -> Claim {
        Claim {
            unread: Arc::clone(self),
            token,
            bytes: 0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing under the lock panics half-way.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a token's part could go from `before` to `after`; then it has.
    fn change(&self, token: TokenId, before: usize, after: usize) -> bool {
        let mut taken = self.lock();
        let of_token = taken.by_token.get(&token).copied().unwrap_or_default();
        let all = taken.all.saturating_sub(before).saturating_add(after);
        let of_token = of_token.saturating_sub(before).saturating_add(after);
        if after > before && (all > self.most || of_token > self.most / 2) {
            return false;
        }
        taken.all = all;
        if of_token == 0 {
            taken.by_token.remove(&token);
        } else {
            taken.by_token.insert(token, of_token);
        }
        true
    }
}

impl Claim {
    /// The request holds so many bytes now; waits for room where they are more than before.
    pub(super) async fn hold(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let bytes = if bytes > FREE { bytes } else { 0 };
        if bytes == self.bytes {
            return Ok(());
        }
        let deadline = Instant::now() + self.unread.patience;
        loop {
            // Whoever frees some after we have looked wakes us.
            let freed = self.unread.freed.notified();
            if self.unread.change(self.token, self.bytes, bytes) {
                break;
            }
            if tokio::time::timeout_at(deadline, freed).await.is_err() {
                return Err(NoRoom {
                    seconds: self.unread.patience.as_secs(),
                });
            }
        }
        if bytes < self.bytes {
            self.unread.freed.notify_waiters();
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.unread.change(self.token, self.bytes, 0);
            self.unread.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str) -> TokenId {
        TokenId::of(name.as_bytes())
    }

    #[tokio::test]
    async fn one_token_leaves_half_and_small_requests_always_pass() {
        let unread = Unread::new(400_000, Duration::from_millis(50));
        let mut greedy: Vec<Claim> = Vec::new();
        for _ in 0..2 {
            let mut claim = unread.claim(token("greedy"));
            claim.hold(100_000).await.unwrap();
            greedy.push(claim);
        }
        let mut more = unread.claim(token("greedy"));
        assert!(more.hold(20_000).await.is_err());
        assert!(more.hold(FREE).await.is_ok());
        let mut modest = unread.claim(token("modest"));
        assert!(modest.hold(150_000).await.is_ok());
        assert!(modest.hold(100_000).await.is_ok());
        // What is freed goes to who waits.
        let waits = tokio::spawn(async move { more.hold(100_000).await.is_ok() });
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(greedy.pop());
        assert!(waits.await.unwrap());
        drop((greedy, modest));
        let taken = unread.lock();
        assert_eq!((taken.all, taken.by_token.len()), (0, 0));
    }
}
