//! `explain`: what an error code means and what to do.

use clap::Args;
use serde::Serialize;

use super::output::Tone;
use super::{Expected, Output};
use crate::event::Code;
use crate::manual::errors::{Page, page};

/// `pintle explain`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  pintle explain\n  pintle explain P0001")]
pub struct ExplainArguments {
    /// The code; without one, the list
    pub code: Option<String>,
}

#[derive(Serialize)]
struct Shown {
    code: Code,
    title: &'static str,
    text: &'static str,
}

impl From<Page> for Shown {
    fn from(page: Page) -> Self {
        Self {
            code: page.code,
            title: page.title,
            text: page.text,
        }
    }
}

impl ExplainArguments {
    pub(super) fn run(self, output: &mut Output) -> Result<(), Expected> {
        let Some(text) = self.code else {
            return list(output);
        };
        let code: Code = text.parse().map_err(|_| {
            let last = Code::ALL.last().map_or("", |code| code.as_str());
            Expected::Usage(format!(
                "\"{text}\" is no error code; they are P0001 to {last}, and `pintle explain` lists them"
            ))
        })?;
        let page = page(code);
        if output.json {
            return output.json(&Shown::from(page));
        }
        let heading = output.paint(&format!("{code}: {}", page.title), Tone::Strong);
        output.line(heading)?;
        output.line("")?;
        output.line(page.text)
    }
}

fn list(output: &mut Output) -> Result<(), Expected> {
    let pages = Code::ALL.iter().copied().map(page);
    if output.json {
        return output.json_array(pages.map(|page| Ok(Shown::from(page))));
    }
    for page in pages {
        output.line(format!("{}  {}", page.code, page.title))?;
    }
    Ok(())
}
