//! The metrics as they are given out. Anybody may ask for them, and they are long where there are many destinations: so
//! they are written once for all who ask meanwhile, and shared.
//!
//! Promises: never written twice at once, whoever goes away; given again for a second, or where writing takes long for
//! four times as long as it took: so a fifth of one core's time at most goes into them, and no copy is made for anybody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Mutex;

use super::blocking;
use crate::admin::{Fault, Service};
use crate::event::Timestamp;

const KEPT: Duration = Duration::from_secs(1);
const KEPT_TIMES: u32 = 4;

/// Cheap to clone: the clones share what was written.
#[derive(Clone, Default)]
pub(super) struct Exposition(Arc<Mutex<Option<Written>>>);

struct Written {
    text: Bytes,
    until: Instant,
}

impl Exposition {
    /// The metrics of now, or of just before.
    pub(super) async fn text(&self, service: &Service) -> Result<Bytes, Fault> {
        let service = service.clone();
        self.written(move || service.metrics_text(Timestamp::now())).await
    }

    async fn written(&self, write: impl FnOnce() -> Result<String, Fault> + Send + 'static) -> Result<Bytes, Fault> {
        let mut written = Arc::clone(&self.0).lock_owned().await;
        if let Some(written) = written.as_ref().filter(|written| Instant::now() < written.until) {
            return Ok(written.text.clone());
        }
        // The lock goes with the work: who asks and goes away does not make room for a second one beside it.
        blocking(move || {
            let began = Instant::now();
            let text = Bytes::from(write()?);
            let until = Instant::now() + KEPT.max(began.elapsed().saturating_mul(KEPT_TIMES));
            *written = Some(Written {
                text: text.clone(),
                until,
            });
            Ok(text)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_who_ask_and_go_away_have_it_written_once() {
        let (exposition, times) = (Exposition::default(), Arc::new(AtomicUsize::new(0)));
        let write = || {
            let times = Arc::clone(&times);
            move || {
                std::thread::sleep(Duration::from_millis(300));
                Ok(times.fetch_add(1, Ordering::SeqCst).to_string())
            }
        };
        for _ in 0..5 {
            drop(tokio::time::timeout(Duration::from_millis(20), exposition.written(write())).await);
        }
        for _ in 0..100 {
            assert_eq!(exposition.written(write()).await.unwrap(), "0");
        }
        assert_eq!(times.load(Ordering::SeqCst), 1);
        tokio::time::sleep(KEPT.max(Duration::from_millis(300) * KEPT_TIMES) + Duration::from_millis(300)).await;
        assert_eq!(exposition.written(write()).await.unwrap(), "1");
    }
}
