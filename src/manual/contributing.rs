//! # Contributing
//!
//! `cargo run -- demo` shows the whole way on this machine, `cargo test` tests it, `.ci/run` is what CI runs: formatting,
//! clippy with warnings as errors, the documentation, all tests. Begin with [`super::architecture`].
//!
//! ## House rules
//!
//! * Each file says on its first lines what it promises, and has 100 to 300 lines; it is split before it has 800.
//! * Pure functions decide, thin tasks act. Time and randomness come in as arguments, so that a test needs no clock.
//! * No `unsafe`, but for the one line that gives memory back. No `unwrap`, `expect` or indexing outside tests. No error
//!   is swallowed; where one does not matter, the code says why.
//! * An error names what happened, where (row, byte, file, key), and what to do. What an operator meets has a code with a
//!   page in `src/manual/errors`; a code never changes its meaning.
//! * Bounded everything: memory, queues, bodies, depth, time.
//! * Secrets print as `***`, and no row's value is in any log line.
//! * The words of the field: destination, dead letter, backlog, run. Comments say why, not what.
//! * A dependency needs a reason, which stands beside it in `Cargo.toml`.
//!
//! ## Who may call whom
//!
//! `tests/all/arrows.rs` reads the `crate::` paths of each room and fails on an arrow that the architecture does not have.
//! sled's types stay within the store.
//!
//! ## Tests
//!
//! * Beside the code: pure parts, with tables and proptest.
//! * `tests/all`: one binary. It starts the real program between a scripted Looker and a scripted RudderStack, on real
//!   sockets and a real disk: the whole way, kills at any moment, outages, TLS, stops and reloads, nginx, the command
//!   line, the README's commands.
//! * `tests/golden`: what the stock hub sent for many documents, and what pintle sends.
//! * Some need a program of the system: openssl and curl must be there; nginx, systemd-analyze, promtool and faketime are
//!   used where they are, and the test says SKIPPED where not. `.ci/run` installs them on Debian.
//! * `PINTLE_KILL_ROUNDS` and `PINTLE_KILL_SEED` make the kill test longer, or the same again.
//! * Targets of `src/fuzz.rs` (documents, requests, tokens, chunks, the catalog's values, configurations, selections, a
//!   gateway's answers, queries) change a small corpus in `tests/fuzz` for `PINTLE_FUZZ_SECONDS` each, a fraction of a
//!   second in CI: `PINTLE_FUZZ_SECONDS=300 cargo test --lib convert::tests::fuzz`. What they find is written beside the
//!   corpus, and becomes a test. cargo-fuzz needs a nightly compiler, which this project does not.
//! * `PINTLE_SOAK_SECONDS=3600 cargo test --test all storm:: -- --nocapture` is the soak: 200 slow and 50 mad clients for an
//!   hour, 20 s in CI; it prints latencies, memory, descriptors and threads.
//! * `cargo deny check` looks at licences, sources and advisories of all dependencies (`.deny.toml`).
//! * A test that cannot fail is a defect.
//!
//! ## What is fixed
//!
//! The verbs and options, JSON keys, settings, metric names and error codes are relied on by scripts: add, never rename.
//! The actions' names and their settings are cached by every Looker. The store's format has a version: a change of it
//! needs a reader for the old one, and a line in [`super::changes`].
//!
//! ## A release
//!
//! The version in `Cargo.toml`, a section in [`super::changes`], `.ci/run`, then `deploy/package` for the Debian package
//! (`cargo install cargo-deb` once). The container is built with `deploy/Containerfile`.
