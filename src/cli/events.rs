//! `events`: the stored events of a selection.

use std::time::Instant;

use clap::Args;

use super::client::{self, Missing};
use super::progress::Progress;
use super::{Expected, SelectionArguments, Session};
use crate::admin::selection::StateOf;

/// `pintle events`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  pintle events --user ada@example.com --since 7d\n  pintle events --run 01k1 --raw"
)]
pub struct EventsArguments {
    /// The event alone, without run, row, destination and state (byte for byte, but on a terminal invisible characters
    /// are escaped)
    #[arg(long)]
    pub raw: bool,
    /// Which.
    #[command(flatten)]
    pub selection: SelectionArguments,
}

impl EventsArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Expected> {
        let selection = session.selection(&self.selection, StateOf::Events)?;
        let mut query = selection.pairs();
        if self.raw {
            query.push(("raw", "true".to_owned()));
        }
        client::with(session, Missing::Refuse, |client, output| {
            let mut progress = Progress::new(Instant::now());
            let streamed = client.stream(&client::path(&["events"], query), |piece| {
                if let Some(line) = progress.piece(piece, Instant::now()) {
                    output.counter(&line);
                }
                output.stored_piece(piece)
            });
            if progress.is_shown() {
                output.counter("");
            }
            streamed
        })
    }
}
