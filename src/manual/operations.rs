//! # Operations
//!
//! ## Set up
//!
//! 1. `pintle check` reads the configuration and says what is wrong in it, all of it at once.
//! 2. `pintle doctor` looks at all that it depends on: folder, disk, certificate, Looker, destinations, clock. It changes
//!    nothing.
//! 3. `pintle serve` is the hub. `pintle token` prints what to paste into Looker: Admin, Actions, Add Action Hub.
//!
//! Looker calls only a hub whose certificate it accepts: give `hub.tls_cert_file` and `hub.tls_key_file`, or put a proxy in
//! front and name its address in `hub.public_url`. Downloads are fetched only from `looker.allowed_origins`.
//!
//! ## Look
//!
//! `pintle status` says in one screen whether all is well: backlog, destinations, the last runs, and when the backlog
//! will be gone. `pintle runs` lists what came, `pintle trace ID` tells the story of one delivery, attempt by attempt,
//! and `pintle audit --rows` names each row that did not arrive, and why. The metrics are at `/metrics` of `admin.listen`.
//!
//! Each error that needs an operator has a code; `pintle explain CODE` says what it means and what to do.
//!
//! ## A gateway is away
//!
//! Nothing has to be done. Runs are accepted, the backlog grows, attempts go on with growing pauses and never end. Mind
//! the space: `store.max_bytes` is where runs are refused. When the gateway is back, pintle begins with one small batch
//! and speeds up. `pintle destinations retry ID` does not wait for the pause to end.
//!
//! A destination that is *held* needs a hand: its key or its address is wrong, or it refuses everything. `pintle
//! destinations list` says which of them. For key and address pintle asks once a minute and goes on by itself.
//!
//! ## Rows that did not make it
//!
//! A row that can become no event, and an event that the gateway refuses for good, is a dead letter with its reason in
//! the converter's or the gateway's words. `pintle dead list`, `show`, `export`; mended ones go back with `pintle dead
//! requeue ID --event-file F`; those of no use go with `pintle dead drop`.
//!
//! ## Send again
//!
//! `pintle replay` with a selection shows its plan first, with a warning where older values would overwrite newer ones.
//! It goes behind live events, survives a restart, and can be cancelled.
//!
//! ## Change and stop
//!
//! SIGHUP reads the configuration again and changes origins, destinations, limits, certificates and the log's level; a
//! bad file changes nothing and says so. What else changed counts from the next start, and the log names it. SIGTERM
//! stops: no new runs, those under way get `hub.shutdown_grace`, requests to gateways get their answers.
//!
//! ## Exit codes
//!
//! | code | means |
//! | --- | --- |
//! | 0 | done; also a listing or a dry run that matches nothing |
//! | 1 | failed, something wrong was found, or a change matched nothing |
//! | 2 | wrong usage or configuration, nothing selected, a change that nobody confirmed |
