//! # Changes
//!
//! ## 0.1.0
//!
//! The first version. Store format 2; a store of format 1, as it was before this release, is taken over at its first start.
//!
//! * The hub: Looker's Action API as the stock hub has it (same actions, settings and tokens), downloads and pushed
//!   results of any size in bounded memory, named destinations in the form, TLS with certificates that are exchanged while
//!   it runs.
//! * The store: acknowledged rows are on the disk, through kills and power cuts; history, dead letters, verify and repair.
//! * Deliveries: a lane for each destination, in order, at least once, with the same message ids at each attempt; bad
//!   events are found and set apart, a gateway that is away is waited for without end.
//! * The operator: status, runs, events, dead letters, replay, audit, trace, import, verify, doctor; a console, metrics,
//!   alerts; error codes with a page each.
//! * systemd units with socket activation, a Debian package, a container recipe, an nginx site, alert rules, a dashboard.
