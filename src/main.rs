//! pintle's command line: parse, load the configuration, log, call one command, error to exit code.

fn main() {}
