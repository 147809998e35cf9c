//! A backlog in memory, for the tests: what is acknowledged is durable only after a sync or 20 calls, so that a
//! crash can be tried.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard};

use super::backlog::{AttemptNote, Backlog, BacklogError};
use super::lease::{Lease, LeasedEvent};
use crate::event::{RunId, Timestamp};

#[derive(Debug, Default)]
pub(super) struct Disk {
    /// The stored events, finished but for `sentAt`.
    pub(super) events: Vec<Vec<u8>>,
    /// So many from the front are done.
    pub(super) done: usize,
    pub(super) dead: BTreeMap<usize, String>,
    durable: (usize, BTreeMap<usize, String>),
    calls: u32,
    pub(super) notes: Vec<AttemptNote>,
    pub(super) broken: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    disk: Arc<Mutex<Disk>>,
    position: usize,
    pub(super) rate: Option<NonZeroU32>,
}

impl Memory {
    pub(super) fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    /// Stores `count` events more, `size` bytes each; their ids are their places.
    pub(super) fn store(&self, count: usize, size: usize) {
        let mut disk = self.disk();
        for _ in 0..count {
            let id = disk.events.len();
            let mut event = format!(r#"{{"type":"track","id":{id},"pad":""#).into_bytes();
            event.resize(size.saturating_sub(20).max(event.len()), b'x');
            event.extend_from_slice(format!(r#"","messageId":"m-{id}""#).as_bytes());
            disk.events.push(event);
        }
    }

    pub(super) fn pending(&self) -> usize {
        let disk = self.disk();
        disk.events.len() - disk.done
    }

    /// The same disk after a crash: what was not durable is forgotten.
    pub(super) fn crashed(&self) -> Self {
        let mut disk = self.disk();
        (disk.done, disk.dead) = disk.durable.clone();
        let position = disk.done;
        Self {
            disk: Arc::clone(&self.disk),
            position,
            rate: self.rate,
        }
    }
}

impl Disk {
    fn settle(&mut self) {
        self.durable = (self.done, self.dead.clone());
        self.calls = 0;
    }
}

impl Backlog for Memory {
    type Position = usize;

    fn read(&mut self, max_events: usize, max_bytes: usize, lease: &mut Lease<usize>) -> Result<(), BacklogError> {
        let disk = self.disk.lock().unwrap();
        if disk.broken {
            return Err(BacklogError("the disk is gone".to_owned()));
        }
        let (mut events, mut bytes) = (Vec::new(), lease.block(0));
        while let Some(event) = disk.events.get(self.position) {
            if !events.is_empty() && (events.len() >= max_events || bytes.len() + event.len() > max_bytes) {
                break;
            }
            let run = RunId::new(Timestamp(1_700_000_000_000), 1);
            let start = bytes.len();
            bytes.extend_from_slice(event);
            events.push(LeasedEvent::new(
                self.position,
                run,
                self.position as u64,
                start..bytes.len(),
            ));
            self.position += 1;
        }
        lease.add(bytes, events.into_iter());
        Ok(())
    }

    fn rewind(&mut self) {
        let done = self.disk().done;
        self.position = done;
    }

    fn acknowledge(&mut self, upto: &usize, buried: &[(usize, String)], _: Timestamp) -> Result<(), BacklogError> {
        let mut disk = self.disk.lock().unwrap();
        if disk.broken {
            return Err(BacklogError("the disk is gone".to_owned()));
        }
        assert!(
            *upto >= disk.done && *upto < self.position,
            "{upto} is acknowledged twice or was not read"
        );
        for (position, words) in buried {
            assert!(
                (disk.done..=*upto).contains(position),
                "{position} is buried outside the acknowledged part"
            );
            disk.dead.insert(*position, words.clone());
        }
        disk.done = upto + 1;
        disk.calls += 1;
        if disk.calls >= 20 {
            disk.settle();
        }
        Ok(())
    }

    fn note_attempt(&mut self, attempt: &AttemptNote, events: &[LeasedEvent<usize>]) -> Result<(), BacklogError> {
        assert_eq!(attempt.events, events.len());
        self.disk().notes.push(attempt.clone());
        Ok(())
    }

    fn sync(&mut self) -> Result<(), BacklogError> {
        self.disk().settle();
        Ok(())
    }

    fn rate(&mut self) -> Option<NonZeroU32> {
        self.rate
    }
}
