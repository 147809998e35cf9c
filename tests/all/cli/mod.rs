//! The command line, by running the real program.

mod check;
mod help;
pub(crate) mod pintle;
mod reading;
mod token;
