//! `completions`: for packagers.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Arguments, Expected, Output};

/// `pintle completions`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  pintle completions bash\n  pintle completions zsh")]
pub struct CompletionsArguments {
    /// The shell
    pub shell: Shell,
}

impl CompletionsArguments {
    pub(super) fn run(self, output: &mut Output) -> Result<(), Expected> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "pintle", &mut script);
        output.bytes(&script)
    }
}
