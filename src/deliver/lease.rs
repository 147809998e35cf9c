//! Events that a lane has read and that are not acknowledged yet, with their bytes. The bytes of one read are a block that
//! does not change any more: a batch of them is compressed on another thread while the next block is read, and what is
//! done goes without a byte being moved.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::event::{RunId, Timestamp};
use crate::rudderstack::{Body, body, stamp};

/// Events in order, with their bytes: finished JSON but for `,"sentAt":"…"}`.
#[derive(Debug)]
pub struct Lease<P> {
    /// The events, in order.
    pub events: VecDeque<LeasedEvent<P>>,
    /// The blocks of `events`, and none before.
    blocks: VecDeque<Arc<Vec<u8>>>,
    /// The number of the first one.
    first_block: u64,
    /// A block whose events are done, for the next read: a new one would be zeroed by the system page by page.
    spare: Option<Vec<u8>>,
    /// What was in it.
    spare_bytes: usize,
}

/// One event of a lease.
#[derive(Debug, Clone)]
pub struct LeasedEvent<P> {
    /// Where it is in the backlog.
    pub position: P,
    /// Its run.
    pub run: RunId,
    /// Its row in the run.
    pub row: u64,
    block: u64,
    range: Range<usize>,
}

impl<P> LeasedEvent<P> {
    /// An event that a read has put at `range` of its block.
    pub const fn new(position: P, run: RunId, row: u64, range: Range<usize>) -> Self {
        Self {
            position,
            run,
            row,
            block: 0,
            range,
        }
    }

    /// Its bytes.
    pub fn length(&self) -> usize {
        self.range.len()
    }
}

impl<P> Default for Lease<P> {
    fn default() -> Self {
        Self {
            events: VecDeque::new(),
            blocks: VecDeque::new(),
            first_block: 0,
            spare: None,
            spare_bytes: 0,
        }
    }
}

impl<P> Lease<P> {
    /// An empty block with room for so many bytes, to be filled and then added.
    pub fn block(&mut self, bytes: usize) -> Vec<u8> {
        let mut block = self.spare.take().unwrap_or_default();
        if block.capacity() / 4 > bytes {
            // Batches have become smaller, and so does what is kept for them.
            block = Vec::new();
        }
        // In steps, so that batches which grow take the same room again and again, and not each a little more. What is not
        // touched of it costs nothing.
        block.reserve_exact(bytes.next_power_of_two());
        block
    }

    /// Adds what a read has brought, behind what there is.
    pub fn add(&mut self, mut block: Vec<u8>, events: impl Iterator<Item = LeasedEvent<P>>) {
        let number = self.first_block + self.blocks.len() as u64;
        let before = self.events.len();
        self.events
            .extend(events.map(|event| LeasedEvent { block: number, ..event }));
        if self.events.len() == before {
            self.spare_bytes = 0;
            self.spare = Some(block);
            return;
        }
        if block.len() < block.capacity() / 4 {
            // Few events, which may stay long.
            block.shrink_to_fit();
        }
        self.blocks.push_back(Arc::new(block));
    }

    /// Some events, to be made a body of.
    pub fn batch(&self, first: usize, count: usize) -> Batch {
        let events = self.events.iter().skip(first).take(count);
        let first_block = events.clone().next().map_or(0, |event| event.block);
        let last_block = events.clone().next_back().map_or(0, |event| event.block);
        let before = first_block.saturating_sub(self.first_block) as usize;
        let blocks = (last_block - first_block + 1) as usize;
        Batch {
            blocks: self.blocks.iter().skip(before).take(blocks).cloned().collect(),
            // A run's id holds the time of its acceptance.
            accepted: Timestamp(
                events
                    .clone()
                    .map(|event| event.run.0.timestamp_ms())
                    .max()
                    .unwrap_or(0) as i64,
            ),
            events: events
                .map(|event| ((event.block - first_block) as usize, event.range.clone()))
                .collect(),
        }
    }

    /// Forgets the first `count` events, and the blocks that are done with them.
    pub fn discard(&mut self, count: usize) {
        self.events.drain(..count.min(self.events.len()));
        let end = self.first_block + self.blocks.len() as u64;
        let first = self.events.front().map_or(end, |event| event.block);
        while self.first_block < first
            && let Some(block) = self.blocks.pop_front()
        {
            self.first_block += 1;
            // Where a batch that was given up still holds it, it goes with that.
            if let Ok(mut block) = Arc::try_unwrap(block)
                && self.spare.is_none()
            {
                self.spare_bytes = block.len();
                block.clear();
                self.spare = Some(block);
            }
        }
    }

    /// Forgets everything; keeps a buffer.
    pub fn clear(&mut self) {
        self.discard(self.events.len());
    }

    /// Gives the buffers back: an idle lane costs nothing.
    pub fn release(&mut self) {
        if self.events.is_empty() {
            *self = Self::default();
        }
    }

    /// Bytes that it takes up.
    pub fn held(&self) -> usize {
        let spare = self.spare.as_ref().map_or(0, |_| self.spare_bytes);
        spare + self.blocks.iter().map(|block| block.len()).sum::<usize>()
    }
}

/// Events of a lease on the way to a body. Holds their blocks, whatever becomes of the lease.
#[derive(Debug)]
pub struct Batch {
    blocks: Vec<Arc<Vec<u8>>>,
    /// Of each event: its block of those, and where in it.
    events: Vec<(usize, Range<usize>)>,
    /// When the last run of them was accepted.
    accepted: Timestamp,
}

impl Batch {
    /// How many events.
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// Each event's bytes.
    pub fn bytes(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.events.iter().map(|(block, range)| {
            let block = self.blocks.get(*block);
            block.and_then(|block| block.get(range.clone())).unwrap_or_default()
        })
    }

    /// The request's body, as of now. Blocking: compression takes milliseconds.
    pub fn body(&self, now: Timestamp, gzip: bool) -> std::io::Result<Body> {
        body(self.bytes(), &stamp(now, self.accepted), gzip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_lease_keeps_each_events_bytes(steps in proptest::collection::vec((0_usize..9, 0_usize..9), 1..40)) {
            let mut lease = Lease::default();
            let mut expected: VecDeque<Vec<u8>> = VecDeque::new();
            let mut next = 0_u64;
            let mut kept: Vec<(Batch, Vec<Vec<u8>>)> = Vec::new();
            for (add, drop) in steps {
                let mut block = lease.block(100);
                prop_assert!(block.is_empty());
                let mut read = Vec::new();
                for _ in 0..add {
                    let (start, bytes) = (block.len(), format!("event {next}").into_bytes());
                    block.extend_from_slice(&bytes);
                    read.push(LeasedEvent::new(next, RunId::new(Timestamp(0), 0), next, start..block.len()));
                    expected.push_back(bytes);
                    next += 1;
                }
                lease.add(block, read.into_iter());
                let batch = lease.batch(drop / 2, drop);
                let of_it: Vec<Vec<u8>> = expected.iter().skip(drop / 2).take(drop).cloned().collect();
                kept.push((batch, of_it));
                if kept.len() > 3 {
                    kept.remove(0);
                }
                lease.discard(drop);
                expected.drain(..drop.min(expected.len()));
                let all = lease.batch(0, usize::MAX);
                prop_assert_eq!(&all.bytes().collect::<Vec<_>>(), &expected.iter().map(Vec::as_slice).collect::<Vec<_>>());
                // What was taken out before is as it was.
                for (batch, of_it) in &kept {
                    prop_assert_eq!(&batch.bytes().collect::<Vec<_>>(), &of_it.iter().map(Vec::as_slice).collect::<Vec<_>>());
                }
                let live: usize = expected.iter().map(Vec::len).sum();
                // A block more that is partly done, and the spare one.
                prop_assert!(lease.held() <= 4 * live + 600, "{} bytes for {live}", lease.held());
            }
        }
    }
}
