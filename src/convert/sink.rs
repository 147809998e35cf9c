//! Rows to events or dead rows, counted.

use std::ops::Range;

use super::columns::Plan;
use super::event::{Scanned, Template};
use super::row::{Keys, Scanner};
use super::scan::{self, Stop};
use super::{Identity, Rows, Stopped};
use crate::event::json::one_line;

/// What turns rows into events, and counts them.
#[derive(Debug)]
pub(super) struct Sink {
    scanner: Scanner,
    template: Template,
    event: Vec<u8>,
    pub(super) events: u64,
    pub(super) dead_rows: u64,
    pub(super) first_dead_rows: Vec<(u64, String)>,
}

impl Sink {
    /// For events of this template; rows can be scanned, and made into events once the columns are known.
    pub(super) fn new(template: Template) -> Self {
        Self {
            scanner: Scanner::default(),
            template,
            event: Vec::new(),
            events: 0,
            dead_rows: 0,
            first_dead_rows: Vec::new(),
        }
    }

    /// Rows have these columns from now on.
    pub(super) fn columns(&mut self, keys: &Keys) {
        self.scanner = Scanner::new(keys);
    }

    /// Where the row ends that `bytes` begin with, and what Looker says where the query failed.
    #[inline]
    pub(super) fn scan(
        &mut self,
        bytes: &[u8],
        first: u8,
        keys: &Keys,
        max_depth: u32,
    ) -> Result<(usize, Option<Range<usize>>), Stop> {
        // The root, `data` and the row itself are open.
        if first == b'{' {
            let row = self.scanner.row(bytes, keys, max_depth - 3)?;
            Ok((row.end, row.looker_error))
        } else {
            Ok((scan::value(bytes, 0, max_depth - 2)?.end, None))
        }
    }

    /// Makes the event of the row that was just scanned, or a dead row.
    pub(super) fn row<R: Rows>(
        &mut self,
        plan: &Plan,
        text: &str,
        first: u8,
        number: u64,
        rows: &mut R,
    ) -> Result<(), Stopped<R::Error>> {
        let scanned = Scanned {
            text,
            cells: self.scanner.cells(),
            leaves: self.scanner.leaves(),
        };
        let written = if first == b'{' {
            self.template.write(plan, scanned, number, &mut self.event)
        } else {
            Err("row is no object".to_owned())
        };
        match written {
            Ok(emitted) => {
                self.events += 1;
                let identity = Identity {
                    user_id: emitted.user_id.as_deref(),
                    anonymous_id: emitted.anonymous_id.as_deref(),
                    email: emitted.email.as_deref(),
                };
                rows.event(number, emitted.own_timestamp, &self.event, identity)
                    .map_err(Stopped::Rows)
            }
            Err(reason) => {
                self.dead_rows += 1;
                rows.dead_row(number, &reason, &one_line(text.as_bytes()))
                    .map_err(Stopped::Rows)?;
                if self.first_dead_rows.len() < 3 {
                    self.first_dead_rows.push((number, reason));
                }
                Ok(())
            }
        }
    }
}
