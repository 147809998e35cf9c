//! The look of the demo, by formula: any number of rows, the same each time, exactly one of them bad.

use std::fmt::Write;

/// The event that the replay picks out.
pub(crate) const HIGH: &str = "Churn risk high";

/// The event of all rows whose cell names none.
pub(crate) const FORM_EVENT: &str = "Churn scored";

/// How much of the document is made at once.
const PIECE: usize = 64 << 10;

/// A look of `rows` rows: who may leave, how likely, and on which plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// How many rows it has.
    pub(crate) rows: u64,
}

impl Look {
    /// The row without a user: nobody could be found by its event.
    pub(crate) const fn bad_row(self) -> u64 {
        let row = self.rows / 10 * 7 + 7;
        if row < self.rows { row } else { self.rows }
    }

    /// Rows that become events.
    pub(crate) const fn events(self) -> u64 {
        self.rows - 1
    }

    /// Events that the replay picks out.
    pub(crate) fn high(self) -> u64 {
        self.rows / 10 - u64::from(event(self.bad_row()) == HIGH)
    }

    /// The document in pieces, made while it is read.
    pub(crate) fn pieces(self) -> impl Iterator<Item = String> + Send + use<> {
        let mut next = 0;
        std::iter::from_fn(move || {
            if next > self.rows {
                return None;
            }
            let mut piece = String::with_capacity(PIECE + 512);
            if next == 0 {
                piece.push_str(HEAD);
                next = 1;
            }
            while next <= self.rows && piece.len() < PIECE {
                if next > 1 {
                    piece.push_str(",\n");
                }
                // Writing to a string cannot fail.
                self.row(next, &mut piece).ok()?;
                next += 1;
            }
            if next > self.rows {
                piece.push_str("]}");
            }
            Some(piece)
        })
    }

    fn row(self, row: u64, into: &mut String) -> std::fmt::Result {
        into.push_str("{\"users.id\":{\"value\":");
        if row == self.bad_row() {
            into.push_str("null");
        } else {
            write!(into, "\"user-{row}\"")?;
        }
        let plan = ["free", "team", "business", "enterprise"]
            .get(row as usize % 4)
            .copied()
            .unwrap_or_default();
        write!(
            into,
            "}},\"churn.event\":{{\"value\":\"{}\"}},\"churn.risk\":{{\"value\":0.{:02}}},\
             \"users.plan\":{{\"value\":\"{plan}\"}},\"users.seats\":{{\"value\":{}}},\
             \"users.last_seen\":{{\"value\":\"2024-04-{:02}\"}}}}",
            event(row),
            row.wrapping_mul(37) % 100,
            row.wrapping_mul(7_919) % 250,
            1 + row % 30
        )
    }
}

/// The event's name of a row: every tenth is a high risk.
fn event(row: u64) -> &'static str {
    match row % 10 {
        0 => HIGH,
        1..=3 => "Churn risk medium",
        _ => "Churn risk low",
    }
}

/// The row's number of a user id.
pub(crate) fn row_of_user(user_id: &str) -> Option<u64> {
    user_id.strip_prefix("user-")?.parse().ok()
}

const HEAD: &str = concat!(
    "{\"fields\":{\"measures\":[],\"dimensions\":[",
    "{\"name\":\"users.id\",\"label\":\"User\",\"tags\":[\"user_id\"]},",
    "{\"name\":\"churn.event\",\"label\":\"Event\",\"tags\":[\"rudder_event_name\"]},",
    "{\"name\":\"churn.risk\",\"label\":\"Risk\",\"tags\":[]},",
    "{\"name\":\"users.plan\",\"label\":\"Plan\",\"tags\":[]},",
    "{\"name\":\"users.seats\",\"label\":\"Seats\",\"tags\":[]},",
    "{\"name\":\"users.last_seen\",\"label\":\"Last seen\",\"tags\":[]}",
    "],\"table_calculations\":[],\"pivots\":[]},\"errors\":[],\"data\":["
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_rows_that_it_counts() {
        for rows in [20, 27, 100, 3_000] {
            let look = Look { rows };
            let text: String = look.pieces().collect();
            let document: serde_json::Value = serde_json::from_str(&text).unwrap();
            let data = document["data"].as_array().unwrap();
            assert_eq!(data.len() as u64, rows);
            let bad: Vec<_> = (1..=rows)
                .filter(|row| data[*row as usize - 1]["users.id"]["value"].is_null())
                .collect();
            assert_eq!(bad, [look.bad_row()]);
            let good = data.iter().filter(|row| !row["users.id"]["value"].is_null());
            assert_eq!(good.clone().count() as u64, look.events());
            assert_eq!(
                good.filter(|row| row["churn.event"]["value"] == HIGH).count() as u64,
                look.high()
            );
            assert_eq!(row_of_user(data[1]["users.id"]["value"].as_str().unwrap()), Some(2));
        }
    }
}
