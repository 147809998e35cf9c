//! Rows that come before `fields`: nobody knows yet what their columns mean, so they are checked, counted, set aside,
//! and converted when the document has ended well.

use std::io::{Cursor, Read};

use super::columns::Plan;
use super::refusal::Refusal;
use super::scan::{Stop, peek};
use super::sink::Sink;
use super::window::Window;
use super::{Refused, RefusedKind, Rows, Stopped};

/// How much is written or read at once.
const PIECE: usize = 64 << 10;

/// Rows set aside, a line feed behind each.
#[derive(Debug, Default)]
pub(super) struct Spool {
    /// The last of them, not yet handed on.
    pending: Vec<u8>,
    handed_on: bool,
    bytes: u64,
}

impl Spool {
    /// The bytes of all that were set aside, their line feeds too.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sets one row aside.
    pub(super) fn add<R: Rows>(&mut self, row: &[u8], rows: &mut R) -> Result<(), Stopped<R::Error>> {
        self.pending.extend_from_slice(row);
        self.pending.push(b'\n');
        self.bytes += row.len() as u64 + 1;
        if self.pending.len() >= PIECE {
            rows.spool(&self.pending).map_err(Stopped::Rows)?;
            self.pending.clear();
            self.handed_on = true;
        }
        Ok(())
    }

    /// Converts all `total` of them, which were well-formed when they were set aside. `at` is where the document ended.
    pub(super) fn convert<R: Rows>(
        self,
        sink: &mut Sink,
        plan: &Plan,
        (total, at): (u64, u64),
        max_depth: u32,
        rows: &mut R,
    ) -> Result<(), Stopped<R::Error>> {
        if !self.handed_on && self.pending.is_empty() {
            return Ok(());
        }
        let mut source: Box<dyn Read + Send> = Box::new(Cursor::new(self.pending));
        if self.handed_on {
            source = Box::new(rows.unspool().map_err(Stopped::Rows)?.chain(source));
        }
        let unreadable = |why: String| -> Refused {
            let what = "the rows that came before `fields` could not be read again";
            Refusal::new(RefusedKind::Spool, at, what).detail(why).after(total)
        };
        let mut window = Window::default();
        let mut piece = vec![0; PIECE];
        let mut number = 0;
        let mut wanted = 0;
        loop {
            let length = match source.read(&mut piece) {
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(error.to_string()).into()),
            };
            let last = length == 0;
            window.append(piece.get(..length).unwrap_or_default());
            if !last && window.rest().len() < wanted {
                continue;
            }
            while let Ok((start, first)) = peek(window.rest(), 0) {
                window.consume(start);
                let bytes = window.rest();
                let end = match sink.scan(bytes, first, &plan.keys, max_depth) {
                    Ok((end, _)) => end,
                    Err(Stop::More) if !last => {
                        wanted = bytes.len().saturating_mul(2);
                        break;
                    }
                    Err(Stop::More) => return Err(unreadable("the last row is not whole".to_owned()).into()),
                    Err(Stop::Bad { fault, .. }) => return Err(Refusal::of(fault, at, max_depth).after(number).into()),
                };
                let text = std::str::from_utf8(bytes.get(..end).unwrap_or_default())
                    .map_err(|error| unreadable(error.to_string()))?;
                number += 1;
                sink.row(plan, text, first, number, rows)?;
                window.consume(end);
            }
            if last {
                break;
            }
        }
        if number == total {
            Ok(())
        } else {
            Err(unreadable(format!("{number} of {total} rows came back")).into())
        }
    }
}
