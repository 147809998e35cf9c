//! Builders of chunks that runs use one after another: to set one up costs a small run as much as its rows.

use super::chunk::Builder;
use super::parking::Guarded;

/// More of them are not at work at once where there are few cores.
const KEPT: usize = 4;

/// Those that no run uses.
#[derive(Default)]
pub(super) struct Builders(Guarded<Vec<Builder>>);

impl Builders {
    /// One that is empty.
    pub(super) fn take(&self) -> Builder {
        self.0.with(Vec::pop).unwrap_or_default()
    }

    /// A run is done with it.
    pub(super) fn give_back(&self, mut builder: Builder) {
        builder.clear();
        self.0.with(|kept| {
            if kept.len() < KEPT {
                kept.push(builder);
            }
        });
    }

    /// Nothing happens: their room is given back.
    pub(super) fn release(&self) {
        drop(self.0.with(std::mem::take));
    }
}
