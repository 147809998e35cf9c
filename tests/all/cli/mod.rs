//! The command line, by running the real program.

mod check;
mod help;
mod pintle;
mod reading;
mod token;
