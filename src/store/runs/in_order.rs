//! The letters of a run beside its rows.

use super::super::catalog::decode;
use super::super::error::{Error, Result};
use super::super::keys;
use super::super::records::Letter;
use super::super::state::Inner;
use crate::event::RunId;

/// The letters of a run in the order of its rows, read a page at a time.
pub(super) struct Letters<'a> {
    store: &'a Inner,
    run: RunId,
    page: std::collections::VecDeque<(u64, Letter)>,
    from: Option<Vec<u8>>,
}

impl<'a> Letters<'a> {
    const PAGE: usize = 128;

    pub(super) fn new(store: &'a Inner, run: RunId) -> Self {
        Self {
            store,
            run,
            page: std::collections::VecDeque::new(),
            from: Some(keys::letters_of(run)),
        }
    }

    /// The next letter of a row before this one.
    pub(super) fn next_before(&mut self, row: u64) -> Result<Option<(u64, Letter)>> {
        self.fill()?;
        Ok(self.page.pop_front_if(|(first, _)| *first < row))
    }

    /// Rows are asked in rising order, each once.
    pub(super) fn of(&mut self, row: u64) -> Result<Option<Letter>> {
        while self.next_before(row)?.is_some() {}
        let next = self.page.pop_front_if(|(first, _)| *first == row);
        Ok(next.map(|(_, letter)| letter))
    }

    /// Reads on where there is nothing left of what was read.
    fn fill(&mut self) -> Result<()> {
        while self.page.is_empty() {
            let Some(from) = self.from.take() else {
                break;
            };
            let page = self
                .store
                .catalog
                .page(&keys::letters_of(self.run), &from, Self::PAGE)?;
            if page.len() == Self::PAGE
                && let Some((last, _)) = page.last()
            {
                let mut next = last.clone();
                next.push(0);
                self.from = Some(next);
            }
            for (key, value) in page {
                let row = keys::letter_row(&key).ok_or_else(|| Error::damaged("catalog, letters", "a key is cut"))?;
                self.page.push_back((row, decode(&key, &value)?));
            }
        }
        Ok(())
    }
}
