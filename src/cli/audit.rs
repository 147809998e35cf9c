//! `audit`: rows read = delivered + waiting + dead.

use clap::Args;

use super::client::{self, Client, Missing};
use super::format::{count, counted, printable};
use super::listing::{self, Listing};
use super::{Align, Expected, Output, SelectionArguments, Session, Table};
use crate::admin::selection::StateOf;
use crate::admin::views::{Audit, AuditRow};
use crate::event::words::was;

/// `pintle audit`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  pintle audit --look 17 --since 1d --rows\n  pintle audit --run 01k1 --all-rows --csv"
)]
pub struct AuditArguments {
    /// Each row that did not arrive: run, row, user, state, reason, last attempt
    #[arg(long)]
    pub rows: bool,
    /// Each row
    #[arg(long, conflicts_with = "rows")]
    pub all_rows: bool,
    /// As CSV; control and invisible characters become U+FFFD, --json has them escaped
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Which.
    #[command(flatten)]
    pub selection: SelectionArguments,
}

impl AuditArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Expected> {
        let selection = session.selection(&self.selection, StateOf::Events)?;
        let query = selection.pairs();
        let rows = if self.all_rows {
            Some("all_rows")
        } else {
            self.rows.then_some("rows")
        };
        let with = |more: &[&'static str]| {
            let mut query = query.clone();
            query.extend(more.iter().map(|name| (*name, "true".to_owned())));
            client::path(&["audit"], query)
        };
        client::with(session, Missing::Refuse, |client, output| {
            let wanted: Vec<&'static str> = rows.into_iter().collect();
            if self.csv {
                let path = with(&[wanted.as_slice(), &["csv"]].concat());
                return client.stream(&path, |piece| output.bytes(piece));
            }
            if output.json {
                return client.stream(&with(&wanted), |piece| output.json_piece(piece));
            }
            let audit: Audit = client.get(&with(&[]))?;
            account(&audit, output)?;
            match rows.filter(|_| !audit.runs.is_empty()) {
                None => Ok(()),
                Some(rows) => each_row(client, &with(&[rows, "lines"]), &audit, output),
            }
        })
    }
}

fn account(audit: &Audit, output: &mut Output) -> Result<(), Expected> {
    if audit.runs.is_empty() {
        output.talk("nothing is selected by that");
        return Ok(());
    }
    let mut table = Table::new(&[
        ("RUN", Align::Right),
        ("LOOK", Align::Left),
        ("ROWS", Align::Right),
        ("DELIVERED", Align::Right),
        ("WAITING", Align::Right),
        ("DEAD", Align::Right),
    ]);
    for run in &audit.runs {
        let counts = &run.counts;
        table.row([
            listing::short(&run.run.to_string()),
            run.title.clone().unwrap_or_else(|| "-".to_owned()),
            count(counts.rows),
            count(counts.delivered),
            count(counts.waiting),
            count(counts.dead),
        ]);
    }
    for line in table.lines(output.width) {
        output.line(line)?;
    }
    for run in &audit.runs {
        if let Some(error) = &run.error {
            output.line(format!("run {}: {}", run.run, printable(error)))?;
        }
    }
    let all = &audit.counts;
    output.line("")?;
    output.line(format!(
        "{} read = {} delivered + {} waiting + {} dead",
        counted(all.rows, "row"),
        count(all.delivered),
        count(all.waiting),
        count(all.dead)
    ))?;
    if all.dropped > 0 {
        output.line(format!(
            "{} of the dead {} dropped or expired",
            count(all.dropped),
            was(all.dropped)
        ))?;
    }
    Ok(())
}

fn each_row(client: &Client, path: &str, audit: &Audit, output: &mut Output) -> Result<(), Expected> {
    output.line("")?;
    let mut rows = Listing::new(&[
        ("RUN", Align::Right),
        ("ROW", Align::Right),
        ("USER", Align::Left),
        ("STATE", Align::Left),
        ("LAST ATTEMPT", Align::Left),
        ("REASON", Align::Left),
    ]);
    client.each(path, |row: AuditRow| {
        // What the gateway said last is why a row still waits; a dead one's reason holds its own answer.
        let (last, answer) = row.last_attempt.map_or_else(
            || ("-".to_owned(), String::new()),
            |last| (listing::day_and_time(last.at, output), last.answer),
        );
        rows.row(
            [
                listing::short(&row.run.to_string()),
                row.row.map_or_else(|| "-".to_owned(), count),
                row.user.unwrap_or_else(|| "-".to_owned()),
                row.state,
                last,
                row.reason.unwrap_or(answer),
            ],
            output,
        )
    })?;
    if rows.finish(output)? == 0 && audit.counts.rows > 0 && audit.counts.delivered == audit.counts.rows {
        output.talk("every row arrived");
    }
    Ok(())
}
