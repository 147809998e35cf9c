//! What may go: a pure plan over listed facts, so that it can be tested without a disk.
//!
//! A segment's bytes are either *live* (they wait, they are dead letters, a replay refers to them) or *history*. History
//! goes when it is older than `keep_delivered`, when there is more of it than `keep_delivered_bytes` (oldest first), and
//! when room is needed (oldest first). A segment with something live in it can go too, where that is a small part: it is
//! moved to the active segment first. `sweep` acts.

use std::time::Duration;

use super::segment::SegmentId;
use crate::event::Timestamp;

/// A segment with something live is worth moving where that is at most one in this many bytes.
pub(super) const LIVE_SHARE: u64 = 4;

/// What is known of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) id: SegmentId,
    pub(super) bytes: u64,
    pub(super) live_bytes: u64,
    /// When the newest of what is done in it was done; none where nothing in it ever was of use.
    pub(super) settled_at: Option<Timestamp>,
    /// It stays, whatever it holds: a run is being received into it, or a replay refers to it.
    pub(super) held: bool,
}

impl Facts {
    const fn history(&self) -> u64 {
        self.bytes.saturating_sub(self.live_bytes)
    }

    const fn can_go(&self) -> bool {
        !self.held && self.history() > 0 && self.live_bytes.saturating_mul(LIVE_SHARE) <= self.bytes
    }
}

/// What is to be kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    pub(super) delivered: Duration,
    pub(super) delivered_bytes: u64,
    /// Bytes that are needed now.
    pub(super) room: u64,
}

/// Why a segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Nothing in it is of use.
    Useless,
    /// `keep_delivered`
    Age,
    /// `keep_delivered_bytes`
    Bytes,
    /// New runs need room.
    Room,
}

/// Bytes of history: what is done and still here.
pub(super) fn history_bytes(segments: &[Facts]) -> u64 {
    segments
        .iter()
        .filter(|facts| facts.settled_at.is_some())
        .map(Facts::history)
        .sum()
}

/// Which segments go, in this order.
pub(super) fn plan(segments: &[Facts], keep: Keep, now: Timestamp) -> Vec<(SegmentId, Why)> {
    let mut candidates: Vec<&Facts> = segments.iter().filter(|facts| facts.can_go()).collect();
    candidates.sort_by_key(|facts| (facts.settled_at, facts.id));
    let mut history = history_bytes(segments);
    let mut room = keep.room;
    let kept = u64::try_from(keep.delivered.as_millis()).unwrap_or(u64::MAX);
    let mut going = Vec::new();
    for facts in candidates {
        let freed = facts.history();
        let why = match facts.settled_at {
            None => Why::Useless,
            Some(at) if now.since(at) > kept => Why::Age,
            Some(_) if history > keep.delivered_bytes => Why::Bytes,
            Some(_) if room > 0 => Why::Room,
            Some(_) => continue,
        };
        if facts.settled_at.is_some() {
            history = history.saturating_sub(freed);
        }
        room = room.saturating_sub(freed);
        going.push((facts.id, why));
    }
    going
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400_000;

    fn facts(id: u32, live_bytes: u64, settled_at: Option<i64>, held: bool) -> Facts {
        Facts {
            id: SegmentId(id),
            bytes: 100,
            live_bytes,
            settled_at: settled_at.map(Timestamp),
            held,
        }
    }

    fn keep(delivered_bytes: u64, room: u64) -> Keep {
        Keep {
            delivered: Duration::from_secs(7 * 86_400),
            delivered_bytes,
            room,
        }
    }

    #[test]
    fn age_bytes_room_in_this_order_and_never_what_is_live_or_held() {
        let now = Timestamp(30 * DAY);
        let all = [
            facts(1, 0, Some(20 * DAY), false),  // old
            facts(2, 100, None, false),          // the backlog
            facts(3, 20, Some(21 * DAY), false), // old, a fifth is live
            facts(4, 60, Some(21 * DAY), false), // old, most of it is live
            facts(5, 0, Some(22 * DAY), true),   // old, a replay refers to it
            facts(6, 0, Some(29 * DAY), false),
            facts(7, 0, Some(28 * DAY), false),
            facts(8, 0, None, false), // chunks of failed runs
        ];
        let ids =
            |going: Vec<(SegmentId, Why)>| -> Vec<(u32, Why)> { going.iter().map(|(id, why)| (id.0, *why)).collect() };
        assert_eq!(
            ids(plan(&all, keep(1_000, 0), now)),
            [(8, Why::Useless), (1, Why::Age), (3, Why::Age)]
        );
        assert_eq!(history_bytes(&all), 100 + 80 + 40 + 100 + 100 + 100);
        assert_eq!(
            ids(plan(&all, keep(300, 0), now)),
            [(8, Why::Useless), (1, Why::Age), (3, Why::Age), (7, Why::Bytes)]
        );
        assert_eq!(
            ids(plan(&all, keep(1_000, 301), now)),
            [(8, Why::Useless), (1, Why::Age), (3, Why::Age), (7, Why::Room)]
        );
    }

    proptest! {
        #[test]
        fn nothing_live_goes_and_enough_goes(
            all in proptest::collection::vec((0u64..=100, proptest::option::of(0i64..20), proptest::bool::ANY), 0..40),
            delivered_bytes in 0u64..2_000,
            room in 0u64..2_000,
        ) {
            let all: Vec<Facts> = all.iter().enumerate()
                .map(|(id, (live, at, held))| facts(id as u32, *live, at.map(|at| at * DAY), *held)).collect();
            let going = plan(&all, keep(delivered_bytes, room), Timestamp(20 * DAY));
            let mut left = history_bytes(&all);
            let mut freed = 0;
            for (id, _) in &going {
                let one = all.iter().find(|one| one.id == *id).unwrap();
                prop_assert!(!one.held && one.live_bytes * LIVE_SHARE <= one.bytes);
                freed += one.bytes - one.live_bytes;
                if one.settled_at.is_some() { left -= one.bytes - one.live_bytes; }
            }
            // Where something could still have gone, both limits are kept.
            let more = all.iter().any(|one| one.can_go() && !going.iter().any(|(id, _)| *id == one.id));
            prop_assert!(!more || (left <= delivered_bytes && freed >= room));
        }
    }
}
