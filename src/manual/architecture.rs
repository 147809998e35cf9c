//! # Architecture
//!
//! pintle stands between Looker and RudderStack: Looker hands over the rows of a look, pintle makes an event of each,
//! has them on its disk before it answers, and delivers them to RudderStack for as long as it takes.
//!
//! ```text
//! Looker ── POST execute ─▶ looker ── bytes ─▶ convert ── events ─▶ store ── batches ─▶ deliver ── POST /v1/batch ─▶ RudderStack
//!             ◀─ answer ──         (after the disk has it)            ▲                    │
//!                                                    admin, cli: look, trace, replay, mend
//! ```
//!
//! There is one direction and no way back. An event is converted once and stored once, and every later step carries the
//! same bytes. Two keys are added at its end when it is read: `timestamp`, where it is the run's (Looker may send
//! `ran_at` after the rows), and `sentAt` at each attempt.
//!
//! ## Rooms
//!
//! | folder | is | knows nothing of |
//! | --- | --- | --- |
//! | [`crate::event`] | what all share: ids, the three calls, write keys that print `***`, times, error codes | everything |
//! | [`crate::config`] | TOML and environment to checked types | the rest of the program |
//! | `looker` | Looker's side: routes, token, list, form, request, answer, download | queues, sled |
//! | `convert` | document to rows to events; pure | HTTP, sled, configuration files |
//! | [`crate::store`] | the promise: runs, chunks, queue, dead letters, history, recovery | HTTP, Looker's JSON |
//! | `rudderstack` | RudderStack's side: request, answer to verdict, probe | queues, sled |
//! | `deliver` | a lane per destination: a pure state machine and the thin task that runs it | HTTP details, sled |
//! | [`crate::admin`] | views with their JSON, the admin API, console, metrics | sled |
//! | `server` | binds, TLS, limits, routing, shutdown | what is served |
//! | [`crate::cli`] | one file a verb | sled |
//!
//! Nothing imports upwards: `main → cli → {server, admin}`; `server → {looker, admin, deliver}`;
//! `looker → {convert, store, rudderstack}`; `admin → {store, deliver, rudderstack}`; `deliver → {store, rudderstack}`.
//! All may use `event` and `config`.
//!
//! ## A run
//!
//! One execute is one run. Its body flows in pieces from Looker's socket through the converter into the store, with
//! back-pressure all the way, so that memory depends neither on the result's size nor on the backlog's. Chunks that were
//! written belong to no run until it is committed; a run that fails leaves nothing but its listed reason.
//! The commit comes when the document has closed and the body has ended cleanly, and the answer after it. Accepting
//! never waits for RudderStack.
//!
//! ## Delivery
//!
//! Each destination (data plane and write key) has a lane of its own; lanes never wait for one another. In a lane at
//! most one request is under way, so that order holds. Batches grow while answers are quick and are halved on trouble.
//! A bad event is found by halving, in order, and becomes a dead letter; where everything is refused, the gateway is
//! taken for broken and the lane is held instead. Attempts never end.
//!
//! ## Habits
//!
//! Pure functions decide, thin tasks act; time and randomness come in as arguments. Each component has its errors as one
//! enum, with the place in them. Text is parsed once, at the edge, into types that cannot hold what is not allowed.
