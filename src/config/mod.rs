//! The configuration: TOML and environment to checked types. Every error names file, line, key and remedy.
//! Nothing here knows the rest of the program.

mod types;

pub use types::*;
